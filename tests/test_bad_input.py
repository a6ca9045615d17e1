"""What every public function says to input that makes no sense: its own name, what was expected, and what came."""

import inspect
import re
import warnings

import numpy as np
import pytest

import tinyattn as ta

A = np.arange(1.0, 7.0).reshape(2, 3)
B, H = np.ones((5, 3)), np.ones((2, 12, 7, 3))
RAGGED = [[1.0], [1.0, 2.0]]
OBJECTS = np.array([1.0, None], dtype=object)
MASKED = np.ma.array([1.0, 2.0], mask=[False, True])
ITSELF = {}
ITSELF["again"] = ITSELF


def leaf(data=A):
    return ta.tensor(data, requires_grad=True)


def square(x):
    return (x * x).sum()


def generator():
    return np.random.default_rng(0)


# ------------------------------------------------------------------------------------------- no arrays at all

NO_ARRAYS = {
    "a string": ("text", TypeError, "needs numbers; got str of dtype <U4"),
    "None": (None, TypeError, r"needs (an array|numbers); got None|must be one array; got NoneType"),
    "objects": (OBJECTS, TypeError, "needs numbers; got ndarray of dtype object"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), TypeError, r"needs numbers; got ndarray of dtype datetime64\[D\]"),
    "records": (np.zeros(2, [("a", float)]), TypeError, r"needs numbers; got ndarray of dtype \[\("),
    "a dict": ({}, TypeError, "needs numbers; got dict of dtype object"),
    "a ragged list": (RAGGED, ValueError, "lists of numbers must be of one length"),
    "a masked array": (MASKED, TypeError, r"can't be a masked array\. Fill it"),
    "a list of tensors": ([leaf(), leaf()], TypeError, r"must be one array: .* tinyattn\.stack or"),
}

ids = np.array([0, 1])
ON_AN_ARRAY = {  # a call for each place that takes an array
    "astype": [lambda x: ta.astype(x, float)],
    "attention": [
        lambda x: ta.attention(x, A, A),
        lambda x: ta.attention(A, x, A),
        lambda x: ta.attention(A, A, x),
    ],
    "multi_head_attention": [
        lambda x: ta.multi_head_attention(x, *[np.eye(3)] * 4, n_heads=1),
        lambda x: ta.multi_head_attention(A, np.eye(3), x, *[np.eye(3)] * 2, n_heads=1),
        lambda x: ta.multi_head_attention(A, *[np.eye(3)] * 3, x, n_heads=1),
    ],
    "attention_choice": [lambda x: ta.attention_choice(x, A, A), lambda x: ta.attention_choice(A, x, A)],
    "additive_attention": [lambda x: ta.additive_attention(A, A, x, A.T, A.T, [1.0, 2.0])],
    "linear_attention": [
        lambda x: ta.linear_attention(x, A, A),
        lambda x: ta.linear_attention(A, x, A),
        lambda x: ta.linear_attention(A, A, x),
    ],
    "multiplicative_attention": [lambda x: ta.multiplicative_attention(A, A, x, np.eye(3))],
    "relative_bias": [lambda x: ta.relative_bias(x, 3)],
    "rope": [lambda x: ta.rope(x)],
    "attention_weights": [lambda x: ta.attention_weights(x, A), lambda x: ta.attention_weights(A, x)],
    "binary_cross_entropy_with_logits": [
        lambda x: ta.binary_cross_entropy_with_logits(x, A),
        lambda x: ta.binary_cross_entropy_with_logits(A, x),
    ],
    "broadcast_to": [lambda x: ta.broadcast_to(x, (2, 3))],
    "clip": [lambda x: ta.clip(x, 0.0, 1.0)],
    "concatenate": [lambda x: ta.concatenate([A, x])],
    "cross_entropy": [lambda x: ta.cross_entropy(x, ids), lambda x: ta.cross_entropy(A, x)],
    "dropout": [lambda x: ta.dropout(x, 0.5, rng=generator()), lambda x: ta.dropout(x, 0.0)],
    "einsum": [lambda x: ta.einsum("i,i", x, [1.0, 2.0]), lambda x: ta.einsum("i,i", [1.0, 2.0], x)],
    "embedding": [lambda x: ta.embedding(x, ids), lambda x: ta.embedding(A, x)],
    "expand_dims": [lambda x: ta.expand_dims(x, 0)],
    "linear": [lambda x: ta.linear(x, A), lambda x: ta.linear(A, x)],
    "moveaxis": [lambda x: ta.moveaxis(x, 0, 1)],
    "pad": [lambda x: ta.pad(x, 1)],
    "repeat": [lambda x: ta.repeat(x, 2)],
    "reshape": [lambda x: ta.reshape(x, -1)],
    "roll": [lambda x: ta.roll(x, 1)],
    "split": [lambda x: ta.split(x, 1)],
    "stack": [lambda x: ta.stack([A, x])],
    "swapaxes": [lambda x: ta.swapaxes(x, 0, 1)],
    "take": [lambda x: ta.take(x, 0)],
    "take_along_axis": [lambda x: ta.take_along_axis(x, ids)],
    "tensor": [lambda x: ta.tensor(x), lambda x: ta.Tensor(x), lambda x: ta.tensor(x, dtype=float)],
    "tile": [lambda x: ta.tile(x, 2)],
    "where": [
        lambda x: ta.where(x, A, A),
        lambda x: ta.where(A > 2, x, A),
        lambda x: ta.where(A > 2, A, x),
    ],
    "norm": [lambda x: ta.linalg.norm(x)],
}
ONE = """absolute cos cumsum diagonal erf exp exp2 expm1 flip gelu layer_norm leaky_relu log log1p log2 log_softmax
    logsumexp max mean min negative positive prod ravel relu rms_norm sigmoid sign silu sin softmax softplus sort sqrt
    square squeeze std sum tanh transpose tril triu var""".split()
TWO = "add divide dot matmul maximum minimum mse_loss multiply outer power subtract tensordot".split()
for name in ONE:
    ON_AN_ARRAY[name] = [getattr(ta, name)]
for name in TWO:
    f = getattr(ta, name)
    ON_AN_ARRAY[name] = [
        lambda x, f=f: f(A, x),
        lambda x, f=f: f(x, A),
        lambda x, f=f: f(leaf(), x),
        lambda x, f=f: f(x, leaf()),
    ]


@pytest.mark.parametrize("what", NO_ARRAYS)
@pytest.mark.parametrize("name", ON_AN_ARRAY)
def test_what_is_no_array_of_numbers(name, what):
    x, kind, message = NO_ARRAYS[what]
    if name == "tensor" and what == "None":
        message = "needs numbers; got NoneType"
    for call in ON_AN_ARRAY[name]:
        with pytest.raises(kind, match=rf"^{name}: .*({message})"):
            call(x)


# ------------------------------------------------------------------------------------------- all that is else

