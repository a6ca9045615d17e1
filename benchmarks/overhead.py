"""What a node costs: forward and backward on chains of scalars, where nothing else takes time.

    y ← c y,  y ← y + x,  and again

Every second node uses x again, so that gradients are summed, too. All subjects compute the same value and gradient,
which is compared before anything is timed. A node is an operation that was written down; what a subject makes of the
number c is its own affair. Letting go of the graph is part of the backward pass; and a run differentiates short chains
many times over, so that it pays for the garbage collector where a subject's graphs need one.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from benchmarks.common import (
    BenchmarkError,
    Parser,
    as_json,
    interleaved,
    is_installed,
    machine,
    run,
    spread,
    table,
    told,
    version,
    whole_number,
)

PROGRAM = "python -m benchmarks.overhead"
NODES = (100, 1_000, 10_000)
REPEAT = 20
NODES_A_RUN = 10_000  # at least
START, FACTOR = 0.5, 0.75  # sums of powers of 0.75 stay small, and far from zero


def chain(x: Any, nodes: int) -> Any:
    """y = x (c^m + c^(m−1) + … + 1), of m = nodes / 2 steps."""
    y = x
    for _ in range(nodes // 2):
        y = y * FACTOR
        y = y + x
    return y


def expected(nodes: int) -> tuple[float, float]:
    """Value and gradient: the chain is linear in x."""
    gradient = chain(1.0, nodes)
    return START * gradient, gradient


# ---------------------------------------------------------------------------------------------------- the subjects


class Subject:
    """A project that can differentiate a chain. What it takes to import it is done when one is made."""

    name: str
    module: str
    leaf: Callable[[], Any]  # makes a fresh x

    def forward(self, nodes: int) -> tuple[Any, Any]:
        """What `backward` and `numbers` are given: here x and y."""
        x = self.leaf()
        return x, chain(x, nodes)

    def backward(self, x: Any, y: Any) -> Any:
        """What `numbers` is given as third; here nothing."""
        y.backward()

    def numbers(self, x: Any, y: Any, _: Any) -> tuple[float, float]:
        """The value and the gradient that came out."""
        return y.item(), x.grad.item()


class TinyAttn(Subject):
    name = module = "tinyattn"

    def __init__(self) -> None:
        import tinyattn

        self.leaf = lambda: tinyattn.tensor(START, requires_grad=True)


class Micrograd(Subject):
    name = module = "micrograd"

    def __init__(self) -> None:
        from micrograd.engine import Value

        self.leaf = lambda: Value(START)

    def numbers(self, x: Any, y: Any, _: Any) -> tuple[float, float]:
        return y.data, x.grad


class PyTorch(Subject):
    name, module = "PyTorch", "torch"

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.leaf = lambda: torch.tensor(START, dtype=torch.float64, requires_grad=True)


class MyGrad(Subject):
    name, module = "MyGrad", "mygrad"

    def __init__(self) -> None:
        import mygrad

        self.leaf = lambda: mygrad.tensor(START)


class HipsAutograd(Subject):
    name, module = "HIPS autograd", "autograd"

    def __init__(self) -> None:
        from autograd import make_vjp

        self.make_vjp = make_vjp

    def forward(self, nodes: int) -> tuple[Any, Any]:
        """The function that pulls back, and the value."""
        pull_back, value = self.make_vjp(lambda x: chain(x, nodes))(START)
        return pull_back, value

    def backward(self, pull_back: Any, value: Any) -> Any:
        return pull_back(1.0)

    def numbers(self, pull_back: Any, value: Any, gradient: Any) -> tuple[float, float]:
        return float(value), float(gradient)


SUBJECTS: tuple[type[Subject], ...] = (TinyAttn, Micrograd, PyTorch, MyGrad, HipsAutograd)


# ---------------------------------------------------------------------------------------------------- timing them


def check(subject: Subject, nodes: int) -> str | None:
    """Compare a subject's value and gradient with the right ones. Gives the name of what a long chain breaks it with.

    Raises `BenchmarkError` for a wrong number.
    """
    try:
        made = subject.forward(nodes)
        numbers = subject.numbers(*made, subject.backward(*made))
    except RecursionError as error:
        return type(error).__name__
    for what, got, right in zip(("value", "gradient"), numbers, expected(nodes), strict=True):
        if not math.isclose(got, right, rel_tol=1e-12):
            raise BenchmarkError(f"{subject.name}: the {what} of {nodes} nodes is {got!r}, and should be {right!r}")
    return None


def microseconds(subject: Subject, nodes: int) -> tuple[float, float]:
    """What a node took forward, and backward."""
    forward = backward = 0.0
    chains = math.ceil(NODES_A_RUN / nodes)
    for _ in range(chains):
        start = perf_counter()
        made: Any = subject.forward(nodes)
        middle = perf_counter()
        subject.backward(*made)
        made = None
        forward += middle - start
        backward += perf_counter() - middle
    return forward * 1e6 / (chains * nodes), backward * 1e6 / (chains * nodes)


def measure(subjects: Sequence[Subject], nodes: int, repeat: int) -> list[dict[str, Any]]:
    """A row for each subject: microseconds a node, or how it failed."""
    failures = {subject.name: check(subject, nodes) for subject in subjects}
    runners = {s.name: (lambda s=s: microseconds(s, nodes)) for s in subjects if failures[s.name] is None}
    timed = interleaved(runners, repeat)
    rows: list[dict[str, Any]] = []
    for name, failure in failures.items():
        row: dict[str, Any] = {"subject": name, "nodes": nodes, "failure": failure}
        if failure is None:
            forward, backward = zip(*timed[name], strict=True)
            both = [f + b for f, b in timed[name]]
            phases = {"forward": forward, "backward": backward, "both": both}
            row |= {phase: spread(numbers)._asdict() for phase, numbers in phases.items()}
        rows.append(row)
    return rows


# ---------------------------------------------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    here = [subject for subject in SUBJECTS if is_installed(subject.module)]
    missing = [subject.name for subject in SUBJECTS if subject not in here]
    subjects = [_imported(subject) for subject in here]
    results = [row for nodes in options.nodes for row in measure(subjects, nodes, options.repeat)]
    versions = {subject.name: version(subject.module) for subject in here}
    where = machine()
    if options.json:
        found = {
            "benchmark": "overhead",
            "unit": "microseconds a node",
            "repeat": options.repeat,
            "machine": where,
            "versions": versions,
            "missing": missing,
            "results": results,
        }
        print(as_json(found))
        return
    print("Scalar chains, forward and backward: microseconds a node")
    print(f"least of {options.repeat} interleaved runs; in brackets the median of forward and backward together\n")
    print(table([("", "nodes", "forward", "backward", "both", ""), *map(_row, results)]))
    print("\n" + told(where))
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    if missing:
        print(f"not installed: {', '.join(missing)}; pip install 'tinyattn[bench]' brings them")


def _imported(subject: type[Subject]) -> Subject:
    try:
        return subject()
    except ImportError as error:
        raise BenchmarkError(f"{subject.name} is installed, but can't be imported: {error}") from error


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    name, nodes = row["subject"], f"{row['nodes']:,}"
    if row["failure"]:
        return name, nodes, "-", "-", row["failure"], ""
    forward, backward, both = (row[phase] for phase in ("forward", "backward", "both"))
    least = (f"{times['least']:.2f}" for times in (forward, backward, both))
    return name, nodes, *least, f"({both['median']:.2f})"


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description="Time a node, forward and backward, on chains of scalars: tinyattn beside its peers, as far as "
        "they are installed (pip install 'tinyattn[bench]'). A chain that is too long for a peer is reported as such.",
    )
    lengths = " ".join(map(str, NODES))
    parser.add_argument(
        "--nodes", type=_even, nargs="+", default=NODES, metavar="N", help=f"lengths of chains (default {lengths})"
    )
    at_least_one = whole_number(1, 10_000)
    parser.add_argument("--repeat", type=at_least_one, default=REPEAT, metavar="R", help=f"runs (default {REPEAT})")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _even(text: str) -> int:
    nodes = whole_number(2, 1_000_000)(text)
    if nodes % 2:
        raise argparse.ArgumentTypeError(f"expected an even number, since a step is two nodes; got {text}")
    return nodes


if __name__ == "__main__":
    sys.exit(run(PROGRAM, main))
