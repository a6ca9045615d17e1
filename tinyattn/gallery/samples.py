"""Samples of every rule: arrays and options on which the witnesses have to agree.

Lengths of axes are distinct primes, so that no wrong transpose fits by chance. Values keep clear of kinks and ties,
where a derivative has two sides and differences see both.
"""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyattn.rules.dropout import draw

Vector: TypeAlias = "np.ndarray[Any, Any]"
Rng: TypeAlias = "np.random.Generator"


class Sample(NamedTuple):
    """Something to call a rule with. Floating arrays are differentiated; other arrays, and numbers, are constants."""

    about: str
    arrays: tuple[Any, ...]
    options: Mapping[str, Any] = MappingProxyType({})
    analytic: bool = True  # whether complex numbers can go through, for the complex step
    flat: bool = False  # whether the derivative is 0 wherever there is one, so that there is nothing to see


Sampler: TypeAlias = "Callable[[Rng], Iterable[Sample]]"

SAMPLES: dict[str, Sampler] = {}


def samples_of(*rules: str) -> Callable[[Sampler], Sampler]:
    """Make a function the source of samples for these rules."""

    def register(sampler: Sampler) -> Sampler:
        SAMPLES.update(dict.fromkeys(rules, sampler))
        return sampler

    return register


def clear_of_zero(rng: Rng, *shape: int) -> Vector:
    """Numbers of either sign, none of them near 0."""
    signs: Vector = rng.choice([-1.0, 1.0], shape)
    return signs * rng.uniform(0.3, 2.0, shape)


def all_different(rng: Rng, *shape: int) -> Vector:
    """Numbers of which no two are near each other."""
    n = math.prod(shape)
    numbers: Vector = (rng.permutation(n) - 0.4 * n) / n**0.5
    return numbers.reshape(shape)


# -------------------------------------------------------------------------------------- elementwise, activations


@samples_of("positive", "negative", "square", "exp", "exp2", "expm1", "tanh", "sin", "cos", "erf", "sigmoid", "silu")
def _one_number(rng: Rng) -> Iterable[Sample]:
    yield Sample("a number", (np.array(rng.normal()),))
    yield Sample("a stack", (rng.normal(size=(2, 3, 5)),))


@samples_of("log", "log2", "log1p", "sqrt")
def _one_positive_number(rng: Rng) -> Iterable[Sample]:
    yield Sample("a matrix", (rng.uniform(0.5, 3.0, (3, 5)),))


@samples_of("relu")
def _one_number_with_a_kink(rng: Rng) -> Iterable[Sample]:
    yield Sample("a matrix", (clear_of_zero(rng, 3, 5),))


@samples_of("leaky_relu")
def _one_number_that_leaks(rng: Rng) -> Iterable[Sample]:
    yield Sample("a number", (np.array(-1.3),))
    yield Sample("a matrix, slope −0.7", (clear_of_zero(rng, 3, 5),), {"negative_slope": -0.7})


@samples_of("softplus")
def _one_number_bent(rng: Rng) -> Iterable[Sample]:
    yield Sample("a number", (np.array(rng.normal()),))
    yield Sample("a stack, β 3", (rng.normal(size=(2, 3, 5)),), {"beta": 3.0})


@samples_of("gelu")
def _one_number_gated(rng: Rng) -> Iterable[Sample]:
    for approximate in ("none", "tanh"):
        yield Sample(f"{approximate}, a number", (np.array(rng.normal()),), {"approximate": approximate})
        yield Sample(f"{approximate}, a stack", (rng.normal(size=(2, 3, 5)),), {"approximate": approximate})


@samples_of("absolute")
def _one_number_with_a_sign(rng: Rng) -> Iterable[Sample]:
    yield Sample("a matrix", (clear_of_zero(rng, 3, 5),), analytic=False)


