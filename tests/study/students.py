"""What students hand in: wrong backward passes, each with the gradient that it gets wrong and words of the hint."""

import numpy as np

from tinyattn.by_hand import attention, block


def T(x):
    return x.swapaxes(-1, -2)


def row(x):
    return x.sum(axis=-1, keepdims=True)


# ---------------------------------------------------------------------------------------------------- softmax


def softmax(formula):
    return lambda d, s: {"d_scores": formula(d, s["weights"])}


def softmax_by_the_matrix(d, s):
    w = s["weights"]
    jacobian = w[..., :, None] * (np.eye(w.shape[-1]) - w[..., None, :])
    return (jacobian @ d[..., None])[..., 0]


def softmax_without_the_mask(d, s):
    scores = np.where(np.isfinite(s["scores"]), s["scores"], 0.0)
    w = attention.softmax(scores)["weights"]
    return w * (d - row(w * d))


# ---------------------------------------------------------------------------------------------------- attention


def attended(**mistakes):
    """The backward pass of attention; each step may be replaced, and what comes after goes on from it."""

    def backward(d_output, s):
        do = {
            "d_value": lambda g: T(s["weights"]) @ d_output,
            "d_weights": lambda g: d_output @ T(s["value"]),
            "d_scores": lambda g: s["weights"] * (g["d_weights"] - row(s["weights"] * g["d_weights"])),
            "d_query": lambda g: g["d_scores"] @ s["key"] * s["scale"],
            "d_key": lambda g: T(g["d_scores"]) @ s["query"] * s["scale"],
        }
        gradients = {}
        for name, step in do.items():
            gradients[name] = mistakes[name](gradients, s) if name in mistakes else step(gradients)
        return gradients

    return backward


# ---------------------------------------------------------------------------------------------------- layer norm


def normed(**mistakes):
    """That of layer norm, from three parts."""

    def backward(d_output, s):
        normal, deviation = s["normal"], s["deviation"]

        def mean(x):
            return x.mean(axis=-1, keepdims=True)

        def sum_rows(x):
            return x.reshape(-1, x.shape[-1]).sum(axis=0)

        do = {
            "d_x": lambda d: (d - mean(d) - normal * mean(d * normal)) / deviation,
            "d_weight": lambda d: sum_rows(d_output * normal),
            "d_bias": lambda d: sum_rows(d_output),
        } | {name: (lambda d, f=f: f(d, d_output, s)) for name, f in mistakes.items()}
        return tuple(step(d_output * s["weight"]) for step in do.values())

    return backward


def mean(x, axis=-1):
    return x.mean(axis=axis, keepdims=True)


# ---------------------------------------------------------------------------------------------------- the others


def surprised(formula):
    return lambda d, s: formula(d / s["losses"].size, s["weights"], s["one_hot"], s)


def changed(backward, **mistakes):
    """A right backward pass in which some gradients are replaced, and nothing follows."""

    def spoilt(d_output, s):
        g = backward(d_output, s)
        return g | {name: f(g, s) for name, f in mistakes.items()}

    return spoilt


def attention_but(**mistakes):
    return changed(attention.attention_backward, **mistakes)


def multi_head(**mistakes):
    return changed(attention.multi_head_backward, **mistakes)


def of_block(**mistakes):
    return changed(block.block_backward, **mistakes)


def heads_without_exchange(g, s):
    return g["d_mix"].reshape(s["heads"].shape)


