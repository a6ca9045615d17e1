import numpy as np
import pytest

import tinyattn as ta
from tinyattn.graph.trace import trace


def nodes_of(tensor, **names):
    return trace(tensor, names)


def titles(nodes):
    return [node.title for node in nodes]


def test_every_node_stands_after_its_sources_in_the_order_of_the_arguments():
    x = ta.tensor(np.ones((2, 3)), name="x")
    weight = ta.tensor(np.ones((3, 5)), requires_grad=True, name="weight")
    bias = ta.tensor(np.ones(5), requires_grad=True, name="bias")
    nodes = nodes_of((bias - x @ weight).sum())
    assert titles(nodes) == ["bias", "x", "weight", "matmul", "subtract", "sum"]
    assert [node.kind for node in nodes] == ["parameter", "input", "parameter", *["operation"] * 3]
    assert [node.sources for node in nodes] == [(), (), (), (1, 2), (0, 3), (4,)]
    assert [node.shape for node in nodes] == [(5,), (2, 3), (3, 5), (2, 5), (2, 5), ()]
    assert nodes[4].roles == ("x", "y")
    assert [node.carries_gradient for node in nodes] == [True, False, True, True, True, True]


def test_numbers_and_arrays_given_to_an_operation_are_constants():
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    mask = np.array([True, False])
    nodes = nodes_of(ta.where(mask, x, 0.0) + ta.where(mask, x * 0.5, 0.0))
    # The one mask is one node; a number is told where it is used.
    assert [node.kind for node in nodes].count("constant") == 4
    assert sorted(node.title for node in nodes if node.kind == "constant") == ["0", "0", "0.5", "constant"]
    assert next(node for node in nodes if node.dtype == "bool").value == (("True", "False"),)


def test_what_is_used_twice_is_one_node():
    x = ta.tensor(3.0, requires_grad=True, name="x")
    square = x * x
    nodes = nodes_of(square * square)
    assert titles(nodes) == ["x", "multiply", "multiply"]
    assert [node.sources for node in nodes] == [(), (0, 0), (1, 1)]


def test_arguments_left_out_are_left_out():
    x, weight = ta.tensor(np.ones((2, 3))), ta.tensor(np.ones((3, 5)), requires_grad=True)
    assert nodes_of(ta.linear(x, weight))[-1].roles == ("x", "weight")


def test_members_of_a_sequence_are_counted():
    x = ta.tensor([1.0], requires_grad=True)
    (node,) = (node for node in nodes_of(ta.concatenate([x, x, [2.0]])) if node.rule == "concatenate")
    assert node.roles == ("arrays[0]", "arrays[1]", "arrays[2]")
    assert node.sources == (0, 0, 1)


def test_the_same_model_gives_the_same_nodes():
    def loss(order):
        made = {name: ta.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True, name=name) for name in order}
        (made["a"] * 2).sum()  # something else is computed in between
        return ta.softmax(made["a"] @ made["b"]).sum()

    assert nodes_of(loss("ab")) == nodes_of(loss("ba"))


@pytest.mark.parametrize(
    ("compute", "options"),
    [
        (lambda x: x.sum(), ""),
        (lambda x: x.sum(axis=None), ""),
        (lambda x: x.sum(axis=1, keepdims=True), "axis=1, keepdims=True"),
        (lambda x: x.transpose(1, 0), "axes=(1, 0)"),
        (lambda x: x[0], "key=0"),
        (lambda x: x[:1, ..., ::2], "key=(:1, ..., ::2)"),
        (lambda x: x[np.array([0, 1, 1])], "key=int64 (3,)"),
        (lambda x: x.astype(np.float32), "dtype=float32"),
        (lambda x: x.astype(np.dtype(np.float32)), "dtype=float32"),
    ],
)
def test_options_are_told_unless_they_are_the_rules_own(compute, options):
    assert nodes_of(compute(ta.tensor(np.ones((2, 3)), requires_grad=True)))[-1].options == options


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (2.0, (("2",),)),
        ([0.1, -1e-9, 1e6], (("0.1", "-1e-09", "1e+06"),)),
        ([[1.0], [1 / 3]], (("1",), ("0.3333",))),
        ([np.nan, np.inf], (("nan", "inf"),)),
        (np.ones((4, 4)), (("1",) * 4,) * 4),
        (np.ones(7), None),
        (np.ones((6, 3)), None),
        (np.ones((1, 1, 1)), None),
        (np.ones((0,)), None),
    ],
)
def test_the_numbers_of_small_arrays_are_shown(data, value):
    x = ta.tensor(data, requires_grad=True)
    assert nodes_of(+x)[0].value == value


def test_gradients_are_shown_where_there_are_any():
    x = ta.tensor([3.0, 4.0], requires_grad=True)
    y = (x * x).sum()
    assert [node.gradient for node in nodes_of(y)] == [None, None, None]
    y.backward(retain_graph=True)
    assert [node.gradient for node in nodes_of(y)] == [(("6", "8"),), None, None]


def test_names_are_those_given_for_the_picture_then_the_tensors_own():
    x, y = ta.tensor(1.0, requires_grad=True, name="x"), ta.tensor(1.0, requires_grad=True)
    product = x * y
    product.name = "product"
    assert [node.name for node in nodes_of(product, weight=x, bias=y)] == ["weight", "bias", "product"]
    assert [node.name for node in nodes_of(product)] == ["x", "", "product"]


def test_a_picture_keeps_what_it_saw():
    x = ta.tensor([1.0], requires_grad=True)
    nodes = nodes_of(x * 2.0)
    x.data[...] = 5
    assert nodes[0].value == (("1",),)


def test_the_docstring_comes_along():
    nodes = nodes_of(ta.softmax(ta.tensor([1.0, 2.0], requires_grad=True)))
    assert nodes[-1].about == "Positive weights that sum to 1 along `axis`."


def test_depth_is_no_limit():
    x = ta.tensor(1.0, requires_grad=True)
    for _ in range(5_000):
        x = -x
    assert len(nodes_of(x)) == 5_001


def test_a_tensor_without_a_graph_is_refused():
    x = ta.tensor(1.0, requires_grad=True)
    with ta.no_grad():
        unrecorded = x * 2.0
    for tensor in (x, unrecorded, ta.tensor(1.0) * 2.0, (x * 2.0).detach()):
        with pytest.raises(ta.GradientError, match="has no graph"):
            nodes_of(tensor)


def test_a_released_graph_is_refused_and_the_way_out_is_told():
    x = ta.tensor(1.0, requires_grad=True)
    shared = ta.exp(x)
    first, second = shared * 2.0, shared * 3.0
    first.backward()
    with pytest.raises(ta.GradientError, match=r"released .* \(at multiply\).*retain_graph=True"):
        nodes_of(first)
    with pytest.raises(ta.GradientError, match=r"\(at exp\)"):  # only a part of it is gone
        nodes_of(second)
