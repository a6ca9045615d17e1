"""`python -m demos.pronoun [train] ...` and `python -m demos.pronoun resolve "SENTENCE"`."""

import importlib.util
import os
import sys

NEEDED = ("matplotlib", "rich", "safetensors")

# Matrices as small as the toy's are multiplied as fast by one thread as by two, and many times faster where another
# program wants the other core. NumPy's libraries read this when they are loaded; what the user has set stands.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def start() -> int:
    """Run the command, if what it needs is installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"demos.pronoun: {missing[0]} is missing; pip install 'tinyattn[demos]' brings it", file=sys.stderr)
        return 2
    from demos.pronoun.command import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    try:
        sys.exit(start())
    except KeyboardInterrupt:  # before there was anything to interrupt
        sys.exit(130)
