"""Pictures as they were when somebody looked at them. After a change that is meant, look again, and write them anew:

python -m demos.graph --out tests/graph/golden --format dot
"""

import re
from pathlib import Path

import pytest

import tinyattn as ta
from demos.graph.subjects import SUBJECTS

GOLDEN = Path(__file__).parent / "golden"
SMALL = [subject for subject in SUBJECTS if subject.name in ("softmax", "head")]


def golden(name):
    return without_round_off((GOLDEN / name).read_text(encoding="utf-8"))


def without_round_off(text):
    """What is 0 but for round-off differs between processors."""
    return re.sub(r"-?\d(\.\d+)?e-1\d", "0", text)


@pytest.mark.parametrize("subject", SMALL, ids=lambda subject: subject.name)
def test_dot_is_what_it_was(subject):
    """Of float64: the larger subjects compute in float32, whose last digits differ between processors."""
    graph = ta.graph(subject.compute(), inside=subject.inside, depth=subject.depth)
    assert without_round_off(graph.to_dot()) == golden(f"graph-{subject.name}.dot")


def test_text_is_what_it_was():
    (softmax, _) = SMALL
    found = str(ta.graph(softmax.compute(), inside=softmax.inside))
    assert without_round_off(found) == golden("graph-softmax.txt").rstrip("\n")
