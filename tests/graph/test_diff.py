import difflib
import itertools
import random

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.graph.diff import aligned


def changes(graph):
    return [(node.title, node.change, node.difference) for node in graph.nodes]


@pytest.fixture
def x():
    return ta.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True, name="x")


def test_nothing_differs_from_itself_also_with_other_numbers(x):
    other = ta.tensor([[5.0, 2.0], [3.0, 0.0]], requires_grad=True, name="x")
    found = ta.graph(ta.softmax(x).sum()).diff(ta.graph(ta.softmax(other).sum()))
    assert changes(found) == [("x", "", ""), ("softmax", "", ""), ("sum", "", "")]


def test_what_was_added_removed_and_changed(x):
    before = ta.graph(ta.exp(ta.softmax(x)).sum(axis=0))
    after = ta.graph(ta.softmax(ta.tanh(x), axis=0).sum(axis=0))
    assert changes(before.diff(after)) == [
        ("x", "", ""),
        ("tanh", "added", ""),
        ("softmax", "changed", "it was without options, made of others"),
        ("exp", "removed", ""),
        ("sum", "changed", "it was made of others"),
    ]
    removed = before.diff(after).nodes[3]
    assert [source.node for source in removed.sources] == [2]


def test_shapes_are_compared(x):
    other = ta.tensor(np.ones((5, 3)), requires_grad=True, name="x")
    found = ta.graph(x.sum()).diff(ta.graph(other.sum()))
    assert changes(found) == [("x", "changed", "it was (2, 2) float64"), ("sum", "", "")]


def test_boxes_are_compared_too():
    layers = [ta.nn.Linear(3, 3, rng=0), ta.relu, ta.nn.Linear(3, 3, rng=0)]
    short, long = (ta.nn.Sequential(*layers[:n]) for n in (1, 3))
    graphs = [ta.graph(model(np.ones((2, 3))).sum()) for model in (short, long)]
    grown, shrunk = graphs[0].diff(graphs[1]), graphs[1].diff(graphs[0])
    assert [node.title for node in grown.nodes if node.change == "added"] == [
        "relu", "layers.2.weight", "layers.2.bias", "linear"
    ]  # fmt: skip
    assert sorted(node.title for node in shrunk.nodes if node.change == "removed") == [
        "layers.2.bias", "layers.2.weight", "linear", "relu"
    ]  # fmt: skip
    for graph in (grown, shrunk):
        assert all(source.node < i for i, node in enumerate(graph.nodes) for source in node.sources)
        assert "digraph" in graph.to_dot()


def test_marks_are_drawn_and_told(x):
    found = ta.graph(x.sum()).diff(ta.graph(ta.exp(x).sum()))
    assert "added" in str(found)
    assert 'color="#1a7f37"' in found.to_dot()
    with pytest.raises(TypeError, match="diff: needs another Graph; got Tensor"):
        ta.graph(x.sum()).diff(x)


def test_a_closed_operation_is_given_what_it_was_given_before():
    def model(x, first):
        return ta.attention(first(x), x, ta.exp(x)).sum()

    x = ta.tensor(np.ones((3, 2)), requires_grad=True, name="x")
    before, after = (ta.graph(model(x, first)) for first in (ta.tanh, lambda x: ta.sin(ta.sin(x))))
    for depth in (0, None):
        found = before.diff(after).at_depth(depth)
        closed = [node for node in found.nodes if node.title == "attention"]
        assert [[found.nodes[source.node].title for source in node.sources] for node in closed] == (
            [["sin", "x", "exp"]] if depth == 0 else []
        )


def test_closed_boxes_say_what_differs_inside(x):
    class Layer(ta.nn.Module):
        def __init__(self, f):
            self.f = f

        def forward(self, x):
            return self.f(x)

    class Whole(ta.nn.Module):
        def __init__(self, *fs):
            self.layers = [Layer(f) for f in fs]

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x.sum()

    one, two = Whole(lambda x: ta.exp(ta.tanh(x))), Whole(lambda x: ta.exp(ta.relu(x)), ta.sin)
    found = ta.graph(one(x)).diff(ta.graph(two(x)))
    assert changes(found.at_depth(1)) == [
        ("x", "", ""),
        ("layers.0", "changed", "inside: 1 added, 1 removed, 1 changed"),
        ("layers.1", "added", ""),
        ("sum", "changed", "it was made of others"),
    ]
    assert changes(found.at_depth(0))[-1][1:] == ("changed", "inside: 2 added, 1 removed, 2 changed")


def test_alignment_leaves_as_few_out_as_can_be():
    rng = random.Random(0)
    for _ in range(500):
        old, new = ([rng.choice("abc") for _ in range(rng.randrange(9))] for _ in range(2))
        found = aligned(old, new)
        assert all(old[i] == new[j] for i, j in found)
        assert all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(found))
        assert len(found) == longest(old, new)


