"""What the pages link to is there: files, and headings in them. Nothing is asked over a network."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
CODE = re.compile(r"^(`{3,}).*?^\1", re.DOTALL | re.MULTILINE)  # `x[0](y)` is no link
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,3} (.*)$", re.MULTILINE)
TREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.DOTALL | re.MULTILINE)
FIRST = ROOT / "docs" / "index.md"


def prose(page):
    return CODE.sub("", page.read_text(encoding="utf-8"))


def links(page):
    return LINK.findall(prose(page))


def anchors(text):
    """What headings are called in links, by GitHub and MyST alike; of equals, the second is called …-1."""
    taken, found = Counter(), set()
    for heading in HEADING.findall(text):
        name = re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")
        found.add(f"{name}-{taken[name]}" if taken[name] else name)
        taken[name] += 1
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    missing = []
    for link in links(page):
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        if "://" in link:
            continue
        if not target.exists() or (heading and heading not in anchors(prose(target))):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_leads_outside_has_the_form_of_an_address(page):
    outside = [link for link in links(page) if "://" in link]
    assert [link for link in outside if not re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/[^\s<>\"]*)?", link)] == []
    text = page.read_text(encoding="utf-8")
    papers = re.findall(r"arXiv:(\S*)", text)
    assert [paper for paper in papers if not re.match(r"\d{2}(0[1-9]|1[0-2])\.\d{4,5}\b", paper)] == []


def test_every_page_of_the_site_can_be_reached_from_the_first():
    """README leads to the site's first page; in the menu, made of its toctrees, is every other one."""
    assert "docs/index.md" in links(ROOT / "README.md")
    trees = "\n".join(TREE.findall(FIRST.read_text(encoding="utf-8"))).splitlines()
    listed = [line.strip() for line in trees if line.strip() and not line.startswith(":")]
    pages = [*PAGES, *(FIRST.parent / "exercises").glob("*.ipynb")]
    there = {str(page.relative_to(FIRST.parent).with_suffix("")) for page in pages if page.is_relative_to(FIRST.parent)}
    assert there == {"index", *listed}
    assert len(listed) == len(set(listed)), "a page stands in the menu once"


def test_headings_are_found_under_their_names():
    text = "# A page\n## What `f(x, *, y=-1)` is: √d_k\n### It is said …\n## A page\n#### too deep\n"
    assert anchors(text) == {"a-page", "what-fx--y-1-is-d_k", "it-is-said-", "a-page-1"}
