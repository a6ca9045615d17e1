"""The page in a browser: headless Chromium, driven by Playwright. Whoever has neither skips these tests.

`apt-get install chromium` and `pip install playwright` bring both; Playwright's own browsers aren't needed.
"""

import shutil

import numpy as np
import pytest

import tinyattn as ta

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")

NASTY = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the page of a graph. In the end it has told of no error, and has asked for nothing but itself."""
    contexts, complaints, asked = [], [], []
    path = tmp_path / "graph.html"

    def open_page(graph, hash="", **settings):
        graph.save(path)
        contexts.append(browser.new_context(viewport={"width": 1200, "height": 800}, **settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{path.as_uri()}{hash}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url.partition("#")[0] for url in asked} == {path.as_uri()}


@pytest.fixture
def fan_out():
    """Nodes n0 x, n1 softmax, n2 exp, n3 multiply, n4 sum; two gradients arrive at x."""
    x = ta.tensor([1.0, 2.0, 4.0], requires_grad=True, name="x")
    return ta.graph((ta.softmax(x) * ta.exp(x)).sum())


@pytest.fixture
def block():
    """Boxes in boxes: b0 the block, and in it those of its modules, and the inside of attention."""
    h = ta.tensor(np.random.default_rng(0).normal(size=(1, 5, 8)), dtype=np.float32, name="h")
    return ta.graph((ta.nn.TransformerBlock(8, 2, rng=0)(h) ** 2).sum())


def test_every_node_is_drawn(opened, fan_out):
    page = opened(fan_out)
    assert page.locator(".node .title").all_inner_texts() == ["x", "softmax", "exp", "multiply", "sum"]
    assert page.locator(".edge").count() == 6
    assert page.inner_text("h1") == "sum: computation graph"


def test_nodes_do_not_overlap_and_stand_below_what_they_are_made_of(opened, block):
    page = opened(block)
    places = page.evaluate("drawnNodes => drawnNodes.map(e => e.getBoundingClientRect().toJSON())", None) if False else [
        node.bounding_box() for node in page.locator(".node").all()
    ]
    assert len(places) == len(block.nodes)
    for i, a in enumerate(places):
        for b in places[:i]:
            apart = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
            assert apart or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]
    for node, place in zip(block.nodes, places, strict=True):
        assert all(places[source.node]["y"] < place["y"] for source in node.sources)
