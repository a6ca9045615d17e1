"""What every rule keeps to, walked through the table, so that none goes unchecked."""

import inspect
import math
import re

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.gallery import SAMPLES
from tinyattn.gradcheck import check_rule, gradcheck
from tinyattn.rules import RULES
from tinyattn.rules.registry import parameters

OURS = sorted(name for name, rule in RULES.items() if rule.__module__.startswith("tinyattn.rules."))
NOT_ON_THE_FACE = {"index", "scatter", "norm"}  # t[key], and the way back from it; ta.linalg.norm


STRAIGHT = """absolute add astype broadcast_to clip concatenate cumsum diagonal dropout embedding expand_dims flip index
    leaky_relu max maximum mean min minimum moveaxis negative pad positive ravel relu repeat reshape roll rope scatter
    sign sort squeeze stack subtract sum swapaxes take take_along_axis tile transpose tril triu where""".split()
STRAIGHT_NORMS = {
    *(f"ord {p} of vectors" for p in (0, 1, math.inf, -math.inf)),
    *(f"ord {p} of matrices" for p in (1, -1, math.inf, -math.inf)),
}


def samples(name):
    return list(SAMPLES[name](np.random.default_rng(0)))


def floating(sample, dtype=np.float64):
    """The places of a sample's floating arrays, and all its arrays, those in a dtype."""
    places = [i for i, x in enumerate(sample.arrays) if isinstance(x, np.ndarray) and x.dtype == np.float64]
    return places, [x.astype(dtype) if i in places else x for i, x in enumerate(sample.arrays)]


def test_the_table_is_what_the_gallery_shows():
    assert set(SAMPLES) == set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_the_witnesses_agree(name):
    check = check_rule(name)
    assert check.ok, str(check)


@pytest.mark.parametrize("name", OURS)
def test_every_rule_stands_on_the_face(name):
    assert (getattr(ta, name, None) is not None) != (name in NOT_ON_THE_FACE)


@pytest.mark.parametrize("name", OURS)
def test_every_rule_is_documented(name):
    text = inspect.getdoc(RULES[name])
    assert text.partition("\n")[0].endswith((".", ")"))
    assert ">>> " in text
    labels = re.findall(r" \(([a-z0-9_]+)\.1\)", text + inspect.getmodule(RULES[name]).__doc__)
    assert any(name.startswith(label) for label in labels), f"no formula of {name} is labelled"


@pytest.mark.parametrize("name", OURS)
def test_second_derivatives(name):
    """The gradient, computed on Tensors, against differences of the gradient computed on arrays."""
    for sample in samples(name):
        report = gradcheck(*slope(RULES[name], sample), rtol=1e-5, atol=1e-8)
        if name in STRAIGHT or sample.about in STRAIGHT_NORMS:
            assert report.problem.startswith("vacuous"), str(report)
        else:
            assert report, str(report)


def slope(rule, sample):
    """How fast a random sum of the rule's outputs changes in a random direction: a function of its floating arrays."""
    rng = np.random.default_rng(1)
    places, arrays = floating(sample)
    cotangent = rng.normal(size=np.shape(rule(*arrays, **sample.options)[0]))
    directions = [rng.normal(size=arrays[i].shape) for i in places]

    def loss(*moved):
        given = list(sample.arrays)
        for i, x in zip(places, moved, strict=True):
            given[i] = x
        output = ta.engine.lift(rule)(*([given] if parameters(rule).variadic else given), **sample.options)
        return (output * cotangent).sum()

    def along(*moved):
        gradients = ta.grad(loss, tuple(range(len(places))))(*moved)
        return ta.stack([(g * d).sum() for g, d in zip(gradients, directions, strict=True)]).sum()

    return along, tuple(arrays[i] for i in places)


@pytest.mark.parametrize("name", sorted(set(OURS) - {"astype"}))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_kept(name, dtype):
    for sample in samples(name):
        places, arrays = floating(sample, dtype)
        output, backward = RULES[name](*arrays, **sample.options)
        assert output.dtype == dtype
        gradients = backward(np.ones(output.shape, dtype)[()])
        assert [gradients[i].dtype for i in places] == [dtype] * len(places)


@pytest.mark.parametrize("name", OURS)
def test_arguments_are_left_as_they_were(name):
    for sample in samples(name):
        _, arrays = floating(sample)
        for x in arrays:
            if isinstance(x, np.ndarray):
                x.flags.writeable = False
        output, backward = RULES[name](*arrays, **sample.options)
        cotangent = np.ones(output.shape)
        cotangent.flags.writeable = False
        backward(cotangent)
        if isinstance(output, np.ndarray) and not np.may_share_memory(output, arrays[0]):
            output.flags.writeable = False
            backward(cotangent)


@pytest.mark.parametrize("name", OURS)
def test_a_gradient_for_every_array(name):
    for sample in samples(name):
        output, backward = RULES[name](*sample.arrays, **sample.options)
        gradients = backward(np.ones(output.shape)[()])
        assert isinstance(gradients, tuple)
        spec = parameters(RULES[name])
        assert len(gradients) == len(sample.arrays if spec.variadic else spec.arrays)
