"""`make docs`: warnings are errors, and the site opens without a network, its formulas set."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[2] / "docs"
PAGES = [*DOCS.rglob("*.md"), *(DOCS / "exercises").glob("*.ipynb")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("myst_nb", reason="Sphinx and MyST aren't installed")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", str(DOCS), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_in_the_site(site):
    pages = {path.relative_to(DOCS).with_suffix("") for path in PAGES}
    assert {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")} >= pages


@pytest.mark.parametrize("width", [1300, 390])
def test_the_pages_open_without_a_network_and_a_complaint(browser, site, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for path in PAGES:
        page.goto((site / path.relative_to(DOCS).with_suffix(".html")).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    assert complaints == []
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
    page.close()


def test_formulas_are_set(browser, site):
    page = browser.new_page()
    page.goto((site / "derivations" / "pronoun.html").as_uri())
    all_set = "[...document.querySelectorAll('.math')].every(math => math.querySelector('mjx-container'))"
    page.wait_for_function(all_set, timeout=20_000)
    assert page.locator(".math mjx-container").count() > 100
    assert page.locator("mjx-merror").count() == 0
    page.close()
