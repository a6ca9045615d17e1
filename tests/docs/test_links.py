"""What the pages link to is there, without a network."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)  # `x[0](y)` is no link
LINK = re.compile(r"\[[^]]*\]\(([^)\s#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page):
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def listed(page):
    """What the tables of contents of a page lead to, and theirs."""
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    names = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    found = {next(page.parent.glob(f"{name}.*")).resolve() for name in names}
    return found | {inner for page in found if page.suffix == ".md" for inner in listed(page)}


def test_every_page_is_in_the_sites_contents():
    index = ROOT / "docs" / "index.md"
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert pages == {page for page in listed(index) | {index} if page.suffix == ".md"}


def test_the_readme_leads_to_the_site():
    linked = {(ROOT / link).resolve() for link in LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert ROOT / "docs" / "index.md" in linked
