"""The rules under arrays of another library, without a second set of formulas.

`Device` stands in for CuPy's array, which behaves like this: it speaks NumPy's protocols, knows NumPy's functions and
no others, refuses to be turned into a NumPy array without being asked, and to be mixed with one.
"""

import operator

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.gallery import SAMPLES
from tinyattn.rules import RULES

BINARY = "add sub mul truediv floordiv pow mod matmul and_ or_ xor".split()
COMPARISONS = "lt le gt ge eq ne".split()
METHODS = """sum mean max min any all reshape swapaxes transpose astype squeeze ravel copy argsort cumsum prod item
    tolist tobytes nonzero""".split()
TO_DEVICE = (np.asarray, np.array)  # these take what they're given over


class Device:
    def __init__(self, array):
        self.array = np.asarray(array)

    shape = property(lambda self: self.array.shape)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    dtype = property(lambda self: self.array.dtype)
    real = property(lambda self: Device(self.array.real))

    def __array__(self, *args, **options):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return wrapped(getattr(ufunc, method)(*map(bare, inputs), **options))

    def __array_function__(self, function, types, args, options):
        if not function.__module__.startswith("numpy") or set(types) != {Device}:
            return NotImplemented
        if function in TO_DEVICE:
            return Device(*args, **options)
        return wrapped(function(*bare(args), **bare(options)))

    def __getitem__(self, key):
        return wrapped(self.array[bare(key)])

    def __setitem__(self, key, value):
        self.array[bare(key)] = bare(value)

    def __len__(self):
        return len(self.array)

    def __bool__(self):
        return bool(self.array)

    def __int__(self):
        return int(self.array)


def bare(x):
    if isinstance(x, Device):
        return x.array
    if isinstance(x, np.ndarray):
        raise TypeError("unsupported type <class 'numpy.ndarray'>")
    if isinstance(x, list | tuple):
        return type(x)(map(bare, x))
    return {key: bare(value) for key, value in x.items()} if isinstance(x, dict) else x


def wrapped(x):
    if isinstance(x, np.ndarray | np.generic):
        return Device(x)
    return type(x)(map(wrapped, x)) if isinstance(x, list | tuple) else x


def _make(operate):
    return lambda self, *others, **options: wrapped(operate(self.array, *map(bare, others), **bare(options)))


def _reflected(operate):
    return lambda self, other: wrapped(operate(bare(other), self.array))


for name in (*BINARY, *COMPARISONS, "neg", "pos", "abs", "invert"):
    setattr(Device, f"__{name.strip('_')}__", _make(getattr(operator, name)))
for name in BINARY:
    setattr(Device, f"__r{name.strip('_')}__", _reflected(getattr(operator, name)))
for name in METHODS:
    setattr(Device, name, _make(lambda array, *args, method=name, **options: getattr(array, method)(*args, **options)))


def on_device(x):
    if isinstance(x, np.ndarray | np.generic):
        return Device(x.copy())
    return tuple(map(on_device, x)) if isinstance(x, tuple) else x


def same(x, y):
    """Up to the order of sums, which libraries are free in."""
    y = np.asarray(y)
    return isinstance(x, Device) and x.shape == y.shape and np.allclose(x.array, y, rtol=1e-14, atol=1e-15)


OURS = sorted(name for name, rule in RULES.items() if rule.__module__.startswith("tinyattn.rules."))


@pytest.mark.parametrize("name", OURS)
def test_every_rule_forward_and_backward(name):
    rule, rng = RULES[name], np.random.default_rng(1)
    for sample in SAMPLES[name](np.random.default_rng(0)):
        output, backward = rule(*sample.arrays, **sample.options)
        cotangent = rng.normal(size=np.shape(output))
        gradients = backward(cotangent[()])
        options = {name: on_device(option) for name, option in sample.options.items()}
        foreign_output, foreign_backward = rule(*map(on_device, sample.arrays), **options)
        assert same(foreign_output, output)
        for found, expected in zip(foreign_backward(Device(cotangent)), gradients, strict=True):
            assert found is None if expected is None else same(found, expected)


def test_the_stand_in_is_strict():
    x = Device(np.ones(3))
    for mix in (lambda: x + np.ones(3), lambda: np.add(np.ones(3), x), lambda: x[np.arange(2)], lambda: np.asarray(x)):
        with pytest.raises(TypeError):
            mix()
    with pytest.raises(TypeError):
        np.concatenate([x, np.ones(3)])


def test_tensors_of_them():
    """A block's worth of rules, recorded and walked back, against the same on NumPy's arrays."""
    rng = np.random.default_rng(0)
    data = {name: rng.normal(size=shape) for name, shape in (("x", (2, 3, 5)), ("weight", (5, 5)), ("scale", (5,)))}

    def gradients(place):
        x, weight, scale = (ta.tensor(place(array), requires_grad=True) for array in data.values())
        hidden = ta.layer_norm(ta.linear(x, weight), scale)
        loss = (ta.attention(hidden, hidden, x, causal=True)[:, 1:] * 2.0).sum() + (ta.erf(x) ** 2).mean()
        loss.backward()
        return [tensor.grad._data for tensor in (x, weight, scale)]

    for found, expected in zip(gradients(Device), gradients(np.asarray), strict=True):
        assert same(found, expected)


def test_what_is_written_shows():
    x = ta.tensor(Device(np.ones(3)), requires_grad=True)
    loss = (x * x).sum()
    x.data[0] = 5.0
    with pytest.raises(ta.GradientError, match="written"):
        loss.backward()
