"""Random cases for every rule: the shapes, axes and options are Hypothesis's choice, the numbers a seeded generator's.

Rules of one shape share a strategy. Among the shapes are single numbers, axes of length 0 and 1, and operands that
broadcast. Numbers keep clear of kinks and ties, where a derivative has two sides and differences see both.
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tinyattn.gallery.samples import all_different, clear_of_zero


class Case(NamedTuple):
    """What to call a rule with. Arrays of float64 are differentiated; other arrays, and numbers, are constants."""

    arrays: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def places(self):
        """Where the arrays are that are differentiated."""
        return [i for i, x in enumerate(self.arrays) if isinstance(x, np.ndarray) and x.dtype == np.float64]

    def with_arrays(self, moved):
        """This case with other arrays in those places."""
        arrays = list(self.arrays)
        for i, x in zip(self.places, moved, strict=True):
            arrays[i] = x
        return Case(tuple(arrays), self.options)

    def cast(self, dtype):
        """This case with its floating arrays in another dtype."""
        return self.with_arrays([self.arrays[i].astype(dtype) for i in self.places])


def case(*arrays, **options):
    """A call of a rule with these arrays and options."""
    return Case(tuple(np.asarray(x) if isinstance(x, np.generic) else x for x in arrays), options)


CASES: dict[str, st.SearchStrategy[Case]] = {}
"""A strategy for each rule."""


def cases_of(*rules):
    """Make a function of `draw`, a generator and the rule's name, that gives a case, the strategy of these rules."""

    def register(make):
        for name in rules:
            CASES[name] = _strategy(make, name)
        return make

    return register


