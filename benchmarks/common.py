"""What the benchmarks share: timing side by side, telling where it was done, and saying it in a table or as JSON."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple, NoReturn, TypeVar

import tinyattn as ta

T = TypeVar("T")


class BenchmarkError(Exception):
    """Nothing can be timed: a subject doesn't compute what it should. The message says which and what."""


# ---------------------------------------------------------------------------------------------------- timing


class Spread(NamedTuple):
    """What came of timing the same thing many times: the least is the work itself, the median what is usual."""

    least: float
    median: float


def spread(numbers: Sequence[float]) -> Spread:
    return Spread(min(numbers), statistics.median(numbers))


def interleaved(subjects: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each subject measured of itself, once a round: a slow moment of the machine hits all of them alike.

    Each round starts with another one. Garbage is collected before each, untimed, so that none pays for another's;
    during it the collector runs as in users' programs, but passes over what was there before (other projects' modules).
    """
    measured: dict[str, list[T]] = {name: [] for name in subjects}
    names = list(subjects)
    gc.collect()
    gc.freeze()
    try:
        for i in range(rounds):
            first = i % max(len(names), 1)
            for name in names[first:] + names[:first]:
                gc.collect()
                measured[name].append(subjects[name]())
    finally:
        gc.unfreeze()
    return measured


PAUSE, WARM_UP, A_SAMPLE = 0.02, 0.1, 0.02  # seconds


def row_of(
    case: Sequence[int],
    mode: str,
    timers: Mapping[str, Callable[[], float]],
    rounds: int,
    own: Sequence[str],
    beside: Sequence[str] = (),
) -> dict[str, Any]:
    """A row of `--json`: medians of interleaved samples, and the fastest of `own` over the fastest peer.

    What is `beside` is shown, and counts for neither. What stands before a comma is the name of a peer, which counts
    with the fastest of its ways; without peers there is no ratio, but None.
    """
    milliseconds: dict[str, float] = {}
    for name, numbers in interleaved(timers, rounds).items():
        peer, median = name.partition(",")[0], statistics.median(numbers)
        milliseconds[peer] = min(median, milliseconds.get(peer, median))
    peers = [median for name, median in milliseconds.items() if name not in (*own, *beside)]
    ratio = min(milliseconds[name] for name in own) / min(peers) if peers else None
    return {"case": list(case), "mode": mode, "milliseconds": milliseconds, "ratio": ratio}


def timer(call: Callable[[], Any], ready: Callable[[], None]) -> Callable[[], float]:
    """Takes a sample: milliseconds a call. `ready` makes the settings that the calls need.

    A sample is the mean of a few calls. Before it there is a pause, in which threads that spin come to rest, and then
    calls that aren't timed, in which cores that slept wake up: the figures are those of a loop that runs.
    """
    ready()
    start = perf_counter()
    call()
    times = max(1, min(1000, round(A_SAMPLE / (perf_counter() - start))))

    def sample() -> float:
        ready()
        sleep(PAUSE)
        warm = perf_counter() + WARM_UP
        while True:
            call()
            if perf_counter() > warm:
                break
        start = perf_counter()
        for _ in range(times):
            call()
        return (perf_counter() - start) * 1e3 / times

    return sample


# ---------------------------------------------------------------------------------------------------- the machine


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(version unknown)"  # of a checkout that was never installed


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": version("numpy"),
    }


def told(machine: Mapping[str, Any]) -> str:
    """The machine in one line."""
    cores = f"{machine['cores']} core{'s' * (machine['cores'] != 1)}"
    return f"{machine['cpu']}, {cores}, {machine['system']}, {machine['python']}, NumPy {machine['numpy']}"


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or "unknown processor"


WAS = "TINYATTN_BENCHMARK_CORETYPE_WAS"


def with_the_best_kernels() -> None:
    """Start again with what the doctor advises: BLAS reads the environment when NumPy is imported."""
    if WAS in os.environ:
        return
    advice = ta.doctor().settings
    os.environ[WAS] = os.environ.get("OPENBLAS_CORETYPE", "")
    if advice:
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, os.environ | advice)


def settings() -> list[str]:
    """BLAS and its kernels, in lines."""
    found = ta.doctor(measure=False)
    now = os.environ.get("OPENBLAS_CORETYPE", "")
    lines = [f"{found.blas}, {found.threads} threads; OPENBLAS_CORETYPE={now}"]
    was = os.environ.get(WAS, now)
    if was != now:
        lines.append(
            f"OPENBLAS_CORETYPE was {was or 'not set'}; it is set here as `tinyattn doctor` advises (--as-set keeps it)"
        )
    return lines


# ---------------------------------------------------------------------------------------------------- saying it


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the first with the titles, in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_json(found: Any) -> str:
    return json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False)


# ---------------------------------------------------------------------------------------------------- the command line


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, one_line(f"{self.prog}: {message} (see --help)"))


def one_line(message: str, longest: int = 500) -> str:
    """The message in one line that leaves a terminal as it was, whatever the user typed into it."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    return (text if len(text) <= longest else text[: longest - 1] + "…") + "\n"


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """For a parser: reads a whole number within bounds."""

    def read(text: str) -> int:
        if not (text.isdecimal() and len(text) <= 18 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most:,}, got {text[:40]!r}")
        return int(text)

    return read


def run(program: str, main: Callable[[], None]) -> int:
    """Run a benchmark; the exit status is 0, 1 where a subject computes something wrong, 2 where the output can't be
    written, 130 after Ctrl-C. (A parser ends with 2 for a user's mistake.)
    """
    try:
        main()
        sys.stdout.flush()
    except BenchmarkError as error:
        sys.stderr.write(one_line(f"{program}: {error}"))
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # what is left must not be tried again when the interpreter ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader left; so do we
            return 0
        sys.stderr.write(one_line(f"{program}: can't write the output: {error.strerror or error}"))
        return 2
    return 0