@samples_of("sign")
def _one_sign(rng: Rng) -> Iterable[Sample]:
    yield Sample("a matrix", (clear_of_zero(rng, 3, 5),), analytic=False, flat=True)


@samples_of("astype")
def _one_number_of_a_type(rng: Rng) -> Iterable[Sample]:
    yield Sample("float64", (rng.normal(size=(3, 5)),), {"dtype": np.float64}, analytic=False)


@samples_of("add", "subtract", "multiply")
def _two_numbers(rng: Rng) -> Iterable[Sample]:
    yield Sample("one shape", (rng.normal(size=(3, 5)), rng.normal(size=(3, 5))))
    yield Sample("a row", (rng.normal(size=(2, 3, 5)), rng.normal(size=5)))
    yield Sample("a column and a row", (rng.normal(size=(3, 1)), rng.normal(size=(1, 5))))
    yield Sample("a number", (np.array(rng.normal()), rng.normal(size=(3, 5))))


@samples_of("divide")
def _numerator_and_denominator(rng: Rng) -> Iterable[Sample]:
    yield Sample("one shape", (rng.normal(size=(3, 5)), clear_of_zero(rng, 3, 5)))
    yield Sample("a column and a row", (rng.normal(size=(3, 1)), clear_of_zero(rng, 2, 1, 5)))


@samples_of("power")
def _base_and_exponent(rng: Rng) -> Iterable[Sample]:
    base = rng.uniform(0.5, 2.0, (3, 5))
    yield Sample("arrays", (base, rng.normal(size=5)))
    yield Sample("one exponent for all", (base, np.array(0.7)))
    yield Sample("one base for all", (np.array(1.3), rng.normal(size=5)))
    yield Sample("an exponent among zeros", (base, np.array([0.0, 1.0, 2.0, 0.0, -1.0])))
    yield from (Sample(f"exponent {exponent}", (clear_of_zero(rng, 3, 5), exponent)) for exponent in (2, 3, -1))
    yield Sample("exponent 0.5", (base, 0.5))


@samples_of("maximum", "minimum")
def _two_numbers_apart(rng: Rng) -> Iterable[Sample]:
    numbers = all_different(rng, 23)
    yield Sample("a matrix and a row", (numbers[:15].reshape(3, 5), numbers[15:20]))
    yield Sample("a column and a row", (numbers[:3].reshape(3, 1), numbers[3:8]))


@samples_of("clip")
def _between_bounds(rng: Rng) -> Iterable[Sample]:
    x = all_different(rng, 3, 5)  # a whole number of steps from one another; the bounds lie half a step off
    step = 15**-0.5
    low, high = (rng.integers(*among, 5) * step - 5.5 * step for among in ((2, 6), (8, 12)))
    yield Sample("rows", (x, low, high))
    yield Sample("a column and a number", (x, low[:3].reshape(3, 1), np.array(high[0])))
    yield Sample("Python's numbers", (x, float(low[0]), float(high[0])))
    yield Sample("from below", (x, low, None))
    yield Sample("from above", (x, None, high))
    yield Sample("bounds that cross", (x, high, low))


@samples_of("where")
def _condition_and_two_numbers(rng: Rng) -> Iterable[Sample]:
    yield Sample("one shape", (rng.random((3, 5)) < 0.5, rng.normal(size=(3, 5)), rng.normal(size=(3, 5))))
    yield Sample("a row of conditions", (np.arange(5) % 2 == 0, rng.normal(size=(2, 3, 1)), np.array(rng.normal())))


# -------------------------------------------------------------------------------------------- reductions, shapes


def _axes(x: Vector) -> Iterable[Sample]:
    yield Sample("all axes", (x,))
    yield Sample("axis 0", (x,), {"axis": 0})
    yield Sample("axis −1, kept", (x,), {"axis": -1, "keepdims": True})
    yield Sample("axes 0 and −1", (x,), {"axis": (0, -1)})
    yield Sample("all axes, kept", (x,), {"keepdims": True})