def _strategy(make, name):
    @st.composite
    def drawn(draw):
        return make(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed")), name)

    return drawn()


# ------------------------------------------------------------------------------------------------ what is drawn


LENGTHS = (3, 2, 1, 5, 0)
NOT_EMPTY = (3, 2, 1, 5)


def shapes(lengths=LENGTHS, axes=(0, 3)):
    return st.lists(st.sampled_from(lengths), min_size=axes[0], max_size=axes[1]).map(tuple)


def axis_of(shape, new=0):
    """One axis of a shape, counted from either end; or a place for a new one."""
    n = len(shape) + new
    return st.integers(-n, n - 1)


@st.composite
def several_axes(draw, shape, least=0):
    """A tuple of axes, each named once, from either end."""
    axes = draw(st.permutations(range(len(shape))))[draw(st.integers(0, len(shape) - least)) :]
    return tuple(a - len(shape) * draw(st.booleans()) for a in axes)


def any_axes(shape):
    """None, one axis, or a tuple of them: what reductions take."""
    choices = [st.none(), several_axes(shape)]
    return st.one_of(*choices, *([axis_of(shape)] if shape else []))


@st.composite
def reduction(draw, shape):
    """The options of a reduction, some of them left out."""
    options = {}
    if draw(st.booleans()):
        options["axis"] = draw(any_axes(shape))
    if draw(st.booleans()):
        options["keepdims"] = draw(st.booleans())
    return options


def reduced(shape, axis=None):
    """How many numbers stand behind one of a reduction."""
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return math.prod(shape[a] for a in axes)


@st.composite
def broadcasting(draw, n, axes=(0, 3)):
    """Shapes of n operands that broadcast to one another: leading axes are missing, others have length 1."""
    full = draw(shapes(axes=axes))
    found = []
    for _ in range(n):
        kept = full[draw(st.integers(0, len(full))) :]
        found.append(tuple(1 if draw(st.integers(0, 3)) == 0 else length for length in kept))
    return found


def numbers(rng, shape):
    return rng.normal(size=shape)


def between(rng, low, high, shape):
    return rng.uniform(low, high, shape)


def apart(rng, shape):
    """Numbers of which no two are near each other, nor any near 0."""
    return np.asarray(all_different(rng, *shape)) + 0.03 if math.prod(shape) else np.zeros(shape)


def off_zero(rng, shape):
    return clear_of_zero(rng, *shape)


# ------------------------------------------------------------------------------------------------ elementwise


@cases_of("positive", "negative", "square", "exp", "exp2", "expm1", "tanh", "sin", "cos", "erf", "sigmoid", "silu")
def _one_number(draw, rng, name):
    return case(numbers(rng, draw(shapes())))


@cases_of("log", "log2", "log1p", "sqrt")
def _one_positive_number(draw, rng, name):
    return case(between(rng, 0.5, 3.0, draw(shapes())) - (0.9 if name == "log1p" else 0.0))


@cases_of("absolute", "sign", "relu")
def _one_number_off_zero(draw, rng, name):
    return case(off_zero(rng, draw(shapes())))


@cases_of("leaky_relu")
def _leaking(draw, rng, name):
    return case(off_zero(rng, draw(shapes())), negative_slope=draw(st.sampled_from([0.01, -0.5, 0.0, 1.0, 3])))


@cases_of("softplus")
def _bent(draw, rng, name):
    return case(numbers(rng, draw(shapes())), beta=draw(st.sampled_from([1.0, 0.3, 2, 7.5])))


@cases_of("gelu")
def _gated(draw, rng, name):
    return case(numbers(rng, draw(shapes())), approximate=draw(st.sampled_from(["none", "tanh"])))


@cases_of("astype")
def _of_a_type(draw, rng, name):
    return case(numbers(rng, draw(shapes())), dtype=draw(st.sampled_from([np.float64, "f8", float])))


@cases_of("add", "subtract", "multiply")
def _two_numbers(draw, rng, name):
    x, y = (numbers(rng, shape) for shape in draw(broadcasting(2)))
    return case(*draw(st.sampled_from([(x, y), (x, y), (x, 1.7), (3, y), (x, True)])))


@cases_of("divide")
def _fraction(draw, rng, name):
    x, y = draw(broadcasting(2))
    x, y = numbers(rng, x), off_zero(rng, y)
    return case(*draw(st.sampled_from([(x, y), (x, y), (x, 1.7), (3, y)])))


@cases_of("power")
def _power(draw, rng, name):
    base, exponent = draw(broadcasting(2))
    if draw(st.booleans()):
        return case(off_zero(rng, base), draw(st.sampled_from([2, 3, 0, 1, -1, 2.0, -2.0])))
    base = between(rng, 0.5, 2.0, base)
    return case(*draw(st.sampled_from([(base, numbers(rng, exponent)), (base, 0.7), (1.3, numbers(rng, exponent))])))


@cases_of("maximum", "minimum")
def _extreme_of_two(draw, rng, name):
    x, y = draw(broadcasting(2))
    both = apart(rng, (math.prod(x) + math.prod(y),))
    return case(both[: math.prod(x)].reshape(x), both[math.prod(x) :].reshape(y))


@cases_of("clip")
def _clipped(draw, rng, name):
    x, low, high = draw(broadcasting(3))
    given = draw(st.sampled_from(["both", "low", "high", "numbers"]))
    if given == "numbers":
        low = high = ()
    ends = itertools.accumulate(math.prod(shape) for shape in (x, low, high))
    parts = np.split(apart(rng, (math.prod(x) + math.prod(low) + math.prod(high),)), list(ends)[:-1])
    x, low, high = (part.reshape(shape) for part, shape in zip(parts, (x, low, high), strict=True))
    if given == "numbers":
        return case(x, float(low), float(high))
    return case(x, None if given == "high" else low, None if given == "low" else high)


@cases_of("where")
def _chosen(draw, rng, name):
    c, x, y = draw(broadcasting(3))
    condition = rng.random(c) < 0.5
    x, y = numbers(rng, x), numbers(rng, y)
    return case(*draw(st.sampled_from([(condition, x, y), (condition, x, 0.0)])))


# ------------------------------------------------------------------------------------------------ reductions


@cases_of("sum", "logsumexp")
def _sum(draw, rng, name):
    shape = draw(shapes())
    return case(numbers(rng, shape), **draw(reduction(shape)))


@cases_of("mean")
def _mean(draw, rng, name):
    shape = draw(shapes())
    options = draw(reduction(shape))
    assume(reduced(shape, options.get("axis")))
    return case(numbers(rng, shape), **options)


@cases_of("max", "min")
def _extreme(draw, rng, name):
    shape = draw(shapes())
    options = draw(reduction(shape))
    assume(reduced(shape, options.get("axis")))
    return case(apart(rng, shape), **options)


@cases_of("prod")
def _product(draw, rng, name):
    shape = draw(shapes())
    x = off_zero(rng, shape)
    return case(x * (rng.random(shape) < draw(st.sampled_from([1.0, 0.7]))), **draw(reduction(shape)))


@cases_of("var", "std")
def _spread(draw, rng, name):
    shape = draw(shapes())
    options = draw(reduction(shape))
    if draw(st.booleans()):
        options["ddof"] = draw(st.sampled_from([0, 1, 0.5]))
    assume(reduced(shape, options.get("axis")) > options.get("ddof", 0))
    return case(apart(rng, shape), **options)


@cases_of("cumsum")
def _accumulated(draw, rng, name):
    shape = draw(shapes())
    axes = st.none() | axis_of(shape) if shape else st.none()
    return case(numbers(rng, shape), axis=draw(axes))


@cases_of("norm")
def _length(draw, rng, name):
    kind = draw(st.sampled_from(["everything", "vectors", "matrices"]))
    options = {"keepdims": draw(st.booleans())}
    if kind == "everything":
        return case(off_zero(rng, draw(shapes())), **options)
    shape = draw(shapes(axes=(1 if kind == "vectors" else 2, 3)))
    axes = draw(st.permutations(range(len(shape))))
    if kind == "vectors":
        axis, orders = axes[0], [None, 1, 2, 3, 2.5, 0.5, -1, 0, math.inf, -math.inf]
    else:
        axis, orders = tuple(axes[:2]), [None, "fro", 1, -1, math.inf, -math.inf]
    options |= {"ord": draw(st.sampled_from(orders)), "axis": axis}
    assume(reduced(shape, axis) or options["ord"] in (None, "fro"))
    x = rng.choice([-1.0, 1.0], shape) * between(rng, 0.5, 2.0, shape)
    assume(all(_gap(abs(x).sum(a)) > 0.02 for a in range(len(shape))) and _gap(x) > 0.001)
    return case(x, **options)


def _gap(x):
    """How near one another any two numbers of an array are."""
    return np.diff(np.sort(abs(x).ravel()), prepend=-1.0).min(initial=math.inf)


@cases_of("softmax", "log_softmax")
def _scored(draw, rng, name):
    shape = draw(shapes(axes=(1, 3)))
    axis = draw(axis_of(shape))
    assume(shape[axis])
    return case(numbers(rng, shape) + draw(st.sampled_from([0.0, 1e4])), axis=axis)


# ------------------------------------------------------------------------------------------------ shapes


@cases_of("ravel")
def _in_a_line(draw, rng, name):
    return case(numbers(rng, draw(shapes())))


@cases_of("reshape")
def _reshaped(draw, rng, name):
    factors = draw(shapes(axes=(0, 4)))
    cuts = [sorted(draw(st.lists(st.integers(0, len(factors)), max_size=3))) for _ in range(2)]
    before, after = (
        tuple(math.prod(factors[a:b]) for a, b in itertools.pairwise([0, *places, len(factors)])) for places in cuts
    )
    if math.prod(factors) and draw(st.booleans()):
        after = (*after[:-1], -1)
    return case(numbers(rng, before), shape=after[0] if len(after) == 1 and draw(st.booleans()) else after)


@cases_of("transpose")
def _transposed(draw, rng, name):
    shape = draw(shapes())
    return case(numbers(rng, shape), axes=draw(st.none() | several_axes(shape, least=len(shape))))


@cases_of("swapaxes")
def _swapped(draw, rng, name):
    shape = draw(shapes(axes=(1, 3)))
    return case(numbers(rng, shape), axis1=draw(axis_of(shape)), axis2=draw(axis_of(shape)))


@cases_of("moveaxis")
def _moved(draw, rng, name):
    shape = draw(shapes())
    source, destination = draw(several_axes(shape)), draw(several_axes(shape))
    n = min(len(source), len(destination))
    if n == 1 and draw(st.booleans()):
        return case(numbers(rng, shape), source=source[0], destination=destination[0])
    return case(numbers(rng, shape), source=source[:n], destination=list(destination[:n]))


@cases_of("expand_dims")
def _expanded(draw, rng, name):
    shape = draw(shapes(axes=(0, 2)))
    if draw(st.booleans()):
        return case(numbers(rng, shape), axis=draw(axis_of(shape, new=1)))
    places = draw(st.permutations(range(len(shape) + 2)))[:2]
    return case(numbers(rng, shape), axis=tuple(a - (len(shape) + 2) * draw(st.booleans()) for a in places))


@cases_of("squeeze")
def _squeezed(draw, rng, name):
    shape = draw(shapes((1, 3, 0), axes=(0, 4)))
    ones = [a - len(shape) * draw(st.booleans()) for a, n in enumerate(shape) if n == 1]
    return case(numbers(rng, shape), axis=draw(st.sampled_from([None, tuple(ones), *ones])))


@cases_of("broadcast_to")
def _broadcast(draw, rng, name):
    shape, full = draw(broadcasting(2))
    return case(numbers(rng, shape), shape=np.broadcast_shapes(shape, full))


@cases_of("concatenate")
def _joined(draw, rng, name):
    shape = draw(shapes(axes=(1, 3)))
    axis = draw(axis_of(shape))
    lengths = draw(shapes(axes=(1, 4)))
    arrays = [numbers(rng, tuple(n if a == axis % len(shape) else m for a, m in enumerate(shape))) for n in lengths]
    return case(*arrays, axis=draw(st.sampled_from([axis, axis, None])))


@cases_of("stack")
def _stacked(draw, rng, name):
    shape = draw(shapes(axes=(0, 2)))
    n = draw(st.integers(1, 3))
    return case(*(numbers(rng, shape) for _ in range(n)), axis=draw(axis_of(shape, new=1)))


@cases_of("flip")
def _flipped(draw, rng, name):
    shape = draw(shapes())
    return case(numbers(rng, shape), axis=draw(any_axes(shape)))


@cases_of("roll")
def _rolled(draw, rng, name):
    shape = draw(shapes())
    axis = draw(any_axes(shape))
    assume(axis != ())  # which NumPy can't roll
    shift = draw(st.integers(-7, 7))
    if isinstance(axis, tuple) and draw(st.booleans()):
        shift = tuple(int(n) for n in rng.integers(-7, 8, len(axis)))
    return case(numbers(rng, shape), shift=shift, axis=axis)


@cases_of("pad")
def _padded(draw, rng, name):
    shape = draw(shapes())
    width = st.integers(0, 3)
    pairs = st.lists(st.tuples(width, width), min_size=len(shape), max_size=len(shape))
    choices = st.one_of(width, st.tuples(width, width), *([pairs] if shape else []))
    return case(numbers(rng, shape), pad_width=draw(choices), constant_values=draw(st.sampled_from([0, 0.7, -2])))


@cases_of("tile")
def _tiled(draw, rng, name):
    shape = draw(shapes())
    return case(numbers(rng, shape), reps=draw(st.integers(0, 3) | shapes((2, 1, 0)) | shapes((3, 1)).map(list)))


@cases_of("tril", "triu")
def _triangular(draw, rng, name):
    return case(numbers(rng, draw(shapes(axes=(1, 3)))), k=draw(st.integers(-4, 4)))


# ------------------------------------------------------------------------------------------------ selection


@st.composite
def keys(draw, shape):
    """What may stand in x[...]."""
    if draw(st.integers(0, 4)) == 0:
        return np.asarray(draw(st.sampled_from([True, False]))) if not shape else _mask(draw, shape)
    parts = []
    together = draw(shapes(axes=(0, 2)))  # the shape of what integer arrays there are
    for n in shape[: draw(st.integers(0, len(shape)))]:
        kind = draw(st.sampled_from(["slice", "integer", "array", "mask"] if n else ["slice"]))
        if kind == "slice":
            parts.append(draw(st.slices(n)))
        elif kind == "integer":
            parts.append(draw(st.integers(-n, n - 1)))
        elif kind == "array":
            length = math.prod(together)
            places = draw(st.lists(st.integers(-n, n - 1), min_size=length, max_size=length))
            parts.append(np.array(places, int).reshape(together))
        else:
            parts.append(slice(None) if together else np.arange(n) % 2 == 0)
            if not together:
                assume(sum(isinstance(part, np.ndarray) and part.dtype == bool for part in parts) == 1)
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), None)
    if draw(st.booleans()):
        parts.append(Ellipsis)
    return tuple(parts) if len(parts) != 1 or draw(st.booleans()) else parts[0]


