"""The pronoun toy with its whole backward pass written out by hand, in NumPy alone: no rule, no tape.

The model reads sentences and answers, for the pronoun in each, with the word that it stands for:

    words       T = E[tokens]                                  what is said                          (model.1)
    stream      X = T + Π                                      what is said, and where               (model.2)
    block 1     N = norm(X),  X ← X + attend(N, N, N)          every place looks at every place      (model.3)
                X ← X + mlp(norm(X))                                                                 (model.4)
    block 2     N = norm(X),  r = X[pronoun]                   only the pronoun asks ...             (model.5)
                r ← r + attend(N[pronoun], N, T)               ... and is answered with words        (model.6)
                r ← r + mlp(norm(r))                                                                 (model.7)
    answer      s = norm(r) Eᵀ                                 E again: what is the answer called?   (model.8)
                L = mean over sentences of −log softmax(s)[answer]                                   (model.9)

The values of block 2 are the words T, not the stream X. What the pronoun gets from a place is then the word said
there and nothing else, so it must look where its antecedent stands. With values from the stream the model learns too,
but looks anywhere: by then block 1 has copied the nouns to other places.

Each `*_backward` undoes the numbered steps of its forward in reverse order, and the undoing of (attend.4) is labelled
(attend.4'). `docs/derivations/pronoun.md` derives every primed line. `d_x` is the gradient of the loss in `x`.

Sizes: B sentences, n words in the longest, d = d_model, h heads of d_k = d / h, v words in the vocabulary.
Parameters stand in one dict, named as in the state of the same model built on `tinyattn.nn`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Saved = tuple[Any, ...]

PADDING = 0  # the token that fills up short sentences: nobody may attend to it
EPSILON = 1e-5  # under the root in norm, so that a constant row divides by something


class Sizes(NamedTuple):
    """What fixes the shape of every parameter."""

    vocab_size: int
    max_length: int = 32
    d_model: int = 32
    n_heads: int = 4
    d_ff: int = 64


def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Every parameter's name and shape."""
    vocab_size, max_length, d, _, d_ff = sizes
    block: dict[str, tuple[int, ...]] = {f"attention.w_{name}": (d, d) for name in ("query", "key", "value", "output")}
    block |= {"expand.weight": (d, d_ff), "expand.bias": (d_ff,), "contract.weight": (d_ff, d), "contract.bias": (d,)}
    block |= {f"{norm}.{part}": (d,) for norm in ("norm_1", "norm_2") for part in ("weight", "bias")}
    blocks = {f"{name}.{part}": shape for name in ("block_1", "block_2") for part, shape in block.items()}
    ends = {"words.weight": (vocab_size, d), "positions.weight": (max_length, d)}
    return ends | blocks | {"norm.weight": (d,), "norm.bias": (d,)}


def initialize(sizes: Sizes, rng: np.random.Generator, dtype: npt.DTypeLike = np.float32) -> Arrays:
    """Fresh parameters: embeddings of standard deviation 0.3, weights of 1/√d_in, norms that change nothing.

    >>> p = initialize(Sizes(vocab_size=7), np.random.default_rng(0))
    >>> p["words.weight"].shape, p["block_1.attention.w_query"].shape
    ((7, 32), (32, 32))
    """
    p: Arrays = {}
    for name, shape in shapes(sizes).items():
        if len(shape) == 2:
            deviation = 0.3 if name in ("words.weight", "positions.weight") else 1 / math.sqrt(shape[0])
            p[name] = (deviation * rng.standard_normal(shape)).astype(dtype)
        else:
            p[name] = np.full(shape, float("norm" in name and name.endswith("weight")), dtype)
    return p


# -- the model -------------------------------------------------------------------------------------------------------


