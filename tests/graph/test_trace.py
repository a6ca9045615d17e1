import numpy as np
import pytest

import tinyattn as ta
from tinyattn.graph.trace import Wishes, trace
from tinyattn.rules.registry import RULES


def nodes_of(tensor, **names):
    return trace([tensor], Wishes(names)).nodes


def sources(node):
    return tuple(source.node for source in node.sources)


def roles(node):
    return tuple(source.role for source in node.sources)


def rows(numbers):
    return None if numbers is None else numbers.rows


def titles(nodes):
    return [node.title for node in nodes]


def test_every_node_stands_after_its_sources_in_the_order_of_the_arguments():
    x = ta.tensor(np.ones((2, 3)), name="x")
    weight = ta.tensor(np.ones((3, 5)), requires_grad=True, name="weight")
    bias = ta.tensor(np.ones(5), requires_grad=True, name="bias")
    nodes = nodes_of((bias - x @ weight).sum())
    assert titles(nodes) == ["x", "weight", "matmul", "bias", "subtract", "sum"]
    kinds = [node.kind[0] for node in nodes]
    assert kinds == ["i", "p", "o", "p", "o", "o"]
    assert list(map(sources, nodes)) == [(), (), (0, 1), (), (3, 2), (4,)]
    assert [node.shape for node in nodes] == [(2, 3), (3, 5), (2, 5), (5,), (2, 5), ()]
    assert roles(nodes[4]) == ("x", "y")
    assert [node.carries_gradient for node in nodes] == [False, True, True, True, True, True]


def test_numbers_and_arrays_given_to_an_operation_are_constants():
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    mask = np.array([True, False])
    nodes = nodes_of(ta.where(mask, x, 0.0) + ta.where(mask, x * 0.5, 0.0))
    # The one mask is one node; a number is told where it is used.
    assert [node.kind for node in nodes].count("constant") == 4
    assert sorted(node.title for node in nodes if node.kind == "constant") == ["0", "0", "0.5", "constant"]
    assert next(node for node in nodes if node.dtype == "bool").value.rows == (("True", "False"),)


def test_what_is_used_twice_is_one_node():
    x = ta.tensor(3.0, requires_grad=True, name="x")
    square = x * x
    nodes = nodes_of(square * square)
    assert titles(nodes) == ["x", "multiply", "multiply"]
    assert list(map(sources, nodes)) == [(), (0, 0), (1, 1)]
    assert [node.uses for node in nodes] == [2, 2, 0]


def test_arguments_left_out_are_left_out():
    x, weight = ta.tensor(np.ones((2, 3))), ta.tensor(np.ones((3, 5)), requires_grad=True)
    assert roles(nodes_of(ta.linear(x, weight))[-1]) == ("x", "weight")


def test_members_of_a_sequence_are_counted():
    x = ta.tensor([1.0], requires_grad=True)
    (node,) = (node for node in nodes_of(ta.concatenate([x, x, [2.0]])) if node.rule == "concatenate")
    assert roles(node) == ("arrays[0]", "arrays[1]", "arrays[2]")
    assert sources(node) == (0, 0, 1)


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
    assert rows(nodes_of(+x)[0].value) == value


def test_the_gradients_of_a_single_number_are_worked_out_and_nothing_is_written():
    x = ta.tensor([3.0, 4.0], requires_grad=True)
    y = (x * x).sum()
    for _ in range(2):
        nodes = nodes_of(y)
        assert [rows(node.gradient) for node in nodes] == [(("6", "8"),), (("1", "1"),), (("1",),)]
        assert [rows(source.gradient) for source in nodes[1].sources] == [(("3", "4"),)] * 2
        assert x.grad is None
    y.backward()
    assert x.grad.tolist() == [6.0, 8.0]