def _mask(draw, shape):
    seed = draw(st.integers(0, 99))
    return np.random.default_rng(seed).random(shape[: draw(st.integers(1, len(shape)))]) < 0.5


@cases_of("index")
def _indexed(draw, rng, name):
    shape = draw(shapes())
    return case(numbers(rng, shape), key=draw(keys(shape)))


@cases_of("scatter")
def _scattered(draw, rng, name):
    shape = draw(shapes())
    key = draw(keys(shape))
    return case(numbers(rng, np.shape(np.zeros(shape)[key])), key=key, shape=shape)


@cases_of("embedding")
def _embedded(draw, rng, name):
    vocab_size, d_model = draw(st.integers(1, 7)), draw(st.sampled_from(LENGTHS))
    ids = rng.integers(vocab_size, size=draw(shapes()), dtype=draw(st.sampled_from([np.int64, np.uint8, np.int16])))
    return case(numbers(rng, (vocab_size, d_model)), ids)


@cases_of("take")
def _taken(draw, rng, name):
    shape = draw(shapes(NOT_EMPTY))
    axis = draw(st.none() | axis_of(shape)) if shape else None
    n = reduced(shape, axis)
    places = rng.integers(-n, n, size=draw(shapes(axes=(0, 2))))
    return case(numbers(rng, shape), indices=draw(st.sampled_from([places, places.tolist()])), axis=axis)


