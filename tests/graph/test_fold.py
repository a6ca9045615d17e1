import numpy as np
import pytest

import tinyattn as ta
from tinyattn.graph.fold import MOST


@pytest.fixture
def block():
    rng = np.random.default_rng(0)
    block = ta.nn.TransformerBlock(6, 2, rng=0)
    return ta.graph((block(ta.tensor(rng.normal(size=(1, 5, 6)), dtype=np.float32, name="x")) ** 2).sum())


def test_depth_says_how_many_boxes_in_boxes_are_open(block):
    closed, one, two = (block.at_depth(depth) for depth in (0, 1, 2))
    assert [node.title for node in closed.nodes] == ["x", "TransformerBlock", "2", "power", "sum"]
    titles = [node.title for node in one.nodes if node.kind == "box"]
    assert titles == ["norm_attention", "attention", "drop", "norm_mlp", "mlp", "drop"]
    assert "multi_head_attention" in [node.title for node in two.nodes]
    assert len(closed.nodes) < len(one.nodes) < len(two.nodes) < len(block.nodes)


def test_a_closed_box_has_the_value_and_gradient_of_its_output_and_all_costs(block):
    (box,) = [node for node in block.at_depth(0).nodes if node.kind == "box"]
    inside = [node for node in block.nodes if node.box is not None]
    assert box.flops == sum(node.flops for node in inside)
    assert box.value is not None
    assert box.gradient is not None
    assert box.about.endswith("16 parameters")
    assert [source.node for source in box.sources] == [0]


def test_each_node_stands_after_its_sources_at_every_depth(block):
    for depth in range(6):
        nodes = block.at_depth(depth).nodes
        assert all(source.node < i for i, node in enumerate(nodes) for source in node.sources)


def test_an_operation_whose_inside_is_closed_is_itself_again(block):
    (node,) = [node for node in block.at_depth(2).nodes if node.rule == "multi_head_attention"]
    assert node.kind == "operation"
    assert node.options == "n_heads=2"
    roles = [source.role for source in node.sources]
    assert roles[:5] == ["query", "w_query", "w_key", "w_value", "w_output"]


def test_large_graphs_are_closed_by_themselves_and_say_so():
    model = ta.nn.GPT(11, 7, 12, 6, 3, rng=0)
    graph = ta.graph(ta.cross_entropy(model(np.zeros((1, 7), int)), np.zeros((1, 7), int)))
    assert 10 < len(graph.nodes) <= MOST
    assert f"{len(graph.nodes)} of {len(graph._whole.nodes)} nodes are shown" in str(graph)
    assert len(graph.at_depth(99).nodes) == len(graph._whole.nodes)


def test_a_long_chain_without_modules_is_put_into_boxes():
    x = ta.tensor(1.0, requires_grad=True, name="x")
    for _ in range(1000):
        x = ta.sin(x) * 1.0
    graph = ta.graph(x)
    assert 10 < len(graph.nodes) <= MOST
    assert graph.nodes[0].title == "operations 1 to 44"
    assert all(source.node < i for i, node in enumerate(graph.nodes) for source in node.sources)


def test_odd_numbers_inside_a_closed_box_are_marked_on_it():
    class Odd(ta.nn.Module):
        def forward(self, x):
            return ta.where(np.array([True, False]), x, ta.log(x))

    x = ta.tensor([1.0, 0.0], requires_grad=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        graph = ta.graph(Odd()(x).sum(), depth=0)
    (box,) = [node for node in graph.nodes if node.kind == "box"]
    assert "inside: 1 Inf" in box.marks or "1 Inf" in box.marks
