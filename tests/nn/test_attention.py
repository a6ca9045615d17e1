"""Multi-head attention: what it's made of, its options, its cache and heads; and PyTorch's beside it."""

import numpy as np
import pytest

import tinyattn as ta
from tinyattn import nn

F64 = {"dtype": np.float64}
OPTIONS = {
    "plain": {},
    "without bias": {"bias": False},
    "shared keys": {"n_kv_heads": 2},
    "one head of keys": {"n_kv_heads": 1},
    "sizes": {"d_k": 6, "d_v": 5, "n_kv_heads": 2},
    "norms of queries and keys": {"qk_norm": True},
    "rotary": {"rope": True},
    "rotary, another base": {"rope": 50.0, "n_kv_heads": 2},
    "window and softcap": {"window": (3, 1), "softcap": 2.0},
    "sinks": {"sinks": True},
    "everything": {
        "n_kv_heads": 2, "d_k": 6, "d_v": 3, "qk_norm": True, "rope": True, "window": (3, 0), "softcap": 2.0,
        "sinks": True, "scale": 0.7,
    },
}  # fmt: skip


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def made(rng, options, d_model=8, n_heads=4):
    """A layer whose parameters are all random."""
    layer = nn.MultiHeadAttention(d_model, n_heads, **options, rng=rng, **F64)
    layer.load_state_dict({name: rng.normal(size=x.shape) * 0.7 for name, x in layer.state_dict().items()})
    return layer


def with_parameters(layer, values):
    """The layer with Tensors in place of its parameters, and what gives the old ones back."""
    for (name, _), value in zip(list(layer.named_parameters()), values, strict=True):
        *path, last = name.split(".")
        owner = layer
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, last, value)
    return layer


@pytest.mark.parametrize("about", OPTIONS)
def test_the_gradient_of_every_parameter(rng, about):
    layer = made(rng, OPTIONS[about])
    x, source = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 7, 8))
    arrays = [x, source, *(parameter.numpy() for parameter in layer.parameters())]

    def f(x, source, *parameters):
        other = with_parameters(made(np.random.default_rng(1), OPTIONS[about]), parameters)
        return other(x, source, causal=True)

    report = ta.gradcheck(f, tuple(arrays), analytic=False)
    assert report, report


