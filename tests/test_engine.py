import gc
import inspect
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

import tinyattn as ta
from tinyattn import engine
from tinyattn.rules import RULES

GradientError = ta.GradientError


pytestmark = pytest.mark.usefixtures("own_rules")


def leaf(data=2.0, **options):
    return ta.tensor(data, requires_grad=True, **options)


# ------------------------------------------------------------------------------------------------------ the walk


def test_a_gradient_is_summed_over_all_ways():
    """y = x², z = y + y x: dz/dx = 2 x + 3 x²."""
    x = leaf(3.0)
    y = x * x
    (y + y * x).backward()
    assert x.grad.item() == 33.0


def test_a_diamond_of_many_storeys():
    """2³⁰ ways from top to bottom, walked once each node."""
    x = y = leaf(1.0)
    for _ in range(30):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**30


def test_a_node_waits_for_its_younger_users():
    """`early` is used by a node made last, so that an order by depth would visit it too soon."""
    x = leaf(2.0)
    early = x * x
    late = early
    for _ in range(5):
        late = late * 1.0
    (early * late).backward()  # x⁴
    assert x.grad.item() == 32.0


def test_a_sum_takes_nothing_from_those_who_share_an_array():
    """`add` hands one array to x and y; 3 more for x, from a node made before it, are none for y."""
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    u = x * 3
    v = (x + y) * 2
    ((u + v) * 1.0).sum().backward()
    assert x.grad.tolist() == [5.0, 5.0]
    assert y.grad.tolist() == [2.0, 2.0]


def test_a_sum_takes_nothing_from_what_was_saved():
    """A rule may hand out an array that it saved, twice even, and is asked for it again in the next walk."""
    slopes = np.array([10.0, 20.0])

    @ta.rule
    def tilted(x, y):
        return ((x + y) * slopes).sum(), lambda d_output: (slopes if d_output == 1 else d_output * slopes,) * 2

    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    u = (x * 3).sum()
    root = u + tilted(x, y * 1.0)
    for walks in (1, 2):
        root.backward(retain_graph=True)
        assert x.grad.tolist() == [13.0 * walks, 23.0 * walks]
        assert y.grad.tolist() == [10.0 * walks, 20.0 * walks]
    assert slopes.tolist() == [10.0, 20.0]


def test_depth_is_no_limit():
    n = 200_000
    x = leaf(1.0)
    y = x * 0.0
    for _ in range(n // 2):
        y = y * 1.0
        y = y + x
    y.backward()
    assert x.grad.item() == n // 2
    for _ in range(n):
        y = x * y
    del y  # and neither is it when the chain is thrown away


def test_leaves_accumulate():
    x = leaf([1.0, 2.0])
    for _ in range(2):
        (x * x).sum().backward()
    assert x.grad.tolist() == [4.0, 8.0]
    x.zero_grad()
    assert x.grad is None


def test_only_what_requires_a_gradient_gets_one():
    x, constant = leaf([1.0, 2.0]), ta.tensor([3.0, 4.0])
    y = x * constant
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 4.0]
    assert constant.grad is None
    assert y.grad is None


def test_a_branch_that_leads_nowhere_changes_nothing():
    x = leaf(2.0)
    y = x * x
    ta.exp(y)
    y.backward()
    assert x.grad.item() == 4.0


def test_broadcasting_is_undone():
    x, column, number = leaf(np.ones((3, 5))), leaf(np.ones((3, 1))), leaf(2.0)
    weights = np.arange(30.0).reshape(2, 3, 5)
    (x * column * number * weights).sum().backward()
    assert x.grad.tolist() == (2 * weights.sum(0)).tolist()
    assert column.grad.tolist() == (2 * weights.sum((0, 2)))[:, None].tolist()
    assert number.grad.item() == weights.sum()
    assert number.grad.shape == ()


@pytest.mark.parametrize(
    ("shape", "gradient", "expected"),
    [((3,), (2, 3), 2.0), ((1, 3), (2, 3), 2.0), ((2, 1), (2, 3), 3.0), ((), (2, 3), 6.0), ((1, 1), (5, 2, 3), 30.0)],
)
def test_unbroadcast(shape, gradient, expected):
    found = engine.unbroadcast(np.ones(gradient), shape)
    assert found.shape == shape
    assert (found == expected).all()


