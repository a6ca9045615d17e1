"""The command line of the language model: reads arguments, runs, reports."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

import tinyattn as ta
from demos.commands import Parser, at_least, carry_out, fail, folder, positive, prepare_output
from demos.files import FileError, sweep, write_whole
from demos.gpt.display import Watcher
from demos.gpt.parallel import ParallelError, Ranks, ranks
from demos.gpt.sampling import Writer
from demos.gpt.text import Corpus, TextError, own_files, read
from demos.gpt.training import PRESETS, Run, Settings, TrainingError, load_checkpoint, save_log, save_model

OUT = Path("out/gpt")
PROGRAM = "python -m demos.gpt"
CHECKPOINT = "checkpoint.safetensors"
MISTAKES = (FileError, TextError, TrainingError, ParallelError)
SAMPLED = 300  # characters, at the end of a training

# Options that change the settings of a preset: name, type, what it is.
OPTIONS: tuple[tuple[str, Any, str], ...] = (
    ("seed", at_least(0), "of parameters and batches"),
    ("steps", at_least(1), "batches"),
    ("layers", at_least(1), "blocks"),
    ("heads", at_least(1), "of attention in each block"),
    ("d_model", at_least(1), "numbers that stand for a character"),
    ("length", at_least(1), "characters that are seen at once"),
    ("batch", at_least(1), "sequences in a step"),
    ("rate", positive, "peak learning rate"),
    ("evaluate", at_least(1), "steps between two looks at what is held out"),
)


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is 0, 2 for a user's mistake, 130 after Ctrl-C."""
    prepare_output()
    options = _parser().parse_args(list(arguments))
    return carry_out(PROGRAM, lambda: options.run(options), MISTAKES)


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM, description="A language model that learns to go on with a text, one character at a time."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    train = commands.add_parser("train", help="learn from text files")
    train.add_argument("files", nargs="*", type=Path, metavar="FILE", help="in UTF-8 (default: this project's own)")
    train.add_argument("--preset", choices=PRESETS, default="small", help="sizes and rates (default small)")
    for name, kind, what in OPTIONS:
        default = getattr(Settings(), name)
        shown = f"{what} (default {default}, or the preset's)"
        train.add_argument(f"--{name.replace('_', '-')}", dest=name, type=kind, metavar="N", help=shown)
    train.add_argument("--out", type=folder, default=OUT, metavar="DIR", help=f"where results go (default {OUT})")
    train.add_argument("--resume", action="store_true", help="go on from DIR/checkpoint.safetensors")
    train.set_defaults(run=_train)

    model = OUT / "model.safetensors"
    sample = commands.add_parser("sample", help="write on from a prompt")
    sample.add_argument("--prompt", default="\n", metavar="TEXT", help="what comes before (default: a new line)")
    sample.add_argument("--n", type=at_least(0), default=500, metavar="N", help="characters to write (default 500)")
    sample.add_argument(
        "--temperature", type=_temperature, default=0.8, metavar="T", help="0: the likeliest (default 0.8)"
    )
    sample.add_argument("--top-k", type=at_least(1), metavar="K", help="draw from the K likeliest (default: from all)")
    sample.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="of the draws (default 0)")
    sample.add_argument("--model", type=Path, default=model, metavar="FILE", help=f"a trained model (default {model})")
    sample.set_defaults(run=_sample)

    view = commands.add_parser("view", help="write a page on which one sees where each character looks")
    view.add_argument("text", metavar="TEXT", help="at most as long as the model sees")
    view.add_argument("--model", type=Path, default=model, metavar="FILE", help=f"a trained model (default {model})")
    page = OUT / "attention.html"
    view.add_argument("-o", "--output", type=Path, default=page, metavar="FILE", help=f"the page (default {page})")
    view.set_defaults(run=_view)
    return parser


def _temperature(text: str) -> float:
    return 0.0 if text in ("0", "0.0") else positive(text)


def _train(options: argparse.Namespace) -> None:
    ta.keep_memory()
    together = ranks()
    try:
        run = _prepared(options, together)
    except MISTAKES:
        if together.is_first:  # the others would say the same
            raise
        raise SystemExit(2) from None
    console = Console(highlight=False, quiet=not together.is_first)
    _announce(console, run, _again(options))
    try:
        with Watcher(console, run) as watcher:
            run.train(watcher, options.out / CHECKPOINT)
    except KeyboardInterrupt:
        if together.is_first:
            print(f"\ninterrupted in step {run.step}; {_again(options)} goes on", file=sys.stderr)
        raise
    except Exception as error:
        if together.n > 1:  # the others wait for this one
            fail(PROGRAM, f"a process of {together.n} ends in step {run.step}: {error}; {_again(options)} goes on")
            together.abort()
        raise
    if together.is_first:
        _finish(console, options.out, run)