def test_several_numbers_have_gradients_from_a_gradient_on():
    x = ta.tensor([3.0, 4.0], requires_grad=True)
    y = x * x
    assert [node.gradient for node in nodes_of(y)] == [None, None]
    nodes = trace([y], Wishes({}, np.array([1.0, 10.0]))).nodes
    assert [rows(node.gradient) for node in nodes] == [(("6", "80"),), (("1", "10"),)]
    x.grad = ta.tensor([5.0, 7.0])  # of something else: the picture has its own
    assert nodes_of(y)[0].gradient is None


def test_gradients_are_those_of_backward():
    rng = np.random.default_rng(0)
    block = ta.nn.TransformerBlock(6, 2, rng=0, dtype=float)
    x = ta.tensor(rng.normal(size=(2, 5, 6)), requires_grad=True, name="x")
    loss = (ta.checkpoint(block)(x) ** 2).sum() + block(x).sum()
    recording = trace([loss], Wishes({}, inside=("multi_head_attention", "attention", "layer_norm")))
    found = {node.name: node.gradient for node in recording.nodes if node.kind == "parameter"}
    loss.backward()
    for name, tensor in [("x", x), *block.named_parameters()]:
        numbers = found[name]
        for shown, right in ((numbers.least, np.min), (numbers.mean, np.mean), (numbers.most, np.max)):
            np.testing.assert_allclose(shown, right(tensor.grad.numpy()), rtol=1e-9, atol=1e-9)


def test_what_is_saved_for_the_way_back_is_read_from_the_backward_pass():
    x, y = (ta.tensor([1.0, 2.0], requires_grad=True, name=name) for name in "xy")

    def saved(node):
        return [source.is_saved for source in node.sources], node.saves_output

    assert saved(nodes_of(x * y)[-1]) == ([True, True], False)
    assert saved(nodes_of(x + y)[-1]) == ([False, False], False)
    assert saved(nodes_of(ta.exp(x))[-1]) == ([False], True)
    assert saved(nodes_of(ta.sin(x))[-1]) == ([True], False)


def test_local_jacobians_of_small_operations():
    x = ta.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    w = np.array([[2.0], [7.0]])
    (source, *_) = nodes_of(ta.matmul(x, w))[-1].sources
    assert source.jacobian == ((2.0, 7.0, 0.0, 0.0), (0.0, 0.0, 2.0, 7.0))
    weights = ta.softmax(ta.tensor([1.0, 2.0, 4.0], requires_grad=True))
    p = weights.numpy()
    np.testing.assert_allclose(nodes_of(weights)[-1].sources[0].jacobian, np.diag(p) - np.outer(p, p), atol=1e-12)
    assert nodes_of(ta.exp(ta.tensor(np.ones(9), requires_grad=True)))[-1].sources[0].jacobian is None


def test_the_users_line_on_request():
    x = ta.tensor([1.0], requires_grad=True)
    y = ta.exp(x)  # this line
    nodes = trace([y], Wishes({}, with_lines=True)).nodes
    assert nodes[-1].line.endswith("y = ta.exp(x)  # this line")
    assert nodes_of(y)[-1].line == ""


def test_modules_are_boxes_in_boxes_and_parameters_have_their_names():
    model = ta.nn.Sequential(ta.nn.Linear(3, 5, rng=0), ta.nn.MLP(5, 7, rng=0))
    x = ta.tensor(np.ones((2, 3)), name="x")
    recording = trace([model(x).sum()], Wishes({}))
    assert [(box.name, box.type, box.parent) for box in recording.boxes] == [
        ("", "Sequential", None), ("layers.0", "Linear", 0), ("layers.1", "MLP", 0), ("expand", "Linear", 2),
        ("contract", "Linear", 2),
    ]  # fmt: skip
    boxes = {node.title: node.box for node in recording.nodes}
    assert boxes["x"] is None
    assert boxes["sum"] is None
    assert boxes["layers.0.weight"] == 1
    assert boxes["layers.1.expand.bias"] == 3