@pytest.mark.parametrize("about", OPTIONS)
def test_the_formula_head_by_head(rng, about):
    """(multi_head.1) and (multi_head.2), written out; each head of queries has its head of keys."""
    options = OPTIONS[about]
    layer = made(rng, options)
    x = rng.normal(size=(5, 8))
    state = layer.state_dict()
    n_kv_heads = options.get("n_kv_heads", 4)
    share = 4 // n_kv_heads

    def part(name, x, h, d):
        columns = slice(h * d, (h + 1) * d)
        return x @ state[f"w_{name}"][:, columns] + (state[f"b_{name}"][columns] if f"b_{name}" in state else 0.0)

    mixed = []
    for h in range(4):
        query, key = part("query", x, h, layer.d_k), part("key", x, h // share, layer.d_k)
        if layer.norm_query is not None:
            query, key = (
                y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-5) * state[f"norm_{name}.weight"]
                for name, y in (("query", query), ("key", key))
            )
        if "rope" in options:
            base = 10000.0 if options["rope"] is True else options["rope"]
            query, key = ta.rope(query, base=base), ta.rope(key, base=base)
        value = part("value", x, h // share, layer.d_v)
        sinks = {"sinks": state["sinks"][h : h + 1]} if "sinks" in state else {}
        options_of_one = {name: options[name] for name in ("window", "softcap", "scale") if name in options}
        one = ta.attention(query[None], key[None], value[None], causal=True, **sinks, **options_of_one)
        mixed.append(one[0])
    expected = np.concatenate(mixed, axis=-1) @ state["w_output"] + state.get("b_output", 0.0)
    np.testing.assert_allclose(layer(x, causal=True).numpy(), expected, rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------------------------------------------- the cache


@pytest.mark.parametrize("about", OPTIONS)
@pytest.mark.parametrize("steps", [(1,) * 7, (3, 1, 1, 2), (7,)])
def test_step_by_step_is_all_at_once(rng, about, steps):
    layer = made(rng, OPTIONS[about])
    x = rng.normal(size=(2, 7, 8))
    expected, expected_weights = layer(x, causal=True, return_weights=True)
    cache, found, start = nn.KeyValueCache(), [], 0
    for n in steps:
        output, weights = layer(x[:, start : start + n], cache=cache, causal=True, return_weights=True)
        found.append(output.numpy())
        start += n
        assert cache.length == start
        of_step = expected_weights.numpy()[..., start - n : start, :start]
        np.testing.assert_allclose(weights.numpy(), of_step, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected.numpy(), rtol=1e-9, atol=1e-11)


def test_gradients_go_through_a_cache(rng):
    layer = made(rng, {"rope": True})
    x = rng.normal(size=(5, 8))

    def by_steps(x):
        cache = nn.KeyValueCache()
        return ta.concatenate([layer(x[i : i + 1], cache=cache, causal=True) for i in range(5)])

    d_output = rng.normal(size=(5, 8))
    (by_step,) = ta.vjp(by_steps, x)[1](d_output)
    (at_once,) = ta.vjp(lambda x: layer(x, causal=True), x)[1](d_output)
    np.testing.assert_allclose(by_step.numpy(), at_once.numpy(), rtol=1e-9, atol=1e-11)


def test_a_cache_of_another_batch(rng):
    layer, cache = made(rng, {}), nn.KeyValueCache()
    layer(rng.normal(size=(2, 1, 8)), cache=cache)
    with pytest.raises(ValueError, match=r"^KeyValueCache: it keeps float64 \(2, 4, 1, 2\), .*: another batch"):
        layer(rng.normal(size=(3, 1, 8)), cache=cache)


# ---------------------------------------------------------------------------------------------------- heads


def test_shared_keys_are_repeated_keys(rng):
    shared, full = made(rng, {"n_kv_heads": 2}), nn.MultiHeadAttention(8, 4, rng=0, **F64)
    state = shared.state_dict()
    for name in ("w_key", "w_value", "b_key", "b_value"):
        blocks = state[name].reshape(*state[name].shape[:-1], 2, 2)
        state[name] = np.repeat(blocks, 2, axis=-2).reshape(*state[name].shape[:-1], 8)
    full.load_state_dict(state)
    x = rng.normal(size=(2, 5, 8))
    np.testing.assert_allclose(shared(x).numpy(), full(x).numpy(), rtol=1e-12)


@pytest.mark.parametrize("about", OPTIONS)
def test_a_head_of_weight_zero_is_a_head_pruned(rng, about):
    options = OPTIONS[about]
    layer = made(rng, options)
    x = rng.normal(size=(2, 5, 8))
    gone = {4: [1, 2], 2: [2, 3], 1: [0, 3]}[layer.n_kv_heads]
    weights = np.ones(4)
    weights[gone] = 0.0
    expected = layer(x, causal=True, head_weights=weights).numpy()
    n_before = sum(parameter.size for parameter in layer.parameters())
    layer.prune_heads(gone)
    assert layer.n_heads == 2
    np.testing.assert_allclose(layer(x, causal=True).numpy(), expected, rtol=1e-12, atol=1e-13)
    assert sum(parameter.size for parameter in layer.parameters()) < n_before
    assert all(parameter.requires_grad for parameter in layer.parameters())
    _, weights = layer(x, return_weights=True)
    assert weights.shape == (2, 2, 5, 5)


def test_one_head_of_each_group_may_go(rng):
    layer = made(rng, {"n_kv_heads": 2})
    x = rng.normal(size=(5, 8))
    expected = layer(x, head_weights=[0.0, 1.0, 1.0, 0.0]).numpy()
    layer.prune_heads([0, 3])
    assert (layer.n_heads, layer.n_kv_heads) == (2, 2)
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-12)


def test_how_much_a_head_matters(rng):
    """The gradient of a head's weight: what the output would change by without it, for a linear loss."""
    layer = made(rng, {})
    x, d_output = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 5, 8))
    ones = ta.tensor(np.ones(4), requires_grad=True)
    (layer(x, head_weights=ones) * d_output).sum().backward()
    whole = (layer(x) * d_output).sum().item()
    for h in range(4):
        without = np.ones(4)
        without[h] = 0.0
        lost = whole - (layer(x, head_weights=without) * d_output).sum().item()
        np.testing.assert_allclose(ones.grad.numpy()[h], lost, rtol=1e-9)
    per_batch = layer(x, head_weights=np.array([[1.0, 1.0, 0.0, 1.0], [1.0] * 4])).numpy()
    np.testing.assert_allclose(per_batch[1], layer(x).numpy()[1], rtol=1e-12)