@cases_of("take_along_axis")
def _taken_along(draw, rng, name):
    shape = draw(shapes(NOT_EMPTY, axes=(1, 3)))
    axis = draw(st.none() | axis_of(shape))
    n = reduced(shape, axis)
    if axis is None:
        return case(numbers(rng, shape), indices=rng.integers(-n, n, draw(st.integers(0, 7))), axis=None)
    lengths = list(shape) if draw(st.booleans()) else [1] * len(shape)
    lengths[axis] = draw(st.sampled_from(LENGTHS))
    return case(numbers(rng, shape), indices=rng.integers(-n, n, lengths), axis=axis)


@cases_of("sort")
def _sorted(draw, rng, name):
    shape = draw(shapes(axes=(1, 3)))
    return case(apart(rng, shape), axis=draw(st.none() | axis_of(shape)))


@cases_of("repeat")
def _repeated(draw, rng, name):
    shape = draw(shapes())
    axis = draw(st.none() | axis_of(shape)) if shape else None
    each = [int(n) for n in rng.integers(0, 4, reduced(shape, axis))]
    return case(numbers(rng, shape), repeats=draw(st.sampled_from([2, 0, 1, each])), axis=axis)


@cases_of("diagonal")
def _on_the_diagonal(draw, rng, name):
    shape = draw(shapes(axes=(2, 3)))
    axis1, axis2 = draw(st.permutations(range(len(shape))))[:2]
    return case(numbers(rng, shape), offset=draw(st.integers(-3, 3)), axis1=axis1, axis2=axis2 - len(shape))