x_12 = [1.0, 2.0]
v_3 = [1.0, 2.0, 3.0]
ERRORS = {
    "add": [
        (lambda: ta.add(A, np.ones((3, 2))), ValueError, r"must broadcast; got .*\. Is one of them transposed\?"),
        (lambda: leaf() + np.ones(2), ValueError, r"got .*float64 \(2,\)\. Is an axis .* \(2,\) \(2, 1\)"),
        (lambda: ta.add(A), TypeError, "'y' is missing"),
        (lambda: ta.add(A, A, A), TypeError, "takes .*; got 3"),
        (lambda: ta.add(A, A, out=A), TypeError, "takes no 'out', but "),
        (lambda: OBJECTS + leaf(x_12), TypeError, "x needs numbers; got ndarray of dtype object"),
    ],
    "astype": [
        (lambda: ta.astype(A, "text"), TypeError, "data type 'text' not understood"),
        (lambda: ta.astype(A, object), TypeError, "dtype must be one of numbers; got object"),
        (lambda: ta.astype(A, str), TypeError, "dtype must be one of numbers; got <U"),
        (lambda: ta.astype(leaf(), complex), TypeError, "gradients need float32 or float64; the output is complex128"),
        (lambda: ta.astype(leaf(), np.float16), TypeError, "need float32 or float64; the output is float16"),
    ],
    "attention": [
        (lambda: ta.attention(A, np.ones((3, 2)), A), ValueError, r"got query \(2, 3\) and key .* Is key transposed\?"),
        (lambda: ta.attention(A, A, np.ones((5, 3))), ValueError, r"share n_keys; got key \(2, 3\) and value \(5, 3\)"),
        (lambda: ta.attention(A[0], A, A), ValueError, "query and key need two axes at least"),
        (lambda: ta.attention(A, A, A, mask=np.eye(2)), TypeError, "mask must be boolean, .*; got float64.* as bias="),
        (lambda: ta.attention(A, A, A, mask="text"), TypeError, "mask must be boolean"),
        (lambda: ta.attention(A, A, A, mask=np.ones(7, bool)), ValueError, r"mask must broadcast .*; got \(7,\)"),
        (lambda: ta.attention(A, A, A, bias=np.ones(7)), ValueError, r"bias must broadcast .*; got \(7,\)"),
        (lambda: ta.attention(A, A, A, bias="text"), TypeError, "bias needs numbers; got str"),
        (lambda: ta.attention(A, A, A, causal="no"), TypeError, "causal must be True or False; got 'no'"),
        (lambda: ta.attention(A, A, A, scale="1"), TypeError, "scale must be a number; got '1'"),
        (lambda: ta.attention(A, A, A, scale=x_12), TypeError, r"scale must be a number; got \[1\.0, 2\.0\]"),
        (lambda: ta.attention(A, A, A, return_weights="no"), TypeError, "return_weights must be True or False"),
        (lambda: ta.attention(A, A, A, mask=leaf()), TypeError, r"mask is an option, .*; pass mask\.detach\(\)"),
        (lambda: ta.attention(A, A, A, mask=[[1, 0]]), TypeError, "got int.* If 1 means may attend, write"),
        (lambda: ta.attention(A, A, A, mask=np.ones((5, 2), bool)), ValueError, r"must broadcast .*; got \(5, 2\)"),
        (lambda: ta.attention(A, B, B, mask=np.ones((2, 2), bool), causal=True), ValueError, "for each of the 5 keys"),
        (lambda: ta.attention(A, A, A, bias=np.eye(2) > 0), TypeError, "can't be boolean. Did you mean mask="),
        (lambda: ta.attention(A, A, A, window=3), TypeError, r"window must be \(left, right\).*; got 3"),
        (lambda: ta.attention(A, A, A, window=(1, 2, 3)), ValueError, r"window must be .*; got \(1, 2, 3\)"),
        (lambda: ta.attention(A, A, A, window=(1.5, 0)), TypeError, r"window must be .*; got \(1\.5, 0\)"),
        (lambda: ta.attention(A, A, A, window=(-1, 0)), ValueError, r"window must be .*; got \(-1, 0\)"),
        (lambda: ta.attention(A, A, A, softcap=0.0), ValueError, "softcap must be greater than 0.*; got 0.0"),
        (lambda: ta.attention(A, A, A, softcap="2"), TypeError, "softcap must be a number; got '2'"),
        (lambda: ta.attention(A, A, A, dropout=1.5), ValueError, "dropout must lie in 0 … 1; got 1.5"),
        (lambda: ta.attention(A, A, A, dropout=0.5), TypeError, "rng must be a .*Generator.*; got NoneType"),
        (lambda: ta.attention(H[:, :6], H[:, :4], H[:, :4]), ValueError, "6 heads can't share the key's 4 evenly"),
        (lambda: ta.attention(H, H, H, sinks=np.ones(5)), ValueError, r"sinks are one number for each head"),
    ],
    "multi_head_attention": [
        (
            lambda: ta.multi_head_attention(A, *[np.eye(3)] * 4, n_heads=2),
            ValueError,
            "n_heads must divide w_query's col",
        ),
        (
            lambda: ta.multi_head_attention(A, *[np.eye(3)] * 4, n_heads=0),
            ValueError,
            "n_heads must be 1 or more; got 0",
        ),
        (lambda: ta.multi_head_attention(A, *[np.eye(3)] * 4, n_heads=1.5), TypeError, "n_heads must be whole"),
        (
            lambda: ta.multi_head_attention(A[0], *[np.eye(3)] * 4, n_heads=1),
            ValueError,
            r"query must be \(\.\.\., length",
        ),
        (
            lambda: ta.multi_head_attention(A, *[np.eye(2)] * 4, n_heads=1),
            ValueError,
            r"x \(\.\.\., d_in\) needs weight",
        ),
        (lambda: ta.multi_head_attention(A, v_3, *[np.eye(3)] * 3, n_heads=1), ValueError, "w_query must be .*; got"),
        (
            lambda: ta.multi_head_attention(A, np.eye(3), np.ones((3, 2)), *[np.eye(3)] * 2, n_heads=1),
            ValueError,
            "w_key needs n_kv_heads d_k columns",
        ),
    ],
    "attention_choice": [
        (lambda: ta.attention_choice(A, B.T, A), ValueError, "query and key must share d_k"),
        (lambda: ta.attention_choice(A, A, A, mask=np.eye(2)), TypeError, "mask must be boolean"),
    ],
    "additive_attention": [
        (lambda: ta.additive_attention(A, A, A, np.eye(2), np.eye(3), v_3), ValueError, r"w_query \(2, 2\)"),
        (lambda: ta.additive_attention(A, A, B, np.eye(3), np.eye(3), v_3), ValueError, r"value \(5, 3\)"),
        (lambda: ta.additive_attention(A, A, A, np.eye(3), np.eye(3), A), ValueError, r"v \(d\); got .* v \(2, 3\)"),
    ],
    "alibi_bias": [
        (lambda: ta.alibi_bias(2.0, 3), TypeError, "n_heads must be a whole number; got 2.0"),
        (lambda: ta.alibi_bias(2, -3), ValueError, "n_queries must be 0 or more; got -3"),
        (lambda: ta.alibi_bias(2, 3, dtype=int), TypeError, "dtype must be float32 or float64; got <class 'int'>"),
    ],
    "linear_attention": [
        (lambda: ta.linear_attention(A, A.T, A), ValueError, r"got query \(2, 3\), key \(3, 2\), value \(2, 3\)"),
        (lambda: ta.linear_attention(A[0], A, A), ValueError, r"expected query \(\.\.\., n_queries, d_k\)"),
        (lambda: ta.linear_attention(A, B, B, causal=True), ValueError, "as many queries as keys; got 2 and 5"),
        (lambda: ta.linear_attention(A, A, A, causal=1), TypeError, "causal must be True or False; got 1"),
    ],
    "multiplicative_attention": [
        (lambda: ta.multiplicative_attention(A, A, A, np.eye(2)), ValueError, r"got query \(2, 3\), .* w \(2, 2\)"),
    ],
    "relative_bias": [
        (lambda: ta.relative_bias(A, 3), ValueError, r"weight must be \(n_buckets, n_heads\), with 4 .*; got \(2, 3\)"),
        (lambda: ta.relative_bias(H[0, :, :, 0], 3, max_distance=3), ValueError, "more than the 3 distances"),
        (lambda: ta.relative_bias(H[0, :, :, 0], 3.5), TypeError, "n_queries must be a whole number; got 3.5"),
        (lambda: ta.relative_bias(H[0, :, :, 0], 3, bidirectional=0), TypeError, "bidirectional must be True or False"),
    ],
    "rope": [
        (lambda: ta.rope(A), ValueError, r"x must be .* with an even d; got \(2, 3\)"),
        (lambda: ta.rope(A.T, positions=[1]), ValueError, r"positions must be .*; got \(1,\)"),
    ],
    "sinusoidal_positions": [
        (lambda: ta.sinusoidal_positions(-1, 4), ValueError, "n must be 0 or more; got -1"),
        (lambda: ta.sinusoidal_positions(3, "4"), TypeError, "d_model must be a whole number; got '4'"),
        (lambda: ta.sinusoidal_positions(3, 4, base=0), ValueError, "base must be greater than 0; got 0"),
    ],
    "doctor": [(lambda: ta.doctor(measure="no"), TypeError, "measure must be True or False; got 'no'")],
    "set_num_threads": [
        (lambda: ta.set_num_threads(0), ValueError, "n must lie in 1 … 64; got 0"),
        (lambda: ta.set_num_threads("all"), TypeError, "n must be a whole number; got 'all'"),
    ],
    "attention_weights": [
        (lambda: ta.attention_weights(A, np.ones((5, 7))), ValueError, r"must share d_k; got query \(2, 3\) and key"),
        (lambda: ta.attention_weights(A, A, mask=1), TypeError, "mask must be boolean"),
        (lambda: ta.attention_weights(A, A, causal=1), TypeError, "causal must be True or False; got 1"),
    ],
    "binary_cross_entropy_with_logits": [
        (lambda: ta.binary_cross_entropy_with_logits(A, A[0]), ValueError, r"one shape; got \(2, 3\) and \(3,\)"),
        (lambda: ta.binary_cross_entropy_with_logits(A, A, np.ones(7)), ValueError, r"pos_weight must broadcast"),
        (lambda: ta.binary_cross_entropy_with_logits(A, A, reduction=None), ValueError, "reduction must be .* None"),
    ],
    "broadcast_to": [
        (lambda: ta.broadcast_to(A, (2, 5)), ValueError, r"\(2, 3\) can't be repeated to fill \(2, 5\)"),
        (lambda: ta.broadcast_to(A, (-1, 2, 3)), ValueError, r"can't be repeated to fill \(-1, 2, 3\)"),
        (lambda: ta.broadcast_to(A, (2.0, 3)), TypeError, r"'float' object .*, shape=\(2\.0, 3\)"),
        (lambda: ta.broadcast_to(A, "text"), TypeError, "'str' .*, shape='text'"),
        (lambda: ta.broadcast_to(leaf(), (2**62, 2, 3)), ValueError, r"too|maximum"),
    ],
    "checkpoint": [
        (lambda: ta.checkpoint(3), TypeError, "needs a function or a module; got int"),
        (lambda: ta.checkpoint(lambda x: None)(leaf()), TypeError, "must give a Tensor, .*; got NoneType"),
        (lambda: ta.checkpoint(lambda x: (x, 1.0))(leaf()), TypeError, "must give a Tensor, .*; got tuple"),
        (lambda: ta.checkpoint(square, rngs=generator()), TypeError, "rngs must be a list of numpy.random.Generators"),
        (lambda: ta.checkpoint(square, rngs=[3]), TypeError, r"rngs must be a list .*; got \[3\]"),
    ],
    "clip": [
        (lambda: ta.clip(A, "0", 1.0), TypeError, "min needs numbers; got str"),
        (lambda: ta.clip(A, 0.0, np.ones(5)), ValueError, r"shapes must broadcast; got .*float64 \(5,\)"),
    ],
    "compile": [
        (lambda: ta.compile(3), TypeError, "needs a function; got int"),
        (lambda: ta.compile(lambda: 1.0)(), ta.CompileError, "must give a Tensor that requires a gradient.*; got 1.0"),
        (lambda: ta.compile(square)(leaf(), n=3), TypeError, "arguments are given by place, without names; got n="),
        (lambda: ta.compile(square)({}), TypeError, "compile: an argument needs numbers; got dict"),
        (lambda: ta.compile(square).source, ta.CompileError, "there is no program yet; call the function first"),
    ],
    "concatenate": [
        (lambda: ta.concatenate([]), ValueError, "needs one at least; got none"),
        (lambda: ta.concatenate(None), TypeError, r"needs a list of arrays; got NoneType"),
        (lambda: ta.concatenate(3.0), TypeError, r"needs a list of arrays; got float\. Are \[ \] missing\?"),
        (lambda: ta.concatenate("ab"), TypeError, "needs a list of arrays; got str"),
        (lambda: ta.concatenate({"a": A}), TypeError, "needs a list of arrays; got dict"),
        (lambda: ta.concatenate([1.0, 2.0]), ValueError, r"need an axis .*; got \(\), \(\)\. .* use stack"),
        (lambda: ta.concatenate([A, A[0]]), ValueError, r"the same but for axis 0; got \(2, 3\), \(3,\)"),
        (lambda: ta.concatenate([A, np.ones((5, 3))], 1), ValueError, r"but for axis 1; got \(2, 3\), \(5, 3\)"),
        (lambda: ta.concatenate([A, A], axis=2), ValueError, "there is no axis 2"),
        (lambda: ta.concatenate([A, A], axis="0"), TypeError, "axis must be a whole number, .*; got '0'"),
    ],
    "cross_entropy": [
        (lambda: ta.cross_entropy(A, [0, 9]), ValueError, r"targets must lie in 0 … 2; got 0 … 9"),
        (lambda: ta.cross_entropy(A, [0, -100]), ValueError, r"targets must lie in 0 … 2; got -100 … 0"),
        (lambda: ta.cross_entropy(A, [0.0, 1.0]), TypeError, "classes must be integers; got float64"),
        (lambda: ta.cross_entropy(A, [True, False]), TypeError, "classes must be integers; got bool"),
        (lambda: ta.cross_entropy(A, [0, 1, 2, 0]), ValueError, r"got scores \(2, 3\) and targets \(4,\)"),
        (lambda: ta.cross_entropy(A, ids, label_smoothing="0"), TypeError, "label_smoothing must be a number; got '0'"),
        (lambda: ta.cross_entropy(A, ids, label_smoothing=np.nan), ValueError, "must lie in 0 … 1; got nan"),
        (lambda: ta.cross_entropy(A, ids, ignore_index="0"), TypeError, "ignore_index must be whole; got '0'"),
        (lambda: ta.cross_entropy(A, ids, reduction=["mean"]), ValueError, r"reduction must be .*; got \['mean'\]"),
    ],
    "cumsum": [(lambda: ta.cumsum(A, (0, 1)), TypeError, r"got .*axis=\(0, 1\)")],
    "detect_anomaly": [(lambda: ta.detect_anomaly(3), TypeError, "takes 0 positional arguments")],
    "diagonal": [
        (lambda: ta.diagonal(A[0]), ValueError, r"needs two axes; got 0 and 1 of shape \(3,\)"),
        (lambda: ta.diagonal(A, 1.5), TypeError, r"offset=1\.5"),
        (lambda: ta.diagonal(A, 0, 0, 7), ValueError, "there is no axis 7"),
        (lambda: ta.diagonal(A, 0, "0", 1), TypeError, "axis1 must be a whole number"),
        (lambda: ta.diagonal(A, 0, 1, 1), ValueError, "needs two axes; got 1 and 1"),
    ],
    "dot": [(lambda: ta.dot(A, np.ones(5)), ValueError, r"must have one length; got axes \[1\] of x \(2, 3\)")],
    "dropout": [
        (lambda: ta.dropout(A, "0.5"), TypeError, "p must be a number; got '0.5'"),
        (lambda: ta.dropout(A, None), TypeError, "p must be a number; got None"),
        (lambda: ta.dropout(A, np.ones(3)), TypeError, "p must be a number; got array"),
        (lambda: ta.dropout(A, 1.5), ValueError, r"p must lie in 0 … 1; got 1\.5"),
        (lambda: ta.dropout(A, np.nan), ValueError, "p must lie in 0 … 1; got nan"),
        (lambda: ta.dropout(A, 0.5), TypeError, "rng must be a numpy.random.Generator, .*; got NoneType"),
        (lambda: ta.dropout(A, 0.5, rng=3), TypeError, "rng must be a numpy.random.Generator, .*; got int"),
        (lambda: ta.dropout(A, 0.5, training="no"), TypeError, "training must be True or False; got 'no'"),
    ],
    "einsum": [
        (lambda: ta.einsum(A, [0, 1]), TypeError, "subscripts come first, a string .*; got ndarray"),
        (lambda: ta.einsum("ij,jk", A, A), ValueError, "index 'j' of 'ij,jk' is both 3 and 2 long"),
        (lambda: ta.einsum("ij"), ValueError, "(is for 1 operands; got 0|needs one at least)"),
        (lambda: ta.einsum("i!", A), ValueError, "needs a letter for each axis of operand 0"),
        (lambda: ta.einsum("ij->ik", A), ValueError, "may name indices of the operands only"),
        (lambda: ta.einsum("ij", A, optimize="text"), TypeError, "optimize must be True or False; got 'text'"),
    ],
    "embedding": [
        (lambda: ta.embedding(A, [0.5]), TypeError, "ids must be integers; got float64"),
        (lambda: ta.embedding(A, [7]), ValueError, "ids must lie in 0 … 1; got 7 … 7"),
        (lambda: ta.embedding(A, [-1]), ValueError, "ids must lie in 0 … 1; got -1 … -1"),
        (lambda: ta.embedding(A[0], ids), ValueError, r"weight must be \(vocab_size, d_model\); got \(3,\)"),
        (lambda: ta.embedding(1.0, ids), TypeError, r"needs arrays; got the number 1\.0"),
    ],
    "expand_dims": [
        (lambda: ta.expand_dims(A, 7), ValueError, "there is no axis 7"),
        (lambda: ta.expand_dims(A, (0, 0)), ValueError, r"axis \(0, 0\) names an axis twice"),
        (lambda: ta.expand_dims(A, 1.0), TypeError, r"axis must be a whole number, .*; got 1\.0"),
    ],
    "explain_gradient": [
        (lambda: ta.explain_gradient(3), TypeError, "tensor must be a Tensor; got int"),
        (lambda: ta.explain_gradient(leaf(), A), TypeError, "root must be a Tensor; got ndarray"),
        (lambda: ta.explain_gradient(leaf(), leaf() * 2), ta.GradientError, r"must be a single number.*\(2, 3\)"),
    ],
    "flip": [
        (lambda: ta.flip(A, (0, 0)), ValueError, r"repeated axis; got .*axis=\(0, 0\)"),
        (lambda: ta.flip(A, 1.0), TypeError, "axis must be a whole number"),
    ],
    "gelu": [
        (lambda: ta.gelu(A, approximate="erf"), ValueError, "approximate must be 'none' or 'tanh'; got 'erf'"),
        (lambda: ta.gelu(A, approximate=1), ValueError, "approximate must be 'none' or 'tanh'; got 1"),
    ],
    "grad": [
        (lambda: ta.grad(3), TypeError, "needs a function to differentiate; got int"),
        (lambda: ta.grad(square)(), TypeError, "there is no argument 0, since .* called with 0 by position"),
        (lambda: ta.grad(square, argnums=3)(1.0), TypeError, "there is no argument 3"),
        (lambda: ta.grad(square, argnums=1.5), TypeError, r"argnums must be a whole number, .*; got 1\.5"),
        (lambda: ta.grad(square, argnums=[0]), TypeError, r"argnums must be .*; got \[0\]"),
        (lambda: ta.grad(square, has_aux="no"), TypeError, "has_aux must be True or False; got 'no'"),
        (lambda: ta.grad(square, has_aux=True)(1.0), TypeError, r"must return \(value, aux\); got Tensor"),
        (lambda: ta.grad(square)("text"), TypeError, "argument 0: gradients need float32 or float64; got str"),
        (lambda: ta.grad(square)(3), TypeError, "argument 0: .* got int64. Does it belong in another argument?"),
        (lambda: ta.grad(square)(1j), TypeError, "argument 0: gradients need .* got complex128"),
        (lambda: ta.grad(square)(OBJECTS), TypeError, "argument 0: gradients need .* got ndarray"),
        (lambda: ta.grad(square)(MASKED), TypeError, "argument 0 can't be a masked array"),
        (lambda: ta.grad(square)(RAGGED), ValueError, "argument 0: lists of numbers must be of one length"),
        (lambda: ta.grad(square)({"w": (1.0, "text")}), TypeError, r"argument 0\['w'\]\[1\]: gradients need"),
        (lambda: ta.grad(square)(ITSELF), ValueError, r"argument 0\['again'\].* Does one hold itself\?"),
        (lambda: ta.grad(lambda x: x * x)(x_12), ta.GradientError, r"must be one number; got shape \(2,\)\. Reduce it"),
        (lambda: ta.grad(lambda x: None)(1.0), TypeError, r"must give a Tensor or a number; got None\. Is a return"),
        (lambda: ta.grad(lambda x: "text")(1.0), TypeError, "must give a Tensor or a number; got str"),
        (lambda: ta.grad(lambda x: [x])(1.0), TypeError, "must give a Tensor or a number; got list"),
    ],
    "gradcheck": [
        (lambda: ta.gradcheck(3, 1.0), TypeError, "needs a function of Tensors; got int"),
        (lambda: ta.gradcheck(square, None), TypeError, "none of the 0 inputs is floating"),
        (lambda: ta.gradcheck(square, "text"), TypeError, "none of the 1 inputs is floating"),
        (lambda: ta.gradcheck(square, 1), TypeError, "none of the 1 inputs is floating"),
        (lambda: ta.gradcheck(square, OBJECTS), TypeError, "none of the 1 inputs is floating"),
        (lambda: ta.gradcheck(square, RAGGED), ValueError, "inputs: lists of numbers must be of one length"),
        (lambda: ta.gradcheck(square, MASKED), TypeError, "inputs can't be a masked array"),
        (lambda: ta.gradcheck(square, ITSELF), ValueError, r"inputs\['again'\].* Does one hold itself\?"),
        (lambda: ta.gradcheck(lambda x: None, 1.0), TypeError, r"must give one Tensor; got NoneType\. Is a return"),
        (lambda: ta.gradcheck(lambda x: "text", 1.0), TypeError, "must give one Tensor; got str"),
        (lambda: ta.gradcheck(lambda x: [x], 1.0), TypeError, "must give one Tensor; got list of 1"),
        (lambda: ta.gradcheck(square, 1.0, cotangent=x_12), ValueError, r"the output's shape, \(\); got \(2,\)"),
        (lambda: ta.gradcheck(square, 1.0, cotangent="text"), TypeError, "cotangent needs numbers; got str"),
        (lambda: ta.gradcheck(square, 1.0, dtype="text"), TypeError, "there is no 'text'"),
        (lambda: ta.gradcheck(square, 1.0, dtype=int), TypeError, "dtype must be float64 or float32, .*; got int64"),
        (lambda: ta.gradcheck(square, 1.0, rtol="0"), TypeError, "rtol must be a number; got '0'"),
        (lambda: ta.gradcheck(square, 1.0, atol=-1.0), ValueError, r"atol must be a number above 0; got -1\.0"),
        (lambda: ta.gradcheck(square, 1.0, rng=3), TypeError, "rng must be a numpy.random.Generator, .*; got int"),
    ],
    "view": [
        (lambda: ta.view("it was", A), TypeError, "tokens must be a list of strings"),
        (lambda: ta.view(["it"], "no"), TypeError, "weights must be an array of real numbers"),
        (lambda: ta.view(["it"], np.ones((2, 2))), ValueError, "must have a row for each query"),
    ],
    "graph": [
        (lambda: ta.graph(A), TypeError, "needs a Tensor; got ndarray"),
        (lambda: ta.graph(leaf()), ta.GradientError, "this tensor has no graph"),
        (lambda: ta.graph(leaf() * 2, names=3), TypeError, "names must be a dict from names to Tensors; got 3"),
        (lambda: ta.graph(leaf() * 2, names={"x": 3}), TypeError, "names must be a dict from names to Tensors"),
    ],
    "hessian": [
        (lambda: ta.hessian(3), TypeError, "needs a function to differentiate; got int"),
        (lambda: ta.hessian(square, (0, 1))(1.0, 1.0), TypeError, r"argnum must be a whole number; got \(0, 1\)"),
        (lambda: ta.hessian(lambda x: x * x)(x_12), ta.GradientError, r"must be one number; got shape \(2,\)"),
        (lambda: ta.hessian(square)("text"), TypeError, "argument 0: gradients need .* got str"),
        (lambda: ta.hessian(square)(), TypeError, "there is no argument 0"),
    ],
    "hvp": [
        (lambda: ta.hvp(None, [1.0], [1.0]), TypeError, "needs a function to differentiate; got NoneType"),
        (lambda: ta.hvp(square, 1.0, 1.0), TypeError, r"primals must be a list or a tuple; got float\. Are \[ \] miss"),
        (lambda: ta.hvp(square, [1.0], [x_12]), ValueError, r"primals\[0\] has shape \(\), tangents\[0\] \(2,\)"),
        (lambda: ta.hvp(lambda x: x, [x_12], [x_12]), ta.GradientError, "must be one number"),
        (lambda: ta.hvp(square, ["text"], [1.0]), TypeError, r"argument 0: gradients need .* got str"),
    ],
    "jacobian": [
        (lambda: ta.jacobian(3), TypeError, "needs a function to differentiate; got int"),
        (lambda: ta.jacobian(square, "0")(1.0), TypeError, "argnum must be a whole number; got '0'"),
        (lambda: ta.jacobian(square, 7)(1.0), TypeError, "there is no argument 7"),
        (lambda: ta.jacobian(square)({"w": 1.0}), TypeError, "argument 0 must be one array; got dict"),
        (lambda: ta.jacobian(square)(None), TypeError, "argument 0 must be one array; got NoneType"),
        (lambda: ta.jacobian(square)(1), TypeError, "argument 0: gradients need .* got int64"),
        (lambda: ta.jacobian(lambda x: (x, x))(1.0), TypeError, "must give a Tensor or a number; got tuple"),
    ],
    "jvp": [
        (lambda: ta.jvp(3, [1.0], [1.0]), TypeError, "needs a function to differentiate; got int"),
        (lambda: ta.jvp(square, [1.0], []), ValueError, r"needs a tangent of its shape; primals\[0\] has none"),
        (lambda: ta.jvp(square, [], []), ValueError, "needs a primal at least"),
        (lambda: ta.jvp(square, [1.0], ["text"]), TypeError, r"tangents\[0\] needs real numbers; got str"),
        (lambda: ta.jvp(square, [1.0], [1j]), TypeError, r"tangents\[0\] needs real numbers; got complex128"),
        (lambda: ta.jvp(square, [1], [1]), TypeError, r"argument 0: gradients need .* got int64"),
        (lambda: ta.jvp(square, [ITSELF], [1.0]), ValueError, r"primals\[0\]\['again'\].* Does one hold itself\?"),
        (lambda: ta.jvp(square, [x_12], [MASKED]), TypeError, r"tangents\[0\] can't be a masked array"),
    ],
    "layer_norm": [
        (lambda: ta.layer_norm(1.0), ValueError, "x needs an axis at least"),
        (lambda: ta.layer_norm(A, np.ones(5)), ValueError, r"as long as the last axis of x, \(3,\); got \(5,\)"),
        (lambda: ta.layer_norm(A, eps="0"), TypeError, "eps must be a number; got '0'"),
        (lambda: ta.layer_norm(A, eps=-1.0), ValueError, r"eps must be 0 or more; got -1\.0"),
        (lambda: ta.layer_norm(A, eps=np.nan), ValueError, "eps must be 0 or more; got nan"),
        (lambda: ta.layer_norm(A, weight="text"), TypeError, "weight needs numbers; got str"),
    ],
    "leaky_relu": [
        (lambda: ta.leaky_relu(A, negative_slope="0"), TypeError, "negative_slope must be a number; got '0'"),
        (lambda: ta.leaky_relu(A, negative_slope=None), TypeError, "negative_slope must be a number; got None"),
    ],
    "linear": [
        (lambda: ta.linear(A, np.ones((5, 3))), ValueError, r"got x \(2, 3\) and weight .* Is weight transposed\?"),
        (lambda: ta.linear(A, np.ones((3, 5)), np.ones(7)), ValueError, r"bias must be .*, here \(5,\); got \(7,\)"),
        (lambda: ta.linear(A, np.ones((3, 5)), np.ones((2, 1, 5))), ValueError, r"bias must be .* got \(2, 1, 5\)"),
    ],
    "logsumexp": [
        (lambda: ta.logsumexp(A, keepdims="no"), TypeError, "keepdims must be True or False; got 'no'"),
    ],
    "matmul": [
        (lambda: ta.matmul(A, A), ValueError, r"must match the rows of y; got .*\. Is y transposed\?"),
        (lambda: ta.matmul(leaf(), 3.0), TypeError, r"needs arrays; got the number 3\.0"),
        (lambda: ta.matmul(A, np.array(3.0)), ValueError, r"needs vectors or matrices; .* use \*"),
    ],
    "max": [(lambda: ta.max(np.ones((0, 3))), ValueError, r"zero-size array .*; got float64 \(0, 3\)")],
    "mean": [(lambda: ta.mean(A, dtype=int), TypeError, "takes no 'dtype', but .*axis, keepdims")],
    "min": [(lambda: ta.min(leaf(np.ones(0))), ValueError, r"zero-size array .*; got float64 \(0,\)")],
    "moveaxis": [
        (lambda: ta.moveaxis(A, 0, 7), ValueError, "there is no axis 7"),
        (lambda: ta.moveaxis(A, (0, 0), (0, 1)), ValueError, r"a place for each axis; got axes \(0, 0\)"),
        (lambda: ta.moveaxis(A, "0", 1), TypeError, "source must be a whole number, .*; got '0'"),
    ],
    "mse_loss": [
        (lambda: ta.mse_loss(A, A[0]), ValueError, r"must have one shape; got \(2, 3\), \(3,\)"),
        (lambda: ta.mse_loss(leaf(), 1.0), TypeError, r"needs arrays; got the number 1\.0"),
        (lambda: ta.mse_loss(A, A, reduction="average"), ValueError, "reduction must be .*; got 'average'"),
    ],
    "no_grad": [(lambda: ta.no_grad(3), TypeError, "takes 0 positional arguments")],
    "norm": [
        (lambda: ta.linalg.norm(A, "nuc"), ValueError, "ord of a matrix must be .*; got 'nuc'"),
        (lambda: ta.linalg.norm(A[0], "fro"), ValueError, "ord of a vector must be a number, inf or -inf; got 'fro'"),
        (lambda: ta.linalg.norm(A[0], [1]), TypeError, r"ord must be a number; got \[1\]"),
        (lambda: ta.linalg.norm(A, axis=(0, 0)), ValueError, r"duplicate value .*; got .*axis=\(0, 0\)"),
        (lambda: ta.linalg.norm(np.ones((2, 3, 5)), 1), ValueError, r"a vector has one axis, a matrix two"),
        (lambda: ta.linalg.norm(A, keepdims="no"), TypeError, "keepdims must be True or False; got 'no'"),
    ],
    "pad": [
        (lambda: ta.pad(A, 1.5), TypeError, r"pad_width must be whole numbers; got 1\.5"),
        (lambda: ta.pad(A, "1"), TypeError, "pad_width must be whole numbers; got '1'"),
        (lambda: ta.pad(A, -1), ValueError, "pad_width can't be below 0; got -1. To cut off, use slices"),
        (lambda: ta.pad(A, [(1, 1)] * 3), ValueError, "pad_width needs a pair for each of 2 axes"),
        (lambda: ta.pad(A, 1, "edge"), ValueError, "mode can be 'constant' only; got 'edge'"),
        (lambda: ta.pad(A, 1, constant_values="0"), TypeError, "constant_values must be a number; got '0'"),
        (lambda: ta.pad(A, 2**60), ValueError, r"big|large; got float64 \(2, 3\), pad_width="),
    ],
    "repeat": [
        (lambda: ta.repeat(A, 1.5), TypeError, r"repeats must be whole; got 1\.5"),
        (lambda: ta.repeat(A, "2"), TypeError, "repeats must be whole; got '2'"),
        (lambda: ta.repeat(A, -1), ValueError, "repeats must be 0 or more, one for each of 6 places; got -1"),
        (lambda: ta.repeat(A, [1, 2]), ValueError, r"one for each of 6 places; got \[1, 2\]"),
        (lambda: ta.repeat(A, 2, axis=7), ValueError, "there is no axis 7"),
    ],
    "reshape": [
        (lambda: ta.reshape(A, (4, 2)), ValueError, r"6 numbers, of shape \(2, 3\), don't fit into shape \(4, 2\)"),
        (lambda: ta.reshape(A, (2.0, 3)), TypeError, r"shape=\(2\.0, 3\)"),
        (lambda: ta.reshape(A, "text"), TypeError, "shape='text'"),
        (lambda: ta.reshape(A, (2**63, 2)), ValueError, r"don't fit into shape \(9223372036854775808, 2\)"),
    ],
    "rms_norm": [
        (lambda: ta.rms_norm(1.0), ValueError, "x needs an axis at least"),
        (lambda: ta.rms_norm(A, np.ones(5)), ValueError, r"the last axis of x, \(3,\); got \(5,\)"),
        (lambda: ta.rms_norm(A, eps=None), TypeError, "eps must be a number; got None"),
    ],
    "roll": [
        (lambda: ta.roll(A, 1.5), TypeError, r"shift must be whole; got 1\.5"),
        (lambda: ta.roll(A, "1"), TypeError, "shift must be whole; got '1'"),
        (lambda: ta.roll(A, 1, axis=7), ValueError, "there is no axis 7"),
        (lambda: ta.roll(A, 1, axis=1.0), TypeError, r"axis must be a whole number, .*; got 1\.0"),
    ],
    "rule": [
        (lambda: ta.rule(3), TypeError, r"needs a function that gives \(output, backward\); got int"),
        (lambda: ta.rule(None), TypeError, r"needs a function .*; got NoneType"),
        (lambda: ta.rule(lambda: 1.0), TypeError, "has no array among its parameters"),
    ],
    "side_by_side": [
        (lambda: ta.side_by_side("text"), ValueError, "there is no study 'text'"),
        (lambda: ta.side_by_side(3), TypeError, "needs the name of a study, .*; got int"),
        (lambda: ta.side_by_side("softmax", scores="text"), TypeError, "scores needs real numbers; got <U4"),
        (lambda: ta.side_by_side("softmax", scores=OBJECTS), TypeError, "scores needs real numbers; got object"),
        (lambda: ta.side_by_side("softmax", scores=MASKED), TypeError, "scores can't be a masked array"),
        (lambda: ta.side_by_side("softmax", scores=[]), ValueError, "scores is empty"),
        (lambda: ta.side_by_side("softmax", scores=A * np.nan), ValueError, "scores has NaN or infinite numbers"),
        (lambda: ta.side_by_side("softmax", score=A), TypeError, "softmax takes no 'score'"),
        (lambda: ta.side_by_side("softmax", scores=A, hand=3), TypeError, "hand must be a function .*; got int"),
        (lambda: ta.side_by_side("softmax", scores=A, d_output=x_12), ValueError, r"\(2, 3\); got \(2,\)"),
        (lambda: ta.side_by_side("softmax", rtol="0"), TypeError, "rtol must be a number; got '0'"),
        (lambda: ta.side_by_side("softmax", atol=-1.0), ValueError, r"atol must be 0 or more; got -1\.0"),
        (lambda: ta.side_by_side("softmax", rng="text"), TypeError, "rng must be .*; got str"),
    ],
    "softmax": [
        (lambda: ta.softmax(1.0), ValueError, "scores need an axis to sum along; got a single number"),
        (lambda: ta.softmax(A, dim=0), TypeError, r"takes no 'dim', but .*axis\. Is it axis\?"),
    ],
    "softplus": [
        (lambda: ta.softplus(A, beta="1"), TypeError, "beta must be a number; got '1'"),
        (lambda: ta.softplus(A, beta=np.ones(3)), TypeError, "beta must be a number; got array"),
        (lambda: ta.softplus(A, beta=0), ValueError, "beta must be positive; got 0"),
        (lambda: ta.softplus(A, beta=np.inf), ValueError, "beta must be positive, and finite; got inf"),
    ],
    "split": [
        (lambda: ta.split(A, 4), ValueError, r"axis 0 of shape \(2, 3\) can't be cut into 4 parts"),
        (lambda: ta.split(A, 0), ValueError, "can't be cut into 0 parts"),
        (lambda: ta.split(A, 1.5), TypeError, r"indices_or_sections must be whole; got 1\.5"),
        (lambda: ta.split(A, [1.5]), TypeError, r"indices_or_sections must be whole; got \[1\.5\]"),
        (lambda: ta.split(A, None), TypeError, "indices_or_sections must be whole; got None"),
        (lambda: ta.split(A, [[1]]), ValueError, r"places to cut at go in as one list; got \[\[1\]\]"),
        (lambda: ta.split(A, 2, axis="0"), TypeError, "axis must be a whole number; got '0'"),
        (lambda: ta.split(A, 2, axis=(0, 1)), TypeError, r"axis must be a whole number; got \(0, 1\)"),
        (lambda: ta.split(1.0, 1), ValueError, r"there is no axis 0, .*got shape \(\)"),
    ],
    "squeeze": [
        (lambda: ta.squeeze(A, 0), ValueError, r"only axes of length 1 can go; got axis 0 of shape \(2, 3\)"),
    ],
    "stack": [
        (lambda: ta.stack([]), ValueError, "needs one at least; got none"),
        (lambda: ta.stack(3), TypeError, r"needs a list of arrays; got int\. Are \[ \] missing\?"),
        (lambda: ta.stack({1.0: 2}), TypeError, "needs a list of arrays; got dict"),
        (lambda: ta.stack([A, A.T]), ValueError, r"must have one shape; got \(2, 3\), \(3, 2\)"),
        (lambda: ta.stack([A, A], axis=7), ValueError, "there is no axis 7"),
        (lambda: ta.stack([A, A], axis=None), TypeError, "axis"),
    ],
    "std": [(lambda: ta.std(A, ddof="1"), TypeError, "ddof must be a number; got '1'")],
    "step_sweep": [
        (lambda: ta.step_sweep(3, 1.0), TypeError, "needs a function of Tensors; got int"),
        (lambda: ta.step_sweep(square, 1), TypeError, "none of the 1 inputs is floating"),
        (lambda: ta.step_sweep(square, 1.0, steps=[]), ValueError, "steps must be numbers above 0, one at least"),
        (lambda: ta.step_sweep(square, 1.0, steps=[-1.0]), ValueError, "steps must be numbers above 0"),
        (lambda: ta.step_sweep(square, 1.0, steps="text"), TypeError, "steps must be a list of numbers; got str"),
        (lambda: ta.step_sweep(square, 1.0, steps=3), TypeError, "steps must be a list of numbers; got int"),
        (lambda: ta.step_sweep(square, 1.0, rng=3), TypeError, "rng must be a numpy.random.Generator, .*; got int"),
        (lambda: ta.step_sweep(lambda x: 1.0, 1.0), ValueError, "has gradient 0, or NaN"),
        (lambda: ta.step_sweep(square, np.nan), ValueError, "has gradient 0, or NaN"),
    ],
    "sum": [(lambda: np.sum(leaf(), out=np.zeros(())), TypeError, "takes no 'out', but .*axis, keepdims")],
    "swapaxes": [
        (lambda: ta.swapaxes(A, 0, 7), ValueError, "there is no axis 7"),
        (lambda: ta.swapaxes(A, "0", 1), TypeError, "axis1 must be a whole number, .*; got '0'"),
    ],
    "take": [
        (lambda: ta.take(A, 6), IndexError, r"has 6 places; got indices 6 … 6"),
        (lambda: ta.take(A, "0"), TypeError, "indices must be integers; got <U1"),
        (lambda: ta.take(A, 0.5), TypeError, "indices must be integers; got float64"),
        (lambda: ta.take(A, 0, mode="wrap"), ValueError, "mode can be 'raise' only; got 'wrap'"),
    ],
    "take_along_axis": [
        (lambda: ta.take_along_axis(A, [[5], [0]]), IndexError, "has 3 places along axis -1; got indices 0 … 5"),
        (lambda: ta.take_along_axis(A, [[0.5]]), TypeError, "indices must be integers; got float64"),
        (lambda: ta.take_along_axis(A, [0]), ValueError, r"as many axes as x, .*; got indices \(1,\), x \(2, 3\)"),
    ],
    "tensor": [
        (lambda: ta.tensor([1], requires_grad=True), TypeError, "need float32 or float64; got int64. Is dtype=float"),
        (lambda: ta.tensor(1j, requires_grad=True), TypeError, "need float32 or float64; got complex128"),
        (lambda: ta.tensor(1.0, requires_grad="no"), TypeError, "requires_grad must be True or False; got 'no'"),
        (lambda: ta.tensor([1.0], dtype="text"), TypeError, "there is no dtype 'text'"),
        (lambda: ta.tensor([1.0], name=3), TypeError, "name must be a string; got 3"),
        (lambda: ta.tensor([1.0], dtype=object), TypeError, "data of dtype float64 can't be of dtype object"),
        (lambda: ta.tensor([1j], dtype=float), TypeError, "data of dtype complex128 can't be of dtype float64"),
        (lambda: ta.tensor("1", dtype=float), TypeError, "data needs numbers; got str"),
        (lambda: ta.tensor([None], dtype=float), TypeError, "data needs numbers; got list of dtype object"),
        (lambda: ta.tensor(2**70), TypeError, "data needs numbers; got int of dtype object"),
        (lambda: ta.tensor({1.0}), TypeError, "data needs numbers; got set"),
    ],
    "tensordot": [
        (lambda: ta.tensordot(A, np.ones((5, 7)), 1), ValueError, r"must have one length; got axes \[1\] of x"),
        (lambda: ta.tensordot(A, A, -1), ValueError, "axes, where it is one number, must be 0 or more; got -1"),
        (lambda: ta.tensordot(A, A, 1.5), TypeError, r"axes must be a number, or a pair .*; got 1\.5"),
        (lambda: ta.tensordot(A, A, "01"), TypeError, "axes must be"),
        (lambda: ta.tensordot(A, A, (0, 1, 2)), TypeError, r"axes must be a number, or a pair .*; got \(0, 1, 2\)"),
        (lambda: ta.tensordot(A, A, (7, 0)), ValueError, "there is no axis 7"),
        (lambda: ta.tensordot(A, A, ((0, 0), (0, 1))), ValueError, "repeated axis"),
    ],
    "tile": [
        (lambda: ta.tile(A, 1.5), TypeError, r"reps must be whole; got 1\.5"),
        (lambda: ta.tile(A, "2"), TypeError, "reps must be whole; got '2'"),
        (lambda: ta.tile(A, -1), ValueError, "reps must be 0 or more; got -1"),
        (lambda: ta.tile(A, 2**60), ValueError, r"big|large; got float64 \(2, 3\), reps="),
    ],
    "transpose": [
        (lambda: ta.transpose(A, (0, 0)), ValueError, r"axes \(0, 0\) must name each axis of shape \(2, 3\) once"),
        (lambda: ta.transpose(A, (0, 7)), ValueError, r"axes \(0, 7\) must name each axis"),
        (lambda: ta.transpose(A, "01"), TypeError, "axes must be a whole number, .*; got '01'"),
    ],
    "tril": [
        (lambda: ta.tril(1.0), ValueError, "needs a matrix, or a stack of them; got a single number"),
        (lambda: ta.tril(A, 1.5), TypeError, r"k must be whole; got 1\.5"),
    ],
    "triu": [(lambda: ta.triu(A, "1"), TypeError, "k must be whole; got '1'")],
    "value_and_grad": [
        (lambda: ta.value_and_grad(3), TypeError, "needs a function to differentiate; got int"),
        (lambda: ta.value_and_grad(square)(), TypeError, "there is no argument 0"),
        (lambda: ta.value_and_grad(square)("text"), TypeError, "argument 0: gradients need .* got str"),
    ],
    "var": [(lambda: ta.var(A, ddof=None), TypeError, "ddof must be a number; got None")],
    "vjp": [
        (lambda: ta.vjp(3, 1.0), TypeError, "needs a function to differentiate; got int"),
        (lambda: ta.vjp(square, 1), TypeError, "argument 0: gradients need .* got int64"),
        (lambda: ta.vjp(square, 1.0)[1](x_12), ValueError, r"must have the output's shape, \(\); got \(2,\)"),
        (lambda: ta.vjp(square, 1.0)[1]("text"), TypeError, "gradient needs real numbers, .*; got <U4"),
        (lambda: ta.vjp(square, 1.0)[1](None), TypeError, "gradient needs real numbers, .*; got object"),
        (lambda: ta.vjp(square, 1.0)[1](1j), TypeError, "gradient needs real numbers, .*; got complex128"),
        (lambda: ta.vjp(square, x_12)[1](RAGGED), ValueError, "lists of numbers must be of one length"),
        (lambda: ta.vjp(square, x_12)[1](MASKED), TypeError, "the gradient to pull back can't be a masked array"),
        (lambda: ta.vjp(lambda x: (x, x), 1.0), TypeError, "must give a Tensor or a number; got tuple"),
        (lambda: ta.vjp(square, ITSELF), ValueError, r"Does one hold itself\?"),
    ],
    "where": [
        (lambda: ta.where(A > 2, A, np.ones(5)), ValueError, r"shapes must broadcast; got .*float64 \(5,\)"),
        (lambda: ta.where(A > 2), TypeError, "'x' is missing"),
        (lambda: np.where(leaf() > 2, leaf()), TypeError, "'y' is missing"),
    ],
}
for name in ("divide", "maximum", "minimum", "multiply", "outer", "power", "subtract"):
    f = getattr(ta, name)
    ERRORS[name] = [(lambda f=f: f(A), TypeError, "'y' is missing|'exponent' is missing")]
    if name != "outer":
        ERRORS[name].append((lambda f=f: f(leaf(), np.ones((5, 7))), ValueError, r"must broadcast; got .*\(5, 7\)"))

