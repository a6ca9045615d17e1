"""A small pool of threads for kernels, with BLAS held to one thread inside.

NumPy lets go of the interpreter's lock in matrix products and in passes over large arrays, so that threads work side by
side; each takes the next task as soon as it's done with one. BLAS's own threads would get in their way.

How a kernel cuts its work into tasks depends on shapes alone, never on the number of threads, and what several tasks
add up is added in a fixed order: the same inputs give the same bits, whatever the pool.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # to import them takes a while, and they are needed for large arrays alone
    from concurrent.futures import Future, ThreadPoolExecutor

    from threadpoolctl import ThreadpoolController

Task = Callable[[], None]

MOST = 64  # threads

_lock = threading.Lock()
_helpers: ThreadPoolExecutor | None = None
_n_threads: int | None = None
_holding = 0  # how many calls hold BLAS to one thread right now
_held: Any = None  # what gives BLAS its threads back


def run(tasks: Sequence[Task]) -> None:
    """Do all tasks, this thread taking its part of them. The first error ends the work, and is raised."""
    n_helpers = min(get_num_threads(), len(tasks)) - 1
    queue, take = iter(tasks), threading.Lock()
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set():
                with take:
                    task = next(queue, None)
                if task is None:
                    return
                task()
        except BaseException:
            stop.set()
            raise

    with one_blas_thread():
        helping = [_submit(work) for _ in range(n_helpers)]
        try:
            work()
        finally:
            waited_for = [helper for helper in helping if not helper.cancel()]  # others had nothing left to do
            errors = [helper.exception() for helper in waited_for]
        for error in errors:
            if error is not None:
                raise error


def get_num_threads() -> int:
    """How many threads the kernels use: as many as there are cores, unless it was set.

    It can be set in the environment, too, before the first use: TINYATTN_NUM_THREADS, or OMP_NUM_THREADS for all
    libraries that know it.
    """
    global _n_threads
    if _n_threads is None:
        said = (os.environ.get(name, "") for name in ("TINYATTN_NUM_THREADS", "OMP_NUM_THREADS"))
        _n_threads = next((int(n) for n in said if n.isdecimal() and 0 < int(n) <= MOST), min(cores(), MOST))
    return _n_threads


def set_num_threads(n: int) -> None:
    """Let the kernels use n threads; their results don't depend on it."""
    global _n_threads
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"set_num_threads: n must be a whole number; got {n!r}")
    if not 1 <= n <= MOST:
        raise ValueError(f"set_num_threads: n must lie in 1 … {MOST}; got {n}")
    _n_threads = n


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread. That's a setting of the process: the first to come takes it, the last gives it back."""
    global _holding, _held
    with _lock:
        if _holding == 0:
            _held = blas().limit(limits=1)
        _holding += 1
    try:
        yield
    finally:
        with _lock:
            _holding -= 1
            if _holding == 0:
                _held.restore_original_limits()


@functools.cache
def blas() -> ThreadpoolController:
    """The BLAS that NumPy computes with. To find it takes milliseconds, so it's done once."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _submit(work: Task) -> Future[None]:
    global _helpers
    from concurrent.futures import ThreadPoolExecutor

    with _lock:
        if _helpers is None:
            _helpers = ThreadPoolExecutor(MOST, thread_name_prefix="tinyattn")
        return _helpers.submit(work)


def _forget() -> None:
    """In a forked process there are no helpers, and nobody holds a lock."""
    global _lock, _helpers, _holding
    _lock, _helpers, _holding = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