@samples_of("sum", "mean", "logsumexp")
def _reduced(rng: Rng) -> Iterable[Sample]:
    return _axes(rng.normal(size=(2, 3, 5)))


@samples_of("var", "std")
def _spread(rng: Rng) -> Iterable[Sample]:
    x = rng.normal(size=(3, 2, 5))  # the deviation of two numbers is straight in both
    yield from _axes(x)
    yield Sample("ddof 1", (x,), {"axis": (1, 2), "ddof": 1})


@samples_of("prod")
def _multiplied(rng: Rng) -> Iterable[Sample]:
    x = clear_of_zero(rng, 2, 3, 5)
    yield from _axes(x)
    zeros = np.ones((3, 5))
    zeros[1, 2] = zeros[2, 0] = zeros[2, 3] = 0.0
    yield Sample("rows with no, one and two zeros", (x[0] * zeros,), {"axis": 1})


@samples_of("cumsum")
def _accumulated(rng: Rng) -> Iterable[Sample]:
    x = rng.normal(size=(2, 3, 5))
    yield Sample("flattened", (x,))
    yield from (Sample(f"axis {axis}", (x,), {"axis": axis}) for axis in (0, 1, -1))
    yield Sample("a number", (np.array(rng.normal()),))


@samples_of("norm")
def _lengths(rng: Rng) -> Iterable[Sample]:
    sizes = np.sqrt(1.0 + rng.permutation(30)).reshape(2, 3, 5)  # no two alike, nor their sums
    x = rng.choice([-1.0, 1.0], sizes.shape) * sizes
    yield from _axes(x)
    yield Sample("Frobenius", (x,), {"ord": "fro", "axis": (-1, 0)})
    yield Sample("ord 2 of vectors", (x,), {"ord": 2, "axis": 1})
    orders = (1, 3, 2.5, 0.5, -1, math.inf, -math.inf)
    yield from (Sample(f"ord {p} of vectors", (x,), {"ord": p, "axis": 1}, analytic=False) for p in orders)
    one_norms = (1, -1, math.inf, -math.inf)
    yield from (Sample(f"ord {p} of matrices", (x,), {"ord": p, "axis": (2, 0)}, analytic=False) for p in one_norms)
    yield Sample("ord 0 of vectors", (x,), {"ord": 0, "axis": 1}, analytic=False, flat=True)


@samples_of("max", "min")
def _extremes(rng: Rng) -> Iterable[Sample]:
    return _axes(all_different(rng, 2, 3, 5))


@samples_of("reshape")
def _reshaped(rng: Rng) -> Iterable[Sample]:
    yield Sample("split and joined", (rng.normal(size=(2, 15)),), {"shape": (10, 3)})
    yield Sample("−1", (rng.normal(size=(2, 3, 5)),), {"shape": (5, -1)})


@samples_of("transpose")
def _transposed(rng: Rng) -> Iterable[Sample]:
    yield Sample("reversed", (rng.normal(size=(2, 3, 5)),))
    yield Sample("a cycle", (rng.normal(size=(2, 3, 5)),), {"axes": (1, -1, 0)})


@samples_of("swapaxes")
def _swapped(rng: Rng) -> Iterable[Sample]:
    yield Sample("first and last", (rng.normal(size=(2, 3, 5)),), {"axis1": 0, "axis2": -1})


@samples_of("expand_dims")
def _expanded(rng: Rng) -> Iterable[Sample]:
    yield Sample("last", (rng.normal(size=(3, 5)),), {"axis": -1})
    yield Sample("two", (rng.normal(size=(3, 5)),), {"axis": (0, 2)})


@samples_of("squeeze")
def _squeezed(rng: Rng) -> Iterable[Sample]:
    yield Sample("all", (rng.normal(size=(1, 3, 1, 5)),))
    yield Sample("one", (rng.normal(size=(1, 3, 1, 5)),), {"axis": 2})