NAMED_OTHERWISE = {  # who speaks, where it isn't the function itself
    "attention_choice": "attention(_choice)?",
    "value_and_grad": "grad",
    "vjp": "(vjp|backward)",
    "tensor": "(tensor|requires_grad)",
    "detect_anomaly": r"detect_anomaly\(\)",
    "no_grad": r"no_grad\(\)",
}
CASES = [(name, i) for name, cases in ERRORS.items() for i in range(len(cases))]


@pytest.mark.parametrize(("name", "i"), CASES)
def test_what_makes_no_sense_is_told(name, i):
    call, kind, message = ERRORS[name][i]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(kind) as raised:
            call()
    told = str(raised.value)
    assert re.match(rf"{NAMED_OTHERWISE.get(name, name)}[: ]", told), told
    assert re.search(message, told), told


def test_every_public_function_is_here():
    functions = {name for name in ta.__all__ if callable(getattr(ta, name)) and not inspect.isclass(getattr(ta, name))}
    functions -= {"keep_memory"}  # which takes nothing
    assert functions - set(ON_AN_ARRAY) - {name for name, cases in ERRORS.items() if cases} == set()
    assert set(ON_AN_ARRAY) | set(ERRORS) <= functions | {"norm"}


# ------------------------------------------------------------------------------------------ tensors, layers, optimisers