def test_heads_that_can_not_be_pruned(rng):
    layer = made(rng, {"n_kv_heads": 2})
    before = layer.state_dict()
    for heads, kind, told in (
        ([4], ValueError, r"prune_heads: there are heads 0 … 3; got 4"),
        ([-1], ValueError, "prune_heads: there are heads"),
        (["0"], TypeError, "prune_heads: heads are whole numbers; got '0'"),
        ([True], TypeError, "prune_heads: heads are whole numbers"),
        (range(4), ValueError, "prune_heads: all heads would go"),
        ([0], ValueError, r"2 share each head of keys, and of those would stay \[1, 2\]"),
    ):
        with pytest.raises(kind, match=told):
            layer.prune_heads(heads)
    layer.prune_heads([])
    assert all(np.array_equal(layer.state_dict()[name], x) for name, x in before.items())


# ---------------------------------------------------------------------------------------------------- others


def test_dropout_is_for_training(rng):
    layer = nn.MultiHeadAttention(8, 4, dropout=0.5, rng=0, **F64)
    x = rng.normal(size=(5, 8))
    first, second = layer(x).numpy(), layer(x).numpy()
    assert not np.array_equal(first, second)
    layer.eval()
    np.testing.assert_array_equal(layer(x).numpy(), layer(x).numpy())


def test_a_source_of_another_width(rng):
    layer = nn.MultiHeadAttention(8, 4, d_source=3, rng=0, **F64)
    source = rng.normal(size=(2, 7, 3))
    assert layer(rng.normal(size=(2, 5, 8)), source).shape == (2, 5, 8)
    other = source.copy()
    other[:, 6] = np.nan
    seen = np.arange(7) < 6
    x = rng.normal(size=(2, 5, 8))
    assert np.isfinite(layer(x, other, mask=seen).numpy()).all()


@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        ({"n_kv_heads": 3}, ValueError, "n_kv_heads must divide n_heads; got 3 for 4 heads"),
        ({"n_kv_heads": 0}, ValueError, "n_kv_heads must be 1 or more; got 0"),
        ({"d_k": 3, "rope": True}, ValueError, "d_k must be even; got 3"),
        ({"rope": -1.0}, ValueError, "rope must be True, or a base greater than 0; got -1.0"),
        ({"rope": "yes"}, TypeError, "rope must be a number; got 'yes'"),
        ({"bias": 1}, TypeError, "bias must be True or False; got 1"),
        ({"qk_norm": "rms"}, TypeError, "qk_norm must be True or False; got 'rms'"),
        ({"window": 3}, TypeError, r"window must be \(left, right\)"),
        ({"softcap": -2.0}, ValueError, "softcap must be greater than 0"),
        ({"dropout": 2.0}, ValueError, "dropout must lie in 0 … 1; got 2.0"),
        ({"d_source": 0}, ValueError, "d_source must be 1 or more; got 0"),
    ],
)
def test_options_that_make_no_sense(options, kind, told):
    with pytest.raises(kind, match=f"^MultiHeadAttention: .*{told}"):
        nn.MultiHeadAttention(8, 4, **options)


def test_head_weights_of_another_length(rng):
    with pytest.raises(ValueError, match=r"^MultiHeadAttention: head_weights must be .* \(\.\.\., 4\); got \(3,\)"):
        made(rng, {})(rng.normal(size=(5, 8)), head_weights=np.ones(3))


