"""The command line of the toy: reads arguments, runs, reports; a user's mistake is one line and exit status 2."""

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
from rich.text import Text

from demos.commands import Parser, at_least, carry_out, folder, positive, prepare_output
from demos.files import FileError, sweep, write_whole
from demos.pronoun import display
from demos.pronoun.corpus import Corpus
from demos.pronoun.evaluation import Findings
from demos.pronoun.resolve import Resolver, SentenceError, as_json, as_text
from demos.pronoun.training import (
    Data,
    GradientErrors,
    Run,
    Settings,
    TrainingError,
    check_gradients,
    load_checkpoint,
    save_log,
    save_model,
)

OUT = Path("out/pronoun")
PROGRAM = "python -m demos.pronoun"


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is 0, 2 for a user's mistake, 130 after Ctrl-C."""
    prepare_output()
    arguments = list(arguments)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments.insert(0, "train")
    options = _parser().parse_args(arguments)
    return carry_out(PROGRAM, lambda: options.run(options), (FileError, SentenceError, TrainingError))


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description="A toy that learns what a pronoun stands for, by backprop derived by hand.",
        epilog="Without a command it trains: `python -m demos.pronoun --seed 1` is `... train --seed 1`; "
        "`... train --help` lists the options.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    train = commands.add_parser("train", help="train the model and show what it learned (the default)")
    train.add_argument("--seed", type=at_least(0), metavar="N", help="of corpus, model and batches (default 0)")
    train.add_argument("--steps", type=at_least(1), metavar="N", help=f"batches (default {Settings.steps})")
    train.add_argument("--backprop", choices=("hand", "tape"), help="who computes gradients (default hand)")
    train.add_argument("--dtype", choices=("float32", "float64"), help="of the parameters (default float32)")
    train.add_argument("--rate", type=positive, metavar="R", help=f"peak learning rate (default {Settings.rate})")
    train.add_argument("--out", type=folder, default=OUT, metavar="DIR", help=f"where results go (default {OUT})")
    train.add_argument("--resume", action="store_true", help="go on from DIR/checkpoint.safetensors")
    train.add_argument("--baselines", action="store_true", help="train the models it is compared with too (minutes)")
    train.add_argument("--show-corpus", type=at_least(1), metavar="N", help="print N training sentences and stop")
    train.set_defaults(run=_train)

    resolve = commands.add_parser("resolve", help="say what the pronouns of a sentence stand for")
    resolve.add_argument("sentence", nargs="+", metavar="SENTENCE", help='such as "The cat sat on the mat because ..."')
    model = OUT / "model.safetensors"
    resolve.add_argument("--model", type=Path, default=model, metavar="FILE", help=f"a trained model (default {model})")
    resolve.add_argument("--json", action="store_true", help="everything, for machines")
    resolve.set_defaults(run=_resolve)
    return parser


def _resolve(options: argparse.Namespace) -> None:
    resolver = _load_model(options.model)
    result = resolver.resolve(" ".join(options.sentence))
    print(as_json(result) if options.json else as_text(result))


def _load_model(path: Path) -> Resolver:
    if path == OUT / "model.safetensors" and not path.exists():
        raise FileError(f"{path}: no model has been trained yet; `make demo` trains one")
    return Resolver.load(path)


def _train(options: argparse.Namespace) -> None:
    console = Console(highlight=False)
    if options.show_corpus:
        for sentence in Corpus(options.seed or 0).train[: options.show_corpus]:
            print(f"{sentence}  [{sentence.words[sentence.pronoun]} → {sentence.answer}]")
        return
    checkpoint = options.out / "checkpoint.safetensors"
    run = _resume(options, checkpoint) if options.resume else _start(options)
    options.out.mkdir(parents=True, exist_ok=True)
    sweep(options.out)
    settings, data = run.settings, run.data
    console.print(
        f"{run.n_parameters:,} parameters, {len(data.corpus.train):,} sentences to learn from, "
        f"{len(data.corpus.heldout):,} held out.\nSeed {settings.seed}, backprop by {settings.backprop}.\n"
    )
    errors = check_gradients(settings, data)
    console.print(display.gradient_table(errors))
    if not errors.ok:
        raise TrainingError("the gradients differ, in the parameters named in the table; nothing was trained")
    try:
        with display.Watcher(console, run) as watcher:
            run.train(watcher, checkpoint)
    except KeyboardInterrupt:
        out = "" if options.out == OUT else f" --out {shlex.quote(str(options.out))}"
        print(f"\ninterrupted in step {run.step}; {PROGRAM} --resume{out} goes on", file=sys.stderr)
        raise
    findings = data.exam.findings(run.read)
    _write_results(options.out, run, findings, errors)
    _tell(console, run, findings, options.baselines)
    console.print(f"Trained in {run.seconds:.1f} s. Model, metrics and pictures: {options.out}/", soft_wrap=True)
    console.print(_what_next(options.out), soft_wrap=True)