def assigned(key, value):
    x = leaf(x_12) * 1.0
    x[key] = value


def with_gradient():
    x = leaf(x_12)
    x.grad = ta.tensor(x_12)
    return x


nn, optim = ta.nn, ta.optim
block = nn.MultiHeadAttention(6, 2, rng=0)
parameters = {"weight": np.ones((3, 2)), "bias": np.ones(2)}

OBJECTS_OF_OURS = [
    # the walk back
    (lambda: leaf().backward(), ta.GradientError, r"^backward: a tensor of shape \(2, 3\) needs a gradient"),
    (lambda: ta.tensor(A).backward(), ta.GradientError, "^backward: this tensor doesn't require a gradient"),
    (lambda: leaf().backward("text"), TypeError, "^backward: gradient needs real numbers, of dtype float64; got <U4"),
    (lambda: leaf().backward(A * 1j), TypeError, "^backward: gradient needs real numbers, .*; got complex128"),
    (lambda: leaf().backward(A.T), ValueError, r"^backward: gradient must have .*; got \(3, 2\) for \(2, 3\)"),
    (lambda: leaf().backward(RAGGED), ValueError, "^backward: gradient: lists of numbers must be of one length"),
    (lambda: leaf(x_12).backward(MASKED), TypeError, "^backward: gradient can't be a masked array"),
    (lambda: leaf(1.0).backward(retain_graph="no"), TypeError, "^backward: retain_graph must be True or False"),
    (lambda: leaf(1.0).backward(create_graph="no"), TypeError, "^backward: create_graph must be True or False"),
    (lambda: leaf().register_hook(3), TypeError, "^register_hook: needs a function of the gradient; got int"),
    (lambda: ta.tensor(A).retain_grad(), ta.GradientError, "^retain_grad: this tensor doesn't require a gradient"),
    # what a tensor is
    (lambda: setattr(leaf(), "data", "text"), TypeError, "^tensor: data needs numbers; got str"),
    (lambda: setattr(leaf(), "data", A.T), ValueError, r"^data: a tensor keeps its shape, \(2, 3\); got \(3, 2\)"),
    (lambda: setattr(leaf(), "data", A * 1j), TypeError, "^tensor: data of dtype complex128 can't be of dtype float64"),
    (lambda: setattr(leaf() * 2, "data", A), ta.GradientError, "^data: only a leaf's can be set"),
    (lambda: setattr(ta.tensor(A), "requires_grad", "no"), TypeError, "requires_grad must be True or False; got 'no'"),
    (lambda: setattr(ta.tensor(ids), "requires_grad", True), TypeError, "^requires_grad: .*; got int64"),
    (lambda: ta.Tensor(A, requires_grad="no"), TypeError, "^tensor: requires_grad must be True or False; got 'no'"),
    # its numbers
    (lambda: leaf().item(), ValueError, r"^item: needs a tensor of one number; got shape \(2, 3\)"),
    (lambda: float(leaf()), ValueError, r"^float: needs a tensor of one number; got shape \(2, 3\)"),
    (lambda: int(leaf()), ValueError, r"^int: needs a tensor of one number"),
    (lambda: bool(leaf()), ValueError, r"^bool: needs a tensor of one number; .* Use \.any\(\) or \.all\(\)"),
    (lambda: bool(leaf([])), ValueError, r"^bool: needs a tensor of one number; got shape \(0,\)"),
    (lambda: leaf().argmax("0"), TypeError, r"^argmax: .*; got shape \(2, 3\) and axis '0'"),
    (lambda: leaf().argmin(7), ValueError, r"^argmin: axis 7 is out of bounds"),
    (lambda: leaf([]).argmax(), ValueError, r"^argmax: .* empty sequence; got shape \(0,\)"),
    (lambda: len(leaf(1.0)), TypeError, "^a tensor of no axes has no length"),
    (lambda: list(leaf(1.0)), TypeError, "^a tensor of no axes can't be iterated over"),
    (lambda: leaf() < "text", TypeError, r"^lt: a tensor of shape \(2, 3\) can't be compared with str"),
    (lambda: leaf() == np.ones(5), ValueError, r"^eq: a tensor of shape \(2, 3\) can't be compared with shape \(5,\)"),
    # its methods
    (lambda: leaf().reshape("text"), TypeError, "^reshape: .*shape='text'"),
    (lambda: leaf().reshape(4, 2), ValueError, r"^reshape: 6 numbers, .*, don't fit into shape \(4, 2\)"),
    (lambda: leaf().transpose(0, 0), ValueError, r"^transpose: axes \(0, 0\) must name each axis"),
    (lambda: leaf().sum("0"), TypeError, "^sum: axis must be a whole number, .*; got '0'"),
    (lambda: leaf().std(ddof="1"), TypeError, "^std: ddof must be a number; got '1'"),
    (lambda: leaf().clip("0"), TypeError, "^clip: min needs numbers; got str"),
    (lambda: leaf().dot("text"), TypeError, "^dot: y needs numbers; got str"),
    (lambda: leaf().take("0"), TypeError, "^take: indices must be integers; got <U1"),
    (lambda: leaf().repeat(1.5), TypeError, r"^repeat: repeats must be whole; got 1\.5"),
    (lambda: leaf().astype("text"), TypeError, "^astype: data type 'text' not understood"),
    (lambda: leaf() @ 3.0, TypeError, r"^matmul: needs arrays; got the number 3\.0"),
    (lambda: leaf() ** "text", TypeError, "^power: exponent needs numbers; got str"),
    (lambda: "text" + leaf(), TypeError, "^add: x needs numbers; got str"),
    (lambda: None * leaf(), TypeError, "^multiply: x needs an array; got None"),
    # keys, and what is assigned to them
    (lambda: leaf()[7], IndexError, r"^index: index 7 is out of bounds .*; the array has shape \(2, 3\)"),
    (lambda: leaf()["text"], IndexError, "^index: only integers, slices"),
    (lambda: leaf()[1.5], IndexError, "^index: only integers, slices"),
    (lambda: leaf()[0, 0, 0], IndexError, "^index: too many indices"),
    (lambda: leaf(1.0)[0], IndexError, r"^index: .*; the array has shape \(\)"),
    (lambda: leaf(x_12)[np.ma.array([0, 1], mask=[0, 1])], TypeError, "^index: a key can't be a masked array"),
    (lambda: assigned(0, "text"), TypeError, r"^t\[\.\.\.\] = v: v needs numbers; got str"),
    (lambda: assigned(0, None), TypeError, r"^t\[\.\.\.\] = v: v needs numbers; got NoneType"),
    (lambda: assigned(0, 1j), TypeError, r"^t\[\.\.\.\] = v: v is complex, and t of dtype float64"),
    (lambda: assigned(0, x_12), ValueError, r"^t\[\.\.\.\] = v: v must broadcast to .*, \(\); got \(2,\)"),
    (lambda: assigned(slice(None), MASKED), TypeError, r"^t\[\.\.\.\] = v: v can't be a masked array"),
    (lambda: assigned(7, 1.0), IndexError, r"^t\[\.\.\.\] = v: index 7 is out of bounds .*; t has shape \(2,\)"),
    (lambda: assigned([0, 0], 1.0), ValueError, r"^t\[\.\.\.\] = v: .* twice"),
    # layers
    (lambda: nn.Linear("3", 2), TypeError, "^Linear: d_in must be a whole number; got '3'"),
    (lambda: nn.Linear(3, 0), ValueError, "^Linear: d_out must be 1 or more; got 0"),
    (lambda: nn.Linear(3, 2, bias="no"), TypeError, "^Linear: bias must be True or False; got 'no'"),
    (lambda: nn.Linear(3, 2, rng="text"), TypeError, "^Linear: rng must be .*, or a seed; got 'text'"),
    (lambda: nn.Linear(3, 2, dtype=int), TypeError, "^Linear: dtype must be float32 or float64; got <class 'int'>"),
    (lambda: nn.Linear(3, 2, dtype="text"), TypeError, "^Linear: dtype must be float32 or float64; got 'text'"),
    (lambda: nn.Linear(3, 2)(np.ones(7)), ValueError, r"^linear: .*; got x \(7,\) and weight \(3, 2\)"),
    (lambda: nn.Linear(3, 2)("text"), TypeError, "^linear: x needs numbers; got str"),
    (lambda: nn.Embedding(7, 2.5), TypeError, r"^Embedding: d_model must be a whole number; got 2\.5"),
    (lambda: nn.Embedding(7, 3, std=-1.0), ValueError, r"^Embedding: std must be 0 or more; got -1\.0"),
    (lambda: nn.Embedding(7, 3)([7]), ValueError, "^embedding: ids must lie in 0 … 6; got 7 … 7"),
    (lambda: nn.Embedding(7, 3)([0.5]), TypeError, "^embedding: ids must be integers; got float64"),
    (lambda: nn.LayerNorm((3,)), TypeError, r"^LayerNorm: d_model must be a whole number; got \(3,\)"),
    (lambda: nn.LayerNorm(3, eps="0"), TypeError, "^LayerNorm: eps must be a number; got '0'"),
    (lambda: nn.LayerNorm(3)(np.ones(5)), ValueError, r"^layer_norm: .* \(5,\); got \(3,\)"),
    (lambda: nn.RMSNorm(3, eps=-1), ValueError, "^RMSNorm: eps must be 0 or more; got -1"),
    (lambda: nn.RMSNorm(3, dtype=complex), TypeError, "^RMSNorm: dtype must be float32 or float64"),
    (lambda: nn.Dropout("0.5"), TypeError, "^Dropout: p must be a number; got '0.5'"),
    (lambda: nn.Dropout(0.5, rng="text"), TypeError, "^Dropout: rng must be .*, or a seed; got 'text'"),
    (lambda: nn.MultiHeadAttention(6, 4), ValueError, "^MultiHeadAttention: n_heads must divide d_model; got 4"),
    (lambda: nn.MultiHeadAttention(6, 2, scale="1"), TypeError, "^MultiHeadAttention: scale must be a number; got '1'"),
    (
        lambda: block(np.ones(6)),
        ValueError,
        r"^multi_head_attention: query must be \(\.\.\., length, d_model\); got shape",
    ),
    (lambda: block(np.ones((5, 7))), ValueError, r"^multi_head_attention: .*; got x \(5, 7\) and weight \(6, 6\)"),
    (lambda: block(np.ones((5, 6)), mask="text"), TypeError, "^MultiHeadAttention: mask needs numbers; got str"),
    (lambda: block(np.ones((5, 6)), mask=np.eye(5)), TypeError, "^attention: mask must be boolean"),
    (lambda: nn.TransformerBlock(6, 2, activation=3), TypeError, "^MLP: activation must be a layer or a function"),
    (lambda: nn.TransformerBlock(6, 2, norm=3), TypeError, "^TransformerBlock: norm must be a layer or a function"),
    (lambda: nn.MLP(6, activation="wavy"), ValueError, "^MLP: activation must be one of relu, .*; got 'wavy'"),
    (lambda: nn.Linear(6, 2, activation=ta.relu), ValueError, "^Linear: activation must be one of relu, .*; got <fun"),
    (lambda: nn.Sequential(ta.relu, "relu"), TypeError, r"^Sequential: layers\[1\] must be a layer .*; got str"),
    (lambda: nn.Linear(3, 2).train("no"), TypeError, "^train: mode must be True or False; got 'no'"),
    (lambda: nn.Linear(3, 2).load_state_dict(3), TypeError, "^load_state_dict: state must be a dict.*; got int"),
    (lambda: nn.Linear(3, 2).load_state_dict({}), ValueError, "^load_state_dict: .* misses bias, weight"),
    (
        lambda: nn.Linear(3, 2).load_state_dict(parameters | {"bias": [1j, 1.0]}),
        TypeError,
        "^load_state_dict: bias needs real numbers; got complex128",
    ),
    # optimisers
    (lambda: optim.SGD(leaf(), 0.1), TypeError, r"^SGD: parameters must be a list of Tensors; .* Are \[ \] missing\?"),
    (lambda: optim.SGD(nn.Linear(3, 2), 0.1), TypeError, r"^SGD: .*; got Linear\. Did you mean its \.parameters\(\)"),
    (lambda: optim.SGD([A], 0.1), TypeError, "^SGD: parameters must be Tensors; got ndarray at place 0"),
    (lambda: optim.SGD([], 0.1), ValueError, "^SGD: there is no parameter that requires a gradient"),
    (lambda: optim.SGD([leaf() * 2], 0.1), ValueError, "^SGD: parameters must be leaves; .* made by multiply"),
    (lambda: optim.SGD([leaf()], "0.1"), TypeError, "^SGD: lr must be a number; got '0.1'"),
    (lambda: optim.SGD([leaf()], np.nan), ValueError, "^SGD: lr must be 0 or more, and finite; got nan"),
    (lambda: optim.SGD([leaf()], 0.1, momentum=-1), ValueError, "^SGD: momentum must be 0 or more"),
    (lambda: optim.SGD([leaf()], 0.1).step(), ta.GradientError, "^step: no parameter has a gradient"),
    (lambda: optim.SGD([with_gradient()], 0.1).step("0.1"), TypeError, "^step: lr must be a number; got '0.1'"),
    (lambda: optim.Adam([leaf()], betas=0.9), TypeError, r"^Adam: betas must be two numbers; got 0\.9"),
    (lambda: optim.Adam([leaf()], betas=(0.9, 1.0)), ValueError, "^Adam: betas must be 0 or more, and below 1; got 1"),
    (lambda: optim.Adam([leaf()], eps=None), TypeError, "^Adam: eps must be a number; got None"),
    (lambda: optim.AdamW([leaf()], weight_decay=-1), ValueError, "^AdamW: weight_decay must be 0 or more"),
    (lambda: optim.Adam([leaf()]).load_state_dict(3), TypeError, "^load_state_dict: state must be a dict .*; got int"),
    (lambda: optim.Adam([leaf()]).load_state_dict({}), ValueError, "^load_state_dict: Adam needs {"),
    (lambda: optim.SGD([leaf()], 0.1).load_state_dict({"steps": "1"}), TypeError, "^load_state_dict: steps needs num"),
    (lambda: optim.clip_grad_norm([leaf()], "1"), TypeError, "^clip_grad_norm: max_norm must be a number; got '1'"),
    (lambda: optim.clip_grad_norm([leaf()], np.nan), ValueError, "^clip_grad_norm: max_norm must be .*; got nan"),
    (lambda: optim.clip_grad_norm(3, 1.0), TypeError, "^clip_grad_norm: parameters must be a list of Tensors; got int"),
    (lambda: optim.constant("0.1"), TypeError, "^constant: rate must be a number; got '0.1'"),
    (lambda: optim.cosine(1.0, "8"), TypeError, "^cosine: steps must be a number; got '8'"),
    (lambda: optim.cosine(1.0, 8, warmup=-1), ValueError, "^cosine: warmup must be 0 or more"),
    (lambda: optim.one_cycle(np.nan, 8), ValueError, "^one_cycle: rate must be 0 or more, and finite; got nan"),
    (lambda: optim.one_cycle(1.0, 8, rise=2.0), ValueError, r"^one_cycle: rise must be .* at most 1; got 2\.0"),
]


