"""The pronoun toy with its whole backward pass written out by hand, in NumPy alone: no rule, no tape.

The model reads sentences and answers, for the pronoun in each, with the word that it stands for:

    words       W = E[tokens]                                  what is said                          (model.1)
    stream      X = W + P                                      what is said, and where               (model.2)
    block 1     N = norm(X),  X ← X + attend(N, N, N)          every place looks at every place      (model.3)
                X ← X + mlp(norm(X))                                                                 (model.4)
    block 2     N = norm(X),  r = X[pronoun]                   only the pronoun asks ...             (model.5)
                r ← r + attend(N[pronoun], N, W)               ... and is answered with words        (model.6)
                r ← r + mlp(norm(r))                                                                 (model.7)
    answer      s = norm(r) Eᵀ                                 the embedding, used a second time     (model.8)
                L = mean over sentences of −log softmax(s)[answer]                                   (model.9)

The values of block 2 are the words W, not the stream X. What the pronoun gets from a place is then the word said
there and nothing else, so it must look where its antecedent stands. With values from the stream the model learns too,
but looks anywhere: by then block 1 has copied the nouns to other places.

Each `*_backward` undoes the numbered steps of its forward in reverse order, and the undoing of (attend.4) is labelled
(attend.4'). `docs/derivations/pronoun.md` derives every primed line. `d_x` is the gradient of the loss in `x`.

Sizes: B sentences, n words in the longest, d = d_model, h heads of d_k = d / h, V words in the vocabulary.
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


def initialize(sizes: Sizes, rng: np.random.Generator, dtype: npt.DTypeLike = np.float32) -> Arrays:
    """Fresh parameters: embeddings of standard deviation 0.3, weights of 1/√d_in, norms that change nothing.

    >>> p = initialize(Sizes(vocab_size=7), np.random.default_rng(0))
    >>> p["words.weight"].shape, p["block_1.attention.w_query"].shape
    ((7, 32), (32, 32))
    """
    vocab_size, max_length, d, _, d_ff = sizes

    def normal(d_in: int, d_out: int, deviation: float) -> Array:
        return (deviation * rng.standard_normal((d_in, d_out))).astype(dtype)

    p = {"words.weight": normal(vocab_size, d, 0.3), "positions.weight": normal(max_length, d, 0.3)}
    for block in ("block_1", "block_2"):
        for name in ("w_query", "w_key", "w_value", "w_output"):
            p[f"{block}.attention.{name}"] = normal(d, d, 1 / math.sqrt(d))
        for name, d_in, d_out in (("expand", d, d_ff), ("contract", d_ff, d)):
            p[f"{block}.{name}.weight"] = normal(d_in, d_out, 1 / math.sqrt(d_in))
            p[f"{block}.{name}.bias"] = np.zeros(d_out, dtype)
    for name in ("block_1.norm_1", "block_1.norm_2", "block_2.norm_1", "block_2.norm_2", "norm"):
        p[f"{name}.weight"], p[f"{name}.bias"] = np.ones(d, dtype), np.zeros(d, dtype)
    return p


# -- the model -------------------------------------------------------------------------------------------------------


def forward(p: Arrays, tokens: Array, pronoun: Array, n_heads: int) -> tuple[Array, tuple[Array, Array], Saved]:
    """Scores (B, V) for the word meant, the attention weights of both blocks, and what `backward` needs.

    `tokens` (B, n) are word numbers filled up with PADDING, `pronoun` (B,) the place of the pronoun in each sentence.
    The weights are (B, h, n, n) in block 1, where every place asks, and (B, h, 1, n) in block 2.
    """
    at_pronoun = (np.arange(len(tokens)), pronoun)
    hidden = np.where(tokens == PADDING, -np.inf, 0).astype(p["words.weight"].dtype)       # added to scores
    words = p["words.weight"][tokens]                                                      # (model.1)  (B, n, d)
    stream = words + p["positions.weight"][: tokens.shape[1]]                              # (model.2)  (B, n, d)

    seen, norm_11 = norm(stream, p, "block_1.norm_1")
    update, weights_1, attend_1 = attend(seen, seen, seen, hidden, n_heads, p, "block_1.attention")
    stream = stream + update                                                               # (model.3)  (B, n, d)
    seen, norm_12 = norm(stream, p, "block_1.norm_2")
    update, mlp_1 = mlp(seen, p, "block_1")
    stream = stream + update                                                               # (model.4)  (B, n, d)

    seen, norm_21 = norm(stream, p, "block_2.norm_1")
    reader, asked = stream[at_pronoun], seen[at_pronoun]                                   # (model.5)  (B, d)
    update, weights_2, attend_2 = attend(asked[:, None], seen, words, hidden, n_heads, p, "block_2.attention")
    reader = reader + update[:, 0]                                                         # (model.6)  (B, d)
    seen, norm_22 = norm(reader, p, "block_2.norm_2")
    update, mlp_2 = mlp(seen, p, "block_2")
    reader = reader + update                                                               # (model.7)  (B, d)

    read, norm_3 = norm(reader, p, "norm")
    scores = read @ p["words.weight"].T                                                    # (model.8)  (B, V)
    saved = (tokens, at_pronoun, norm_11, attend_1, norm_12, mlp_1, norm_21, attend_2, norm_22, mlp_2, norm_3, read)
    return scores, (weights_1, weights_2), saved


def backward(p: Arrays, d_scores: Array, saved: Saved, n_heads: int) -> Arrays:
    """The gradient of the loss in every parameter, from its gradient in the scores (B, V)."""
    tokens, at_pronoun, norm_11, attend_1, norm_12, mlp_1, norm_21, attend_2, norm_22, mlp_2, norm_3, read = saved
    d_p: Arrays = {}

    d_read = d_scores @ p["words.weight"]                                                  # (model.8')
    d_embedding = d_scores.T @ read                                                        # (model.8')
    d_reader = norm_backward(d_read, norm_3, p, "norm", d_p)

    d_seen = mlp_backward(d_reader, mlp_2, p, "block_2", d_p)                              # (model.7')
    d_reader = d_reader + norm_backward(d_seen, norm_22, p, "block_2.norm_2", d_p)         # (model.7')
    d_asked, d_seen, d_words = attend_backward(
        d_reader[:, None], attend_2, n_heads, p, "block_2.attention", d_p)                 # (model.6')
    d_seen[at_pronoun] += d_asked[:, 0]                                                    # (model.5')
    d_stream = norm_backward(d_seen, norm_21, p, "block_2.norm_1", d_p)                    # (model.5')
    d_stream[at_pronoun] += d_reader                                                       # (model.5')

    d_seen = mlp_backward(d_stream, mlp_1, p, "block_1", d_p)                              # (model.4')
    d_stream = d_stream + norm_backward(d_seen, norm_12, p, "block_1.norm_2", d_p)         # (model.4')
    d_asked, d_keys, d_values = attend_backward(
        d_stream, attend_1, n_heads, p, "block_1.attention", d_p)                          # (model.3')
    d_seen = d_asked + d_keys + d_values                                                   # (model.3')
    d_stream = d_stream + norm_backward(d_seen, norm_11, p, "block_1.norm_1", d_p)         # (model.3')

    d_positions = np.zeros_like(p["positions.weight"])
    d_positions[: tokens.shape[1]] = d_stream.sum(axis=0)                                  # (model.2')
    d_words = d_words + d_stream                                                           # (model.2')
    said = np.eye(len(d_embedding), dtype=d_words.dtype)[tokens.reshape(-1)]               # one-hot (B n, V)
    d_embedding = d_embedding + said.T @ d_words.reshape(len(said), -1)                    # (model.1')
    return d_p | {"positions.weight": d_positions, "words.weight": d_embedding}


def cross_entropy(scores: Array, answer: Array) -> tuple[float, Array]:
    """The mean surprise at the right answers, and its gradient in the scores."""
    at_answer = (np.arange(len(scores)), answer)
    shifted = scores - row_max(scores)
    log_total = np.log(np.exp(shifted).sum(axis=-1))
    loss = float((log_total - shifted[at_answer]).mean())                                  # (model.9)
    d_scores = softmax(scores)
    d_scores[at_answer] -= 1
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
    asked: Array, keys: Array, values: Array, hidden: Array, n_heads: int, p: Arrays, name: str
) -> tuple[Array, Array, Saved]:
    """Multi-head attention (Vaswani et al., 2017, 3.2.2): m places of `asked` look at n places of `keys`."""
    query = split_heads(product(asked, p[f"{name}.w_query"]), n_heads)                     # (attend.1)  (B, h, m, d_k)
    key = split_heads(product(keys, p[f"{name}.w_key"]), n_heads)                          # (attend.2)  (B, h, n, d_k)
    value = split_heads(product(values, p[f"{name}.w_value"]), n_heads)                    # (attend.3)  (B, h, n, d_k)
    scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])                     # (attend.4)  (B, h, m, n)
    weights = softmax(scores + hidden[:, None, None, :])                                   # (attend.5)  (B, h, m, n)
    mix = merge_heads(weights @ value)                                                     # (attend.6)  (B, m, d)
    output = product(mix, p[f"{name}.w_output"])                                           # (attend.7)  (B, m, d)
    return output, weights, (asked, keys, values, query, key, value, weights, mix)


def attend_backward(
    d_output: Array, saved: Saved, n_heads: int, p: Arrays, name: str, d_p: Arrays
) -> tuple[Array, Array, Array]:
    """The gradients in `asked`, `keys` and `values`; those in the weights go to `d_p`."""
    asked, keys, values, query, key, value, weights, mix = saved
    d_mix = product_backward(d_output, mix, p, f"{name}.w_output", d_p)                    # (attend.7')
    d_mix = split_heads(d_mix, n_heads)                                                    # (attend.6')
    d_weights = d_mix @ value.swapaxes(-1, -2)                                             # (attend.6')
    d_value = weights.swapaxes(-1, -2) @ d_mix                                             # (attend.6')
    d_scores = softmax_backward(d_weights, weights)                                        # (attend.5')
    d_scores = d_scores / math.sqrt(query.shape[-1])                                       # (attend.4')
    d_query = d_scores @ key                                                               # (attend.4')
    d_key = d_scores.swapaxes(-1, -2) @ query                                              # (attend.4')
    d_values = product_backward(merge_heads(d_value), values, p, f"{name}.w_value", d_p)   # (attend.3')
    d_keys = product_backward(merge_heads(d_key), keys, p, f"{name}.w_key", d_p)           # (attend.2')
    d_asked = product_backward(merge_heads(d_query), asked, p, f"{name}.w_query", d_p)     # (attend.1')
    return d_asked, d_keys, d_values


def softmax(scores: Array) -> Array:
    """Positive weights that sum to 1 along the last axis."""
    exp = np.exp(scores - row_max(scores))                                                 # the shift cancels
    weights: Array = exp / exp.sum(axis=-1, keepdims=True)                                 # (softmax.1)
    return weights


def softmax_backward(d_weights: Array, weights: Array) -> Array:
    """diag(w) − w wᵀ, times d_weights, without ever forming the matrix."""
    mean = (weights * d_weights).sum(axis=-1, keepdims=True)                               # the weighted mean
    d_scores: Array = weights * (d_weights - mean)                                         # (softmax.1')
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
    d_p[f"{name}.contract.bias"] = sum_rows(d_output)                                      # (mlp.3')
    d_active = product_backward(d_output, active, p, f"{name}.contract.weight", d_p)       # (mlp.3')
    d_hidden = d_active * (active > 0)                                                     # (mlp.2')
    d_p[f"{name}.expand.bias"] = sum_rows(d_hidden)                                        # (mlp.1')
    return product_backward(d_hidden, x, p, f"{name}.expand.weight", d_p)                  # (mlp.1')


def norm(x: Array, p: Arrays, name: str) -> tuple[Array, Saved]:
    """Layer norm over the last axis (Ba, Kiros and Hinton, 2016): mean 0, deviation 1; then a learned scale, shift."""
    mean = np.full(x.shape[-1], 1 / x.shape[-1], x.dtype)                                  # x @ mean: each row's mean
    centred = x - (x @ mean)[..., None]                                                    # (norm.1)  (..., d)
    deviation = np.sqrt((centred * centred) @ mean + EPSILON)[..., None]                   # (norm.2)  (..., 1)
    normal = centred / deviation                                                           # (norm.3)  (..., d)
    return normal * p[f"{name}.weight"] + p[f"{name}.bias"], (mean, deviation, normal)     # (norm.4)  (..., d)


def norm_backward(d_output: Array, saved: Saved, p: Arrays, name: str, d_p: Arrays) -> Array:
    """The gradient in `x`; those in scale and shift go to `d_p`."""
    mean, deviation, normal = saved
    d_p[f"{name}.bias"] = sum_rows(d_output)                                               # (norm.4')
    d_p[f"{name}.weight"] = sum_rows(d_output * normal)                                    # (norm.4')
    d_normal = d_output * p[f"{name}.weight"]                                              # (norm.4')
    along_normal = ((d_normal * normal) @ mean)[..., None]                                 # (norm.2')
    d_centred = (d_normal - normal * along_normal) / deviation                             # (norm.3')
    d_x: Array = d_centred - (d_centred @ mean)[..., None]                                 # (norm.1')
    return d_x


def product(x: Array, weight: Array) -> Array:
    """`x @ weight` for every place of every sentence, as one product of matrices: faster than one a sentence."""
    return (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:-1], -1)                # (product.1)


def product_backward(d_output: Array, x: Array, p: Arrays, name: str, d_p: Arrays) -> Array:
    """Undo `product(x, weight)`: d_x is returned, d_weight goes to `d_p`."""
    d_p[name] = x.reshape(-1, x.shape[-1]).T @ d_output.reshape(-1, d_output.shape[-1])    # (product.1')
    return product(d_output, p[name].T)                                                    # (product.1')


def sum_rows(x: Array) -> Array:
    """The sum over all places of all sentences, as a product with ones: faster than `x.sum(axis=(0, 1))`."""
    rows = x.reshape(-1, x.shape[-1])
    return np.ones(len(rows), x.dtype) @ rows


def row_max(scores: Array) -> Array:
    """The maximum along the last axis: `max(axis=-1, keepdims=True)`, eight times faster where rows are short."""
    largest: Array = np.moveaxis(scores, -1, 0).copy().max(axis=0)
    return largest[..., None]


def split_heads(x: Array, n_heads: int) -> Array:
    """(B, m, d) → (B, h, m, d_k): head i takes the i-th d_k of the d columns."""
    return x.reshape(*x.shape[:-1], n_heads, -1).swapaxes(-2, -3)


def merge_heads(x: Array) -> Array:
    """(B, h, m, d_k) → (B, m, d): the heads side by side again. Each of the two is the other's backward."""
    x = x.swapaxes(-2, -3)
    return x.reshape(*x.shape[:-2], -1)
