"""`python -m demos.gpt train FILE...` and `python -m demos.gpt sample --prompt "..."`."""

import os
import sys

from demos.commands import launch

# Processes that share a machine share its cores. NumPy reads this when it is loaded; what the user has set
# stands.
_together = next((os.environ[_n] for _n in ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE") if _n in os.environ), "1")
if _together.isdecimal() and int(_together) > 1:
    for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(_name, str(max(1, (os.cpu_count() or 1) // int(_together))))

if __name__ == "__main__":
    try:
        sys.exit(launch("gpt"))
    except KeyboardInterrupt:  # before there was anything to interrupt
        sys.exit(130)
