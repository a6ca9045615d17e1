"""Layer norm, cross-entropy and a transformer block with their backward passes written out by hand, in NumPy alone.

    μ = (1/d) Σ_i x_i,   σ² = (1/d) Σ_i (x_i − μ)² + ε               (layer_norm.1)
    n_i = (x_i − μ) / σ,   y_i = γ_i n_i + β_i                       (layer_norm.2)

    ℓ = −Σ_j t_j log w_j,   w = softmax(s)                           (cross_entropy.1)

    middle = x + multi_head(norm₁(x))                                (block.1)
    output = middle + mlp(norm₂(middle))                             (block.2)
    mlp(y) = max(y W_expand + b_expand, 0) W_contract + b_contract   (mlp.1)

As in `attention` beside this: each forward returns a dict of all that it was given and made, by name; each
`*_backward` takes the gradient of the output and that dict, and returns the gradient in each of these. The labels are
those of `tinyattn/rules/` and `tinyattn/nn/`; what undoes (layer_norm.1) is labelled (layer_norm.1').

Nothing is checked and nothing is fast here. Ba, Kiros and Hinton 2016, arXiv:1607.06450, eq. 4; norms before the
sublayers as in Xiong et al. 2020, arXiv:2002.04745; Vaswani et al. 2017, arXiv:1706.03762, sections 3.1 and 3.3.
"""

from __future__ import annotations

import numpy as np

from tinyattn.by_hand.attention import Array, Saved, multi_head, multi_head_backward, softmax

# -- layer norm ------------------------------------------------------------------------------------------------------


def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> Saved:
    """Each row brought to mean 0 and variance 1, then scaled and shifted as learned.

    x (..., d), weight and bias (d,).

    >>> layer_norm(np.array([1.0, 3.0]), np.ones(2), np.zeros(2), eps=0.0)["output"]
    array([-1.,  1.])
    """
    centred = x - x.mean(axis=-1, keepdims=True)                                           # (layer_norm.1)
    deviation = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)            # (layer_norm.1)
    normal = centred / deviation                                                           # (layer_norm.2)
    output = normal * weight + bias                                                        # (layer_norm.2)
    made = {"centred": centred, "deviation": deviation, "normal": normal, "output": output}
    return {"x": x, "weight": weight, "bias": bias, "eps": eps} | made


def layer_norm_backward(d_output: Array, saved: Saved) -> dict[str, Array]:
    """The gradient in everything that `layer_norm` was given or made, but ε.

    >>> saved = layer_norm(np.array([1.0, 3.0]), np.ones(2), np.zeros(2), eps=0.0)
    >>> layer_norm_backward(np.array([1.0, 0.0]), saved)["d_weight"]
    array([-1.,  0.])
    """
    centred, deviation, normal = saved["centred"], saved["deviation"], saved["normal"]
    d_bias = sum_rows(d_output)                                                            # (layer_norm.2')
    d_weight = sum_rows(d_output * normal)                                                 # (layer_norm.2')
    d_normal = d_output * saved["weight"]                                                  # (layer_norm.2')
    d_deviation = -(d_normal * normal).sum(axis=-1, keepdims=True) / deviation             # (layer_norm.2')
    d_centred = d_normal / deviation                                                       # (layer_norm.2')
    d_centred = d_centred + d_deviation * centred / (deviation * centred.shape[-1])        # (layer_norm.1')
    d_x = d_centred - d_centred.mean(axis=-1, keepdims=True)                               # (layer_norm.1')
    gradients = {"d_output": d_output, "d_bias": d_bias, "d_weight": d_weight, "d_normal": d_normal}
    return gradients | {"d_deviation": d_deviation, "d_centred": d_centred, "d_x": d_x}


# -- cross-entropy ---------------------------------------------------------------------------------------------------


def cross_entropy(scores: Array, targets: Array) -> Saved:
    """The mean surprise at the targets.

    scores (..., n_classes), targets (...) whole numbers; the output is one number.

    >>> cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))["weights"]
    array([[0.5, 0.5]])
    """
    weights = softmax(scores)["weights"]                                                   # (cross_entropy.1)
    shifted = scores - scores.max(axis=-1, keepdims=True)                                  # (cross_entropy.1)
    log_weights = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))            # (cross_entropy.1)
    one_hot = np.eye(scores.shape[-1])[targets]                                            # (cross_entropy.1)
    losses = -(one_hot * log_weights).sum(axis=-1)                                         # (cross_entropy.1)
    given = {"scores": scores, "targets": targets, "one_hot": one_hot, "weights": weights}
    return given | {"log_weights": log_weights, "losses": losses, "output": losses.mean()}


def cross_entropy_backward(d_output: Array, saved: Saved) -> dict[str, Array]:
    """The gradient in the scores, and in what was made on the way.

    >>> saved = cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))
    >>> cross_entropy_backward(np.array(1.0), saved)["d_scores"]
    array([[ 0.5, -0.5]])
    """
    weights, one_hot = saved["weights"], saved["one_hot"]
    d_losses = np.ones(saved["losses"].shape) * d_output / saved["losses"].size            # (cross_entropy.1')
    d_log_weights = -one_hot * d_losses[..., None]                                         # (cross_entropy.1')
    d_scores = (weights - one_hot) * d_losses[..., None]                                   # (cross_entropy.2)
    return {"d_output": d_output, "d_losses": d_losses, "d_log_weights": d_log_weights, "d_scores": d_scores}


# -- a block ---------------------------------------------------------------------------------------------------------


