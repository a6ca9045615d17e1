"""One trained toy for all tests that need one: ten seconds, once."""

import pytest

from tests.demos.running import run_demo


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder that a run with default settings leaves behind, and what it printed."""
    out = tmp_path_factory.mktemp("pronoun")
    printed = run_demo("--out", out, check=0).stdout
    return out, printed
