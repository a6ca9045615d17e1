"""The project beside its peers, timed in one run: `python -m benchmarks.overhead`."""
