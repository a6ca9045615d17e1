"""Settings for the whole test suite."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tinyattn.rules import RULES

# No deadline: on a busy machine one slow example is no finding. The same examples in each run: a red test stays red.
settings.register_profile("tinyattn", deadline=None, derandomize=True)
settings.load_profile("tinyattn")


@pytest.fixture
def own_rules() -> Iterator[None]:
    """Rules that the test makes are gone after it."""
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)
