import copy
import operator
import pickle
import subprocess
import sys

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.rules import RULES
from tinyattn.tensor import COMPOSED, NEAREST


def leaf(data, **options):
    return ta.tensor(data, requires_grad=True, **options)


# ------------------------------------------------------------------------------------------------------ making one


def test_tensor_copies_and_the_class_shares():
    array = np.array([1.0, 2.0])
    copied, shared = ta.tensor(array), ta.Tensor(array)
    array[0] = 7.0
    assert copied.tolist() == [1.0, 2.0]
    assert shared.tolist() == [7.0, 2.0]
    assert np.shares_memory(shared.numpy(), array)


def test_what_it_knows_of_itself():
    x = leaf(np.zeros((2, 3, 5), np.float32), name="scores")
    assert (x.shape, x.ndim, x.size, x.dtype, x.name) == ((2, 3, 5), 3, 30, np.float32, "scores")
    assert (x.T.shape, len(x), x.requires_grad, x.grad) == ((5, 3, 2), 2, True, None)


@pytest.mark.parametrize("data", [1, [1, 2], True, 1j, np.float16(1), np.longdouble(1)])
def test_gradients_need_float32_or_float64(data):
    with pytest.raises(TypeError, match=r"requires_grad: gradients need float32 or float64; got"):
        leaf(data)
    with pytest.raises(TypeError, match="requires_grad"):
        ta.Tensor(data, requires_grad=True)
    x = ta.tensor(data)
    with pytest.raises(TypeError, match="requires_grad"):
        x.requires_grad = True
    assert not x.requires_grad


@pytest.mark.parametrize("data", ["text", [None], object(), [["a"]]])
def test_it_holds_numbers(data):
    with pytest.raises(TypeError, match="tensor: data needs numbers; got"):
        ta.tensor(data)


def test_dtypes():
    assert ta.tensor(1.5).dtype == np.float64
    assert ta.tensor([1, 2], dtype=np.float32, requires_grad=True).dtype == np.float32
    assert ta.tensor(leaf([1.0])).requires_grad is False


def test_lists_of_tensors_are_stacked_not_swallowed():
    x = leaf([1.0, 2.0])
    for swallow in (ta.tensor, np.array, np.asarray, np.stack):
        if swallow is not np.stack:
            with pytest.raises(TypeError, match=r"Use \.numpy\(\); to join tensors, tinyattn\.stack"):
                swallow([x, x])
    assert np.stack([x, x]).requires_grad


# ------------------------------------------------------------------------------------------------------ operators

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
OTHERS = [3.0, 3, np.float64(3.0), np.float32(3.0), np.array([3.0, 5.0]), ta.tensor([3.0, 5.0]), [3.0, 5.0]]


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: type(other).__name__)
@pytest.mark.parametrize("operate", BINARY)
def test_operators_with_anything_on_either_side(operate, other):
    data = np.array([1.5, 2.5])
    plain = other.numpy() if isinstance(other, ta.Tensor) else np.asarray(other)
    for left, right in ((leaf(data), other), (other, leaf(data))):
        result = operate(left, right)
        assert type(result) is ta.Tensor
        assert result.requires_grad
        np.testing.assert_array_equal(
            result.numpy(), operate(*(plain if side is other else data for side in (left, right)))
        )


def test_matmul_on_either_side():
    x, matrix = leaf(np.ones((2, 3))), np.ones((3, 5))
    assert (x @ matrix).shape == (matrix.T @ x.T).T.shape == (2, 5)
    assert (matrix.T @ x.T).requires_grad


