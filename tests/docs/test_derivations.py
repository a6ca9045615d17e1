"""The pages of docs/derivations carry the labels of the rules that they derive, all of them and no others."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LABEL = re.compile(r"\(([a-z_]+\.\d+)\)|\\tag\{([a-z_]+\.\d+)\}")
PAGES = {
    "softmax": (["rules/softmax.py", "rules/losses.py"], {"softmax", "log_softmax", "cross_entropy"}),
    "attention": (["rules/attention.py", "rules/multi_head.py"], {"attention", "multi_head"}),
}


def labels(text, families):
    found = {first or second for first, second in LABEL.findall(text)}
    return {label for label in found if label.partition(".")[0] in families}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_page_and_code_carry_the_same_labels(page):
    modules, families = PAGES[page]
    text = (ROOT / "docs" / "derivations" / f"{page}.md").read_text(encoding="utf-8")
    code = "".join((ROOT / "tinyattn" / module).read_text(encoding="utf-8") for module in modules)
    assert labels(text, families) == labels(code, families)
    tagged = {label for _, label in LABEL.findall(text) if label}
    assert tagged == labels(code, families), "each label stands at a formula"
