"""Floor 2: pages, and how they are written."""

from __future__ import annotations

from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """The whole file or none of it: written beside, then renamed. A link stays one: what it leads to is written.

    Raises `OSError` where that can't be done.
    """
    import secrets

    path = path.resolve()
    beside = path.with_name(f".tinyattn-{secrets.token_hex(8)}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
