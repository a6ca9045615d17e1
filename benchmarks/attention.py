"""What attention takes: tinyattn beside PyTorch's and JAX's own kernels, and beside the readable rule.

    o = softmax(q kᵀ / √d_k) v,    and the gradients of q, k and v

float32, for (batch, heads, length, d_k), full and causal, forward alone and with the way back. All subjects compute the
same numbers, which is compared before anything is timed. A sample is the mean of a few calls. Before it there is a
pause, in which threads that spin come to rest, and then calls that aren't timed, in which cores that slept wake up: the
figures are those of a loop that runs, as in training. They are medians of interleaved samples.

PyTorch is timed with one thread and with all, and the faster one counts. tinyattn runs on NumPy's BLAS with the kernels
that `tinyattn doctor` finds fastest on this processor, unless `--as-set` keeps what the environment says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tinyattn as ta
from benchmarks.common import (
    BenchmarkError,
    Parser,
    as_json,
    is_installed,
    machine,
    row_of,
    run,
    settings,
    table,
    timer,
    told,
    version,
    whole_number,
    with_the_best_kernels,
)
from tinyattn.rules.attention import attention as readable

PROGRAM = "python -m benchmarks.attention"
CASES = (
    (8, 4, 16, 8),
    (64, 4, 16, 8),
    (8, 4, 64, 32),
    (12, 4, 64, 32),
    (1, 8, 512, 64),
    (1, 8, 1024, 64),
    (1, 8, 2048, 64),
    (1, 1, 4096, 64),
    (1, 8, 4096, 64),
)
MODES = ("full, forward", "full, forward and backward", "causal, forward", "causal, forward and backward")
ROUNDS = 9
READABLE_UP_TO = 2**25  # scores; beyond, the readable rule would take gigabytes
CLOSE = 1e-4  # of float32, relative to the largest number

Case = tuple[int, ...]
Arrays = tuple[np.ndarray, ...]


# ---------------------------------------------------------------------------------------------------- the subjects


class Subject:
    """Somebody's attention. `forward` gives the output, `both` the output and the gradients of q, k and v."""

    name: str
    module: str

    def __init__(self, threads: int = 0) -> None:
        """Import what it takes."""

    def ready(self) -> None:
        """Make the settings that the next calls need."""

    def takes(self, case: Case) -> bool:
        return True

    def forward(self, arrays: Arrays, causal: bool) -> Callable[[], Any]:
        raise NotImplementedError

    def both(self, arrays: Arrays, causal: bool) -> Callable[[], Any]:
        raise NotImplementedError


class TinyAttn(Subject):
    name = module = "tinyattn"

    def forward(self, arrays: Arrays, causal: bool) -> Callable[[], Any]:
        *inputs, _ = map(ta.tensor, arrays)
        return lambda: ta.attention(*inputs, causal=causal)

    def both(self, arrays: Arrays, causal: bool) -> Callable[[], Any]:
        *inputs, d_output = arrays
        query, key, value = (ta.tensor(x, requires_grad=True) for x in inputs)

        def call() -> Any:
            query.grad = key.grad = value.grad = None
            output = ta.attention(query, key, value, causal=causal)
            output.backward(d_output)
            return output.numpy(), query.grad, key.grad, value.grad

        return call


class Readable(Subject):
    name, module = "readable", "tinyattn"

    def takes(self, case: Case) -> bool:
        return case[0] * case[1] * case[2] ** 2 <= READABLE_UP_TO

    def forward(self, arrays: Arrays, causal: bool) -> Callable[[], Any]:
        *inputs, _ = arrays
        return lambda: readable(*inputs, causal=causal)[0]

    def both(self, arrays: Arrays, causal: bool) -> Callable[[], Any]:
        *inputs, d_output = arrays

        def call() -> Any:
            output, backward = readable(*inputs, causal=causal)
            return output, *backward(d_output)[:3]

        return call


class PyTorch(Subject):
    name, module = "pytorch", "torch"

    def __init__(self, threads: int = 1) -> None:
        import torch

        self.torch, self.threads = torch, threads
        self.name = f"pytorch, {threads} thread{'s' * (threads > 1)}"

    def ready(self) -> None:
        self.torch.set_num_threads(self.threads)

    def forward(self, arrays: Arrays, causal: bool) -> Callable[[], Any]:
        attend = self.torch.nn.functional.scaled_dot_product_attention
        *inputs, _ = map(self.torch.tensor, arrays)

        def call() -> Any:
            with self.torch.no_grad():
                return attend(*inputs, is_causal=causal)

        return call

    def both(self, arrays: Arrays, causal: bool) -> Callable[[], Any]:
        attend = self.torch.nn.functional.scaled_dot_product_attention
        query, key, value, d_output = map(self.torch.tensor, arrays)
        for x in (query, key, value):
            x.requires_grad_()

        def call() -> Any:
            query.grad = key.grad = value.grad = None
            output = attend(query, key, value, is_causal=causal)
            output.backward(d_output)
            return output.detach(), query.grad, key.grad, value.grad

        return call


