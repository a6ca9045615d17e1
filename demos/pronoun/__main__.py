"""`python -m demos.pronoun [train] ...` and `python -m demos.pronoun resolve "SENTENCE"`."""

import os
import sys

from demos.commands import launch

# Matrices as small as the toy's are multiplied as fast by one thread as by two, and many times faster where another
# program wants the other core. NumPy's libraries read this when they are loaded; what the user has set stands.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

if __name__ == "__main__":
    try:
        sys.exit(launch("pronoun"))
    except KeyboardInterrupt:  # before there was anything to interrupt
        sys.exit(130)
