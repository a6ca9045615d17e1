"""A second opinion: PyTorch on the gallery's samples, and on cases where a derivative has no one value.

Where the two differ on purpose, it's our value that is asserted, and the docstring that tells of it is named.
"""

import itertools
import math
import warnings

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.engine import lift
from tinyattn.gallery import SAMPLES
from tinyattn.rules import RULES
from tinyattn.rules.dropout import kept
from tinyattn.rules.registry import parameters

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what PyTorch says of the machine while it's imported
    torch = pytest.importorskip("torch")
F = torch.nn.functional


# ------------------------------------------------------------------------------------------- PyTorch's functions


def of_axes(function, x, axis=None, keepdims=False, **options):
    """A reduction; None and () mean different things to PyTorch's several reductions, so that axes are told."""
    axes = tuple(range(x.ndim)) if axis is None else axis
    return function(x, dim=axes, keepdim=keepdims, **options)


def matrix(x):
    """What NumPy's tril and triu make of a vector."""
    return x if x.ndim > 1 else x.expand(len(x), len(x))


def prod(x, axis=None, keepdims=False):
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for a in sorted((a % x.ndim for a in axes), reverse=True):
        x = x.prod(dim=a, keepdim=keepdims)
    return x


def norm(x, ord=None, axis=None, keepdims=False):
    axes = tuple(range(x.ndim)) if axis is None else axis
    if isinstance(axis, tuple) and len(axis) == 2 and ord is not None:
        return torch.linalg.matrix_norm(x, ord, dim=axis, keepdim=keepdims)
    return torch.linalg.vector_norm(x, 2 if ord is None else ord, dim=axes, keepdim=keepdims)


def in_a_line(function):
    """A function along an axis that knows None."""

    def along(x, *args, axis=None, **options):
        return function(x.reshape(-1) if axis is None else x, *args, dim=axis or 0, **options)

    return along


def places(shape, key):
    return torch.as_tensor(np.array(np.arange(math.prod(shape)).reshape(shape)[key]))


def scatter(x, *, key, shape):
    flat = torch.zeros(math.prod(shape), dtype=x.dtype)
    return flat.index_add(0, places(shape, key).reshape(-1), x.reshape(-1)).reshape(shape)


def expand_dims(x, axis):
    axes = axis if isinstance(axis, tuple) else (axis,)
    for a in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(a)
    return x


def pad(x, pad_width, constant_values=0):
    widths = np.broadcast_to(pad_width, (x.ndim, 2))[::-1].ravel()  # PyTorch begins with the last axis
    return F.pad(x, widths.tolist(), value=constant_values)


def take(x, indices, axis=None):
    if axis is None:
        x, axis = x.reshape(-1), 0
    return x.movedim(axis, 0)[indices].movedim(
        tuple(range(np.ndim(indices))), tuple(axis % x.ndim + i for i in range(np.ndim(indices)))
    )


def take_along_axis(x, indices, axis=-1):
    n = x.numel() if axis is None else x.shape[axis]
    return torch.take_along_dim(x, torch.as_tensor(indices % n), axis)


def cross_entropy(scores, targets, reduction="mean", ignore_index=None, label_smoothing=0.0):
    targets = torch.as_tensor(targets)
    ignored = -100 if ignore_index is None else int(ignore_index)
    rows, n_classes = scores.reshape(-1, scores.shape[-1]), scores.shape[-1]
    classes = targets.reshape(-1, n_classes) if targets.shape == scores.shape else targets.reshape(-1)
    losses = F.cross_entropy(rows, classes, reduction=reduction, ignore_index=ignored, label_smoothing=label_smoothing)
    return losses.reshape(scores.shape[:-1]) if reduction == "none" else losses


def binary_cross_entropy_with_logits(scores, targets, pos_weight=None, reduction="mean"):
    """PyTorch's has no derivative in the weight, and none of second order in the targets: their formula instead."""
    targets, weight = targets.to(scores.dtype), torch.tensor(1.0) if pos_weight is None else pos_weight
    losses = -weight * targets * F.logsigmoid(scores) - (1.0 - targets) * F.logsigmoid(-scores)
    return {"mean": losses.mean, "sum": losses.sum, "none": lambda: losses}[reduction]()


