"""What every public function says to input that makes no sense: its own name, what was expected, and what came."""

import inspect
import re
import warnings

import numpy as np
import pytest

import tinyattn as ta

A = np.arange(1.0, 7.0).reshape(2, 3)
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
ERRORS = {
    "add": [
        (lambda: ta.add(A, np.ones((3, 2))), ValueError, r"must broadcast; got .*\. Is one of them transposed\?"),
        (lambda: leaf() + np.ones(2), ValueError, r"got .*float64 \(2,\)\. Is an axis .* \(2,\) \(2, 1\)"),
        (lambda: ta.add(A), TypeError, "'y' is missing"),
        (lambda: ta.add(A, A, A), TypeError, "takes 2 arguments at most; got 3"),
        (lambda: ta.add(A, A, out=A), TypeError, "takes no 'out', but no option at all"),
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
    "mean": [(lambda: ta.mean(A, dtype=int), TypeError, "takes no 'dtype', but axis, keepdims")],
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
        (lambda: ta.softmax(A, dim=0), TypeError, r"takes no 'dim', but axis\. Is it axis\?"),
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
    "sum": [(lambda: np.sum(leaf(), out=np.zeros(())), TypeError, "takes no 'out', but axis, keepdims")],
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
    "attention_weights": "attention",
    "value_and_grad": "grad",
    "hessian": "(hessian|grad|jacobian)",
    "std": "var",
    "vjp": "(vjp|backward)",
    "step_sweep": "(sweep|gradcheck)",
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
    functions = {
        name for name in ta.__all__ if callable(getattr(ta, name)) and not inspect.isclass(getattr(ta, name))
    }
    assert functions - set(ON_AN_ARRAY) - {name for name, cases in ERRORS.items() if cases} == set()
    assert set(ON_AN_ARRAY) | set(ERRORS) <= functions | {"norm"}
