"""Large numbers as people say them."""

from __future__ import annotations


def amount(n: int) -> str:
    """A count: 950, 1.2 k, 34 M."""
    return _scaled(float(n), 1000.0, ("", " k", " M", " G", " T"))


def bytes_of(n: int) -> str:
    """A size in memory: 96 B, 1.5 KB, 12 MB, by thousands and twenty-fours."""
    return _scaled(float(n), 1024.0, (" B", " KB", " MB", " GB", " TB"))


def _scaled(x: float, step: float, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if x < step * 0.9995:
            return f"{x:.3g}{unit}"
        x /= step
    return f"{x:.3g}{units[-1]}"