def forward(p: Arrays, tokens: Array, pronoun: Array, n_heads: int) -> tuple[Array, tuple[Array, Array], Saved]:
    """Scores (B, v) for the word meant, the attention weights of both blocks, and what `backward` needs.

    `tokens` (B, n) are word numbers filled up with PADDING, `pronoun` (B,) the place of the pronoun in each sentence.
    The weights are (B, h, n, n) in block 1, where every place asks, and (B, h, 1, n) in block 2.
    """
    at_pronoun = (np.arange(len(tokens)), pronoun)
    bias = np.where(tokens == PADDING, -np.inf, 0).astype(p["words.weight"].dtype)         # no weight to padding
    words = p["words.weight"][tokens]                                                      # (model.1)  (B, n, d)
    stream = words + p["positions.weight"][: tokens.shape[1]]                              # (model.2)  (B, n, d)

    places, norm_11 = norm(stream, p, "block_1.norm_1")                                    # (model.3)  (B, n, d)
    update, weights_1, attend_1 = attend(places, places, places, bias, n_heads, p, "block_1.attention")  # (model.3)
    stream = stream + update                                                               # (model.3)
    places, norm_12 = norm(stream, p, "block_1.norm_2")                                    # (model.4)
    update, mlp_1 = mlp(places, p, "block_1")                                              # (model.4)
    stream = stream + update                                                               # (model.4)

    places, norm_21 = norm(stream, p, "block_2.norm_1")                                    # (model.5)
    reader, asker = stream[at_pronoun], places[at_pronoun]                                 # (model.5)  (B, d)
    told, weights_2, attend_2 = attend(
        asker[:, None], places, words, bias, n_heads, p, "block_2.attention")              # (model.6)  (B, 1, d)
    reader = reader + told[:, 0]                                                           # (model.6)
    normed, norm_22 = norm(reader, p, "block_2.norm_2")                                    # (model.7)  (B, d)
    thought, mlp_2 = mlp(normed, p, "block_2")                                             # (model.7)
    reader = reader + thought                                                              # (model.7)

    normed, norm_3 = norm(reader, p, "norm")                                               # (model.8)
    scores = normed @ p["words.weight"].T                                                  # (model.8)  (B, v)
    saved = (tokens, at_pronoun, norm_11, attend_1, norm_12, mlp_1, norm_21, attend_2, norm_22, mlp_2, norm_3, normed)
    return scores, (weights_1, weights_2), saved


def backward(p: Arrays, d_scores: Array, saved: Saved, n_heads: int) -> Arrays:
    """The gradient of the loss in every parameter, from its gradient in the scores (B, v)."""
    tokens, at_pronoun, norm_11, attend_1, norm_12, mlp_1, norm_21, attend_2, norm_22, mlp_2, norm_3, normed = saved
    d_p: Arrays = {}

    d_embedding = d_scores.T @ normed                                                      # (model.8')
    d_normed = d_scores @ p["words.weight"]                                                # (model.8')
    d_reader = norm_backward(d_normed, norm_3, p, "norm", d_p)                             # (model.8')

    d_normed = mlp_backward(d_reader, mlp_2, p, "block_2", d_p)                            # (model.7')
    d_reader = d_reader + norm_backward(d_normed, norm_22, p, "block_2.norm_2", d_p)       # (model.7')
    d_asker, d_places, d_words = attend_backward(
        d_reader[:, None], attend_2, n_heads, p, "block_2.attention", d_p)                 # (model.6')
    d_places[at_pronoun] += d_asker[:, 0]                                                  # (model.5')
    d_stream = norm_backward(d_places, norm_21, p, "block_2.norm_1", d_p)                  # (model.5')
    d_stream[at_pronoun] += d_reader                                                       # (model.5')

    d_places = mlp_backward(d_stream, mlp_1, p, "block_1", d_p)                            # (model.4')
    d_stream = d_stream + norm_backward(d_places, norm_12, p, "block_1.norm_2", d_p)       # (model.4')
    d_asking, d_looked_at, d_said = attend_backward(
        d_stream, attend_1, n_heads, p, "block_1.attention", d_p)                          # (model.3')
    d_places = d_asking + d_looked_at + d_said                                             # (model.3')
    d_stream = d_stream + norm_backward(d_places, norm_11, p, "block_1.norm_1", d_p)       # (model.3')

    d_words = d_words + d_stream                                                           # (model.2')
    d_positions = np.zeros_like(p["positions.weight"])                                     # (model.2')
    d_positions[: tokens.shape[1]] = d_stream.sum(axis=0)                                  # (model.2')
    one_hot = np.eye(len(d_embedding), dtype=d_words.dtype)[tokens.reshape(-1)]            # (model.1')  (B n, v)
    d_embedding = d_embedding + one_hot.T @ d_words.reshape(len(one_hot), -1)              # (model.1')
    return d_p | {"positions.weight": d_positions, "words.weight": d_embedding}