def _prepared(options: argparse.Namespace, together: Ranks) -> Run:
    """The run, before its first step, and a folder for what it leaves."""
    text = read(options.files or own_files())
    run = _resume(options, text, together) if options.resume else _start(options, text, together)
    if together.is_first:
        options.out.mkdir(parents=True, exist_ok=True)
        sweep(options.out)
    return run


def _announce(console: Console, run: Run, again: str) -> None:
    corpus, n = run.corpus, run.ranks.n
    told = (
        f"{run.n_parameters:,} parameters; {len(corpus.train):,} characters to learn from, {len(corpus.heldout):,} held"
        f" out, {len(corpus.vocabulary)} different ones."
    )
    if n > 1:
        told += f"\n{n} processes. Should one of them end, all do; then {again} goes on from the last checkpoint."
    console.print(told, soft_wrap=True)


def _again(options: argparse.Namespace) -> str:
    """The command that goes on with an interrupted run."""
    out = [] if options.out == OUT else ["--out", str(options.out)]
    return f"{PROGRAM} train " + " ".join(map(shlex.quote, [*map(str, options.files), "--resume", *out]))


def _finish(console: Console, out: Path, run: Run) -> None:
    _write_results(out, run)
    last = run.log[-1]
    rate = run.settings.batch * run.settings.length * run.step / run.seconds
    console.print(
        f"\nLoss {last.loss:.4f}, held out {last.validation:.4f}, after {run.seconds:.1f} s: {rate:,.0f} characters a"
        " second. It writes:\n",
        soft_wrap=True,
    )
    writer = Writer(run.model, run.corpus.vocabulary)
    print("".join(writer.write(run.corpus.vocabulary.characters[0], SAMPLED)).strip("\n"))
    model = "" if out == OUT else f" --model {shlex.quote(str(out / 'model.safetensors'))}"
    console.print(f"\nModel, log and picture: {out}/", soft_wrap=True)
    prompt = shlex.quote(run.corpus.beginning)
    console.print(f"Let it write: {PROGRAM} sample --prompt {prompt}{model}", soft_wrap=True)


def _start(options: argparse.Namespace, text: str, together: Ranks) -> Run:
    try:
        settings = replace(PRESETS[options.preset], **_given(options))
    except ValueError as error:
        raise TrainingError(str(error)) from None
    return Run(settings, Corpus(text, settings.length), together)


def _resume(options: argparse.Namespace, text: str, together: Ranks) -> Run:
    """The run that the checkpoint holds; options given now must be those that it was started with."""
    checkpoint = options.out / CHECKPOINT
    settings, arrays, state = load_checkpoint(checkpoint)
    for name, value in _given(options).items():
        if value != getattr(settings, name):
            option = name.replace("_", "-")
            raise FileError(
                f"{checkpoint}: its run has --{option} {getattr(settings, name)}; leave out --{option} {value}"
            )
    run = Run(settings, Corpus(text, settings.length), together)
    run.restore(checkpoint, arrays, state)
    return run


def _given(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name, _, _ in OPTIONS if getattr(options, name) is not None}


def _write_results(out: Path, run: Run) -> None:
    metrics = {
        "loss": run.log[-1].loss,
        "validation_loss": run.log[-1].validation,
        "parameters": run.n_parameters,
        "seconds": round(run.seconds, 3),
        "characters_per_second": round(run.settings.batch * run.settings.length * run.step / run.seconds),
        **asdict(run.settings),
    }
    write_whole(out / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    save_model(out / "model.safetensors", run)
    save_log(out / "log.csv", run.log)
    from demos.gpt.figures import save_curve

    save_curve(out / "loss.png", run)


def _sample(options: argparse.Namespace) -> None:
    writer = _trained(options.model)
    if not options.prompt:
        raise TextError("the prompt is empty; there is nothing to go on from")
    pieces = writer.write(
        options.prompt, options.n, temperature=options.temperature, top_k=options.top_k, seed=options.seed
    )
    print(options.prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def _view(options: argparse.Namespace) -> None:
    if options.output.suffix.lower() not in (".html", ".htm"):
        raise FileError(f"{options.output}: the page's name must end with .html")
    page = _trained(options.model).view(options.text).to_html()
    if not options.output.parent.is_dir():
        raise FileError(f"{options.output}: there is no folder {str(options.output.parent)!r} to write it into")
    write_whole(options.output, page.encode())
    print(f"{options.output}: open it in a browser")


def _trained(path: Path) -> Writer:
    if path == OUT / "model.safetensors" and not path.exists():
        raise FileError(f"{path}: no model has been trained yet; {PROGRAM} train trains one")
    return Writer.load(path)
