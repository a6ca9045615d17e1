"""The ways to a rule: the plain function, ours on Tensors, NumPy's on Tensors. A case has `arrays` and `options`."""

import numpy as np

import tinyattn as ta
from tinyattn.engine import lift
from tinyattn.rules import RULES
from tinyattn.rules.registry import parameters


def by_rule(name, case):
    """The plain rule."""
    return RULES[name](*case.arrays, **case.options)[0]


def by_us(name, case):
    """The function of the face, on Tensors; the lifted rule, where it's something else that stands there."""
    arrays, options = case.arrays, case.options
    if name == "index":
        return arrays[0][options["key"]]
    if name == "einsum":
        return ta.einsum(options["subscripts"], *arrays, optimize=options["optimize"])
    if name == "attention":
        return ta.attention(*arrays[:3], bias=arrays[3], sinks=arrays[4], **options)
    function = {"scatter": None, "dropout": None, "norm": ta.linalg.norm}.get(name, getattr(ta, name, None))
    return (function or lift(RULES[name]))(*spread(name, arrays), **options)


def by_numpy(name, case):
    """NumPy's function of that name."""
    arrays, options = case.arrays, case.options
    if name == "index":
        return arrays[0][options["key"]]
    if name == "astype":
        return arrays[0].astype(options["dtype"])
    if name == "einsum":
        return np.einsum(options["subscripts"], *arrays, optimize=options["optimize"])
    function = np.linalg.norm if name == "norm" else getattr(np, name)
    return function(*spread(name, arrays), **options)


def spread(name, arrays):
    """The arrays as users pass them: those of `*arrays` as one list."""
    return [list(arrays)] if parameters(RULES[name]).variadic else list(arrays)