@samples_of("broadcast_to")
def _broadcast(rng: Rng) -> Iterable[Sample]:
    yield Sample("a row", (rng.normal(size=5),), {"shape": (2, 3, 5)})
    yield Sample("an axis of length 1", (rng.normal(size=(3, 1)),), {"shape": (3, 5)})


@samples_of("concatenate")
def _joined(rng: Rng) -> Iterable[Sample]:
    yield Sample("axis 0", (rng.normal(size=(2, 5)), rng.normal(size=(3, 5))))
    yield Sample("axis −1", (rng.normal(size=(3, 2)), rng.normal(size=(3, 5)), rng.normal(size=(3, 7))), {"axis": -1})


@samples_of("ravel")
def _in_a_line(rng: Rng) -> Iterable[Sample]:
    yield Sample("a stack", (rng.normal(size=(2, 3, 5)),))
    yield Sample("a number", (np.array(rng.normal()),))


@samples_of("moveaxis")
def _moved(rng: Rng) -> Iterable[Sample]:
    yield Sample("one axis", (rng.normal(size=(2, 3, 5)),), {"source": 0, "destination": -1})
    yield Sample("two axes", (rng.normal(size=(2, 3, 5, 7)),), {"source": (3, 0), "destination": (1, -1)})


@samples_of("flip")
def _flipped(rng: Rng) -> Iterable[Sample]:
    yield Sample("all axes", (rng.normal(size=(2, 3, 5)),))
    yield Sample("axis −1", (rng.normal(size=(2, 3, 5)),), {"axis": -1})
    yield Sample("axes 0 and 2", (rng.normal(size=(2, 3, 5)),), {"axis": (0, 2)})


@samples_of("roll")
def _rolled(rng: Rng) -> Iterable[Sample]:
    yield Sample("as one line", (rng.normal(size=(3, 5)),), {"shift": 2})
    yield Sample("axis −1", (rng.normal(size=(2, 3, 5)),), {"shift": -2, "axis": -1})
    yield Sample("two axes", (rng.normal(size=(3, 5, 7)),), {"shift": (1, -3), "axis": (0, 2)})


@samples_of("pad")
def _padded(rng: Rng) -> Iterable[Sample]:
    yield Sample("one width", (rng.normal(size=(2, 3)),), {"pad_width": 2})
    yield Sample("a pair", (rng.normal(size=(2, 3)),), {"pad_width": (1, 2), "constant_values": 0.7})
    yield Sample("a pair for each axis", (rng.normal(size=(2, 3)),), {"pad_width": ((0, 3), (2, 0))})


@samples_of("tile")
def _tiled(rng: Rng) -> Iterable[Sample]:
    yield Sample("a number of times", (rng.normal(size=(3, 5)),), {"reps": 2})
    yield Sample("along new axes", (rng.normal(size=(3, 5)),), {"reps": (7, 1, 2)})
    yield Sample("along the first axis", (rng.normal(size=(2, 3, 5)),), {"reps": (2, 1, 1)})


@samples_of("tril", "triu")
def _triangular(rng: Rng) -> Iterable[Sample]:
    yield Sample("a matrix", (rng.normal(size=(3, 5)),))
    yield Sample("a stack, k 1", (rng.normal(size=(2, 5, 3)),), {"k": 1})
    yield Sample("a row, k −1", (rng.normal(size=5),), {"k": -1})


@samples_of("stack")
def _stacked(rng: Rng) -> Iterable[Sample]:
    yield Sample("axis 0", (rng.normal(size=(3, 5)), rng.normal(size=(3, 5))))
    yield Sample("axis −1", tuple(rng.normal(size=(3, 5)) for _ in range(7)), {"axis": -1})


# ----------------------------------------------------------------------------------------------------- selection