BENDS = {"gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "tanh": torch.tanh, "sigmoid": torch.sigmoid}


def linear(x, weight, bias=None, activation=None):
    made = F.linear(x, weight.T, bias)
    return made if activation is None else BENDS.get(activation, getattr(F, activation))(made)


def attention(query, key, value, bias=None, sinks=None, *, window=None, softcap=None, dropped=None, **options):
    """Theirs, as far as it goes: it has no windows, caps and sinks, and drops what it likes."""
    if window is None and softcap is None and sinks is None and dropped is None:
        extra, _ = added(query, key, bias, **{name: options.get(name) for name in ("mask", "causal")})
        key, value = repeated(key, query), repeated(value, query)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=extra, scale=options.get("scale"))
    weights = attention_weights(query, key, bias, sinks, window=window, softcap=softcap, **options)
    if dropped is not None:
        weights = weights * torch.as_tensor(np.asarray(kept(dropped))) / (1 - dropped[2])
    return weights @ repeated(value, query)


def attention_weights(
    query, key, bias=None, sinks=None, *, mask=None, causal=False, scale=None, window=None, softcap=None
):
    extra, allowed = added(query, key, bias, mask, causal, window)
    scale = max(query.shape[-1], 1) ** -0.5 if scale is None else scale
    scores = query @ repeated(key, query).swapaxes(-1, -2) * scale
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    some = allowed.any(-1, keepdim=True)  # PyTorch's softmax of nothing is NaN
    scores = torch.where(some, scores + torch.where(some, extra, 0.0), 0.0)
    if sinks is not None:
        lead = torch.broadcast_shapes(scores.shape[:-2], sinks.shape)
        scores = scores.expand(*lead, *scores.shape[-2:])
        scores = torch.cat([scores, sinks[..., None, None].expand(*lead, scores.shape[-2], 1)], -1)
    weights = torch.softmax(scores, -1)
    return torch.where(allowed, weights if sinks is None else weights[..., :-1], 0.0)


def added(query, key, bias, mask, causal, window=None):
    """Bias, mask, causality and window as one array to add."""
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    left, right = window or (None, None)
    right = 0 if causal else right
    off = torch.arange(n_keys) - torch.arange(n_queries)[:, None] - (n_keys - n_queries)
    allowed = (off >= (-math.inf if left is None else -left)) & (off <= (math.inf if right is None else right))
    if mask is not None:
        allowed = allowed & torch.as_tensor(mask)
    extra = torch.zeros(n_queries, n_keys, dtype=query.dtype) if bias is None else bias
    return torch.where(allowed, extra, -math.inf), allowed