def test_beside_pytorch(rng):
    """Outputs and the gradients of every parameter."""
    torch = pytest.importorskip("torch")
    layer = made(rng, {})
    theirs = torch.nn.MultiheadAttention(8, 4, batch_first=True, dtype=torch.float64)
    state = {name: torch.tensor(x) for name, x in layer.state_dict().items()}
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([state[f"w_{name}"].T for name in ("query", "key", "value")]))
        theirs.in_proj_bias.copy_(torch.cat([state[f"b_{name}"] for name in ("query", "key", "value")]))
        theirs.out_proj.weight.copy_(state["w_output"].T)
        theirs.out_proj.bias.copy_(state["b_output"])
    x, source, d_output = (rng.normal(size=(2, n, 8)) for n in (5, 7, 5))
    hidden = rng.random((5, 7)) < 0.4
    hidden[:, 0] = False
    their_output, _ = theirs(*map(torch.tensor, (x, source, source)), attn_mask=torch.tensor(hidden))
    their_output.backward(torch.tensor(d_output))
    output = layer(x, source, mask=~hidden)
    output.backward(d_output)
    np.testing.assert_allclose(output.numpy(), their_output.detach().numpy(), rtol=1e-9, atol=1e-12)
    grads = {name: parameter.grad.numpy() for name, parameter in layer.named_parameters()}
    of_weights = np.concatenate([grads[f"w_{name}"].T for name in ("query", "key", "value")])
    of_biases = np.concatenate([grads[f"b_{name}"] for name in ("query", "key", "value")])
    for ours, mine in (
        (of_weights, theirs.in_proj_weight), (of_biases, theirs.in_proj_bias),
        (grads["w_output"].T, theirs.out_proj.weight), (grads["b_output"], theirs.out_proj.bias),
    ):  # fmt: skip
        np.testing.assert_allclose(ours, mine.grad.numpy(), rtol=1e-9, atol=1e-11)


def test_rotary_positions_follow_the_causal_order(rng):
    """The last query stands at the last key, in its position, too."""
    layer = nn.MultiHeadAttention(8, 2, rope=True, rng=0, **F64)
    x = rng.normal(size=(5, 8))
    np.testing.assert_allclose(layer(x[-2:], x, causal=True).numpy(), layer(x, causal=True).numpy()[-2:], rtol=1e-11)


@pytest.mark.parametrize(
    ("call", "kind", "told"),
    [
        (lambda layer, x: layer(x, cache=5), TypeError, "^MultiHeadAttention: needs a list of KeyValueCaches.* got"),
        (lambda layer, x: layer.prune_heads(0), TypeError, r"^prune_heads: heads are a list .* got 0\. Are \[ \]"),
        (lambda layer, x: nn.KeyValueCache().extend(x, x[:2]), ValueError, "^KeyValueCache: each key needs a value"),
    ],
)
def test_what_is_no_cache_and_no_list(call, kind, told, rng):
    with pytest.raises(kind, match=told):
        call(nn.MultiHeadAttention(8, 2, rng=0, **F64), ta.tensor(rng.normal(size=(3, 8))))


@pytest.mark.parametrize("options", [{"mask": np.ones((9, 9), bool)}, {"head_weights": np.ones(3)}], ids=str)
def test_a_failed_call_leaves_the_cache_as_it_was(options, rng):
    layer, x = nn.MultiHeadAttention(8, 2, rng=0, **F64), rng.normal(size=(2, 4, 8))
    cache = nn.KeyValueCache()
    layer(x[:, :3], causal=True, cache=cache)
    with pytest.raises(ValueError, match=r"attention|head_weights"):
        layer(x[:, 3:], causal=True, cache=cache, **options)
    assert cache.length == 3
    expected = layer(x, causal=True).numpy()[:, 3:]
    np.testing.assert_allclose(layer(x[:, 3:], causal=True, cache=cache).numpy(), expected, rtol=1e-11)