# ------------------------------------------------------------------------------------------------ products


@cases_of("matmul")
def _factors(draw, rng, name):
    n, k, m = (draw(st.sampled_from(LENGTHS)) for _ in range(3))
    left, right = draw(broadcasting(2, axes=(0, 2)))
    x = draw(st.sampled_from([(*left, n, k), (n, k), (k,)]))
    y = draw(st.sampled_from([(*right, k, m), (k, m), (k,)]))
    return case(numbers(rng, x), numbers(rng, y))


@cases_of("linear")
def _weighted(draw, rng, name):
    d_in, d_out = (draw(st.sampled_from(LENGTHS)) for _ in range(2))
    bias = numbers(rng, (d_out,)) if draw(st.booleans()) else None
    return case(numbers(rng, (*draw(shapes(axes=(0, 2))), d_in)), numbers(rng, (d_in, d_out)), bias)


@cases_of("dot")
def _dotted(draw, rng, name):
    k = draw(st.sampled_from(LENGTHS))
    x = draw(st.just(()) | shapes(axes=(0, 2)).map(lambda lead: (*lead, k)))
    y = draw(st.just(()) | st.just((k,)) | shapes(axes=(1, 2)).map(lambda rest: (*rest[:-1], k, rest[-1])))
    return case(numbers(rng, x), numbers(rng, y))