@given(hnp.mutually_broadcastable_shapes(num_shapes=1, base_shape=(2, 1, 3), max_dims=5, max_side=5))
def test_unbroadcast_is_the_adjoint_of_broadcasting(shapes):
    """⟨g, broadcast(x)⟩ = ⟨unbroadcast(g), x⟩; exactly, in integers."""
    (shape,), result = shapes
    rng = np.random.default_rng(0)
    x, g = rng.integers(-9, 9, shape), rng.integers(-9, 9, result)
    assert (g * np.broadcast_to(x, result)).sum() == (engine.unbroadcast(g, shape) * x).sum()


@pytest.mark.parametrize(("shape", "gradient"), [((3, 2), (2, 3)), ((2, 3), (3,)), ((2, 3), (1, 3)), ((3,), ())])
def test_unbroadcast_takes_nothing_that_was_not_broadcast(shape, gradient):
    with pytest.raises(ValueError, match="doesn't broadcast to"):
        engine.unbroadcast(np.ones(gradient), shape)


def test_gradients_have_the_dtype_of_their_leaf():
    x = leaf(np.ones(3, np.float32))
    (x * np.ones(3)).sum().backward()  # float64 on the way
    assert x.grad.dtype == np.float32


def test_each_leaf_owns_its_gradient():
    """`add` hands the same array to both, and `sum` a read-only view; neither may show."""
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    start = np.array([1.0, 1.0])
    (x + y).backward(start)
    x.grad.data[0] = 7.0
    assert y.grad.tolist() == [1.0, 1.0]
    assert start.tolist() == [1.0, 1.0]
    z = leaf(np.ones((2, 3)))
    z.sum().backward()
    z.grad.data[...] = 5.0


# ------------------------------------------------------------------------------------------------------ starting


def test_a_gradient_to_start_from():
    x = leaf([1.0, 2.0])
    (x * x).backward([10.0, 100.0])
    assert x.grad.tolist() == [20.0, 400.0]
    one = leaf([[3.0]])
    (one * one).backward()
    assert one.grad.tolist() == [[6.0]]


def test_a_root_of_many_numbers_needs_one():
    with pytest.raises(GradientError, match=r"shape \(2,\) needs a gradient of that shape .*pass gradient="):
        (leaf([1.0, 2.0]) * 2.0).backward()


def test_a_start_of_another_shape():
    x = leaf([1.0, 2.0])
    with pytest.raises(ValueError, match=r"gradient must have the tensor's shape; got \(3,\) for \(2,\)"):
        (x * x).backward(np.ones(3))
    assert x.grad is None


@pytest.mark.parametrize("gradient", [[None, None], ["1", "2"], "12", [1j, 1.0], ta.tensor([1j, 1.0])])
def test_a_start_that_is_no_real_number(gradient):
    x = leaf([1.0, 2.0])
    with pytest.raises(TypeError, match=r"backward: gradient needs (real numbers, of dtype float64|numbers); got "):
        (x * x).backward(gradient)
    assert x.grad is None


def test_a_root_that_requires_no_gradient():
    for root in (ta.tensor(1.0), leaf().detach() * 2.0):
        with pytest.raises(GradientError, match="doesn't require a gradient"):
            root.backward()


def test_a_leaf_is_its_own_root():
    x = leaf()
    x.backward()
    assert x.grad.item() == 1.0


# ------------------------------------------------------------------------------------------------------ releasing


def test_a_released_graph_says_so():
    x = leaf()
    y = x * x
    z = ta.exp(y)
    z.backward()
    where = r"line \d+ of test_engine\.py: z = ta\.exp\(y\)"
    told = rf"released by an earlier backward, at exp \({where}\)\. Pass retain_graph=True"
    with pytest.raises(GradientError, match=told):
        z.backward()
    with pytest.raises(GradientError, match="released by an earlier backward, at multiply"):
        (y + 1.0).backward()
    assert x.grad.item() == pytest.approx(4 * np.exp(4.0))