def block(
    x: Array,
    weight_1: Array,
    bias_1: Array,
    w_query: Array,
    w_key: Array,
    w_value: Array,
    w_output: Array,
    weight_2: Array,
    bias_2: Array,
    w_expand: Array,
    b_expand: Array,
    w_contract: Array,
    b_contract: Array,
    *,
    n_heads: int,
    mask: Array | None = None,
    causal: bool = False,
    eps: float = 1e-5,
) -> Saved:
    """Attention, then two linear maps with a rectifier between; each behind a layer norm and beside a straight path.

    x and output (..., n, d_model); the four weights of attention as in `multi_head`; w_expand (d_model, d_ff).

    >>> zeros = {name: np.zeros((2, 2)) for name in "w_query w_key w_value w_output w_expand w_contract".split()}
    >>> zeros |= {name: np.zeros(2) for name in "weight_1 bias_1 weight_2 bias_2 b_expand b_contract".split()}
    >>> block(np.eye(2), **zeros, n_heads=1)["output"]  # the straight path alone
    array([[1., 0.],
           [0., 1.]])
    """
    first = layer_norm(x, weight_1, bias_1, eps=eps)                                       # (block.1)
    inside = multi_head(                                                                   # (block.1)
        first["output"], w_query, w_key, w_value, w_output, n_heads=n_heads, mask=mask, causal=causal)
    middle = x + inside["output"]                                                          # (block.1)
    second = layer_norm(middle, weight_2, bias_2, eps=eps)                                 # (block.2)
    hidden = second["output"] @ w_expand + b_expand                                        # (mlp.1)
    active = np.maximum(hidden, 0)                                                         # (mlp.1)
    output = middle + active @ w_contract + b_contract                                     # (block.2)
    made = {name: array for name, array in inside.items() if name not in ("x", "output", "bias")}
    made |= {f"{name}_1": first[name] for name in ("weight", "bias", "centred", "deviation", "normal")}
    made |= {f"{name}_2": second[name] for name in ("weight", "bias", "centred", "deviation", "normal")}
    made |= {"w_expand": w_expand, "b_expand": b_expand, "w_contract": w_contract, "b_contract": b_contract}
    made |= {"normed_1": first["output"], "attended": inside["output"], "middle": middle}
    made |= {"normed_2": second["output"], "hidden": hidden, "active": active, "output": output}
    return {"x": x, "eps": eps} | made


def block_backward(d_output: Array, saved: Saved) -> dict[str, Array]:
    """The gradient in everything that `block` was given or made, but what is inside the norms.

    >>> zeros = {name: np.zeros((2, 2)) for name in "w_query w_key w_value w_output w_expand w_contract".split()}
    >>> zeros |= {name: np.zeros(2) for name in "weight_1 bias_1 weight_2 bias_2 b_expand b_contract".split()}
    >>> block_backward(np.eye(2), block(np.eye(2), **zeros, n_heads=1))["d_b_contract"]
    array([1., 1.])
    """
    first = {name: saved[f"{name}_1"] for name in ("weight", "centred", "deviation", "normal")}
    second = {name: saved[f"{name}_2"] for name in ("weight", "centred", "deviation", "normal")}
    attention = saved | {"x": saved["normed_1"], "output": saved["attended"], "bias": None}

    d_b_contract = sum_rows(d_output)                                                      # (mlp.1')
    d_w_contract = rows(saved["active"]).T @ rows(d_output)                                # (mlp.1')
    d_active = d_output @ saved["w_contract"].T                                            # (mlp.1')
    d_hidden = d_active * (saved["hidden"] > 0)                                            # (mlp.1')
    d_b_expand = sum_rows(d_hidden)                                                        # (mlp.1')
    d_w_expand = rows(saved["normed_2"]).T @ rows(d_hidden)                                # (mlp.1')
    d_normed_2 = d_hidden @ saved["w_expand"].T                                            # (mlp.1')
    norm_2 = layer_norm_backward(d_normed_2, second)                                       # (block.2')
    d_middle = d_output + norm_2["d_x"]                                                    # (block.2')
    inside = multi_head_backward(d_middle, attention)                                      # (block.1')
    d_attended, d_normed_1 = inside.pop("d_output"), inside.pop("d_x")                     # (block.1')
    norm_1 = layer_norm_backward(d_normed_1, first)                                        # (block.1')
    d_x = d_middle + norm_1["d_x"]                                                         # (block.1')

    gradients = {"d_output": d_output, "d_b_contract": d_b_contract, "d_w_contract": d_w_contract}
    gradients |= {"d_active": d_active, "d_hidden": d_hidden, "d_b_expand": d_b_expand, "d_w_expand": d_w_expand}
    gradients |= {"d_normed_2": d_normed_2, "d_bias_2": norm_2["d_bias"], "d_weight_2": norm_2["d_weight"]}
    gradients |= {"d_middle": d_middle, "d_attended": d_attended} | inside
    gradients |= {"d_normed_1": d_normed_1, "d_bias_1": norm_1["d_bias"], "d_weight_1": norm_1["d_weight"]}
    return gradients | {"d_x": d_x}


def rows(x: Array) -> Array:
    """(..., d) → (all, d)."""
    return x.reshape(-1, x.shape[-1])


def sum_rows(x: Array) -> Array:
    """(..., d) → (d,): what went to every row gets back the sum.

    >>> sum_rows(np.ones((2, 3, 5)))
    array([6., 6., 6., 6., 6.])
    """
    total: Array = rows(x).sum(axis=0)
    return total