def cross_entropy(scores: Array, answer: Array) -> tuple[float, Array]:
    """The mean surprise at the right answers, and its gradient in the scores."""
    at_answer = (np.arange(len(scores)), answer)
    shifted = scores - row_max(scores)                                                     # (model.9)  it cancels
    log_total = np.log(row_sum(np.exp(shifted)))[..., 0]                                   # (model.9)  (B,)
    loss = float((log_total - shifted[at_answer]).mean())                                  # (model.9)
    d_scores = softmax(scores)                                                             # (model.9')
    d_scores[at_answer] -= 1                                                               # (model.9')
    return loss, d_scores / len(scores)                                                    # (model.9')


def loss_and_gradients(
    p: Arrays, tokens: Array, pronoun: Array, answer: Array, n_heads: int
) -> tuple[float, Arrays]:
    """One forward and one backward pass: the loss, and its gradient in every parameter by name."""
    scores, _, saved = forward(p, tokens, pronoun, n_heads)
    loss, d_scores = cross_entropy(scores, answer)
    return loss, backward(p, d_scores, saved, n_heads)


# -- its parts -------------------------------------------------------------------------------------------------------


def attend(
    x_query: Array, x_key: Array, x_value: Array, bias: Array, n_heads: int, p: Arrays, name: str
) -> tuple[Array, Array, Saved]:
    """Multi-head attention (Vaswani et al., 2017, 3.2.2): the m places of `x_query` look at the n places of `x_key`."""
    query = split_heads(product(x_query, p[f"{name}.w_query"]), n_heads)                   # (attend.1)  (B, h, m, d_k)
    key = split_heads(product(x_key, p[f"{name}.w_key"]), n_heads)                         # (attend.2)  (B, h, n, d_k)
    value = split_heads(product(x_value, p[f"{name}.w_value"]), n_heads)                   # (attend.3)  (B, h, n, d_k)
    scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])                     # (attend.4)  (B, h, m, n)
    weights = softmax(scores + bias[:, None, None, :])                                     # (attend.5)  (B, h, m, n)
    mix = merge_heads(weights @ value)                                                     # (attend.6)  (B, m, d)
    output = product(mix, p[f"{name}.w_output"])                                           # (attend.7)  (B, m, d)
    return output, weights, (x_query, x_key, x_value, query, key, value, weights, mix)


def attend_backward(
    d_output: Array, saved: Saved, n_heads: int, p: Arrays, name: str, d_p: Arrays
) -> tuple[Array, Array, Array]:
    """The gradients in `x_query`, `x_key` and `x_value`; those in the weights go to `d_p`."""
    x_query, x_key, x_value, query, key, value, weights, mix = saved
    d_mix = product_backward(d_output, mix, p, f"{name}.w_output", d_p)                    # (attend.7')
    d_heads = split_heads(d_mix, n_heads)                                                  # (attend.6')
    d_weights = d_heads @ value.swapaxes(-1, -2)                                           # (attend.6')
    d_value = weights.swapaxes(-1, -2) @ d_heads                                           # (attend.6')
    d_scores = softmax_backward(d_weights, weights)                                        # (attend.5')
    d_scores = d_scores / math.sqrt(query.shape[-1])                                       # (attend.4')
    d_query = d_scores @ key                                                               # (attend.4')
    d_key = d_scores.swapaxes(-1, -2) @ query                                              # (attend.4')
    d_x_value = product_backward(merge_heads(d_value), x_value, p, f"{name}.w_value", d_p)  # (attend.3')
    d_x_key = product_backward(merge_heads(d_key), x_key, p, f"{name}.w_key", d_p)         # (attend.2')
    d_x_query = product_backward(merge_heads(d_query), x_query, p, f"{name}.w_query", d_p)  # (attend.1')
    return d_x_query, d_x_key, d_x_value


def softmax(scores: Array) -> Array:
    """Positive weights that sum to 1 along the last axis."""
    exp = np.exp(scores - row_max(scores))                                                 # (softmax.1)  it cancels
    weights: Array = exp / row_sum(exp)                                                    # (softmax.1)
    return weights


def softmax_backward(d_weights: Array, weights: Array) -> Array:
    """diag(w) − w wᵀ, times d_weights, without ever forming the matrix."""
    d_scores: Array = weights * (d_weights - row_sum(weights * d_weights))                 # (softmax.1')
    return d_scores


def mlp(x: Array, p: Arrays, name: str) -> tuple[Array, Saved]:
    """Two linear maps with a rectifier between them, at each place by itself."""
    hidden = product(x, p[f"{name}.expand.weight"]) + p[f"{name}.expand.bias"]             # (mlp.1)  (..., d_ff)
    active = np.maximum(hidden, 0)                                                         # (mlp.2)  (..., d_ff)
    output = product(active, p[f"{name}.contract.weight"]) + p[f"{name}.contract.bias"]    # (mlp.3)  (..., d)
    return output, (x, active)


