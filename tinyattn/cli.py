"""The command `tinyattn`.

Exit status: 0 where all is well, 1 where a check failed, 2 for a mistake in the command line or output that can't be
written, 130 after Ctrl-C. What a user gets wrong is answered with a line on standard error that says how to get it
right, and that shows what was typed as text that can do a terminal no harm.
"""

import argparse
import contextlib
import difflib
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO

import numpy as np

from tinyattn.gallery import SAMPLES
from tinyattn.gradcheck import RuleCheck, check_rule


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
    options = parser.parse_args(arguments)
    if options.version:
        print(f"tinyattn {_version()}")
    elif options.command == "gradcheck":
        return _gradcheck(options.rules, seed=options.seed, as_json=options.json)
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
    gradcheck.add_argument("--json", action="store_true", help="print JSON instead of a table")
    gradcheck.add_argument("--seed", type=_seed, default=0, help="seed of the random numbers (default: 0)")
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a seed is a whole number, 0 or more; got {text!r}")
    if len(text) > 60:
        raise argparse.ArgumentTypeError(f"a seed has 60 digits at most; got {len(text)}")
    return int(text)


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("tinyattn")
    except metadata.PackageNotFoundError:
        return "(not installed)"


# ---------------------------------------------------------------------------------------------------- gradcheck


def _gradcheck(names: Sequence[str], *, seed: int, as_json: bool) -> int:
    for name in names:
        if name not in SAMPLES:
            near = difflib.get_close_matches(name, SAMPLES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "`tinyattn gradcheck` lists them all"
            raise UsageError(f"gradcheck: there is no rule {name!r}; {hint}")
    # Each rule has random numbers of its own, and so the same row in every table.
    checks = [check_rule(name, rng=np.random.default_rng(seed)) for name in names or sorted(SAMPLES)]
    failed = [check for check in checks if not check.ok]
    if as_json:
        told = {"seed": seed, "ok": not failed, "rules": [_as_json(check) for check in checks]}
        print(json.dumps(told, indent=2, allow_nan=False))
    else:
        print("\n".join(_table(checks)))
        print(_plural(len(checks)) + ": " + (f"{len(failed)} FAILED" if failed else "all gradients agree"))
        for check in failed:
            print(f"\n{check}")
    return 1 if failed else 0


def _table(checks: Sequence[RuleCheck]) -> list[str]:
    """A line for each rule; the titles name what its backward was compared with."""
    width = max(len(check.rule) for check in checks)
    lines = [f"{'rule':<{width}}  samples  differences  complex step     tape"]
    for check in checks:
        numeric, by_complex, tape = map(_error, (check.error_numeric, check.error_complex, check.error_tape))
        verdict = "" if check.ok else "  FAILED"
        lines.append(f"{check.rule:<{width}}  {check.samples:>7}  {numeric:>11}  {by_complex:>12}  {tape:>7}{verdict}")
    return lines


def _error(error: float | None) -> str:
    return "-" if error is None else "0" if error == 0 else f"{error:.1e}"


def _as_json(check: RuleCheck) -> dict[str, Any]:
    return {
        "rule": check.rule,
        "samples": check.samples,
        "error_numeric": _finite(check.error_numeric),
        "error_complex": _finite(check.error_complex),
        "error_tape": _finite(check.error_tape),
        "ok": check.ok,
    }


def _finite(error: float | None) -> float | None:
    """The error where it is a number: JSON has no NaN and no infinity. (Where they turn up, `ok` is false.)"""
    return error if error is not None and math.isfinite(error) else None


def _plural(count: int) -> str:
    return f"{count} rule{'s' * (count != 1)}"
