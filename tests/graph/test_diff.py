import numpy as np
import pytest

import tinyattn as ta


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
