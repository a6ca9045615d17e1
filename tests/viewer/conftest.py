import pytest


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
