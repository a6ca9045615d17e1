"""The command `tinyattn`.

Exit status: 0 where all is well, 1 where a check failed, 2 for a mistake in the command line or output that can't be
written, 130 after Ctrl-C. What a user gets wrong is answered with a line on standard error that says how to get it
right, and that shows what was typed as text that can do a terminal no harm.
"""

import argparse
import contextlib
import difflib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

from tinyattn.gallery import FAULTS, SAMPLES, Fault
from tinyattn.gradcheck import RuleCheck, check_rule, sweep_rule


class UsageError(Exception):
    """What the user asked for can't be done; the message names the command and says why."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"{_shown(f'{self.prog}: {message}')} (see --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write help, or what `error` says. An error in doing so isn't swallowed, as argparse does."""
        if file is not None:
            file.write(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default those it was called with, and return its exit status."""
    try:
        if sys.stdout is None:
            _complain("tinyattn: can't write the output: standard output is closed")
            return 2
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # a terminal that has no "…" is no reason to say nothing
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except UsageError as error:
        _complain(f"tinyattn {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _give_up(sys.stdout)  # whoever read it has left
        return 141
    except OSError as error:
        _give_up(sys.stdout)
        _complain(f"tinyattn: can't write the output: {error.strerror or error}")
        return 2


def _complain(line: str) -> None:
    """Say a line on standard error, if there is anybody to hear it."""
    if sys.stderr is not None:
        try:
            print(_shown(line), file=sys.stderr, flush=True)
        except OSError:
            _give_up(sys.stderr)


def _give_up(stream: TextIO) -> None:
    """Send what is left to nowhere: the interpreter must not try to write it at exit."""
    with contextlib.suppress(OSError):  # where it has no descriptor there is nothing to be done
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _shown(line: str) -> str:
    """The line with what can't be printed escaped, and long words cut short."""
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    line = re.sub(r"\S{61,}", lambda word: f"{word[0][:40]}...{word[0][-12:]}", printable)
    return line if len(line) <= 400 else f"{line[:300]}...{line[-60:]}"


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(_with_numbers(sys.argv[1:] if arguments is None else arguments))
    if options.version:
        print(f"tinyattn {_version()}")
    elif options.command == "gradcheck":
        return _gradcheck(options)
    elif options.command == "faults":
        _faults(options)
    elif options.command == "graph":
        _graph(options)
    elif options.command == "softmax":
        return _softmax(options)
    elif options.command == "attention":
        return _attention(options)
    elif options.command == "doctor":
        _doctor(options)
    else:
        parser.print_help()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="tinyattn", description="Attention, understood down to the last gradient: autograd on NumPy, from scratch."
    )
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")

    about = "compare the backward of every rule with gradients computed in other ways"
    gradcheck = commands.add_parser(
        "gradcheck",
        help=about,
        description=f"{about.capitalize()}: finite differences, the complex step, and the tape over the smaller rules "
        "that a rule is composed of. The table shows the largest relative error of each rule; '-' where a way doesn't "
        "apply. Exit status 1 if a rule fails.",
    )
    gradcheck.add_argument("rules", nargs="*", metavar="RULE", help="the rules to check (default: all)")
    gradcheck.add_argument("--second-order", action="store_true", help="check second derivatives too")
    gradcheck.add_argument(
        "--sweep", action="store_true", help="show how the error of one RULE depends on the step of the differences"
    )
    gradcheck.add_argument("-o", "--output", metavar="FILE", help="save the sweep: .png, .svg, .pdf, .csv or .json")
    gradcheck.add_argument("--json", action="store_true", help="print JSON instead of a table")
    gradcheck.add_argument("--seed", type=_seed, default=0, help="seed of the random numbers (default: 0)")

    about = "list wrong backwards, as people write them, or hand one out as an exercise"
    faults = commands.add_parser("faults", help=about, description=f"{about.capitalize()}.")
    faults.add_argument("fault", nargs="?", metavar="FAULT", help="its name, or its number in the list")
    shown = faults.add_mutually_exclusive_group()
    shown.add_argument("--exercise", action="store_true", help="code that doesn't give the mistake away (default)")
    shown.add_argument("--solution", action="store_true", help="the mistake, and the code as it should be")
    faults.add_argument("--json", action="store_true", help="print JSON instead of text")

    about = "draw the computation graph of a formula, with its gradients"
    graph = commands.add_parser(
        "graph",
        help=about,
        description=f"{about.capitalize()}: tinyattn graph 'softmax(x @ w)' --shape x=3,4 --shape w=4,2 -o graph.html. "
        "The arrays are random; so is the gradient that a result of several numbers starts from. Without -o the graph "
        "is printed.",
    )
    graph.add_argument("formula", metavar="FORMULA", help="names of arrays, numbers, + - * / @ **, and rules by name")
    graph.add_argument(
        "--shape", type=_shape, action="append", default=[], metavar="NAME=N,N", help="the shape of an array"
    )
    graph.add_argument("-o", "--output", metavar="FILE", help="where to: .svg, .png, .pdf, .dot or .html")
    graph.add_argument("--depth", type=_depth, metavar="N", help="how many levels of boxes are open")
    graph.add_argument(
        "--inside", action="append", default=[], metavar="RULE", help="a rule whose steps are shown, too"
    )
    graph.add_argument("--seed", type=_seed, default=0, help="seed of the random numbers (default: 0)")

    _add_softmax(commands)
    _add_attention(commands)

    about = "say what matrix products are computed with, whether that suits this processor, and what to set if not"
    doctor = commands.add_parser("doctor", help=about, description=f"{about.capitalize()}.")
    doctor.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