@pytest.mark.parametrize("i", range(len(OBJECTS_OF_OURS)))
def test_what_tensors_layers_and_optimisers_say(i):
    call, kind, message = OBJECTS_OF_OURS[i]
    with pytest.raises(kind, match=message):
        call()


# ------------------------------------------------------------------------------------------- hostile arrays

ALONG_AXES = {
    **{name: getattr(ta, name) for name in "sum mean var std prod max min logsumexp cumsum sort flip".split()},
    **{name: getattr(ta, name) for name in "softmax log_softmax squeeze expand_dims".split()},
    "roll": lambda x, axis: ta.roll(x, 1, axis=axis),
    "concatenate": lambda x, axis: ta.concatenate([x, x], axis=axis),
    "stack": lambda x, axis: ta.stack([x, x], axis=axis),
    "split": lambda x, axis: ta.split(x, 1, axis=axis),
    "take": lambda x, axis: ta.take(x, [0], axis=axis),
    "take_along_axis": lambda x, axis: ta.take_along_axis(x, np.zeros((2, 3), int), axis=axis),
    "repeat": lambda x, axis: ta.repeat(x, 2, axis=axis),
    "norm": lambda x, axis: ta.linalg.norm(x, axis=axis),
}


@pytest.mark.parametrize("x", [A, leaf()], ids=["array", "tensor"])
@pytest.mark.parametrize("name", ALONG_AXES)
def test_axes_that_are_none(name, x):
    call = ALONG_AXES[name]
    for axis in (7, -8):
        with pytest.raises(np.exceptions.AxisError, match=rf"^{name}: there is no axis {axis}, .*got shape"):
            call(x, axis=axis)
    for axis in (1.0, "0", 1j, np.array([0.5])):
        with pytest.raises(TypeError, match=rf"^{name}: "):
            call(x, axis=axis)
    if name not in ("expand_dims", "roll"):  # of one axis twice NumPy makes two rolls
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: .*\(0, 0\)"):
            call(x, axis=(0, 0))


