"""The command line: draws every subject as a picture and as a page to play."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import tinyattn as ta
from demos.commands import Parser, carry_out, fail, folder, prepare_output
from demos.graph.subjects import SUBJECTS

OUT = Path("out/graph")
PROGRAM = "python -m demos.graph"
FORMATS = ("svg", "html", "png", "pdf", "dot")


class DrawingError(Exception):
    """No picture can be had; the message says why."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is 0, 2 for a user's mistake, 130 after Ctrl-C."""
    prepare_output()
    options = _parser().parse_args(list(arguments))
    return carry_out(PROGRAM, lambda: _draw(options.out, options.format or ["svg", "html"]), (DrawingError,))


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Draw computation graphs: softmax, attention, the pronoun toy's loss.")
    parser.add_argument("--out", type=folder, default=OUT, metavar="FOLDER", help=f"where to (default {OUT})")
    parser.add_argument("--format", choices=FORMATS, action="append", help="svg and html unless told; may be repeated")
    return parser


def _draw(out: Path, formats: Sequence[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for subject in SUBJECTS:
        graph = ta.graph(subject.compute(), inside=subject.inside, depth=subject.depth)
        print(f"{subject.title}: {repr(graph)[8:-1]}")
        for name in formats:
            try:
                print(f"  {graph.save(out / f'graph-{subject.name}.{name}')}")
            except RuntimeError as error:  # no engine: pages, DOT and text need none
                if name in ("html", "dot"):
                    raise DrawingError(str(error)) from error
                instead = graph.save(out / f"graph-{subject.name}.dot")
                fail(PROGRAM, f"{instead} stands in the place of the {name}: {error}")
    sys.stdout.flush()