@cases_of("outer")
def _every_pair(draw, rng, name):
    return case(*(numbers(rng, draw(shapes(axes=(0, 2)))) for _ in range(2)))


@cases_of("tensordot")
def _contracted(draw, rng, name):
    shared, left, right = (draw(shapes(axes=(0, 2))) for _ in range(3))
    n = len(shared)
    if draw(st.booleans()):
        return case(numbers(rng, left + shared), numbers(rng, shared + right), axes=n)
    x, y = left + shared, right + shared
    of_x, of_y = (draw(st.permutations(range(len(shape)))) for shape in (x, y))
    x, y = numbers(rng, x).transpose(of_x), numbers(rng, y).transpose(of_y)
    axes = [[of_x.index(len(left) + i) for i in range(n)], [of_y.index(len(right) + i) for i in range(n)]]
    if n == 1 and draw(st.booleans()):
        axes = [axes[0][0] - x.ndim, axes[1][0]]
    return case(x, y, axes=tuple(axes))


@cases_of("einsum")
def _summed_by_letters(draw, rng, name):
    lengths = {letter: draw(st.sampled_from(LENGTHS)) for letter in "ijkl"}
    dots = draw(st.sampled_from([None, (), (3,), (2, 3)]))
    terms, operands = [], []
    for _ in range(draw(st.integers(1, 3))):
        term = "".join(draw(st.lists(st.sampled_from("ijkl"), max_size=3)))
        shape = tuple(lengths[letter] for letter in term)
        if dots is not None and draw(st.booleans()):
            at = draw(st.integers(0, len(term)))
            lead = dots[draw(st.integers(0, len(dots))) :]
            term, shape = f"{term[:at]}...{term[at:]}", shape[:at] + lead + shape[at:]
        terms.append(term)
        operands.append(numbers(rng, shape))
    subscripts = ",".join(terms)
    if draw(st.booleans()):
        known = sorted(set(subscripts) - set(".,"))
        out = "".join(draw(st.permutations(known))[: draw(st.integers(0, len(known)))])
        subscripts += "->" + ("..." if "..." in subscripts else "") + out
    return case(*operands, subscripts=subscripts, optimize=draw(st.booleans()))


# ------------------------------------------------------------------------------------------------ networks


@cases_of("layer_norm", "rms_norm")
def _normed(draw, rng, name):
    d = draw(st.sampled_from(NOT_EMPTY))
    x = (apart if name == "layer_norm" else off_zero)(rng, (*draw(shapes(axes=(0, 2))), d))
    parameters = [draw(st.sampled_from([numbers(rng, (d,)), None])) for _ in range(2 if name == "layer_norm" else 1)]
    return case(x, *parameters, **draw(st.sampled_from([{}, {"eps": 0.1}, {"eps": 1e-3}])))


@cases_of("cross_entropy")
def _classified(draw, rng, name):
    shape = (*draw(shapes(axes=(0, 2))), draw(st.sampled_from(NOT_EMPTY)))
    options = {
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.2, 1.0])),
    }
    if draw(st.booleans()):
        return case(numbers(rng, shape), between(rng, 0.1, 1.0, shape), **options)
    targets = rng.integers(shape[-1], size=shape[:-1])
    return case(numbers(rng, shape), targets, ignore_index=draw(st.sampled_from([None, 0, -100])), **options)


@cases_of("binary_cross_entropy_with_logits")
def _answered(draw, rng, name):
    shape = draw(shapes())
    targets = draw(st.sampled_from([between(rng, 0.1, 0.9, shape), rng.integers(2, size=shape)]))
    weights = [None, np.array(1.7), between(rng, 0.5, 2.0, shape[1:] or shape)]
    reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    return case(numbers(rng, shape), targets, draw(st.sampled_from(weights)), reduction=reduction)


@cases_of("mse_loss")
def _predicted(draw, rng, name):
    shape = draw(shapes())
    reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    return case(numbers(rng, shape), numbers(rng, shape), reduction=reduction)


@cases_of("dropout")
def _dropped(draw, rng, name):
    x, keep = draw(broadcasting(2))
    x = np.broadcast_shapes(x, keep)
    return case(numbers(rng, x), rng.random(keep) < 0.5, p=draw(st.sampled_from([0.5, 0.1, 1.0])))