@pytest.mark.parametrize("layout", ["read-only", "Fortran", "strided", "reversed", "broadcast", "matrix", "memmap"])
def test_an_array_laid_out_otherwise_is_the_same_array(layout):
    wide = np.zeros((4, 6))
    wide[::2, ::2] = A
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        laid = {
            "read-only": A.copy(),
            "Fortran": np.asfortranarray(A),
            "strided": wide[::2, ::2],
            "reversed": A[::-1, ::-1].copy()[::-1, ::-1],
            "broadcast": np.broadcast_to(A[0], (2, 3)),
            "matrix": np.matrix(A),
            "memmap": A.view(np.memmap),
        }[layout]
    if layout == "read-only":
        laid.flags.writeable = False
    plain = np.array(laid)
    for f in (
        lambda x, given: (x * given).sum(),
        lambda x, given: (ta.softmax(x, axis=0) * given).sum(),
        lambda x, given: ta.matmul(x, ta.transpose(given)).sum(),
        lambda x, given: (ta.sum(given, axis=0) * x).sum(),
    ):
        found, expected = (ta.grad(f)(given, given).numpy() for given in (laid, plain))
        assert type(found) is np.ndarray
        np.testing.assert_allclose(found, expected, rtol=1e-15)
    x = ta.Tensor(laid, requires_grad=True)
    for y in (x * laid, laid * x):  # also for matrices: element by element, as for arrays
        np.testing.assert_array_equal(y.numpy(), plain * plain)
    assert type(ta.exp(laid)) is np.ndarray


