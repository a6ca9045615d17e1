"""Several processes that train one model: each takes its part of a batch, and all gradients are added up.

    d_θ = Σ_r (n_r / n) d_θ^(r),    n_r of the n sequences of a batch are those of rank r

One all-reduce of the flat gradient a step; all ranks then take the same step, so that their parameters stay the same.
MPI does the work: `mpiexec -n N python -m demos.gpt train ...`.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np

SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")  # what the launchers of Open MPI and MPICH set


class ParallelError(Exception):
    """The processes can't work together; the message says why."""


class Ranks(Protocol):
    """The processes of a run."""

    n: int
    is_first: bool

    def share(self, batch: int) -> slice:
        """Which sequences of a batch are this process's own."""

    def weight(self, batch: int) -> float:
        """Their share of the batch."""

    def add_up(self, flat: np.ndarray) -> None:
        """Put the sum over all processes in place of each one's numbers."""

    def sum(self, number: float) -> float:
        """The sum of a number over all processes."""

    def abort(self) -> None:
        """End all processes."""


class Alone:
    """One process, which has nobody to share with, to wait for or to end."""

    n, is_first = 1, True

    def share(self, batch: int) -> slice:
        return slice(0, batch)

    def weight(self, batch: int) -> float:
        return 1.0

    def add_up(self, flat: np.ndarray) -> None:
        """The sum over one process is there already."""

    def sum(self, number: float) -> float:
        return number

    def abort(self) -> None:
        """There are no others."""


class Mpi:
    """The processes that `mpiexec` started."""

    def __init__(self) -> None:
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise ParallelError(
                f"started by mpiexec, but mpi4py can't be used ({error}); pip install 'tinyattn[mpi]' brings it"
            ) from error
        self._mpi: Any = MPI
        self._all: Any = MPI.COMM_WORLD
        self.n: int = self._all.Get_size()
        self.rank: int = self._all.Get_rank()
        self.is_first = self.rank == 0

    def share(self, batch: int) -> slice:
        return slice(self.rank * batch // self.n, (self.rank + 1) * batch // self.n)

    def weight(self, batch: int) -> float:
        own = self.share(batch)
        return (own.stop - own.start) / batch

    def add_up(self, flat: np.ndarray) -> None:
        self._all.Allreduce(self._mpi.IN_PLACE, flat)

    def sum(self, number: float) -> float:
        return float(self._all.allreduce(number))

    def abort(self) -> None:
        self._all.Abort(2)


def ranks() -> Ranks:
    """Those that mpiexec started, or this process alone."""
    started = next((os.environ[name] for name in SIZES if name in os.environ), "1")
    return Mpi() if started.isdecimal() and int(started) > 1 else Alone()
