"""`python -m demos.graph`: draw the graphs."""

import sys

from demos.commands import launch

if __name__ == "__main__":
    try:
        sys.exit(launch("graph"))
    except KeyboardInterrupt:  # before there was anything to interrupt
        sys.exit(130)
