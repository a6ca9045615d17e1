"""Running the demo as a user does."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_demo(*arguments, check=None, **options):
    """`python -m demos.pronoun ...` as a user runs it; checks its exit status if one is given."""
    command = [sys.executable, "-m", "demos.pronoun", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, **options)
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done