@samples_of("index")
def _indexed(rng: Rng) -> Iterable[Sample]:
    keys = {
        "an integer": -2,
        "slices": (slice(None, None, -1), slice(1, None, 2)),
        "None and Ellipsis": (..., None, 3),
        "a mask": rng.random((3, 7)) < 0.5,
        "a mask of one axis": (slice(None), rng.random(7) < 0.5),
        "repeated integers": np.array([[2, 0, 2], [-1, 1, 2]]),
        "two arrays": (np.array([2, 0, 2]), np.array([1, -1, 1])),
        "arrays and slices": (np.array([[1], [2]]), slice(2, 5), np.array([0, 0, 4])),
        "a mask and an array": (slice(None), np.arange(7) % 3 == 0, np.array([4, 0, 4])),
    }
    for about, key in keys.items():
        yield Sample(about, (rng.normal(size=(3, 7, 5)),), {"key": key})


@samples_of("scatter")
def _scattered(rng: Rng) -> Iterable[Sample]:
    rows = np.array([[1, 1, 6], [0, 1, -1]])
    yield Sample("rows, repeated", (rng.normal(size=(2, 3, 5)),), {"key": rows, "shape": (7, 5)})
    yield Sample("a slice", (rng.normal(size=(3, 2)),), {"key": (..., slice(None, None, 3)), "shape": (3, 5)})


@samples_of("take")
def _taken(rng: Rng) -> Iterable[Sample]:
    x, places = rng.normal(size=(2, 3, 5)), np.array([[2, 0, -1], [1, 2, 2]])
    yield Sample("as one line", (x,), {"indices": np.array([29, 0, -1, 7])})
    yield Sample("axis 1", (x,), {"indices": places, "axis": 1})
    yield Sample("axis −1, an integer", (x,), {"indices": 3, "axis": -1})


@samples_of("take_along_axis")
def _taken_along(rng: Rng) -> Iterable[Sample]:
    x = rng.normal(size=(2, 3, 5))
    yield Sample("axis −1", (x,), {"indices": rng.integers(-5, 5, (2, 3, 7))})
    yield Sample("one row for all", (x,), {"indices": np.array([[[1, 1, 0]]]), "axis": -1})
    yield Sample("one line for all", (x[:1],), {"indices": rng.integers(3, size=(7, 2, 5)), "axis": 1})
    yield Sample("as one line", (x,), {"indices": np.array([29, 0, -1, 7]), "axis": None})


@samples_of("sort")
def _sorted(rng: Rng) -> Iterable[Sample]:
    x = all_different(rng, 2, 3, 5)
    yield Sample("axis −1", (x,))
    yield Sample("axis 0", (x,), {"axis": 0})
    yield Sample("as one line", (x,), {"axis": None})


@samples_of("repeat")
def _repeated(rng: Rng) -> Iterable[Sample]:
    yield Sample("as one line", (rng.normal(size=(3, 5)),), {"repeats": 2})
    yield Sample("axis −1", (rng.normal(size=(2, 3, 5)),), {"repeats": 3, "axis": -1})
    yield Sample("each its own number", (rng.normal(size=(2, 3, 5)),), {"repeats": [2, 0, 3], "axis": 1})


@samples_of("diagonal")
def _on_the_diagonal(rng: Rng) -> Iterable[Sample]:
    yield Sample("a matrix", (rng.normal(size=(3, 5)),))
    yield Sample("offset 1", (rng.normal(size=(5, 3, 2)),), {"offset": 1, "axis1": -1, "axis2": 0})
    yield Sample("offset −2", (rng.normal(size=(5, 3, 2)),), {"offset": -2})


@samples_of("embedding")
def _embedded(rng: Rng) -> Iterable[Sample]:
    yield Sample("repeated ids", (rng.normal(size=(7, 5)), np.array([[2, 2, 6], [0, 5, 2]])))


# ------------------------------------------------------------------------------------------------------ products