class Jax(Subject):
    name, module = "jax", "jax"

    def __init__(self, threads: int = 0) -> None:
        import jax

        self.jax = jax

    def forward(self, arrays: Arrays, causal: bool) -> Callable[[], Any]:
        *inputs, _ = map(self.jax.numpy.asarray, arrays)
        attend = self.jax.jit(self._attend(causal))
        return lambda: attend(*inputs).block_until_ready()

    def both(self, arrays: Arrays, causal: bool) -> Callable[[], Any]:
        *inputs, d_output = map(self.jax.numpy.asarray, arrays)

        def all_of_it(query: Any, key: Any, value: Any, d_output: Any) -> Any:
            output, pull_back = self.jax.vjp(self._attend(causal), query, key, value)
            return output, *pull_back(d_output)

        compiled = self.jax.jit(all_of_it)
        return lambda: self.jax.block_until_ready(compiled(*inputs, d_output))

    def _attend(self, causal: bool) -> Callable[..., Any]:
        def attend(query: Any, key: Any, value: Any) -> Any:  # JAX has heads after lengths
            swapped = (x.swapaxes(1, 2) for x in (query, key, value))
            return self.jax.nn.dot_product_attention(*swapped, is_causal=causal).swapaxes(1, 2)

        return attend


def subjects() -> list[Subject]:
    found: list[Subject] = [TinyAttn()]
    try:
        if is_installed("torch"):
            cores = machine()["cores"]
            found += [PyTorch(n) for n in sorted({1, cores})]
        if is_installed("jax"):
            found.append(Jax())
    except ImportError as error:
        raise BenchmarkError(f"a peer is installed, but can't be imported: {error}") from error
    return [*found, Readable()]


# ---------------------------------------------------------------------------------------------------- timing them


def inputs(case: Case) -> Arrays:
    """Query, key, value, and the gradient of the output."""
    rng = np.random.default_rng(sum(case))
    query, key, value, d_output = (rng.standard_normal(case, dtype=np.float32) for _ in range(4))
    return query, key, value, d_output


def calls(subjects: Sequence[Subject], case: Case, mode: str) -> dict[str, tuple[Subject, Callable[[], Any]]]:
    """What is timed. Raises `BenchmarkError` where somebody's numbers aren't those of the others."""
    arrays = inputs(case)
    causal, both = mode.startswith("causal"), mode.endswith("backward")
    made = {}
    for subject in subjects:
        if subject.takes(case):
            subject.ready()
            made[subject.name] = subject, (subject.both if both else subject.forward)(arrays, causal)
    right: list[np.ndarray] | None = None
    for name, (_, call) in made.items():
        numbers = [np.asarray(x) for x in (call() if both else [call()])]
        right = right or numbers
        for what, x, y in zip(("output", "d_query", "d_key", "d_value"), numbers, right, strict=False):
            off = float(np.max(abs(x - y)) / (np.max(abs(y)) or 1.0))
            if not off <= CLOSE:
                raise BenchmarkError(
                    f"{name}: the {what} of {case}, {mode}, is off by {off:.1e} from {TinyAttn.name}'s"
                )
    return made


def measure(subjects: Sequence[Subject], case: Case, mode: str, rounds: int) -> dict[str, Any]:
    """A row: the medians, and tinyattn's over the fastest peer's, None where there is no peer."""
    timers = {name: timer(call, subject.ready) for name, (subject, call) in calls(subjects, case, mode).items()}
    if case[2] >= 4096:
        rounds = max(3, rounds // 2)
    return row_of(case, mode, timers, rounds, (TinyAttn.name,), (Readable.name,))


# ---------------------------------------------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if not options.as_set:
        with_the_best_kernels()
    cases = options.case or CASES
    here = subjects()
    titles = ("(batch, heads, n, d_k)", "", *dict.fromkeys(s.name.partition(",")[0] for s in here), "ratio")
    rows = []
    for case in cases:
        for mode in MODES:
            try:
                rows.append(measure(here, case, mode, options.rounds))
            except (MemoryError, ValueError) as error:
                raise BenchmarkError(f"{case} is too large for this machine: {error}") from None
            if sys.stderr.isatty():
                print(f"\r{len(rows)} of {len(cases) * len(MODES)}", end="\r", file=sys.stderr, flush=True)
    if options.json:
        print(as_json(rows))
        print("\n".join(settings()), file=sys.stderr)
        return
    print("Attention, float32: milliseconds, medians of interleaved samples; ratio: tinyattn over the fastest peer\n")
    print(table([titles, *(_row(row, titles[2:-1]) for row in rows)]))
    where = machine()
    print("\n" + told(where))
    print("\n".join(settings()))
    print(", ".join(f"{name} {version(name)}" for name in ("tinyattn", "torch", "jax") if is_installed(name)))
    if missing := [name for name in ("torch", "jax") if not is_installed(name)]:
        print(f"not installed: {', '.join(missing)}; pip install 'tinyattn[bench]' brings torch")


def _row(row: dict[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    times = (f"{row['milliseconds'][name]:.3f}" if name in row["milliseconds"] else "-" for name in names)
    return str(tuple(row["case"])), row["mode"], *times, "-" if row["ratio"] is None else f"{row['ratio']:.2f}"


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description="Time attention, forward and backward: tinyattn beside PyTorch and JAX, as far as they are "
        "installed (pip install 'tinyattn[bench]'), and beside the readable rule.",
    )
    parser.add_argument("--json", action="store_true", help="print a list of rows as JSON instead of a table")
    parser.add_argument("--case", type=_case, action="append", metavar="B,H,N,D", help="this case alone; several times")
    parser.add_argument(
        "--rounds", type=whole_number(1, 1000), default=ROUNDS, metavar="R", help=f"samples (default {ROUNDS})"
    )
    parser.add_argument("--as-set", action="store_true", help="keep BLAS's kernels as the environment has them")
    return parser


def _case(text: str) -> Case:
    sizes = text.split(",")
    if len(sizes) != 4:
        raise argparse.ArgumentTypeError(f"expected batch,heads,n,d_k as in 1,8,1024,64; got {text[:40]!r}")
    return tuple(map(whole_number(1, 1_000_000), sizes))


if __name__ == "__main__":
    sys.exit(run(PROGRAM, main))