def longest(old, new):
    """The length of the longest common subsequence, by its recurrence."""
    row = [0] * (len(new) + 1)
    for a in old:
        before = row
        row = [0]
        for j, b in enumerate(new):
            row.append(before[j] + 1 if a == b else max(before[j + 1], row[j]))
    return row[-1]


def test_sequences_that_differ_much_are_aligned_by_their_longest_runs():
    old, new = list(range(2000)), [*range(-1000, 0), *range(1990, 2000), *range(3000, 4000)]
    assert aligned(old, new) == [(1990 + k, 1000 + k) for k in range(10)]
    assert difflib.SequenceMatcher(None, old, new).ratio() < 0.01


def test_few_edits_in_a_long_chain_are_found_as_such():
    def chain(places):
        y = ta.tensor([1.0], requires_grad=True, name="x")
        for i in range(600):
            y = ta.sin(y) if i in places else ta.tanh(y)
        return ta.graph(y.sum(), depth=9)

    found = chain(()).diff(chain((200, 450)))
    assert [node.change for node in found.nodes if node.change] == ["removed", "added", "changed"] * 2
    closed = found.at_depth(None)
    assert "inside: 1 added, 1 removed, 1 changed" in [node.difference for node in closed.nodes]
    assert len([node for node in closed.nodes if node.change]) <= 4


def test_a_call_more_or_less_of_the_same_module_is_a_box_more_or_less():
    m = ta.nn.Linear(4, 4, rng=0, dtype=float)
    x = ta.tensor(np.ones((2, 4)), requires_grad=True, name="x")
    graphs = [ta.graph(m(ta.exp(m(x))).sum()), ta.graph(ta.exp(m(x)).sum())]
    for found in (graphs[0].diff(graphs[1]), graphs[1].diff(graphs[0])):
        assert {node.title for node in found.nodes if not node.change} == {"weight", "bias", "x", "linear", "exp"}
        assert [box.type for box in found._whole.boxes] == ["Linear", "Linear"]
        assert sorted(node.title for node in found.at_depth(0).nodes) == [
            "Linear", "Linear", "bias", "exp", "sum", "weight", "x"
        ]  # fmt: skip


def test_what_is_given_is_compared_by_name_wherever_it_stands():
    p, q = (ta.tensor([1.0, 2.0], requires_grad=True, name=name) for name in "pq")
    found = ta.graph(ta.exp(p) - q).diff(ta.graph(q - ta.exp(p)))
    assert [(node.title, node.change) for node in found.nodes if node.change] == [("subtract", "changed")]
    w, v = (ta.tensor(x, requires_grad=True) for x in (1.0, 2.0))
    assert {node.change for node in ta.graph(ta.exp(w)).diff(ta.graph(ta.exp(v))).nodes} == {""}
    found = ta.graph(p * 2.0).diff(ta.graph(p * 3.0))
    assert [(node.title, node.difference) for node in found.nodes if node.change] == [("3", "it was 2")]


def test_random_graphs_of_calls_in_calls_keep_all_their_nodes():
    class Some(ta.nn.Module):
        def __init__(self, rng, depth):
            self.parts = [Some(rng, depth - 1) for _ in range(2)] if depth else []
            self.fs = [rng.choice([ta.cos, ta.tanh, ta.sin]) for _ in range(rng.randrange(1, 3))]
            self.order = [rng.randrange(4) for _ in range(rng.randrange(1, 5))]

        def forward(self, x):
            for k in self.order:
                x = self.parts[k](x) if k < len(self.parts) else self.fs[k % len(self.fs)](x)
            return x

    x = ta.tensor([0.5, 0.25], requires_grad=True, name="x")
    rng = random.Random(0)
    for _ in range(40):
        graphs = [ta.graph(Some(rng, 2)(x).sum(), depth=9) for _ in range(2)]
        whole = graphs[0].diff(graphs[1])
        there = [node for node in whole.nodes if node.change != "removed"]
        assert sorted(node.title for node in there) == sorted(node.title for node in graphs[1].nodes)
        kept = len(graphs[0].nodes) - sum(node.change in ("", "changed") for node in whole.nodes)
        assert kept == sum(node.change == "removed" for node in whole.nodes)
        for depth in range(4):
            closed = whole.at_depth(depth)
            assert closed.nodes[-1].title == "sum"
            assert all(source.node < i for i, node in enumerate(closed.nodes) for source in node.sources)
            counted = sum(1 if node.kind != "box" else int(node.about.split()[0]) for node in closed.nodes)
            assert counted == len(whole.nodes)
