"""Settings for the whole test suite."""

from hypothesis import settings

# No deadline: on a busy machine one slow example is no finding. The same examples in each run: a red test stays red.
settings.register_profile("tinyattn", deadline=None, derandomize=True)
settings.load_profile("tinyattn")