@samples_of("matmul")
def _factors(rng: Rng) -> Iterable[Sample]:
    shapes = {
        "matrices": ((3, 5), (5, 7)),
        "stacks": ((2, 3, 5), (2, 5, 7)),
        "stacks that broadcast": ((2, 1, 3, 5), (11, 5, 7)),
        "a stack by a matrix": ((2, 3, 5), (5, 7)),
        "a matrix by a stack": ((3, 5), (2, 5, 7)),
        "vectors": ((5,), (5,)),
        "a vector by a stack": ((5,), (2, 5, 7)),
        "a stack by a vector": ((2, 3, 5), (5,)),
    }
    for about, (left, right) in shapes.items():
        yield Sample(about, (rng.normal(size=left), rng.normal(size=right)))


@samples_of("dot")
def _dotted(rng: Rng) -> Iterable[Sample]:
    for left, right in (((5,), (5,)), ((3, 5), (5, 7)), ((2, 3, 5), (7, 5, 2)), ((2, 3, 5), (5,)), ((), (3, 5))):
        yield Sample(f"{left} and {right}", (rng.normal(size=left), rng.normal(size=right)))


@samples_of("outer")
def _every_pair(rng: Rng) -> Iterable[Sample]:
    yield Sample("vectors", (rng.normal(size=3), rng.normal(size=5)))
    yield Sample("a matrix and a number", (rng.normal(size=(2, 3)), np.array(rng.normal())))


@samples_of("tensordot")
def _contracted(rng: Rng) -> Iterable[Sample]:
    x, y = rng.normal(size=(2, 3, 5, 7)), rng.normal(size=(5, 7, 11, 3))
    yield Sample("two axes, neighbours", (x, y))
    yield Sample("no axis", (x[0, 0], y[0, 0]), {"axes": 0})
    yield Sample("a pair of axes", (x, y), {"axes": (2, 0)})
    yield Sample("three axes, crossed", (x, y), {"axes": ((3, 1, -2), (1, -1, 0))})
    yield Sample("all axes", (x[0], y[:, :, 0]), {"axes": ((0, 1, 2), (2, 0, 1))})


@samples_of("einsum")
def _summed_by_letters(rng: Rng) -> Iterable[Sample]:
    cases: dict[str, list[tuple[int, ...]]] = {
        "ij,jk->ik": [(2, 3), (3, 5)],
        "ij,jk": [(2, 3), (3, 5)],
        "bhqd,bhkd->bhqk": [(2, 3, 5, 7), (2, 3, 11, 7)],
        "i,j,ik->k": [(2,), (3,), (2, 5)],  # j is in one operand alone
        "ij,i->": [(2, 3), (2,)],
        "iij,ik->kj": [(3, 3, 2), (3, 5)],  # a diagonal
        "iiji,ji->i": [(3, 3, 2, 3), (2, 3)],
        "iij,k->k": [(3, 3, 2), (5,)],  # a trace
        "...ij,...jk->...ik": [(7, 1, 2, 3), (5, 3, 2)],
        "i...,...": [(2, 1, 3), (5, 3)],
        "ij,jk->ki": [(2, 1), (3, 5)],  # the first j stretches
        "i,ij,jk,k->": [(2,), (2, 3), (3, 5), (5,)],
        ",ij->ji": [(), (2, 3)],
    }
    for subscripts, shapes in cases.items():
        yield Sample(subscripts, tuple(rng.normal(size=shape) for shape in shapes), {"subscripts": subscripts})


@samples_of("linear")
def _weighted(rng: Rng) -> Iterable[Sample]:
    weight, bias = rng.normal(size=(5, 7)), rng.normal(size=7)
    yield Sample("a stack", (rng.normal(size=(2, 3, 5)), weight, bias))
    yield Sample("a vector", (rng.normal(size=5), weight, bias))
    yield Sample("without bias", (rng.normal(size=(3, 5)), weight, None))