def _what_next(out: Path) -> str:
    python = ".venv/bin/python" if Path(sys.prefix) == Path(".venv").absolute() else "python"
    model = "" if out == OUT else f" --model {shlex.quote(str(out / 'model.safetensors'))}"
    look = f"Look at it: {out / 'attention.html'} in a browser"
    return f'{look}\nAsk it: {python} -m demos.pronoun resolve "The cat sat on the mat because it was soft."{model}'


def _start(options: argparse.Namespace) -> Run:
    settings = replace(Settings(), **_given(options))
    return Run(settings, Data(settings))


def _resume(options: argparse.Namespace, checkpoint: Path) -> Run:
    """The run that the checkpoint holds; options given now must be those that it was started with."""
    settings, arrays, state = load_checkpoint(checkpoint)
    for name, value in _given(options).items():
        if value != getattr(settings, name):
            raise FileError(f"{checkpoint}: its run has --{name} {getattr(settings, name)}; leave out --{name} {value}")
    run = Run(settings, Data(settings))
    try:
        run.restore(arrays, state)
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{checkpoint}: a checkpoint of another version of this demo ({error})") from error
    return run


def _given(options: argparse.Namespace) -> dict[str, Any]:
    names = ("seed", "steps", "backprop", "dtype", "rate")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _tell(console: Console, run: Run, findings: Findings, with_baselines: bool) -> None:
    rows = [("this model", findings)]
    if with_baselines:
        from demos.pronoun.baselines import trained_baselines

        rows += trained_baselines(run.settings, run.data, console)
    console.print(display.accuracy_table(rows))
    console.print(display.looks_table(findings.looks))
    resolver = Resolver(run.read, run.data.vocabulary, run.sizes.max_length)
    for sentence in (display.SENTENCE, display.TWIN):
        console.print(Text(f"\n{sentence}", style="bold"))
        console.print(Text(as_text(resolver.resolve(sentence))))
    console.print()


def _write_results(out: Path, run: Run, findings: Findings, errors: GradientErrors) -> None:
    best = findings.best_head
    metrics = {
        "heldout_accuracy": findings.heldout,
        "same_kind_accuracy": findings.same_kind,
        "minimal_pair_accuracy": findings.minimal_pairs,
        "swap_accuracy": findings.swaps,
        "antecedent_attention": best.antecedent,
        "antecedent_over_rival": best.over_rival,
        "gradient_error_tape": errors.tape,
        "gradient_error_numeric": errors.numeric,
        "parameters": run.n_parameters,
        "seconds": round(run.seconds, 3),
        **asdict(run.settings),
        "heads": [look._asdict() for look in findings.looks],
    }
    write_whole(out / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    save_model(out / "model.safetensors", run)
    save_log(out / "log.csv", run.log)
    from demos.pronoun.figures import save_attention, save_graph
    from demos.pronoun.page import save_page

    save_page(out / "attention.html", run)
    save_attention(out / "attention.png", run, (display.SENTENCE, display.TWIN))
    try:
        save_graph(out / "graph.svg", run, display.SENTENCE, "animal")
    except RuntimeError as error:
        (out / "graph.svg").unlink(missing_ok=True)  # an older run's
        print(f"{PROGRAM}: graph.svg is not drawn, graph.dot stands in its place: {error}", file=sys.stderr)