def test_masks_and_objects_are_no_way_off_the_graph():
    x = leaf(x_12)
    for call in (
        lambda: x * MASKED,
        lambda: MASKED * x,
        lambda: MASKED.copy().__imul__(x),
        lambda: np.ma.add(MASKED, x),
        lambda: np.ma.array(x),
        lambda: np.array([x], dtype=object),
        lambda: np.array([leaf(1.0)], dtype=object),
        lambda: np.asarray([x, x]),
        lambda: np.asarray([leaf(1.0), leaf(1.0)]),
        lambda: np.array([1.0, leaf(1.0)]),
        lambda: np.full(2, leaf(1.0)),
        lambda: np.zeros(2).__setitem__(slice(None), x),
        lambda: np.copyto(np.zeros(2), x),
        lambda: np.zeros(2).__iadd__(x),
        lambda: np.add(x_12, x, out=np.zeros(2)),
        lambda: np.vectorize(lambda y: y * 2)(x),
        lambda: np.vectorize(lambda y: y * leaf(1.0))(x_12),
        lambda: np.frompyfunc(lambda y: y * 2, 1, 1)(x),
        lambda: np.array([1.0, None], dtype=object) * x,
        lambda: x + np.array([leaf, leaf], dtype=object),
        lambda: np.add.reduce(x),
        lambda: np.linspace(0.0, leaf(1.0), 3),
    ):
        with pytest.raises(TypeError, match=r"masked array|silently|needs numbers; got|no rule|can't be recorded"):
            call()