# ---------------------------------------------------------------------------------------- softmax, norms, losses


@samples_of("softmax", "log_softmax")
def _scored(rng: Rng) -> Iterable[Sample]:
    yield Sample("last axis", (rng.normal(size=(3, 5)),))
    yield Sample("axis 1 of 3", (rng.normal(size=(2, 3, 5)),), {"axis": 1})
    yield Sample("far from zero", (rng.normal(size=(3, 5)) + 1000.0,))


@samples_of("layer_norm")
def _normed(rng: Rng) -> Iterable[Sample]:
    x, weight, bias = rng.normal(size=(2, 3, 5)), rng.normal(size=5), rng.normal(size=5)
    yield Sample("weight and bias", (x, weight, bias))
    yield Sample("neither", (x, None, None))
    yield Sample("a large ε", (x, weight, bias), {"eps": 0.5})


@samples_of("rms_norm")
def _scaled(rng: Rng) -> Iterable[Sample]:
    x, weight = rng.normal(size=(2, 3, 5)), rng.normal(size=5)
    yield Sample("weight", (x, weight))
    yield Sample("none, a large ε", (x, None), {"eps": 0.5})


@samples_of("cross_entropy")
def _classified(rng: Rng) -> Iterable[Sample]:
    scores, targets = rng.normal(size=(2, 3, 5)), rng.integers(5, size=(2, 3))
    for reduction in ("mean", "sum", "none"):
        yield Sample(reduction, (scores, targets), {"reduction": reduction})
    yield Sample("one row", (scores[0, 0], targets[0, 0]))
    yield Sample("smoothed", (scores, targets), {"label_smoothing": 0.3})
    yield Sample("a row ignored, smoothed", (scores, targets), {"ignore_index": targets[1, 2], "label_smoothing": 0.1})
    probabilities = rng.dirichlet(np.ones(5), size=(2, 3))
    yield Sample("probabilities", (scores, probabilities))
    options = {"label_smoothing": 0.3, "reduction": "none"}
    yield Sample("probabilities, smoothed", (scores, probabilities), options)


@samples_of("binary_cross_entropy_with_logits")
def _answered(rng: Rng) -> Iterable[Sample]:
    scores, targets = rng.normal(size=(2, 3, 5)), rng.uniform(0.1, 0.9, (2, 3, 5))
    for reduction in ("mean", "sum", "none"):
        yield Sample(reduction, (scores, targets, None), {"reduction": reduction})
    yield Sample("weighted", (scores, targets, rng.uniform(0.5, 2.0, 5)))
    yield Sample("yes or no", (scores, rng.integers(2, size=(2, 3, 5)), np.array(1.7)))


@samples_of("mse_loss")
def _predicted(rng: Rng) -> Iterable[Sample]:
    for reduction in ("mean", "sum", "none"):
        yield Sample(reduction, (rng.normal(size=(3, 5)), rng.normal(size=(3, 5))), {"reduction": reduction})


@samples_of("dropout")
def _dropped(rng: Rng) -> Iterable[Sample]:
    yield Sample("a half", (rng.normal(size=(3, 5)), rng.random((3, 5)) < 0.5), {"p": 0.5})
    yield Sample("a tenth", (rng.normal(size=(2, 3, 5)), rng.random((2, 3, 5)) < 0.9), {"p": 0.1})


# ----------------------------------------------------------------------------------------------------- attention


@samples_of("rope")
def _turned(rng: Rng) -> Iterable[Sample]:
    yield Sample("neighbours", (rng.normal(size=(2, 3, 6)),), {})
    options = {"positions": [7, 8, 9], "interleaved": False}
    yield Sample("halves, from a position on", (rng.normal(size=(3, 4)),), options)


