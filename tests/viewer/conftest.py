"""A headless Chromium, driven by Playwright. Whoever has neither skips the tests that need them."""

import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a view as a page; at the end nothing was complained of, and nothing was asked for from elsewhere."""
    complaints, asked, contexts = [], [], []
    path = tmp_path / "view.html"

    def open_view(view, width=1200, height=900, hash="", **settings):
        view.save(path)
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri() + hash)
        return page

    yield open_view
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url.partition("#")[0] for url in asked if not url.startswith(("blob:", "data:"))} <= {path.as_uri()}
