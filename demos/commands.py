"""What the demos' command lines share: a user's mistake is one line and exit status 2."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

NEEDED = ("matplotlib", "rich", "safetensors")


def launch(demo: str) -> int:
    """Run a demo's command, if what it needs is installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"demos.{demo}: {missing[0]} is missing; pip install 'tinyattn[demos]' brings it", file=sys.stderr)
        return 2
    status: int = importlib.import_module(f"demos.{demo}.command").main(sys.argv[1:])
    return status


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, line(f"{self.prog}: {message} (see --help)"))


def carry_out(program: str, command: Callable[[], None], mistakes: tuple[type[Exception], ...]) -> int:
    """Run a command; the exit status is 0, 2 for a user's mistake, 130 after Ctrl-C."""
    try:
        command()
        sys.stdout.flush()
    except mistakes as error:
        return fail(program, str(error))
    except BrokenPipeError:
        _drop_output()  # the reader left; so do we
        return 0
    except OSError as error:
        _drop_output()
        return fail(program, f"{error.filename or 'the output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        return 130
    return 0


def prepare_output() -> None:
    """Where arrows and bars can't be shown there are question marks, and where there is no output nothing is shown."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _drop_output() -> None:
    """Output that can't be written must not be tried again when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(program: str, message: str) -> int:
    print(line(f"{program}: {message}"), end="", file=sys.stderr)
    return 2


def line(message: str, longest: int = 500) -> str:
    """The message in one line that leaves a terminal as it was, whatever the user typed into it."""
    text = " ".join(message.split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return (text if len(text) <= longest else text[: longest - 1] + "…") + "\n"


def at_least(least: int):
    def whole_number(text: str) -> int:
        if not (text.isdecimal() and len(text) <= 18 and int(text) >= least):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} on, got {text[:40]!r}")
        return int(text)

    return whole_number


def folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a folder, got ''")
    return Path(text)


def positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return number