@cases_of("rope")
def _turned(draw, rng, name):
    lead, n = draw(shapes(axes=(0, 2))), draw(st.sampled_from(LENGTHS))
    positions = draw(st.sampled_from([None, rng.integers(50, size=n), rng.uniform(0, 9, size=(*lead, n))]))
    options = {"base": draw(st.sampled_from([10000.0, 7.0])), "interleaved": draw(st.booleans())}
    return case(numbers(rng, (*lead, n, 2 * draw(st.sampled_from(NOT_EMPTY)))), positions=positions, **options)


@cases_of("multi_head_attention")
def _projected(draw, rng, name):
    n_heads, share = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2]))
    d_k, d_v, d_model, d_source, d_output = (draw(st.sampled_from(NOT_EMPTY)) for _ in range(5))
    lead, n_queries, n_keys = draw(shapes(axes=(0, 2))), draw(st.sampled_from(LENGTHS)), draw(st.sampled_from(LENGTHS))
    query, key, value = numbers(rng, (*lead, n_queries, d_model)), None, None
    widths = [d_model] * 3
    if draw(st.booleans()):
        key, widths[1:] = numbers(rng, (*draw(st.sampled_from([lead, ()])), n_keys, d_source)), [d_source] * 2
        if draw(st.booleans()):
            value, widths[2] = numbers(rng, (*lead, n_keys, d_output)), d_output
    else:
        n_keys = n_queries
    columns = n_heads * share * d_k, n_heads * d_k, n_heads * d_v
    weights = [numbers(rng, shape) for shape in zip(widths, columns, strict=True)]
    weights.append(numbers(rng, (n_heads * share * d_v, d_output)))
    biases = [numbers(rng, w.shape[1:]) if draw(st.booleans()) else None for w in weights]
    bias = numbers(rng, (n_queries, n_keys)) if draw(st.booleans()) else None
    sinks = numbers(rng, (n_heads * share,)) if draw(st.booleans()) else None
    options = {"causal": draw(st.booleans()), "scale": 0.3, "softcap": draw(st.sampled_from([None, 1.5]))}
    options |= {"window": draw(st.sampled_from([None, (1, 2)])), "mask": None}
    if draw(st.booleans()):
        options["mask"] = np.asarray(rng.random((n_queries, n_keys)) < 0.6)
    return case(query, *weights, *biases, key, value, bias, sinks, n_heads=n_heads * share, **options)


@cases_of("attention", "attention_weights")
def _attended(draw, rng, name):
    n_queries, n_keys, d_k, d_v = (draw(st.sampled_from(LENGTHS)) for _ in range(4))
    of_query, of_key, of_value, of_bias, of_mask = draw(broadcasting(5, axes=(0, 2)))
    if draw(st.booleans()):  # heads that share keys
        n_shared, share = draw(st.sampled_from([2, 3])), draw(st.sampled_from([1, 2]))
        of_query, of_key, of_value = (n_shared * share,), (n_shared,), (n_shared,)
        of_bias, of_mask = ((*draw(st.sampled_from([(), (1,), of_query])),) for _ in range(2))
    pairs = [(n_queries, n_keys), (n_queries, 1), (1, n_keys), (n_keys,), ()]
    query, key = numbers(rng, (*of_query, n_queries, d_k)), numbers(rng, (*of_key, n_keys, d_k))
    value = [numbers(rng, (*of_value, n_keys, d_v))] if name == "attention" else []
    bias = mask = sinks = None
    if draw(st.booleans()):
        pair = draw(st.sampled_from(pairs))
        bias = numbers(rng, (*of_bias, *pair) if len(pair) == 2 else pair)
    if draw(st.booleans()):
        pair = draw(st.sampled_from(pairs))
        mask = np.asarray(rng.random((*of_mask, *pair) if len(pair) == 2 else pair) < 0.6)
    if draw(st.booleans()):
        sinks = np.asarray(numbers(rng, of_query[-1:]))
    options = {
        "mask": mask,
        "causal": draw(st.booleans()),
        "scale": draw(st.sampled_from([None, 0.3])),
        "window": draw(st.sampled_from([None, (1, 2), (None, 1), (0, None)])),
        "softcap": draw(st.sampled_from([None, 1.5])),
    }
    return case(query, key, *value, bias, sinks, **options)