def test_tensors_held_by_an_object_array_keep_their_graphs():
    """NumPy calls the operators one by one: slow, but nothing is lost."""
    x = leaf(3.0)
    held = np.empty(2, object)
    held[0], held[1] = x, x * x
    (held * 2)[1].backward()
    assert x.grad.item() == 12.0


def test_numpy_asks_a_tensor_of_one_number_for_a_float():
    """`array[0] = t` can't be told from `float(t)`, which is allowed; more numbers than one are refused."""
    array = np.zeros(2)
    array[0] = leaf(3.0)
    assert array.tolist() == [3.0, 0.0]


def test_minus_zero():
    for f, slope in ((ta.absolute, 0.0), (ta.relu, 0.0), (ta.sign, 0.0), (ta.exp, 1.0), (ta.tanh, 1.0)):
        assert ta.grad(f)(-0.0).item() == ta.grad(f)(0.0).item() == slope
    assert np.signbit((leaf(-0.0) * 1.0).numpy())
    assert ta.max([0.0, -0.0]) == ta.min([0.0, -0.0]) == 0.0
    assert ta.grad(lambda x: ta.maximum(x, 0.0))(-0.0).item() == 0.5  # a tie
    assert ta.grad(lambda x: ta.clip(x, 0.0, 1.0))(-0.0).item() == 1.0  # at the bound


@pytest.mark.parametrize("name", ONE)
def test_nan_goes_through(name):
    """Forward and back: nothing takes it for a number, and nothing fails on it."""
    x = leaf(np.array([[np.nan, 1.0, 2.0], [3.0, 4.0, 5.0]]))
    with np.errstate(all="ignore"):
        y = getattr(ta, name)(x)
        (y * 1.0).sum().backward()
    assert np.isnan(y.numpy()).any()
    if name in ("softmax", "log_softmax", "layer_norm", "rms_norm"):  # each row for itself
        for found in (y.numpy(), x.grad.numpy()):
            assert np.isnan(found[0]).all()
            assert not np.isnan(found[1]).any()


NO_BOOLEANS = ("negative", "positive", "sign")  # for NumPy


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.uint8])
def test_whole_numbers_and_booleans_go_through_without_gradients(name, dtype):
    numbers = np.array([[1, 0, 1], [1, 1, 0]], dtype)
    f = getattr(ta, name)
    if dtype is bool and name in NO_BOOLEANS:
        with pytest.raises(TypeError, match=rf"^{name}: .*got bool \(2, 3\)"):
            f(ta.tensor(numbers))
        return
    with np.errstate(all="ignore"):
        y, floating = f(ta.tensor(numbers)), f(ta.tensor(numbers.astype(float)))
    assert not y.requires_grad
    if name in ("negative", "exp", "exp2", "expm1", "square", "sum", "prod", "cumsum") or y.dtype.kind in "biu":
        return  # as NumPy's, which may wrap around
    tolerance = 1e-2 if y.dtype == np.float16 else 1e-3 if y.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(y.numpy(), floating.numpy(), rtol=tolerance, atol=tolerance)


def test_what_memory_cannot_hold_is_told_with_the_operation():
    with pytest.raises(MemoryError) as raised:
        ta.exp(np.broadcast_to(1.0, 2**55))
    assert "in exp(float64 (36028797018963968,))" in raised.value.__notes__
