"""Settings for the whole test suite."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tinyattn import cli
from tinyattn.rules import RULES

# No deadline: on a busy machine one slow example is no finding. The same examples in each run: a red test stays red.
settings.register_profile("tinyattn", deadline=None, derandomize=True)
settings.load_profile("tinyattn")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright. Whoever has neither skips the tests that need them.

    `apt-get install chromium` and `pip install playwright` bring both; Playwright's own browsers aren't needed.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("there is no Chromium on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command `tinyattn`; gives its exit status, standard output and standard error."""

    def run(*arguments: str) -> tuple[Any, str, str]:
        try:
            status = cli.main(arguments)
        except SystemExit as leaving:  # argparse
            status = leaving.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def own_rules() -> Iterator[None]:
    """Rules that the test makes are gone after it."""
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)