def test_unary_operators():
    x = leaf([-1.5, 2.5])
    assert (-x).tolist() == [1.5, -2.5]
    assert (+x).tolist() == [-1.5, 2.5]
    assert abs(x).tolist() == [1.5, 2.5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_python_numbers_do_not_widen(dtype):
    x = ta.tensor([1.5, 2.5], dtype=dtype)
    for operate in BINARY:
        assert operate(x, 2).dtype == operate(2.0, x).dtype == dtype
    assert ta.maximum(x, 0.0).dtype == ta.where(x > 2, x, 0.0).dtype == dtype


def test_comparisons_give_plain_booleans():
    x = leaf([1.0, 2.0, 3.0])
    for compare in (operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge):
        for other in (2.0, np.full(3, 2.0), ta.tensor(2.0)):
            found = compare(x, other)
            assert type(found) is np.ndarray
            assert found.tolist() == compare(np.array([1.0, 2.0, 3.0]), 2.0).tolist()
    assert (2.0 < x).tolist() == [False, False, True]
    assert (np.full(3, 2.0) < x).tolist() == [False, False, True]


def test_a_tensor_is_itself_whatever_it_equals():
    x, y = leaf([1.0]), leaf([1.0])
    assert {x: "x", y: "y"}[x] == "x"
    assert len({x, y, x}) == 2


def test_in_place_operators_make_a_new_tensor():
    x = leaf([1.0, 2.0])
    y = x
    y *= 3.0
    y += 1.0
    assert x.tolist() == [1.0, 2.0]
    (y * y).sum().backward()
    assert x.grad.tolist() == [24.0, 42.0]


def test_arrays_are_not_written_from_tensors_in_passing():
    array = np.zeros(2)
    with pytest.raises(TypeError, match=r"np\.add\(\.\.\., out=\) can't be recorded; np\.add\(\.\.\.\) can"):
        array += leaf([1.0, 2.0])
    assert array.tolist() == [0.0, 0.0]


# ------------------------------------------------------------------------------------------------------ methods


def test_methods_are_the_functions():
    data = np.arange(30.0).reshape(2, 3, 5)
    x = leaf(data)
    for name in ("sum", "mean", "max", "min", "var", "std", "prod"):
        for arguments, options in (((), {}), ((1,), {}), (((0, -1),), {"keepdims": True}), ((), {"axis": -1})):
            result = getattr(x, name)(*arguments, **options)
            np.testing.assert_allclose(result.numpy(), getattr(data, name)(*arguments, **options))
            assert result.requires_grad
    for name, arguments in (
        ("reshape", (5, 6)),
        ("reshape", ((5, -1),)),
        ("reshape", (30,)),
        ("transpose", ()),
        ("transpose", (2, 0, 1)),
        ("transpose", ((2, 0, 1),)),
        ("swapaxes", (0, -1)),
        ("ravel", ()),
        ("cumsum", (1,)),
        ("clip", (2.5, 7.0)),
        ("dot", (np.arange(5.0),)),
        ("take", ([2, 0], 1)),
        ("repeat", (2, 0)),
        ("diagonal", (1, 0, 2)),
        ("argmax", ()),
        ("argmin", (1,)),
    ):
        found = getattr(x, name)(*arguments)
        assert isinstance(found, ta.Tensor) != name.startswith("arg")
        plain = found.numpy() if isinstance(found, ta.Tensor) else found
        np.testing.assert_array_equal(plain, getattr(data, name)(*arguments))
    assert x[:1].squeeze().shape == (3, 5)
    assert x[:1].squeeze(axis=0).requires_grad
    assert x.astype(np.float32).dtype == np.float32


def test_indexing():
    data = np.arange(30.0).reshape(2, 3, 5)
    x = leaf(data)
    ids = ta.tensor([1, 0])
    for key, plain in (
        (0, 0),
        ((..., None, 2), (..., None, 2)),
        ([1, 0], [1, 0]),
        (ids, [1, 0]),
        ((slice(None), [2, 2]), (slice(None), [2, 2])),
        ((ids, ids), ([1, 0], [1, 0])),
        (x > 7, data > 7),
    ):
        assert x[key].tolist() == data[plain].tolist()
    key = [0, 0]
    y = x[key]
    key[0] = 1  # the list is the caller's
    y.sum().backward()
    assert x.grad[0].tolist() == np.full((3, 5), 2.0).tolist()
    with pytest.raises(IndexError):
        x[7]


def test_iteration_is_over_the_first_axis():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    first, second = x
    (first * 10.0 + second).sum().backward()
    assert x.grad.tolist() == [[10.0, 10.0], [1.0, 1.0]]
    assert len(x) == 2
    with pytest.raises(TypeError, match="can't be iterated"):
        list(leaf(1.0))


def test_single_numbers():
    x = leaf([[2.5]])
    assert (float(x), int(x), bool(x), x.item()) == (2.5, 2, True, 2.5)
    assert f"{x:.2f}" == "2.50"
    assert f"{leaf([1.0, 2.0])}" == "tensor([1., 2.], requires_grad=True)"
    with pytest.raises(ValueError, match=r"^bool: needs a tensor of one number; got shape \(2,\)"):
        bool(leaf([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"^float: needs a tensor of one number; got shape \(2,\)"):
        float(leaf([1.0, 2.0]))


def test_repr():
    assert repr(ta.tensor([1, 2])) == "tensor([1, 2])"
    assert repr(leaf([1.0, 2.0], name="x")) == "tensor([1., 2.], name='x', requires_grad=True)"
    assert repr(leaf([1.0, 2.0]) * 2) == "tensor([2., 4.], rule=multiply)"
    assert repr(ta.tensor([1.5], dtype="float32")) == "tensor([1.5], dtype=float32)"
    assert repr(ta.tensor([[1.0], [2.0]])) == "tensor([[1.],\n        [2.]])"


# ------------------------------------------------------------------------------------------------------ its data


def test_data_can_be_replaced_by_its_like():
    x = leaf(np.zeros((2, 3), np.float32))
    x.data = np.ones((2, 3))
    assert x.dtype == np.float32
    x.data -= 0.5
    assert (x.data == 0.5).all()
    with pytest.raises(ValueError, match=r"a tensor keeps its shape, \(2, 3\); got \(3,\)"):
        x.data = np.ones(3)
    number = leaf(1.0)
    number.data += 1.0
    assert number.item() == 2.0
    assert isinstance(number.data, np.ndarray)
    assert isinstance((number * 2.0).numpy(), np.ndarray)


def test_detach_shares_numbers_and_no_gradient():
    x = leaf([1.0, 2.0], name="x")
    y = (x * x * x.detach()).sum()
    y.backward()
    assert x.grad.tolist() == [2.0, 8.0]
    assert np.shares_memory(x.detach().numpy(), x.numpy())
    assert x.detach().name == "x"


def test_requires_grad_is_for_leaves_to_set():
    x = ta.tensor([1.0])
    x.requires_grad = True
    y = x * 2.0
    with pytest.raises(ta.GradientError, match=r"only a leaf's can be set; detach\(\)"):
        y.requires_grad = False
    x.requires_grad = False
    assert not (x * 2.0).requires_grad


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_leaves_of_their_own(duplicate):
    x = leaf([1.0, 2.0], name="x")
    x.grad = ta.tensor([5.0, 5.0])
    y = duplicate(x)
    assert (y.name, y.requires_grad, y.grad.tolist()) == ("x", True, [5.0, 5.0])
    y.data[0] = 7.0
    (y * y).sum().backward()
    assert x.tolist() == [1.0, 2.0]
    assert x.grad.tolist() == [5.0, 5.0]
    assert y.grad.tolist() == [19.0, 9.0]
    with pytest.raises(ta.GradientError, match=r"here multiply, can't be copied .* do it to \.detach\(\)"):
        duplicate(x * 2.0)


def test_a_pickle_from_a_longer_life_has_no_claim_to_age():
    """Nodes are sorted by age: were a loaded leaf younger than what is made of it, it would lose its gradient."""
    program = "import sys, pickle, tinyattn as ta; [ta.tensor(0.0) for _ in range(10**5)];"
    program += "sys.stdout.buffer.write(pickle.dumps(ta.tensor([1.0, 2.0], requires_grad=True)))"
    x = pickle.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


# ------------------------------------------------------------------------------------------------- NumPy's functions


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sin", "cos", "sqrt", "square", "absolute", "abs", "negative"])
def test_ufuncs_are_the_rules(name):
    x = leaf([0.5, 1.5])
    result = getattr(np, name)(x)
    assert result._rule.__name__ == getattr(np, name).__name__
    assert result.requires_grad


def test_functions_are_the_rules():
    x, y = leaf(np.arange(6.0).reshape(2, 3)), np.ones((2, 3))
    results = {
        "sum": np.sum(x, 0),
        "mean": np.mean(x, axis=-1, keepdims=True),
        "max": np.amax(x) if np.amax.__name__ == "max" else np.max(x),
        "var": np.var(x, axis=0, ddof=1),
        "reshape": np.reshape(x, (3, 2)),
        "transpose": np.transpose(x, (1, 0)),
        "swapaxes": np.swapaxes(x, 0, 1),
        "squeeze": np.squeeze(x),
        "expand_dims": np.expand_dims(x, 0),
        "broadcast_to": np.broadcast_to(x, (5, 2, 3)),
        "concatenate": np.concatenate([y, x], axis=1),
        "stack": np.stack([x, y]),
        "where": np.where(x > 2, x, 0.0),
        "matmul": np.matmul(y.T, x),
        "maximum": np.maximum(y, x),
        "power": np.power(x, 2),
    }
    for name, result in results.items():
        assert result._rule.__name__ == name
        assert result.requires_grad


def test_functions_without_a_gradient_give_plain_arrays():
    x = leaf([[-1.0, np.nan], [np.inf, 2.0]])
    assert np.isfinite(x).tolist() == [[True, False], [False, True]]
    assert np.isnan(x).sum() == 1
    assert np.argmax(x[:, 0]) == 1
    assert np.shape(x) == (2, 2)
    assert np.ndim(x) == 2
    assert np.size(x) == 4
    assert type(np.zeros_like(x)) is np.ndarray
    assert not np.allclose(x, 0.0)
    np.testing.assert_array_equal(ta.tensor([1.0]), [1.0])


@pytest.mark.parametrize(
    ("function", "nearest"),
    [
        (np.cumprod, "prod"),
        (np.sinh, "sin"),
        (np.nansum, "sum"),
        (np.vstack, "concatenate"),  # and not stack, which makes a new axis
        (np.median, "sort"),
        (np.convolve, None),
        (np.around, None),  # and not what happens to be spelled a little like it
    ],
)
def test_a_function_without_a_rule_names_itself_and_the_nearest(function, nearest):
    hint = rf" The nearest there is: {nearest}\." if nearest else ""
    for x in (leaf([1.0]), ta.tensor([1.0])):
        with pytest.raises(TypeError, match=rf"np\.{function.__name__} has no rule, .* it\.{hint} Use \.numpy\(\)"):
            function(x, x) if function is np.convolve else function(x)


def test_the_nearest_are_rules_and_the_others_are_not():
    for theirs, ours in NEAREST.items():
        assert ours in RULES | COMPOSED
        assert theirs not in RULES | COMPOSED


def test_a_function_in_linalg_is_named_with_it():
    with pytest.raises(TypeError, match=r"^np\.linalg\.inv has no rule, so that no gradient could go through it\. Use"):
        np.linalg.inv(leaf([[1.0]]))


def test_reductions_of_ufuncs_are_not_recorded():
    with pytest.raises(TypeError, match=r"np\.add\.reduce can't be recorded"):
        np.add.reduce(leaf([1.0]))


def test_no_detour_through_arrays():
    x = leaf([1.0])
    with pytest.raises(TypeError, match=r"requires a gradient isn't turned into an array silently"):
        np.asarray(x)
    assert np.asarray(ta.tensor([1.0])).tolist() == [1.0]
    assert np.asarray(x.detach(), dtype=np.float32).dtype == np.float32


@pytest.mark.usefixtures("own_rules")
def test_a_rule_of_ones_own_answers_for_the_function_of_its_name():
    @ta.rule
    def sinh(x):
        output = np.sinh(x)

        def backward(d_output):
            return (d_output * np.sqrt(1.0 + output * output),)

        return output, backward

    assert np.isclose(ta.grad(lambda x: np.sinh(x))(2.0).item(), np.cosh(2.0))
    assert np.isclose(ta.grad(ta.grad(sinh))(2.0).item(), np.sinh(2.0))


CALLS = """
    np.sum(a=x)
    np.sum(x, 0, None, None, True)
    np.mean(x, None, None)
    np.var(x, 0, None, None, 1)
    np.std(a=x, axis=1, ddof=1)
    np.cumsum(x, 1, None)
    np.clip(x, a_min=1, a_max=2)
    np.clip(x, None, 2)
    np.clip(x, min=1, max=2)
    np.take(a=x, indices=[0, 2], axis=1)
    np.take(x, [0, 2], 1, None, "raise")
    np.take_along_axis(arr=x, indices=np.zeros((2, 1), int), axis=1)
    np.sort(x, -1, None)
    np.sort(a=x, axis=0, kind=None)
    np.repeat(a=x, repeats=2, axis=1)
    np.concatenate([x, x], axis=1, dtype=None, casting="same_kind")
    np.stack(arrays=[x, x], axis=1)
    np.reshape(x, (3, 2), "C")
    np.ravel(a=x, order="C")
    np.transpose(a=x, axes=(1, 0))
    np.moveaxis(a=x, source=0, destination=1)
    np.broadcast_to(array=x, shape=(5, 2, 3))
    np.flip(m=x, axis=0)
    np.tile(A=x, reps=2)
    np.pad(array=x, pad_width=1, mode="constant", constant_values=0)
    np.dot(a=x, b=x.T)
    np.tensordot(a=x, b=x, axes=[[0], [0]])
    np.outer(a=x, b=x)
    np.linalg.norm(x=x, ord=None, axis=1)
    np.exp(x, where=True, dtype=None)
    np.add(x, 1, casting="same_kind")
    np.matmul(x, x.T, casting="same_kind")
"""


@pytest.mark.parametrize("call", [line.strip() for line in CALLS.split("\n") if line.strip()])
def test_numpy_s_own_names_places_and_defaults(call):
    """What NumPy takes of an array under its own names, or is told that it would do anyway, a Tensor takes, too."""
    array = np.arange(6.0).reshape(2, 3) + 0.5
    found = eval(call, {"np": np, "x": ta.tensor(array, requires_grad=True)})
    assert found.requires_grad
    np.testing.assert_array_equal(found.numpy(), eval(call, {"np": np, "x": array}), strict=True)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("np.sum(x, 0, np.float32)", "sum: takes no 'dtype'"),
        ("np.sum(x, where=x.numpy() > 1)", "sum: takes no 'where'"),
        ("np.ravel(x, 'F')", "ravel: takes no 'order'"),
        ("np.clip(x, 1, 2, out=np.zeros((1, 2)))", "clip: takes no 'out'"),
        ("np.exp(x, where=x.numpy() > 1)", r"np\.exp\(\.\.\., where=\) can't be recorded"),
    ],
)
def test_what_numpy_takes_and_a_rule_does_not(call, told):
    with pytest.raises(TypeError, match=told):
        eval(call, {"np": np, "x": ta.tensor([[0.5, 1.5]], requires_grad=True)})