def _add_softmax(commands: Any) -> None:
    about = "take one row of attention apart, from scores to weights and back, every number of it"
    softmax = commands.add_parser(
        "softmax",
        help=about,
        description=f"{about.capitalize()}: tinyattn softmax 0.1 2.8 0.2 --tokens The animal cross --d-k 64. The "
        "gradient of the scores is computed by hand, by the tape and by finite differences. Exit status 1 if they "
        "differ.",
    )
    softmax.add_argument(
        "scores", nargs="*", type=_number, metavar="SCORE", help="a number, before any option; -inf hides"
    )
    softmax.add_argument("--tokens", nargs="+", metavar="WORD", help="a name for each score")
    softmax.add_argument("--d-k", type=_size, metavar="N", help="divide the scores by √N")
    softmax.add_argument(
        "--gradient", nargs="+", type=_number, metavar="D", help="the gradient of each weight (default: random)"
    )
    softmax.add_argument("--values", nargs="+", type=_number, metavar="V", help="a number of each token, to be mixed")
    softmax.add_argument(
        "--published", nargs="+", metavar="W", help="weights as published: which temperature comes closest to them?"
    )
    _add_output(softmax)


def _add_attention(commands: Any) -> None:
    about = "take a head of attention on a sentence apart, as seen from one word"
    attention = commands.add_parser(
        "attention",
        help=about,
        description=f"{about.capitalize()}: tinyattn attention \"The animal didn't cross the street because it was "
        'tired" --query it. Embeddings and matrices are random. Every gradient is computed by hand, by the tape and by '
        "finite differences. Exit status 1 if they differ.",
    )
    attention.add_argument("sentence", nargs="+", metavar="SENTENCE", help="words between spaces")
    attention.add_argument("--query", metavar="WORD", help="the word that asks, or its position (default: the last)")
    attention.add_argument("--heads", type=_size, default=2, metavar="N", help="how many heads (default: 2)")
    attention.add_argument("--head", type=_size, default=1, metavar="N", help="which of them is shown (default: 1)")
    attention.add_argument("--d-model", type=_size, default=8, metavar="N", help="size of an embedding (default: 8)")
    attention.add_argument("--causal", action="store_true", help="a word sees none that comes after it")
    attention.add_argument("--no-scale", action="store_true", help="don't divide the scores by √d_k")
    _add_output(attention)


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON instead of text")
    command.add_argument("--html", metavar="FILE", help="write a page instead of text")
    command.add_argument("--seed", type=_seed, default=0, help="seed of the random numbers (default: 0)")


