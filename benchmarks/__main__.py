"""All benchmarks, one after the other: `python -m benchmarks`. Writes one dated page with what they printed."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import BenchmarkError, Parser, machine, run, told, whole_number

PROGRAM = "python -m benchmarks"
RESULTS = Path(__file__).parent / "RESULTS.md"


class Benchmark(NamedTuple):
    """One of them."""

    name: str
    title: str
    takes_as_set: bool = True


ALL = (
    Benchmark("overhead", "What a node costs", takes_as_set=False),
    Benchmark("attention", "Attention"),
    Benchmark("step", "A training step of a small transformer"),
    Benchmark("gpt", "A training step of a character GPT"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.out.parent.is_dir() or options.out.is_dir():  # told now, and not after all the work
        parser.error(f"{options.out} can't be written: it's a folder, or there is none to hold it")
    chosen = [benchmark for benchmark in ALL if benchmark.name in (options.only or [one.name for one in ALL])]
    lines = [
        "# Results",
        "",
        f"Written by `{' '.join([PROGRAM, *(arguments or sys.argv[1:])])}` on {datetime.date.today():%Y-%m-%d}:"
        " everything in one go, each",
        "benchmark beside its peers in one run. What is timed, and how, stands at the head of each `benchmarks/*.py`.",
        "",
        f"{told(machine())}",
    ]
    for i, benchmark in enumerate(chosen):
        command = ["-m", f"benchmarks.{benchmark.name}", *(_own(options) if benchmark.takes_as_set else ())]
        print(f"{i + 1} of {len(chosen)}: python {' '.join(command)}", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"benchmarks.{benchmark.name} ended with status {done.returncode}; nothing is written")
        lines += ["", f"## {benchmark.title}", "", f"    $ python {' '.join(command)}"]
        lines += [f"    {line}".rstrip() for line in done.stdout.splitlines()]
    text = "\n".join(lines) + "\n"
    options.out.write_text(text, encoding="utf-8")
    print(text, end="")


def _own(options: object) -> list[str]:
    rounds = getattr(options, "rounds", None)
    return [] if rounds is None else ["--rounds", str(rounds)]


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Run all benchmarks and write what they print to one page.")
    names = [benchmark.name for benchmark in ALL]
    parser.add_argument("--only", choices=names, action="append", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--rounds", type=whole_number(1, 1000), metavar="R", help="samples (default: theirs)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="the page (benchmarks/RESULTS.md)")
    return parser


if __name__ == "__main__":
    sys.exit(run(PROGRAM, main))