def _attended(rng: Rng) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Of 3 queries and 7 keys, with d_k 5 and d_v 11 in 2 heads: about → (query, key, value, bias, sinks), options."""
    query, key, value = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 7, 5)), rng.normal(size=(2, 7, 11))
    mask = rng.random((3, 7)) < 0.5
    mask[1] = False  # a query that may attend to nothing
    mask[0, 0] = mask[2, 1] = True
    per_head = np.stack([mask, ~mask])
    four, sinks = rng.normal(size=(4, 3, 5)), rng.normal(size=4)
    return {
        "plain": ((query, key, value, None, None), {}),
        "bias and scale": ((query, key, value, rng.normal(size=(3, 7)), None), {"scale": 0.3}),
        "causal": ((query, key, value, None, None), {"causal": True}),
        "causal, more queries than keys": ((key, query, value[:, :3], None, None), {"causal": True}),
        "masked": ((query, key, value, rng.normal(size=7), None), {"mask": mask}),
        "masked by head, causal": ((query, key, value, None, None), {"mask": per_head, "causal": True}),
        "one key for all heads": ((query, key[:1], value[:1], rng.normal(size=(2, 1, 1)), None), {"mask": mask}),
        "two heads share a key, a window": ((four, key, value, None, None), {"window": (2, 1)}),
        "sinks, softcap, to the left": (
            (four, key, value, rng.normal(size=(3, 7)), sinks),
            {"softcap": 1.5, "window": (3, None), "causal": True},
        ),
        "sinks and mask": ((query, key, value, None, sinks[:2]), {"mask": mask}),
    }


@samples_of("attention")
def _mixed(rng: Rng) -> Iterable[Sample]:
    attended = _attended(rng)
    yield from (Sample(about, arrays, options) for about, (arrays, options) in attended.items())
    arrays, options = attended["sinks and mask"]
    yield Sample("dropped", arrays, options | {"dropped": draw((2, 3, 7), 0.4, rng)})


@samples_of("multi_head_attention")
def _projected(rng: Rng) -> Iterable[Sample]:
    """Of 3 queries and 7 keys, of 5 and 2 numbers; two heads with d_k 3 and d_v 1 or 2."""
    x, source, other = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 7, 2)), rng.normal(size=(2, 7, 3))
    w_query, w_output = rng.normal(size=(5, 6)), rng.normal(size=(4, 5))
    own = [w_query, rng.normal(size=(5, 6)), rng.normal(size=(5, 4)), w_output]
    biases = [rng.normal(size=n) for n in (6, 6, 4, 5)]
    yield Sample("of itself", (x, *own, *[None] * 8), {"n_heads": 2, "causal": True})
    yield Sample("with biases", (x, *own, *biases, *[None] * 4), {"n_heads": 2, "softcap": 1.5})
    shared = [w_query, rng.normal(size=(2, 3)), rng.normal(size=(2, 2)), w_output]
    of_pairs = rng.normal(size=(2, 3, 7)), rng.normal(size=2)
    arrays = (x, *shared, None, biases[1][:3], None, None, source, None, *of_pairs)
    yield Sample("of a source, with one key for all heads", arrays, {"n_heads": 2, "scale": 0.3})
    apart = [w_query, rng.normal(size=(2, 6)), rng.normal(size=(3, 4)), w_output]
    mask = rng.random((3, 7)) < 0.6
    mask[0] = True  # each key is seen
    arrays = (x, *apart, *[None] * 4, source[0], other, None, None)
    yield Sample("of two sources, masked", arrays, {"n_heads": 2, "mask": mask, "scale": 0.1})
    of_values = [w_query, own[1], rng.normal(size=(3, 4)), w_output]
    yield Sample("other values", (x, *of_values, *[None] * 5, other[:, :3], None, None), {"n_heads": 2, "causal": True})


@samples_of("attention_weights")
def _matched(rng: Rng) -> Iterable[Sample]:
    return [Sample(about, (q, k, *rest), options) for about, ((q, k, _, *rest), options) in _attended(rng).items()]
