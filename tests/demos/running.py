"""Running the demo as a user does."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

from demos.pronoun.command import main

ROOT = Path(__file__).parents[2]


def run_demo(*arguments, check=None, **options):
    """`python -m demos.pronoun ...` as a user runs it; checks its exit status if one is given."""
    command = [sys.executable, "-m", "demos.pronoun", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, **options)
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done


def call_demo(*arguments, check=None):
    """The same without a process of its own, which takes a second to start."""
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = ended.code
    done = subprocess.CompletedProcess(arguments, status, printed.getvalue(), errors.getvalue())
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done