def repeated(x, query):
    """Keys or values, once for each query head."""
    shared = x.shape[-3] if x.ndim > 2 else 1
    n_heads = query.shape[-3] if query.ndim > 2 else 1
    return x.repeat_interleave(n_heads // shared, dim=-3) if 1 < shared < n_heads else x


def rope(x, positions=None, base=10000.0, interleaved=True):
    """Not theirs: written once more, with a matrix for each pair."""
    n, d = x.shape[-2:]
    positions = torch.arange(n) if positions is None else torch.as_tensor(positions)
    angles = positions[..., None].to(x.dtype) * base ** (-2.0 * torch.arange(d // 2, dtype=x.dtype) / d)
    pairs = x.unflatten(-1, (-1, 2)) if interleaved else x.unflatten(-1, (2, -1)).transpose(-1, -2)
    turn = torch.stack([angles.cos(), angles.sin(), -angles.sin(), angles.cos()], -1).unflatten(-1, (2, 2))
    turned = (pairs[..., None, :] @ turn)[..., 0, :]
    return (turned if interleaved else turned.transpose(-1, -2)).flatten(-2)


def multi_head_attention(
    query, w_query, w_key, w_value, w_output, b_query=None, b_key=None, b_value=None, b_output=None,
    key=None, value=None, bias=None, sinks=None, *, n_heads, **options,
):  # fmt: skip
    """On theirs: linear, attention, linear."""
    key = query if key is None else key
    value = key if value is None else value
    n_kv_heads = n_heads * w_key.shape[1] // w_query.shape[1]
    made = [
        F.linear(x, w.T, b).unflatten(-1, (n, w.shape[1] // n)).transpose(-2, -3)
        for x, w, b, n in (
            (query, w_query, b_query, n_heads), (key, w_key, b_key, n_kv_heads), (value, w_value, b_value, n_kv_heads)
        )
    ]  # fmt: skip
    heads = attention(*made, bias, sinks, **options)
    return F.linear(heads.transpose(-2, -3).flatten(-2), w_output.T, b_output)


SAME_NAME = """absolute add subtract multiply divide negative positive sign square sqrt exp exp2 expm1 log log2 log1p
    tanh sin cos erf maximum minimum where sigmoid ravel matmul reshape moveaxis clip
    """.split()
THEIRS = {name: getattr(torch, name) for name in SAME_NAME} | {
    "astype": lambda x, dtype: x.to(torch.float64),
    "attention": attention,
    "attention_weights": attention_weights,
    "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "rope": rope,
    "broadcast_to": lambda x, shape: torch.broadcast_to(x, shape),
    "concatenate": lambda *arrays, axis=0: torch.concatenate(arrays, dim=axis),
    "cross_entropy": cross_entropy,
    "cumsum": in_a_line(torch.cumsum),
    "diagonal": lambda x, offset=0, axis1=0, axis2=1: torch.diagonal(x, offset, axis1, axis2),
    "dot": lambda x, y: x * y if 0 in (x.ndim, y.ndim) else torch.tensordot(x, y, ([-1], [max(y.ndim - 2, 0)])),
    "dropout": lambda x, keep, p: torch.where(keep, x / (1 - p), 0.0),
    "einsum": lambda *operands, subscripts: torch.einsum(subscripts, *operands),
    "embedding": lambda weight, ids: F.embedding(ids, weight),
    "expand_dims": expand_dims,
    "flip": lambda x, axis=None: torch.flip(
        x, tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    ),
    "gelu": F.gelu,
    "index": lambda x, key: x.reshape(-1)[places(x.shape, key)],
    "layer_norm": lambda x, weight=None, bias=None, eps=1e-5: F.layer_norm(x, x.shape[-1:], weight, bias, eps),
    "leaky_relu": F.leaky_relu,
    "linear": linear,
    "multi_head_attention": multi_head_attention,
    "log_softmax": lambda x, axis=-1: torch.log_softmax(x, axis),
    "logsumexp": lambda x, **o: of_axes(torch.logsumexp, x, **o),
    "max": lambda x, **o: of_axes(torch.amax, x, **o),
    "mean": lambda x, **o: of_axes(torch.mean, x, **o),
    "min": lambda x, **o: of_axes(torch.amin, x, **o),
    "mse_loss": F.mse_loss,
    "norm": norm,
    "outer": lambda x, y: torch.outer(x.reshape(-1), y.reshape(-1)),
    "pad": pad,
    "power": torch.pow,
    "prod": prod,
    "relu": torch.relu,
    "repeat": in_a_line(lambda x, dim, repeats: torch.repeat_interleave(x, torch.as_tensor(repeats), dim)),
    "rms_norm": lambda x, weight=None, eps=1e-5: F.rms_norm(x, x.shape[-1:], weight, eps),
    "roll": lambda x, shift, axis=None: torch.roll(x, shift, axis),
    "scatter": scatter,
    "silu": F.silu,
    "softmax": lambda x, axis=-1: torch.softmax(x, axis),
    "softplus": lambda x, beta=1.0: F.softplus(x, beta, threshold=700),
    "sort": lambda x, axis=-1: torch.sort(x.reshape(-1) if axis is None else x, stable=True, dim=axis or 0)[0],
    "squeeze": lambda x, axis=None: torch.squeeze(x) if axis is None else torch.squeeze(x, axis),
    "stack": lambda *arrays, axis=0: torch.stack(arrays, axis),
    "std": lambda x, ddof=0, **o: of_axes(torch.std, x, correction=ddof, **o),
    "sum": lambda x, **o: of_axes(torch.sum, x, **o),
    "swapaxes": lambda x, axis1, axis2: torch.swapaxes(x, axis1, axis2),
    "take": take,
    "take_along_axis": take_along_axis,
    "tensordot": lambda x, y, axes=2: torch.tensordot(
        x, y, axes if isinstance(axes, int) else [[a] if isinstance(a, int) else list(a) for a in axes]
    ),
    "tile": lambda x, reps: torch.tile(x, reps if isinstance(reps, tuple) else (reps,)),
    "tril": lambda x, k=0: torch.tril(matrix(x), k),
    "triu": lambda x, k=0: torch.triu(matrix(x), k),
    "transpose": lambda x, axes=None: x.permute(axes or tuple(range(x.ndim))[::-1]),
    "var": lambda x, ddof=0, **o: of_axes(torch.var, x, correction=ddof, **o),
}


def test_there_is_a_second_opinion_on_every_rule():
    assert set(THEIRS) == set(SAMPLES)


# ------------------------------------------------------------------------------------------- side by side


def is_floating(x):
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def ours(name, arrays, options, cotangent, directions=None):
    """The value, the gradients, and those of Σ gradient · direction, each as an array."""
    inputs = [ta.tensor(x, requires_grad=True) if is_floating(x) else x for x in arrays]
    leaves = [x for x in inputs if isinstance(x, ta.Tensor)]
    output = lift(RULES[name])(*([inputs] if parameters(RULES[name]).variadic else inputs), **options)
    output.backward(cotangent, create_graph=directions is not None)
    first = [x.grad for x in leaves]
    second = []
    if directions is not None:
        slope = sum((g * d).sum() for g, d in zip(first, directions, strict=True))
        for x in leaves:
            x.zero_grad()
        if slope.requires_grad:
            slope.backward()
        second = [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in leaves]
    return [output.numpy()], [g.numpy() for g in first], second


def theirs(name, arrays, options, cotangent, directions=None):
    inputs = [torch.as_tensor(x.copy()) if isinstance(x, np.ndarray) else x for x in arrays]
    leaves = [x.requires_grad_() for x, given in zip(inputs, arrays, strict=True) if is_floating(given)]
    output = THEIRS[name](*inputs, **options)
    cotangent = torch.as_tensor(cotangent)
    deep = directions is not None
    first = torch.autograd.grad(output, leaves, cotangent, create_graph=deep, allow_unused=True, materialize_grads=True)
    second = []
    if deep:
        slope = sum((g * torch.as_tensor(d)).sum() for g, d in zip(first, directions, strict=True))
        second = [torch.zeros_like(x) for x in leaves]
        if slope.requires_grad:
            second = torch.autograd.grad(slope, leaves, allow_unused=True, materialize_grads=True)
    return tuple([g.detach().numpy(force=True) for g in group] for group in ([output], first, second))


def agree(name, arrays, options, *, deep=True):
    rng = np.random.default_rng(0)
    shape = np.shape(RULES[name](*arrays, **options)[0])
    cotangent = np.asarray(rng.normal(size=shape))
    directions = [np.asarray(rng.normal(size=x.shape)) for x in arrays if is_floating(x)] if deep else None
    found, expected = (side(name, arrays, options, cotangent, directions) for side in (ours, theirs))
    for mine, other in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
        assert mine.shape == other.shape
        largest = abs(mine[np.isfinite(mine)]).max(initial=1.0)
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-12 * largest)


# ∂²(b^e)/∂b∂e is 1/b at e = 0, as differences say in tests/rules/test_rules.py; PyTorch cuts it off there.
SHALLOW = {("power", "an exponent among zeros")}


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_value_gradient_and_second_derivative_on_the_gallerys_samples(name):
    for sample in SAMPLES[name](np.random.default_rng(0)):
        agree(name, sample.arrays, dict(sample.options), deep=(name, sample.about) not in SHALLOW)


# ------------------------------------------------------------------------------------------- odd cases

INF, NAN = math.inf, math.nan
FAR = np.array([-1e4, -800.0, -40.0, 0.0, 40.0, 800.0, 1e4])
ENDS = np.array([-INF, INF, NAN])
ZEROS = np.array([-0.0, 0.0])
TIES = np.array([[3.0, 1.0, 3.0], [2.0, 2.0, 2.0], [NAN, 1.0, 2.0], [INF, INF, 0.0]])
PAIR = np.array([0.0, 3.0, 0.0])
OUT = np.array([[-INF, 0.0, 1.0]])  # a class that can't be
ONES = np.ones(3)
REDUCTIONS = ("mean", "sum", "none")


def scores_of_attention(size=1.0):
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 3)) * size, rng.normal(size=(4, 3)) * size, rng.normal(size=(4, 5))


def odd_attention():
    query, key, value = scores_of_attention()
    nothing, all_or_nothing = np.zeros((2, 4), bool), np.array([[False] * 4, [True] * 4])
    yield (*scores_of_attention(1e4), None, None), {}
    yield (query, key, value, None, None), {"mask": nothing}
    yield (query, key, value, None, None), {"mask": all_or_nothing}
    yield (query, key, value, None, None), {"mask": all_or_nothing, "causal": True}
    yield (query, key, value, np.array([[-INF, 0.0, 1e4, 0.0], [0.0, -INF, -1e4, 0.0]]), None), {}
    yield (query[:0], key, value, None, None), {}
    yield (query, key[:0], value[:0], None, None), {}
    yield (query, key, value[:, :0], None, None), {}
    yield (query[:, :0], key[:, :0], value, None, None), {}


def odd_cases():
    """name, arrays, options: zeros, ties, infinities, NaN, nothing, numbers far from zero."""
    bent = "absolute sign leaky_relu silu sigmoid tanh softplus square exp exp2 expm1 sin positive negative"
    for name in bent.split():
        yield from ((name, (x,), {}) for x in (FAR, ENDS[:2], ZEROS, np.zeros((0, 3))))
    yield from ((name, (x,), {}) for name in ("relu", "gelu", "erf") for x in (FAR, ZEROS, np.zeros((0, 3))))
    yield "gelu", (FAR,), {"approximate": "tanh"}
    for name in ("sqrt", "log", "log2", "log1p"):
        yield from ((name, (x,), {}) for x in (np.array([0.0, INF]), np.array([-2.0, NAN, -1.0])))
    for name in ("maximum", "minimum"):
        yield name, (np.array([1.0, 2.0, INF]), np.array([1.0, 3.0, INF])), {}
    yield "clip", (np.array([0.0, 1.0, 2.0, INF, -INF]), np.array(0.0), np.array(1.0)), {}
    yield "clip", (np.array([0.0, 1.0, 2.0]), np.array(2.0), np.array(1.0)), {}
    yield "divide", (np.array([0.0, 1.0, 1.0, INF]), np.array([0.0, 0.0, INF, INF])), {}
    yield "multiply", (np.array([0.0, INF]), np.array([INF, 0.0])), {}
    yield from (("power", (np.array([0.0, 4.0, -2.0]), exponent), {}) for exponent in (0, 1, 2, 3, 0.5))
    yield "where", (np.array([True, False]), np.array([1.0, NAN]), np.array([NAN, 2.0])), {}
    for name in ("max", "min"):
        yield from ((name, (TIES,), {"axis": 1}), (name, (TIES[:2],), {}))
    yield from (("sort", (x,), {}) for x in (TIES, np.zeros((2, 0))))
    yield from (("norm", (PAIR,), {"ord": p}) for p in (0.5, 1, 3, -1, -INF, 0))
    yield "norm", (np.array([0.0, 3.0, -3.0]),), {"ord": INF}
    yield "norm", (np.zeros((2, 3)),), {"ord": 1, "axis": (0, 1)}
    yield from (("prod", (np.array(x),), {}) for x in ([0.0, 2.0, 5.0], [0.0, 0.0, 5.0]))
    yield from ((name, (np.zeros((2, 0)),), {"axis": 1}) for name in ("sum", "prod", "cumsum", "logsumexp"))
    yield from ((name, (x,), {}) for name in ("var", "std") for x in (np.ones(1), ONES))
    scores = (FAR, np.array([-INF, -INF]), np.array([-INF, 0.0]), np.array([INF, 0.0]), np.array([NAN, 0.0]))
    yield from ((name, (x,), {}) for name in ("logsumexp", "softmax", "log_softmax") for x in scores)
    yield from ((name, (np.zeros((0, 3)),), {}) for name in ("softmax", "log_softmax"))
    for how in REDUCTIONS:
        yield "cross_entropy", (FAR.reshape(1, -1), np.array([0])), {"reduction": how}
        yield from (("cross_entropy", (OUT, np.array([c])), {"reduction": how}) for c in (0, 1))
        yield "cross_entropy", (OUT, np.array([1])), {"reduction": how, "label_smoothing": 0.1}
        for answers in (FAR > 0, FAR < 0):
            yield "binary_cross_entropy_with_logits", (FAR, answers * 1.0), {"reduction": how}
        yield "mse_loss", (np.array([INF, 0.0]), np.array([0.0, INF])), {"reduction": how}
    for how in REDUCTIONS[1:]:
        yield "cross_entropy", (np.zeros((0, 3)), np.zeros(0, int)), {"reduction": how}
        yield "cross_entropy", (np.ones((2, 3)), np.array([-100, -100])), {"reduction": how, "ignore_index": -100}
        yield from ((n, (ONES[:0],) * 2, {"reduction": how}) for n in ("mse_loss", "binary_cross_entropy_with_logits"))
    for rows in (np.full((2, 3), 7.0), np.zeros((0, 3)), np.array([[1e4, -1e4, 0.0], [1e-8, 0.0, 0.0]]), ENDS):
        yield "layer_norm", (rows, ONES, ONES), {}
        yield "rms_norm", (rows, ONES), {}
    yield "layer_norm", (np.full((2, 1), 7.0), None, None), {}
    yield "matmul", (np.zeros((2, 0)), np.zeros((0, 3))), {}
    yield "linear", (np.zeros((2, 0)), np.zeros((0, 3)), ONES), {}
    yield "linear", (np.zeros((0, 2)), np.ones((2, 3)), ONES), {}
    yield "embedding", (np.ones((2, 3)), np.zeros(0, int)), {}
    yield "einsum", (np.zeros((2, 0)), np.zeros((0, 3))), {"subscripts": "ij,jk->ik"}
    yield "tensordot", (np.zeros((2, 0)), np.zeros((0, 3))), {"axes": 1}
    yield "concatenate", (np.zeros((0, 3)), np.ones((2, 3))), {}
    for (query, key, value, *rest), options in odd_attention():
        yield "attention", (query, key, value, *rest), options
        yield "attention_weights", (query, key, *rest), options


@pytest.mark.parametrize(
    ("name", "arrays", "options"), [pytest.param(*case, id=f"{i}-{case[0]}") for i, case in enumerate(odd_cases())]
)
def test_zeros_ties_infinities_and_nothing(name, arrays, options):
    with np.errstate(all="ignore"):
        agree(name, arrays, options)


# What we have on purpose where PyTorch has something else: name, arrays, options, our value, our first gradient for a
# cotangent of ones, and theirs of each.
ON_PURPOSE = {
    "no gradient goes through a NaN: relu.1 is [x > 0]": (
        "relu", (ENDS,), {}, [0.0, INF, NAN], [0.0, 1.0, 0.0], [0.0, INF, NAN], [0.0, 1.0, 1.0]
    ),
    "nor here: maximum.1 is [x > y] + ½ [x = y]": (
        "maximum", (np.array([NAN]), np.array([1.0])), {}, [NAN], [0.0], [NAN], [1.0]
    ),
    "the sign of NaN is NaN, as NumPy's": ("sign", (np.array([NAN]),), {}, [NAN], [0.0], [0.0], [0.0]),
    "prod.2 divides by nothing": ("prod", (np.array([INF, 2.0]),), {}, INF, [2.0, INF], INF, [NAN, INF]),
    "the mean of no losses is 0": ("mse_loss", (ONES[:0], ONES[:0]), {}, 0.0, [], NAN, []),
    "also of rows ignored": (
        "cross_entropy", (np.ones((1, 3)), np.array([9])), {"ignore_index": 9}, 0.0, [[0.0] * 3], NAN, [[0.0] * 3]
    ),
    "what is ignored may be NaN": (
        "cross_entropy", (np.full((1, 3), NAN), np.array([9])), {"ignore_index": 9, "reduction": "sum"},
        0.0, [[0.0] * 3], 0.0, [[NAN] * 3],
    ),
    "an impossible class that isn't expected costs nothing": (
        "cross_entropy", (np.array([[-INF, 0.0]]), np.array([[0.0, 1.0]])), {}, 0.0, [[0.0, 0.0]], NAN, [[0.0, 0.0]]
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", ON_PURPOSE)
def test_where_we_differ_on_purpose(why):
    name, arrays, options, value, gradient, their_value, their_gradient = ON_PURPOSE[why]
    cotangent = np.ones(np.shape(value))
    with np.errstate(all="ignore"):
        for side, expected in ((ours, (value, gradient)), (theirs, (their_value, their_gradient))):
            found = side(name, arrays, options, cotangent)
            np.testing.assert_allclose(found[0][0], expected[0], atol=1e-15)
            np.testing.assert_allclose(found[1][0], expected[1], atol=1e-15)