def test_a_parameter_used_in_two_places_stands_around_both():
    class Twice(ta.nn.Module):
        def __init__(self):
            self.first, self.second = ta.nn.Linear(3, 3, rng=0), ta.nn.Linear(3, 3, rng=0)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

    model = Twice()
    recording = trace([model(np.ones((2, 3))).sum()], Wishes({}))
    (weight,) = [node for node in recording.nodes if node.name == "first.weight"]
    assert (weight.uses, recording.boxes[weight.box].type) == (2, "Twice")


def test_inside_of_an_operation():
    """The steps that its rule takes, and the rules that it calls, as boxes; with the same output and gradients."""
    x = ta.tensor([[1.0, 2.0, 4.0]], requires_grad=True, name="x")
    y = (ta.log_softmax(x) * [1.0, 2.0, 3.0]).sum()
    whole, opened = trace([y], Wishes({})), trace([y], Wishes({}, inside=["log_softmax"]))
    box, *others = opened.boxes
    assert [(other.type, other.parent) for other in others] == [("sum", 0)]
    assert (box.type, box.is_rule, box.operation.rule) == ("log_softmax", True, "log_softmax")
    inside = [node for node in opened.nodes if node.box == 0 and node.kind == "operation"]
    assert len(inside) > 2
    assert inside[-1].value == next(node.value for node in whole.nodes if node.rule == "log_softmax")
    np.testing.assert_allclose(opened.nodes[0].gradient.mean, whole.nodes[0].gradient.mean, atol=1e-12)
    assert [node.rule for node in whole.nodes if node.rule] == ["log_softmax", "multiply", "sum"]


