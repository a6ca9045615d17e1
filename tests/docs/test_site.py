"""`make docs`: warnings are errors; the site opens without a network, on a phone too; what is live on it answers."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[2] / "docs"
WIDTHS = [1280, 390, 360]


class Seen(HTMLParser):
    """What is on a page: where it leads, what it is called there, and which pictures have no words."""

    def __init__(self, text):
        super().__init__()
        self.leads, self.names, self.wordless, self.frames, self.stderr = [], set(), [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.names |= {given[name] for name in ("id", "name") if given.get(name)}
        self.leads += [given[name] for name in ("href", "src") if given.get(name)]
        if tag == "img" and not (given.get("alt") or "").strip():
            self.wordless.append(given.get("src"))
        if tag == "iframe":
            self.frames.append(given)
        self.stderr += "stderr" in (given.get("class") or "").split()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("myst_nb", reason="Sphinx and MyST aren't installed")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", str(DOCS), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def seen(site):
    return {path: Seen(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


@pytest.fixture
def opened(browser, site):
    """Opens a page of the site; at the end nothing was complained of, and nothing was asked for from elsewhere."""
    contexts, complaints, asked = [], [], []

    def heard(message):
        if not message.endswith((" light mode.", " dark mode.", " auto mode.")):  # the theme tells of its button
            complaints.append(message)

    def open_page(name, width=1280, **settings):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: heard(f"{name}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"{name}: {error}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / f"{name}.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:", "blob:"))] == []


def pages():
    """The solutions of exercises aren't in the site."""
    found = [*DOCS.rglob("*.md"), *(DOCS / "exercises").glob("*.ipynb")]
    return sorted(str(path.relative_to(DOCS).with_suffix("")) for path in found)


def test_every_page_is_in_the_site(site):
    assert {site / f"{name}.html" for name in pages()} <= set(site.rglob("*.html"))


def test_what_the_pages_lead_to_is_in_the_site(site, seen):
    missing = []
    for path, page in seen.items():
        for lead in page.leads:
            url = urlsplit(lead)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not target.is_relative_to(site.resolve()) or not target.exists():
                missing.append((path.name, lead))
            elif url.fragment and target in seen and unquote(url.fragment) not in seen[target].names:
                missing.append((path.name, lead))
    assert missing == []
    assert sum(len(page.leads) for page in seen.values()) > 1000


def test_pictures_have_words_and_frames_are_closed_in(seen):
    assert {path.name: page.wordless for path, page in seen.items() if page.wordless} == {}
    frames = [frame for page in seen.values() for frame in page.frames]
    assert len(frames) >= 4
    assert all(frame.get("title") for frame in frames)
    assert all("allow-same-origin" not in frame["sandbox"] for frame in frames)


def test_nothing_that_a_page_ran_complained(seen):
    assert [path.name for path, page in seen.items() if page.stderr] == []


def test_the_pages_open_without_a_complaint_with_formulas_set_and_as_narrow_as_the_window(opened, site):
    page, found = opened("index"), 0
    all_set = "[...document.querySelectorAll('.math')].every(math => math.querySelector('mjx-container'))"
    for name in pages():
        page.emulate_media(color_scheme="dark" if found % 2 else "light")
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_function(all_set)
        found += page.locator(".math mjx-container").count()
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0, name
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert found > 150


# ---- live


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_viewer_answers_a_click(opened, width, scheme):
    page = opened("viewer", width, color_scheme=scheme)
    frame = page.frame_locator("iframe").first
    frame.locator(".ta-queries .ta-word", has_text="tired").click()
    assert frame.locator("[aria-live]").inner_text().startswith("tired → ")
    assert frame.locator(".ta-lines .ta-line").count() > 3
    frame.get_by_role("button", name="Backward").click()
    assert "d_scores" in frame.locator(".ta-panel").inner_text()


def test_the_toy_runs_in_the_page(opened):
    page = opened("viewer")
    frame = page.frame_locator("iframe").nth(1)
    frame.locator(".ta-queries .ta-word", has_text="it").click()
    assert frame.locator("[aria-live]").inner_text().startswith("it → animal")
    frame.get_by_role("textbox").fill("The animal didn't cross the street because it was wide.")
    assert frame.locator("[aria-live]").inner_text().startswith("it → street")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_the_graph_is_played(opened, width, scheme):
    page = opened("graph", width, color_scheme=scheme)
    frame = page.frame_locator("iframe").first
    frame.locator("#items .node").first.wait_for()

    def with_gradient():
        return sum(node.is_visible() for node in frame.locator("#items .node .gradient").all())

    frame.locator("h1").click()  # then keys go there
    page.keyboard.press("Home")
    assert with_gradient() == 0
    page.keyboard.press("End")
    assert with_gradient() > 5


def test_frames_are_as_dark_as_the_page_is_switched_to(opened):
    page = opened("viewer", color_scheme="no-override")
    inside = page.frames[1]
    found = set()
    for _ in range(2):
        page.locator(".theme-toggle").first.evaluate("button => button.click()")
        theme = page.evaluate("document.body.dataset.theme")
        inside.wait_for_function(f"matchMedia('(prefers-color-scheme: {theme})').matches")
        found.add(theme)
    assert found == {"light", "dark"}