# exercise, what is handed in, the first gradient that is wrong, words of the hint about the term
WRONG = {
    "row sum missing": ("softmax", softmax(lambda d, w: w * d), "d_scores",
                        "from all weights of the row is missing"),
    "row sum added": ("softmax", softmax(lambda d, w: w * (d + row(w * d))), "d_scores",
                      "from all weights of the row has the wrong sign"),
    "row sum twice": ("softmax", softmax(lambda d, w: w * (d - 2 * row(w * d))), "d_scores",
                      "from all weights of the row is there twice"),
    "row sum alone": ("softmax", softmax(lambda d, w: -w * row(w * d)), "d_scores",
                      "from a weight to its own score is missing"),
    "sign": ("softmax", softmax(lambda d, w: w * (row(w * d) - d)), "d_scores", "right but for their sign"),
    "another axis": ("softmax", softmax(lambda d, w: w * (d - (w * d).sum(axis=-2, keepdims=True))), "d_scores",
                     "runs along axis -2"),
    "everything": ("softmax", softmax(lambda d, w: w * (d - (w * d).sum())), "d_scores", "runs over everything"),
    "mean for sum": ("softmax", softmax(lambda d, w: w * (d - mean(w * d))), "d_scores",
                     "the row is 1 / scores.shape[-1] times"),
    "unweighted sum": ("softmax", softmax(lambda d, w: w * (d - row(d))), "d_scores", "as much as its weight"),
    "unweighted mean": ("softmax", softmax(lambda d, w: w * (d - mean(d))), "d_scores", "counts each gradient alike"),
    "diagonal": ("softmax", softmax(lambda d, w: w * (1 - w) * d), "d_scores", "to its own score only"),
    "weights forgotten": ("softmax", softmax(lambda d, w: d - row(w * d)), "d_scores",
                          "how much weight the key itself has"),
    "of the logarithm": ("softmax", softmax(lambda d, w: d - w * row(d)), "d_scores", "logarithm"),
    "weights twice": ("softmax", softmax(lambda d, w: w * w * (d - row(w * d))), "d_scores",
                      "times saved['weights']"),
    "zero": ("softmax", softmax(lambda d, w: 0 * d), "d_scores", "zero everywhere"),
    "next to zero": ("softmax", softmax(lambda d, w: 1e-320 * d), "d_scores", "zero everywhere, but for round-off"),
    "unchanged": ("softmax", softmax(lambda d, w: d), "d_scores", "those of d_weights"),
    "half": ("softmax", softmax(lambda d, w: w * (d - row(w * d)) / 2), "d_scores", "0.5 times"),
    "a batch forgotten": ("softmax", softmax(lambda d, w: (w * (d - row(w * d)))[..., :1, :]), "d_scores",
                          "the shape has to be right"),
    "no number": ("softmax", lambda d, s: d * s["scores"], "d_scores", "isn't finite at"),
    "of the mask": ("softmax", softmax_without_the_mask, "d_scores", "It is right in 'plain', 'a matrix' and"),
    "no scale in query": ("attention", attended(d_query=lambda g, s: g["d_scores"] @ s["key"]), "d_query",
                          "1 / saved['scale'] times"),
    "scale twice in key": ("attention", attended(d_key=lambda g, s: T(g["d_scores"]) @ s["query"] * s["scale"] ** 2),
                           "d_key", "is saved['scale'] times"),
    "d_weights for d_scores": ("attention", attended(d_query=lambda g, s: g["d_weights"] @ s["key"] * s["scale"]),
                               "d_query", "d_weights stands where d_scores belongs"),
    "weights for d_scores": ("attention", attended(d_key=lambda g, s: T(s["weights"]) @ s["query"] * s["scale"]),
                             "d_key", "saved['weights'] stands where d_scores belongs"),
    "heads in another order": ("attention", attention_but(d_value=lambda g, s: g["d_value"][::-1]), "d_value",
                               "heads stand in another order"),
    "d_value transposed": ("attention", attention_but(d_value=lambda g, s: T(g["d_value"])), "d_value",
                           "stand transposed"),
    "row sum in attention": ("attention", attended(d_scores=lambda g, s: s["weights"] * g["d_weights"]), "d_scores",
                             "from all weights of the row is missing"),
    "sum over the queries": ("attention", attended(d_scores=lambda g, s: s["weights"] * (
        g["d_weights"] - (s["weights"] * g["d_weights"]).sum(axis=-2, keepdims=True))), "d_scores", "axis -2"),
    "mean a constant": ("layer_norm", normed(d_x=lambda d, g, s: (d - s["normal"] * mean(d * s["normal"]))
                                             / s["deviation"]), "d_x", "through the mean is missing"),
    "variance a constant": ("layer_norm", normed(d_x=lambda d, g, s: (d - mean(d)) / s["deviation"]), "d_x",
                            "through the deviation is missing"),
    "both constants": ("layer_norm", normed(d_x=lambda d, g, s: d / s["deviation"]), "d_x",
                       "through the mean is missing; the part through the deviation is missing"),
    "sums for means": ("layer_norm", normed(d_x=lambda d, g, s: (d - row(d) - s["normal"] * row(d * s["normal"]))
                                            / s["deviation"]), "d_x", "the mean is x.shape[-1] times"),
    "norm of columns": ("layer_norm", normed(d_x=lambda d, g, s: (
        d - mean(d, -2) - s["normal"] * mean(d * s["normal"], -2)) / s["deviation"]), "d_x", "axis -2"),
    "no deviation": ("layer_norm", normed(d_x=lambda d, g, s: d - mean(d) - s["normal"] * mean(d * s["normal"])),
                     "d_x", "times saved['deviation']"),
    "weight skipped": ("layer_norm", normed(d_x=lambda d, g, s: (g - mean(g) - s["normal"] * mean(g * s["normal"]))
                                            / s["deviation"]), "d_x", "learned weight"),
    "weight not summed": ("layer_norm", normed(d_weight=lambda d, g, s: g * s["normal"]), "d_weight",
                          "aren't added up yet"),
    "bias a mean": ("layer_norm", normed(d_bias=lambda d, g, s: g.reshape(-1, g.shape[-1]).mean(axis=0)), "d_bias",
                    "1 / the number of rows"),
    "weight of centred": ("layer_norm", normed(d_weight=lambda d, g, s: (g * s["centred"]).reshape(
        -1, g.shape[-1]).sum(axis=0)), "d_weight", "saved['centred'] stands where saved['normal'] belongs"),
    "loss not divided": ("cross_entropy", lambda d, s: (s["weights"] - s["one_hot"]) * d, "d_scores", "losses.size"),
    "loss ignored": ("cross_entropy", lambda d, s: (s["weights"] - s["one_hot"]) / s["losses"].size, "d_scores",
                     "1 / d_output"),
    "no target": ("cross_entropy", surprised(lambda d, w, t, s: w * d), "d_scores", "from the target is missing"),
    "at the weights": ("cross_entropy", surprised(lambda d, w, t, s: -t / w * d), "d_scores", "divided by zero"),
    "target alone": ("cross_entropy", surprised(lambda d, w, t, s: -t * d), "d_scores",
                     "through the weights is missing"),
    "target beside": ("cross_entropy", surprised(lambda d, w, t, s: (w - np.roll(t, -1, axis=-1)) * d),
                      "d_scores", "beside the target"),
    "loss sign": ("cross_entropy", surprised(lambda d, w, t, s: (t - w) * d), "d_scores", "sign"),
    "heads cut wrongly": ("multi_head", multi_head(d_heads=heads_without_exchange), "d_heads", "rows and heads mix"),
    "key's path forgotten": ("multi_head", multi_head(
        d_x=lambda g, s: g["d_x"] - attention.merge_heads(g["d_key"]) @ s["w_key"].T), "d_x",
                             "through key is missing"),
    "value's path twice": ("multi_head", multi_head(
        d_x=lambda g, s: g["d_x"] + attention.merge_heads(g["d_value"]) @ s["w_value"].T), "d_x",
                           "through value is there twice"),
    "weights not summed over a batch": ("multi_head", multi_head(
        d_w_output=lambda g, s: T(s["mix"]) @ g["d_output"]), "d_w_output", "aren't added up yet"),
    "residual forgotten": ("block", of_block(d_x=lambda g, s: g["d_x"] - g["d_middle"]), "d_x",
                           "through middle is missing"),
    "straight path alone": ("block", of_block(d_middle=lambda g, s: g["d_output"]), "d_middle",
                            "the part straight through the norm is missing; the part through the mean"),
    "rectifier forgotten": ("block", of_block(d_hidden=lambda g, s: g["d_active"]), "d_hidden",
                            "lets through what it should hold back"),
    "rectified for its slope": ("block", of_block(d_hidden=lambda g, s: g["d_active"] * s["active"]), "d_hidden",
                                "its slope is due"),
    "hidden for its slope": ("block", of_block(d_hidden=lambda g, s: g["d_active"] * s["hidden"]), "d_hidden",
                             "what went into the rectifier; its slope is due"),
    "x for its norm": ("block", of_block(d_w_query=lambda g, s: block.rows(s["x"]).T @ block.rows(
        attention.merge_heads(g["d_query"]))), "d_w_query", "saved['x'] stands where saved['normed_1'] belongs"),
}  # fmt: skip