@pytest.mark.parametrize("opened", [["embedding", "cross_entropy", "layer_norm"], sorted(RULES)], ids=["some", "all"])
def test_any_operation_can_be_opened(opened):
    """With the same loss and the same gradients of parameters."""
    model = ta.nn.GPT(11, 7, 12, 2, 3, rng=0, dtype=float)
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    loss = ta.cross_entropy(model(ids), ids)
    recording = trace([loss], Wishes({}, inside=opened))
    found = {node.name: node.gradient.mean for node in recording.nodes if node.kind == "parameter"}
    assert all(source.node < i for i, node in enumerate(recording.nodes) for source in node.sources)
    loss.backward()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(found[name], parameter.grad.numpy().mean(), rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_compiled_function_is_one_operation_that_is_open():
    w = ta.tensor([[1.0, 2.0]], requires_grad=True, name="w")
    loss = ta.compile(lambda x: (ta.softmax(x @ w) ** 2).sum())(np.ones((3, 1)))
    opened = ta.graph(loss)
    assert "inside softmax:" in str(opened)
    assert [node.rule for node in opened.nodes if node.kind == "operation"][-2:] == ["power", "sum"]
    assert ta.graph(loss, inside=()).nodes[-1].rule == "program"


def test_costs_by_formula():
    x, w = ta.tensor(np.ones((7, 3)), requires_grad=True), ta.tensor(np.ones((3, 5)), requires_grad=True)
    by_rule = {node.rule: (node.flops, node.n_bytes) for node in nodes_of(ta.exp((x @ w).T).sum())}
    assert by_rule["matmul"] == (2 * 7 * 3 * 5, 8 * 35)
    assert by_rule["transpose"][0] == 0
    assert by_rule["exp"] == (35, 8 * 35)
    assert by_rule["sum"][0] == 35
    query = ta.tensor(np.ones((2, 3, 5, 7)), requires_grad=True)
    key, value = np.ones((2, 3, 11, 7)), np.ones((2, 3, 11, 13))
    (node,) = [node for node in nodes_of(ta.attention(query, key, value)) if node.rule == "attention"]
    assert node.flops == 2 * 3 * 5 * 11 * (2 * 7 + 2 * 13 + 5)


def test_what_is_odd_is_marked():
    x = ta.tensor([1.0, 0.0, -1.0], requires_grad=True)
    with np.errstate(all="ignore"):
        nodes = nodes_of((ta.log(x) * 0.0).sum())
    marks = {node.title: node.marks for node in nodes}
    assert marks["log"] == ("NaN begins here", "1 NaN", "1 Inf", "gradient all zero")
    assert marks["multiply"] == ("2 NaN",)
    assert marks["sum"] == ("1 NaN",)
    assert "gradient 2 NaN" not in marks["multiply"]


def test_a_model_that_raised_half_way():
    x = ta.tensor(np.ones((2, 3)), requires_grad=True, name="x")
    with pytest.raises(ValueError, match="matmul") as caught:
        (ta.exp(x) @ np.ones((5, 2))).sum()
    nodes = ta.graph(caught.value).nodes
    assert titles(nodes) == ["x", "exp", "constant", "matmul"]
    assert nodes[-1].failed.startswith("the last axis of x must match the rows of y; got (2, 3) and (5, 2)")
    assert sources(nodes[-1]) == (1, 2)
    with pytest.raises(TypeError, match="this KeyError wasn't raised by an operation"):
        ta.graph(KeyError("x"))


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
    assert rows(nodes[0].value) == (("1",),)


def test_the_docstring_comes_along():
    nodes = nodes_of(ta.softmax(ta.tensor([1.0, 2.0], requires_grad=True)))
    assert nodes[-1].about == "Positive weights that sum to 1 along `axis`."


def test_depth_is_no_limit():
    x = ta.tensor(1.0, requires_grad=True)
    for _ in range(5_000):
        x = -x
    assert len(nodes_of(x)) == 5_001
    assert ta.graph(x)._shown.nodes[0].kind == "box"


def test_a_tensor_without_a_graph_is_refused():
    x = ta.tensor(1.0, requires_grad=True)
    with ta.no_grad():
        unrecorded = x * 2.0
    for tensor in (x, unrecorded, ta.tensor(1.0) * 2.0, (x * 2.0).detach()):
        with pytest.raises(ta.GradientError, match="has no graph"):
            ta.graph(tensor)


def test_a_released_graph_is_refused_and_the_way_out_is_told():
    x = ta.tensor(1.0, requires_grad=True)
    shared = ta.exp(x)
    first, second = shared * 2.0, shared * 3.0
    first.backward()
    with pytest.raises(ta.GradientError, match=r"released .* \(at multiply\).*retain_graph=True"):
        nodes_of(first)
    with pytest.raises(ta.GradientError, match=r"\(at exp\)"):  # only a part of it is gone
        nodes_of(second)


def test_what_was_written_since_is_refused_as_backward_does():
    w = ta.tensor([1.0, 2.0], requires_grad=True, name="w")
    y = (w * w).sum()
    w.data[:] = 100.0
    with pytest.raises(ta.GradientError, match="written into since"):
        ta.graph(y)


def test_no_hook_is_called_and_a_checkpoint_runs_once():
    calls = []

    def f(a):
        calls.append(1)
        return ta.exp(a).sum()

    p = ta.tensor([0.5, 0.25], requires_grad=True)
    p.register_hook(lambda gradient: gradient * 100)
    y = ta.checkpoint(f)(p)
    (shown, *_) = nodes_of(y)
    assert len(calls) == 2
    assert rows(shown.gradient) == (("1.649", "1.284"),)


def test_where_nan_begins_is_marked_and_a_masks_infinity_is_no_alarm():
    x = ta.tensor([1.0, -1.0], requires_grad=True)
    with np.errstate(all="ignore"):
        nodes = nodes_of((ta.log(x) * 2.0 + 1.0).sum())
    begins = [node.title for node in nodes if any(mark.endswith("begins here") for mark in node.marks)]
    assert begins == ["log"]
    masked = nodes_of(ta.softmax(ta.where(np.array([True, False]), x, -np.inf)).sum())
    (where,) = [node for node in masked if node.title == "where"]
    assert where.marks[:1] == ("1 Inf, from a constant",)
    assert not any(mark.endswith("Inf, from a constant") for mark in where.alarms)
    with np.errstate(all="ignore"):
        (log, *_) = [node for node in nodes_of(ta.log(x * 0.0).sum()) if node.title == "log"]
    assert log.alarms[:2] == ("Inf begins here", "2 Inf")


def test_a_failure_stands_in_the_modules_that_it_ended():
    class Net(ta.nn.Module):
        def __init__(self):
            self.a, self.b = ta.nn.Linear(3, 5, rng=0), ta.nn.Linear(4, 2, rng=0)

        def forward(self, x):
            return self.b(ta.tanh(self.a(x)))

    with pytest.raises(ValueError, match="linear") as caught:
        Net()(np.ones((2, 3)))
    graph = ta.graph(caught.value)
    boxes = [(box.name, box.type, box.parent) for box in graph._whole.boxes]
    assert boxes == [("", "Net", None), ("a", "Linear", 0), ("b", "Linear", 0)]
    assert (graph.nodes[-1].rule, graph.nodes[-1].box) == ("linear", 2)
    assert {"a.weight", "a.bias", "b.weight", "b.bias"} <= {node.title for node in graph.nodes}
    assert "FAILED: linear: " in str(graph.at_depth(0))
    assert [source.carries_gradient for source in graph.nodes[-1].sources] == [True, True, True]


def test_what_is_assigned_later_is_not_in_the_module():
    m = ta.nn.Linear(4, 4, rng=0, dtype=float)
    y = m(np.ones((2, 4)))
    y[0] = ta.tanh(ta.exp(y))[1]
    graph = ta.graph(y.sum())
    assert {node.rule for node in graph.nodes if node.box == 0 and node.rule} == {"linear"}


@pytest.mark.parametrize("kind", [list, tuple, lambda parts: dict(enumerate(parts))])
def test_what_a_module_gives_may_be_several(kind):
    class Two(ta.nn.Module):
        def forward(self, x):
            return kind([ta.exp(x), ta.tanh(x)])

    parts = Two()(ta.tensor([1.0], requires_grad=True))
    parts = list(parts.values()) if isinstance(parts, dict) else parts
    graph = ta.graph([part.sum() for part in parts])
    assert [box.type for box in graph._whole.boxes] == ["Two"]


def test_several_roots_are_told_and_what_arrives_is_summed_as_it_arrives():
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    loss = x.sum()
    nodes = trace([loss, loss * 3.0, (x * 5.0).sum()], Wishes({})).nodes
    assert [node.title for node in nodes if node.is_root] == ["sum", "multiply", "sum"]
    assert [rows(node.seed) for node in nodes if node.seed] == [(("1",),)] * 3
    assert [[rows(part) for part in node.sums] for node in nodes if node.sums] == [
        [(("5", "5"),), (("9", "9"),)], [(("1",),), (("4",),)]
    ]  # fmt: skip


def test_slices_side_by_side_share_no_memory():
    h = ta.tensor(np.ones((4, 6)), requires_grad=True) * 1.0
    graph = ta.graph((h[:, :3] / h[:, 3:]).sum())
    (divide,) = [node for node in graph.nodes if node.title == "divide"]
    assert [source.is_saved for source in divide.sources] == [False, True]


def test_error_settings_are_left_out_of_it():
    y = ta.softmax(ta.tensor([-1000.0, 0.0], requires_grad=True)).sum()
    as_usual = str(ta.graph(y, inside=["softmax"]))
    with np.errstate(all="raise"):
        assert str(ta.graph(y, inside=["softmax"])) == as_usual


def test_compiled_and_checkpointed_modules_are_boxes_with_names():
    layer = ta.nn.Linear(3, 2, rng=0, dtype=float)
    for f in (ta.checkpoint(layer), ta.compile(layer)):
        graph = ta.graph(f(np.ones((5, 3))).sum(), inside=())
        assert [box.type for box in graph._whole.boxes] == ["Linear"]
        assert {"weight", "bias"} <= {node.title for node in graph.nodes}