def test_a_retained_graph_can_be_walked_again():
    x = leaf(3.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12.0


def test_what_was_saved_is_let_go_without_the_garbage_collector():
    gc.disable()
    try:
        x = leaf(np.ones(7))
        y = x * 2.0
        middle = weakref.ref(y)
        saved = weakref.ref(y._data)
        z = ta.exp(y).sum()
        del y
        assert middle() is not None
        z.backward()
        assert middle() is None
        assert saved() is None
        z = ta.exp(x * 2.0).sum()  # and what is never walked goes with its last name
        middle = weakref.ref(z._inputs[0])
        del z
        assert middle() is None
    finally:
        gc.enable()


def test_memory_falls_on_the_way_back():
    """A node's array is let go once it's passed, before the walk ends."""
    alive = []

    @ta.rule
    def counted(x):
        def backward(d_output):
            alive.append(sum(reference() is not None for reference in references))
            return (d_output,)

        return x * 1.0, backward

    references = []
    y = leaf(np.ones(7))
    for _ in range(5):
        y = counted(y)
        references.append(weakref.ref(y))
    y.sum().backward()
    assert sorted(alive, reverse=True) == alive
    assert alive[-1] <= 2


# ------------------------------------------------------------------------------------------------------ rules that err


def test_a_gradient_of_a_wrong_shape_names_rule_and_argument():
    @ta.rule
    def transposed_by_mistake(left, right):
        return left * right, lambda d_output: (d_output * right, (d_output * left).T)

    x, y = leaf(np.ones((2, 3))), leaf(np.ones((2, 3)))
    expected = r"transposed_by_mistake: backward gave right, of shape \(2, 3\), a gradient of shape \(3, 2\)"
    with pytest.raises(GradientError, match=expected):
        transposed_by_mistake(x, y).sum().backward()
    assert x.grad is None


def test_a_wrong_number_of_gradients():
    @ta.rule
    def forgetful(x, y):
        return x * y, lambda d_output: (d_output * y,)

    @ta.rule
    def bare(x):
        return x * 2, lambda d_output: d_output * 2

    with pytest.raises(GradientError, match=r"forgetful: backward must return a tuple of 2, .*; got a tuple of 1"):
        forgetful(leaf(), leaf()).backward()
    with pytest.raises(GradientError, match=r"bare: backward must return a tuple of 1, .*; got float64"):
        bare(leaf()).backward()


def test_nothing_is_half_done():
    @ta.rule
    def explosive(x):
        def backward(d_output):
            raise ArithmeticError("boom")

        return x * 1.0, backward

    x, y = leaf(), leaf()
    with pytest.raises(ArithmeticError, match="boom"):
        (y * 3.0 + explosive(x)).backward()
    assert x.grad is None
    assert y.grad is None


def test_python_numbers_are_gradients_too():
    @ta.rule
    def doubled(x):
        return 2 * x, lambda d_output: (2.0,)

    x = leaf()
    doubled(x).backward()
    assert x.grad.item() == 2.0


def test_an_error_tells_where_it_happened():
    with pytest.raises(ValueError, match=r"^add: shapes must broadcast; got float64 \(2,\), float64 \(3,\)\.$"):
        leaf([1.0, 2.0]) + np.ones(3)
    with pytest.raises(ValueError, match=r"^add: shapes must broadcast; got float32 \(2,\), float64 \(3,\)\.$"):
        ta.add(np.ones(2, np.float32), np.ones(3))


def test_the_error_of_a_rule_of_ones_own_stays_what_it_is():
    class OwnError(ValueError):
        pass

    @ta.rule
    def stubborn(x):
        raise OwnError("no")

    with pytest.raises(OwnError, match=r"^no") as raised:
        stubborn(leaf([1.0, 2.0]))
    assert raised.value.__notes__ == ["in stubborn(float64 (2,))"]


@pytest.mark.parametrize("name", ["sum", "mean", "var", "max", "min", "logsumexp", "squeeze", "softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [2, -3])
def test_an_axis_that_is_not_there(name, axis):
    for x in (leaf(np.ones((3, 5))), np.ones((3, 5))):
        with pytest.raises(ValueError, match=rf"^{name}: there is no axis {axis}, .*got shape \(3, 5\)$") as raised:
            getattr(ta, name)(x, axis=axis)
        assert isinstance(raised.value, np.exceptions.AxisError)  # as NumPy has it


def test_an_axis_to_join_along_that_is_not_there():
    with pytest.raises(ValueError, match=r"^concatenate: there is no axis 1, .*got shape \(3,\), \(3,\)$"):
        ta.concatenate([leaf(np.ones(3)), np.ones(3)], axis=1)


@pytest.mark.parametrize("result", [lambda x: x * 2, lambda x: (x * 2, None, None), lambda x: None])
def test_a_rule_that_forgets_its_backward(result):
    @ta.rule
    def forgetful(x):
        return result(x)

    for x in (leaf([1.0, 2.0]), np.ones(2)):
        with pytest.raises(TypeError, match=r"^forgetful: a rule must return \(output, backward\), .*; got \w+"):
            forgetful(x)


# ------------------------------------------------------------------------------------------------------ recording


def test_no_grad():
    x = leaf()
    with ta.no_grad():
        y = x * x
        assert isinstance(y, ta.Tensor)
        assert not y.requires_grad
        with pytest.raises(ZeroDivisionError), ta.no_grad():
            1 / 0  # noqa: B018
        assert not (x * x).requires_grad
    assert (x * x).requires_grad

    @ta.no_grad()
    def power(x, n):
        return x if n == 1 else x * power(x, n - 1)

    assert power(x, 3).item() == 8.0
    assert not power(x, 3).requires_grad
    assert (x * x).requires_grad


def test_no_grad_is_for_one_thread_alone():
    x = leaf()
    found = []
    with ta.no_grad():
        thread = threading.Thread(target=lambda: found.append((x * x).requires_grad))
        thread.start()
        thread.join()
    assert found == [True]


def test_backward_under_no_grad():
    x = leaf(3.0)
    y = x * x
    with ta.no_grad():
        y.backward()
    assert x.grad.item() == 6.0


def test_what_cannot_have_a_gradient_has_none():
    x = leaf([1.5, 2.5])
    assert not x.astype(int).requires_grad
    with pytest.raises(TypeError, match="multiply: gradients need float32 or float64; the output is complex128"):
        x * 1j


# ------------------------------------------------------------------------------------------------------ on the way


def test_the_gradient_of_a_result_is_retained_on_request():
    x = leaf([1.0, 2.0])
    y = x * x
    z = y * [10.0, 100.0]
    y.retain_grad()
    y.retain_grad()
    x.retain_grad()  # as every leaf does
    (z.sum() + y.sum()).backward()
    assert y.grad.tolist() == [11.0, 101.0]
    assert x.grad.tolist() == [22.0, 404.0]
    assert z.grad is None


def test_a_retained_gradient_is_the_walkers_own():
    x = leaf([1.0, 2.0])
    y = x * 1.0
    y.retain_grad()
    (y + x).sum().backward()
    y.grad.data[0] = 50.0
    assert x.grad.tolist() == [2.0, 2.0]


def test_a_retained_gradient_can_be_differentiated():
    x = leaf(3.0)
    y = x * x
    y.retain_grad()
    (y * y).backward(create_graph=True)
    assert ta.grad(lambda x: x)(1.0).item() == 1.0  # what functions differentiate retains nothing
    y.grad.backward()  # 2 y = 2 x²
    assert x.grad.item() == 2 * 9 * 6 + 4 * 3
    x.grad = y.grad = None


def test_hooks_see_the_whole_gradient_and_may_change_it():
    x = leaf([1.0, 2.0])
    y = x * x
    seen = []
    y.register_hook(lambda gradient: seen.append(gradient.tolist()))
    remove = y.register_hook(lambda gradient: gradient * 2.0)
    y.register_hook(lambda gradient: seen.append(gradient.tolist()))
    (y.sum() + (y * 2.0).sum()).backward(retain_graph=True)
    assert seen == [[3.0, 3.0], [6.0, 6.0]]
    assert x.grad.tolist() == [12.0, 24.0]
    remove()
    remove()  # once more does no harm
    x.grad = None
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_a_hook_on_a_leaf():
    x = leaf(np.ones(2, np.float32))
    handle = x.register_hook(lambda gradient: np.array([5.0, 7.0]))
    (x * x).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]
    assert x.grad.dtype == np.float32
    assert ta.grad(lambda y: (x * y).sum())([1.0, 2.0]).tolist() == [1.0, 1.0]  # x is a constant there
    handle.remove()
    x.grad = None
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_hooks_in_gradients_of_gradients():
    """With y = x² and its gradient tripled, dz/dx = 3 · 2 x for z = y, and the second derivative is 6."""

    def f(x):
        y = x * x
        y.register_hook(lambda gradient: gradient * 3.0)
        return y

    assert ta.grad(f)(5.0).item() == 30.0
    assert ta.grad(ta.grad(f))(5.0).item() == 6.0


def test_hooks_that_cannot_be():
    x = leaf([1.0, 2.0])
    with pytest.raises(TypeError, match="register_hook: needs a function of the gradient; got float"):
        x.register_hook(1.0)
    for method in ("retain_grad", "register_hook"):
        with pytest.raises(GradientError, match=f"{method}: this tensor doesn't require a gradient"):
            getattr(ta.tensor(1.0), method)(*[print] * (method == "register_hook"))
    x.register_hook(lambda gradient: gradient.sum())
    with pytest.raises(GradientError, match=r"must have the tensor's shape, \(2,\); got \(\)"):
        (x * x).sum().backward()
    assert x.grad is None


def test_what_takes_a_hook_off_is_no_reference_cycle():
    gc.collect()
    gc.disable()
    try:
        x = ta.tensor([1.0], requires_grad=True)
        y = x * 2.0
        captured = weakref.ref(y)
        handle = y.register_hook(lambda gradient, y=y: gradient)  # the hook holds the tensor that holds the hook
        handle.remove()
        del y, handle
        assert captured() is None
    finally:
        gc.enable()


def test_a_hook_keeps_nothing_alive():
    gc.disable()
    try:
        x = leaf(np.ones(7))
        y = x * 2.0
        remove = y.register_hook(lambda gradient: None)
        y.retain_grad()
        there = weakref.ref(y)
        del y
        assert there() is None
        remove()
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------------ higher orders


def test_gradients_of_gradients():
    x = leaf(2.0)
    y = x**3
    y.backward(create_graph=True)
    first, x.grad = x.grad, None
    assert first.item() == 12.0
    first.backward(create_graph=True)
    second, x.grad = x.grad, None
    assert second.item() == 12.0
    second.backward()
    assert x.grad.item() == 6.0


def test_create_graph_retains():
    x = leaf(3.0)
    y = x * x
    y.backward(create_graph=True)
    y.backward()
    assert x.grad.item() == 12.0
    x.grad = None


def test_without_create_graph_a_gradient_has_none():
    x = leaf()
    (x * x).backward()
    assert not x.grad.requires_grad


# ------------------------------------------------------------------------------------------------------ lifting


def test_a_lifted_rule_takes_anything_and_gives_what_it_was_given():
    assert type(ta.exp(np.zeros(2))) is np.ndarray
    assert type(ta.exp([0.0, 1.0])) is np.ndarray
    assert type(ta.exp(0)) is np.float64
    assert type(ta.exp(ta.tensor([0.0]))) is ta.Tensor
    assert type(ta.add([1.0], ta.tensor([2.0]))) is ta.Tensor
    assert ta.add(np.ones(2, np.float32), 2.0).dtype == ta.clip(np.ones(2, np.float32), 0.0, 2.0).dtype == np.float32
    assert ta.softmax.__name__ == "softmax"
    assert ta.softmax.__wrapped__ is RULES["softmax"]
    assert inspect.getdoc(ta.softmax).startswith(inspect.getdoc(RULES["softmax"]))
    assert inspect.getdoc(ta.softmax).splitlines()[-1] == "gives the output alone, a Tensor where any argument is one."
    assert str(inspect.signature(ta.stack)).startswith("(arrays: ")


def test_arrays_by_keyword_and_options_by_position():
    x = np.arange(6.0).reshape(2, 3)
    assert ta.sum(x, 0).tolist() == [3.0, 5.0, 7.0]
    assert ta.sum(x, axis=0).tolist() == [3.0, 5.0, 7.0]
    assert ta.sum(axis=0, x=x).tolist() == [3.0, 5.0, 7.0]
    weight, bias = np.ones((3, 5)), leaf(np.ones(5))
    by_keyword = ta.linear(x, bias=bias, weight=weight)
    assert by_keyword.tolist() == ta.linear(x, weight, bias).tolist()
    by_keyword.sum().backward()
    assert bias.grad.tolist() == [2.0] * 5
    assert ta.linear(x, weight=weight).shape == (2, 5)
    assert ta.concatenate(arrays=[x, x], axis=1).shape == ta.concatenate([x, x], 1).shape == (2, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ta.matmul(x), r"matmul: 'y' is missing"),
        (lambda x: ta.matmul(x, x, x), r"matmul: takes 2 arguments at most; got 3$"),
        (lambda x: ta.softmax(x, 0), r"softmax: takes 1 argument at most without a name; got 2\. Is axis= missing\?$"),
        (lambda x: ta.sum(x, 0, True), r"sum: takes 2 arguments at most without a name; got 3\. Is keepdims= missing"),
        (lambda x: ta.clip(x, a_min=0), r"clip: takes no 'a_min', but x, min, max$"),
        (lambda x: ta.sum(x, 0, axis=1), r"sum: got 'axis' twice"),
        (lambda x: ta.linear(x, x=x), r"linear: got 'x' twice"),
        (lambda x: ta.softmax(x, axes=0), r"^softmax: takes no 'axes', but axis$"),
        (lambda x: ta.exp("x"), r"exp: x needs numbers; got str of dtype <U1"),
        (lambda x: x + "x", r"add: y needs numbers; got str of dtype <U1"),
        (lambda x: x * np.array([None]), r"multiply: y needs numbers; got ndarray of dtype object"),
        (lambda x: ta.concatenate([x, "x"]), r"concatenate: arrays\[1\] needs numbers; got str of dtype <U1"),
        (lambda x: ta.attention(x, "x", x), r"attention: key needs numbers; got str of dtype <U1"),
        (lambda x: ta.attention(x, x, None), r"attention: value needs an array; got None"),
        (lambda x: ta.exp(None), r"exp: x needs an array; got None"),
        (lambda x: x + None, r"add: y needs an array; got None"),
        (lambda x: ta.mse_loss(x, 1.0), r"mse_loss: needs arrays; got the number 1\.0"),
        (lambda x: ta.attention(x, x, x, scale=x), r"attention: scale is an option, and has no gradient"),
    ],
)
def test_calls_that_make_no_sense(call, message):
    for x in (leaf([[1.0]]), ta.tensor([[1.0]])):
        if "option" in message and not x.requires_grad:
            continue
        with pytest.raises(TypeError, match=message):
            call(x)


def test_a_tensor_that_needs_no_gradient_may_be_an_option():
    x = leaf(np.ones((3, 5)))
    masked = ta.attention(x, x, x, mask=ta.tensor(np.eye(3, dtype=bool)))
    assert masked.tolist() == x.tolist()


def test_the_graph_can_be_read():
    x = leaf([1.0, 2.0], name="x")
    y = ta.softmax(x * 3, axis=0)
    assert y._rule is RULES["softmax"]
    assert y._options == {"axis": 0}
    (product,) = y._inputs
    assert product._rule is RULES["multiply"]
    assert product._inputs == (x, 3)
    assert x._rule is None
    assert x._inputs == ()
    y.sum().backward()
    assert y._inputs is None