def mlp_backward(d_output: Array, saved: Saved, p: Arrays, name: str, d_p: Arrays) -> Array:
    """The gradient in `x`; those in the weights and biases go to `d_p`."""
    x, active = saved
    d_p[f"{name}.contract.bias"] = sum_places(d_output)                                    # (mlp.3')
    d_active = product_backward(d_output, active, p, f"{name}.contract.weight", d_p)       # (mlp.3')
    d_hidden = d_active * (active > 0)                                                     # (mlp.2')
    d_p[f"{name}.expand.bias"] = sum_places(d_hidden)                                      # (mlp.1')
    return product_backward(d_hidden, x, p, f"{name}.expand.weight", d_p)                  # (mlp.1')


def norm(x: Array, p: Arrays, name: str) -> tuple[Array, Saved]:
    """Layer norm over the last axis (Ba, Kiros and Hinton, 2016): mean 0, deviation 1; then a learned scale, shift."""
    centred = x - row_sum(x) / x.shape[-1]                                                 # (norm.1)  (..., d)
    deviation = np.sqrt(row_sum(centred * centred) / x.shape[-1] + EPSILON)                # (norm.2)  (..., 1)
    normal = centred / deviation                                                           # (norm.3)  (..., d)
    return normal * p[f"{name}.weight"] + p[f"{name}.bias"], (deviation, normal)           # (norm.4)  (..., d)


def norm_backward(d_output: Array, saved: Saved, p: Arrays, name: str, d_p: Arrays) -> Array:
    """The gradient in `x`; those in scale and shift go to `d_p`."""
    deviation, normal = saved
    d_p[f"{name}.bias"] = sum_places(d_output)                                             # (norm.4')
    d_p[f"{name}.weight"] = sum_places(d_output * normal)                                  # (norm.4')
    d_normal = d_output * p[f"{name}.weight"]                                              # (norm.4')
    d_deviation = -row_sum(d_normal * normal) / deviation                                  # (norm.3')
    d_centred = d_normal / deviation                                                       # (norm.3')
    d_centred = d_centred + d_deviation * normal / normal.shape[-1]                        # (norm.2')
    d_x: Array = d_centred - row_sum(d_centred) / normal.shape[-1]                         # (norm.1')
    return d_x


def product(x: Array, weight: Array) -> Array:
    """`x @ weight` for every place of every sentence, as one product of matrices: faster than one a sentence."""
    return (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:-1], -1)                # (product.1)


def product_backward(d_output: Array, x: Array, p: Arrays, name: str, d_p: Arrays) -> Array:
    """Undo `product(x, weight)`: d_x is returned, d_weight goes to `d_p`."""
    d_p[name] = x.reshape(-1, x.shape[-1]).T @ d_output.reshape(-1, d_output.shape[-1])    # (product.1')
    return product(d_output, p[name].T)                                                    # (product.1')


# -- sums and shapes: what NumPy has already, as it is fastest for many short rows -----------------------------------


def row_sum(x: Array) -> Array:
    """`x.sum(axis=-1, keepdims=True)`, as a product with ones."""
    total: Array = x @ np.ones(x.shape[-1], x.dtype)
    return total[..., None]


def row_max(x: Array) -> Array:
    """`x.max(axis=-1, keepdims=True)`, over whole columns at once."""
    largest: Array = np.moveaxis(x, -1, 0).copy().max(axis=0)
    return largest[..., None]


def sum_places(x: Array) -> Array:
    """The sum over all places of all sentences, `x.sum(axis=(0, 1))`, as a product with ones."""
    rows = x.reshape(-1, x.shape[-1])
    return np.ones(len(rows), x.dtype) @ rows


def split_heads(x: Array, n_heads: int) -> Array:
    """(B, m, d) → (B, h, m, d_k): head i takes the i-th d_k of the d columns."""
    return x.reshape(*x.shape[:-1], n_heads, -1).swapaxes(-2, -3)


def merge_heads(x: Array) -> Array:
    """(B, h, m, d_k) → (B, m, d): the heads side by side again. Each of the two is the other's backward."""
    x = x.swapaxes(-2, -3)
    return x.reshape(*x.shape[:-2], -1)
