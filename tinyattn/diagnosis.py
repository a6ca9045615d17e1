"""Floor 3: what NumPy computes matrix products with, whether that suits this processor, and what to set if not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np

from tinyattn.kernels.threads import blas, cores, get_num_threads
from tinyattn.rules.checks import check_flag

VARIABLE = "OPENBLAS_CORETYPE"
BETTER = 1.1  # so much faster kernels have to be before they are advised

# Kernels of OpenBLAS, and the instructions that a processor has to have for them, as old and new NumPys call them.
KERNELS = (("SkylakeX", {"X86_V4", "AVX512_SKX"}), ("Haswell", {"X86_V3", "AVX2"}))

TRIAL = """
import time, numpy as np
x = np.random.default_rng(0).standard_normal((512, 512), dtype=np.float32)
y, best = np.empty_like(x), 1e9
for _ in range(12):
    start = time.perf_counter()
    for _ in range(4):
        np.matmul(x, x, out=y)
    best = min(best, time.perf_counter() - start)
print(4 * 2 * 512**3 / best / 1e9)
"""


class Diagnosis(NamedTuple):
    """What was found. `settings` are environment variables to be set before Python starts; empty where all is well."""

    numpy: str
    blas: str
    kernels: str | None  # what OpenBLAS calls the processor that its kernels are for
    blas_threads: int
    threads: int  # of tinyattn's own pool
    cores: int
    gflops: dict[str, float]  # one thread, float32, by kernels: billions of multiplications and additions a second
    settings: dict[str, str]

    def __str__(self) -> str:
        lines = [
            f"NumPy {self.numpy} computes matrix products with {self.blas}, {_count(self.blas_threads, 'thread')}"
            + ("" if self.kernels is None else f", kernels for {self.kernels}"),
            f"tinyattn's kernels use {_count(self.threads, 'thread')}, on {_count(self.cores, 'core')}",
        ]
        lines += [
            f"  kernels for {name}: {number:.0f} GFLOP/s a thread, float32" for name, number in self.gflops.items()
        ]
        if self.settings:
            lines.append("other kernels suit this processor better; before Python starts, write")
            lines += [f"  export {name}={value}" for name, value in self.settings.items()]
        else:
            lines.append("nothing to be set")
        return "\n".join(lines)


def doctor(*, measure: bool = True) -> Diagnosis:
    """What NumPy's matrix products are computed with here, and what to set so that they are computed faster.

    A distribution's BLAS chooses kernels by the processor's name, and doesn't know all names; OpenBLAS takes another
    choice from `OPENBLAS_CORETYPE`, when NumPy is imported. Which kernels are faster is measured, each in a process of
    its own, for half a second; `measure=False` leaves that out, and advises nothing.

    >>> doctor(measure=False).settings
    {}
    """
    check_flag("doctor", "measure", measure)
    libraries = blas().info()
    found: dict[str, Any] = libraries[0] if libraries else {}
    names = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS"}
    name = names.get(found.get("internal_api", ""), "a BLAS that isn't known")
    now = found.get("architecture")
    gflops = {}
    if measure and now is not None:
        others = [kernels for kernels in _runnable() if kernels != now] if name == "OpenBLAS" else []
        timed = {kernels: _gflops(kernels if kernels != now else None) for kernels in (now, *others)}
        gflops = {kernels: number for kernels, number in timed.items() if number is not None}
    best = max(gflops, key=lambda kernels: gflops[kernels], default=now)
    better = best is not None and now in gflops and gflops[best] > BETTER * gflops[now]
    return Diagnosis(
        numpy=np.__version__,
        blas=f"{name} {found.get('version') or ''}".rstrip(),
        kernels=now,
        blas_threads=found.get("num_threads", 1),
        threads=get_num_threads(),
        cores=cores(),
        gflops=gflops,
        settings={VARIABLE: str(best)} if better else {},
    )


def _runnable() -> list[str]:
    """The kernels that this processor has the instructions for."""
    instructions = np.show_config(mode="dicts")["SIMD Extensions"]
    here = {*instructions.get("baseline", ()), *instructions.get("found", ())}
    return [kernels for kernels, needed in KERNELS if needed & here]


def _gflops(kernels: str | None) -> float | None:
    """What one thread does with these kernels, or those that are set, in a process of its own; None where it fails."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"} | ({} if kernels is None else {VARIABLE: kernels})
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRIAL], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return float(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