def _with_numbers(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments, with a space before -inf, -1e5 and the like, which argparse takes for options of that name."""
    if list(arguments[:1]) != ["softmax"]:
        return arguments
    return [f" {argument}" if argument.startswith("-") and _is_number(argument) else argument for argument in arguments]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> float:
    if not _is_number(text):
        raise argparse.ArgumentTypeError(f"needs a number, as 2.8, -1.5 or -inf; got {text.strip()!r}")
    return float(text)


def _size(text: str) -> int:
    text = text.strip()
    if not text.isdecimal() or len(text) > 15 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"needs a whole number, 1 or more; got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    text = text.strip()
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a seed is a whole number, 0 or more; got {text!r}")
    if len(text) > 60:
        raise argparse.ArgumentTypeError(f"a seed has 60 digits at most; got {len(text)}")
    return int(text)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """`x=3,4` as a name and a shape; `x=` is a single number."""
    name, equals, sizes = text.partition("=")
    parts = [size.strip() for size in sizes.split(",")] if sizes.strip() else []
    if not equals or not name.isidentifier() or not all(size.isdecimal() and len(size) < 10 for size in parts):
        raise argparse.ArgumentTypeError(f"a shape is a name and sizes, as in x=3,4; got {text!r}")
    return name, tuple(map(int, parts))


def _depth(text: str) -> int:
    if not text.isdecimal() or len(text) > 6:
        raise argparse.ArgumentTypeError(f"a depth is a whole number, 0 or more; got {text!r}")
    return int(text)


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("tinyattn")
    except metadata.PackageNotFoundError:
        return "(not installed)"


# ---------------------------------------------------------------------------------------------------- gradcheck


def _gradcheck(options: argparse.Namespace) -> int:
    for name in options.rules:
        if name not in SAMPLES:
            near = difflib.get_close_matches(name.rpartition(".")[2], SAMPLES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "`tinyattn gradcheck` lists them all"
            raise UsageError(f"gradcheck: there is no rule {name!r}; {hint}")
    if options.sweep or options.output is not None:
        return _sweep(options)
    # Each rule has random numbers of its own, and so the same row in every table.
    checks = [
        check_rule(name, rng=np.random.default_rng(options.seed), second_order=options.second_order)
        for name in options.rules or sorted(SAMPLES)
    ]
    failed = [check for check in checks if not check.ok]
    if options.json:
        told = {"seed": options.seed, "ok": not failed, "rules": [check.to_dict() for check in checks]}
        print(json.dumps(told, indent=2, allow_nan=False))
    else:
        print("\n".join(_table(checks, second_order=options.second_order)))
        print(_plural(len(checks)) + ": " + (f"{len(failed)} FAILED" if failed else "all gradients agree"))
        for check in failed:
            print(f"\n{check}")
    return 1 if failed else 0


def _sweep(options: argparse.Namespace) -> int:
    if not options.sweep:
        raise UsageError("gradcheck: -o saves a sweep; add --sweep")
    if len(options.rules) != 1:
        raise UsageError(f"gradcheck: --sweep needs one RULE; got {len(options.rules)}")
    if options.second_order:
        raise UsageError("gradcheck: --sweep is for first derivatives; leave out --second-order")
    try:
        sweep = sweep_rule(options.rules[0], rng=np.random.default_rng(options.seed))
        if options.output is not None:
            sweep.save(options.output)
    except (ImportError, ValueError) as error:
        raise UsageError(f"gradcheck: {error}") from error
    except OSError as error:
        raise UsageError(f"gradcheck: can't write {options.output!r}: {error.strerror or error}") from error
    print(json.dumps(sweep.to_dict(), indent=2, allow_nan=False) if options.json else sweep)
    return 0


def _table(checks: Sequence[RuleCheck], *, second_order: bool) -> list[str]:
    """A line for each rule; the titles name what its backward was compared with."""
    width = max(len(check.rule) for check in checks)
    last = "  second order" if second_order else ""
    lines = [f"{'rule':<{width}}  samples  differences  complex step     tape{last}"]
    for check in checks:
        numeric, by_complex, tape = map(_error, (check.error_numeric, check.error_complex, check.error_tape))
        second = f"  {_error(check.error_second):>12}" if second_order else ""
        told = f"  FAILED{': ' + check.guess.kind if check.guess else ''}"
        row = f"{check.rule:<{width}}  {check.samples:>7}  {numeric:>11}  {by_complex:>12}  {tape:>7}{second}"
        lines.append(row + ("" if check.ok else told))
    return lines


def _error(error: float | None) -> str:
    return "-" if error is None else "0" if error == 0 else f"{error:.1e}"


def _plural(count: int) -> str:
    return f"{count} rule{'s' * (count != 1)}"


# ---------------------------------------------------------------------------------------------------- faults


def _faults(options: argparse.Namespace) -> None:
    if options.fault is None:
        if options.exercise or options.solution:
            raise UsageError("faults: which one? Give its name or its number; `tinyattn faults` lists them")
        print(json.dumps(list(map(_told, FAULTS.values())), indent=2) if options.json else "\n".join(_listed()))
        return
    fault = _fault(options.fault)
    text = fault.solution() if options.solution else fault.exercise()
    if options.json:
        kind = "solution" if options.solution else "exercise"
        print(json.dumps({"rule": fault.rule, kind: text}, indent=2))
    else:
        print(text)


def _fault(wanted: str) -> Fault:
    names = list(FAULTS)
    if wanted.isdecimal():
        if len(wanted) > 9 or not 1 <= int(wanted) <= len(names):
            raise UsageError(f"faults: numbers go from 1 to {len(names)}; got {wanted}")
        return FAULTS[names[int(wanted) - 1]]
    if wanted not in FAULTS:
        near = difflib.get_close_matches(wanted, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`tinyattn faults` lists them all"
        raise UsageError(f"faults: there is no fault {wanted!r}; {hint}")
    return FAULTS[wanted]


def _listed() -> list[str]:
    """A line for each fault: its number, its name, the mistake."""
    width = max(map(len, FAULTS))
    return [f"{k:>3}  {fault.name:<{width}}  {fault.mistake}" for k, fault in enumerate(FAULTS.values(), 1)]


def _told(fault: Fault) -> dict[str, str]:
    return {"name": fault.name, "rule": fault.rule, "mistake": fault.mistake}


# ---------------------------------------------------------------------------------------------------- doctor


def _doctor(options: argparse.Namespace) -> None:
    from tinyattn.diagnosis import doctor

    found = doctor()
    print(json.dumps(found._asdict(), indent=2, allow_nan=False) if options.json else found)


# ---------------------------------------------------------------------------------------------------- graph


def _graph(options: argparse.Namespace) -> None:
    from tinyattn.graph import graph
    from tinyattn.graph.expression import compute
    from tinyattn.graph.picture import INSIDE

    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in options.shape:
        if name in shapes:
            raise UsageError(f"graph: {name} has two shapes")
        shapes[name] = shape
    rng = np.random.default_rng(options.seed)
    try:
        with np.errstate(all="ignore"):  # the picture marks what isn't finite
            result = compute(options.formula, shapes, rng)
        gradient = None if result.size == 1 else rng.normal(size=result.shape)
        picture = graph(result, gradient=gradient, depth=options.depth, inside=(*INSIDE, *options.inside))
        if options.output is None:
            print(picture)
        else:
            print(f"{picture.save(options.output)}: {repr(picture)[8:-1]}")
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        first, *_ = [*str(error).removeprefix("graph: ").splitlines(), type(error).__name__]
        raise UsageError(f"graph: {first}") from error
    except MemoryError as error:
        raise UsageError(f"graph: too large for this machine: {str(error) or 'no memory is left'}") from error
    except OSError as error:
        told = error.strerror or str(error).removeprefix("graph: ")
        raise UsageError(f"graph: can't write {options.output!r}: {told}") from error


# ---------------------------------------------------------------------------------------------------- studies


def _softmax(options: argparse.Namespace) -> int:
    from tinyattn.study.show import softmax_dict, softmax_page
    from tinyattn.study.softmax import softmax_study

    try:
        study = softmax_study(
            options.scores,
            tokens=_tokens(options.tokens, len(options.scores)),
            d_k=options.d_k,
            d_weights=options.gradient,
            values=options.values,
            published=options.published,
            seed=options.seed,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    _show(options, softmax_page(study), softmax_dict(study))
    return 1 if study.d_scores.agree is False else 0


def _tokens(given: list[str] | None, n: int) -> list[str] | None:
    """The words; one argument of as many words as there are scores will do, too."""
    if given is None:
        return None
    parts = given[0].split()
    return parts if len(given) == 1 and len(parts) == n else [token.strip() for token in given]


def _attention(options: argparse.Namespace) -> int:
    from tinyattn.study.head import head_study
    from tinyattn.study.show import head_dict, head_page

    try:
        study = head_study(
            " ".join(options.sentence),
            query=options.query,
            n_heads=options.heads,
            head=options.head,
            d_model=options.d_model,
            causal=options.causal,
            scaled=not options.no_scale,
            seed=options.seed,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    _show(options, head_page(study), head_dict(study))
    return 1 if any(heard.agree is False for heard in study.gradients) else 0


def _show(options: argparse.Namespace, page: Any, told: dict[str, Any]) -> None:
    """As it was asked for; the file first, so that nothing is said of one that can't be written."""
    from tinyattn.study.blocks import to_html, to_text

    if options.html is not None:
        from tinyattn.pages import write_whole

        try:
            write_whole(Path(options.html), to_html(page).encode(errors="replace"))
        except (OSError, ValueError) as error:
            told_by = getattr(error, "strerror", None) or error
            raise UsageError(f"{options.command}: can't write {options.html!r}: {told_by}") from error
    if options.json:
        print(json.dumps(told, indent=2, allow_nan=False))
    else:
        print(to_text(page) if options.html is None else f"{options.html}: {page.title}")
