import numpy as np
import pytest

import tinyattn as ta
from tinyattn import nn

F64 = {"dtype": np.float64}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def makers():
    """Every layer that starts from random numbers."""
    return {
        "Linear": lambda **options: nn.Linear(5, 7, **options),
        "Embedding": lambda **options: nn.Embedding(11, 5, **options),
        "MultiHeadAttention": lambda **options: nn.MultiHeadAttention(6, 2, **options),
        "TransformerBlock": lambda **options: nn.TransformerBlock(6, 2, **options),
    }


@pytest.mark.parametrize("name", makers())
def test_random_numbers_are_the_callers(name):
    make = makers()[name]
    states = [make(rng=rng).state_dict() for rng in (0, np.random.default_rng(0), 1)]
    assert all((states[0][key] == states[1][key]).all() for key in states[0])
    assert any((states[0][key] != states[2][key]).any() for key in states[0])
    assert any((make().state_dict()[key] != states[0][key]).any() for key in states[0])


@pytest.mark.parametrize("name", makers())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_have_the_dtype_asked_for(name, dtype):
    layer = makers()[name](rng=0, dtype=dtype)
    assert {parameter.dtype for parameter in layer.parameters()} == {np.dtype(dtype)}
    assert all(parameter.requires_grad for parameter in layer.parameters())


def test_linear(rng):
    layer, x = nn.Linear(5, 7, rng=rng, **F64), rng.normal(size=(2, 3, 5))
    np.testing.assert_allclose(layer(x).numpy(), x @ layer.weight.numpy() + layer.bias.numpy())
    assert nn.Linear(5, 7, bias=False, rng=rng).bias is None
    wide = nn.Linear(400, 300, rng=rng)
    assert abs(wide.weight.numpy()).max() <= 0.05
    assert np.isclose(wide.weight.numpy().std(), 0.05 / 3**0.5, rtol=0.02)


def test_embedding(rng):
    layer = nn.Embedding(11, 5, std=0.3, rng=rng)
    ids = np.array([[1, 10, 1]])
    assert layer(ids).tolist() == layer.weight.numpy()[ids].tolist()
    layer(ids).sum().backward()
    assert layer.weight.grad.numpy().sum(1).tolist() == [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 5]
    assert np.isclose(nn.Embedding(300, 400, std=0.3, rng=rng).weight.numpy().std(), 0.3, rtol=0.02)


def test_norms(rng):
    x = rng.normal(size=(3, 5))
    layer = nn.LayerNorm(5, **F64)
    layer.weight.data[...], layer.bias.data[...] = 2.0, 1.0
    np.testing.assert_allclose(layer(x).numpy(), 1 + 2 * ta.layer_norm(x))
    assert nn.LayerNorm(5, bias=False).bias is None
    layer = nn.RMSNorm(5, eps=0.5, **F64)
    np.testing.assert_allclose(layer(x).numpy(), ta.rms_norm(x, eps=0.5))


@pytest.mark.parametrize("layer", [nn.LayerNorm(5), nn.LayerNorm(5, bias=False), nn.RMSNorm(5), nn.Linear(5, 7, rng=0)])
def test_gradients_reach_every_parameter(layer, rng):
    (layer(rng.normal(size=(2, 3, 5))) ** 2).sum().backward()
    assert all(abs(parameter.grad.numpy()).min() > 0 for parameter in layer.parameters())


def test_sequential_holds_layers_and_functions():
    layers = nn.Sequential(nn.Linear(3, 5, rng=0), ta.relu, nn.Linear(5, 2, rng=1))
    x = np.ones((7, 3), np.float32)
    hidden = np.maximum(layers.layers[0](x).numpy(), 0)
    np.testing.assert_allclose(layers(x).numpy(), layers.layers[2](hidden).numpy())
    assert [name for name, _ in layers.named_parameters()][::3] == ["layers.0.weight", "layers.2.bias"]


# ------------------------------------------------------------------------------------------------------ attention


@pytest.fixture
def layer(rng):
    layer = nn.MultiHeadAttention(6, 2, bias=True, rng=rng, **F64)
    for name in ("b_query", "b_key", "b_value", "b_output"):
        getattr(layer, name).data[...] = rng.normal(size=6)
    return layer


def by_the_book(layer, query, key, value, mask=True):
    """One head at a time, from blocks of columns: (multi_head.1) and (multi_head.2)."""
    w = {name: parameter.numpy() for name, parameter in layer.named_parameters()}
    heads, weights = [], []
    for columns in (slice(0, 3), slice(3, 6)):
        q, k, v = (
            x @ w[f"w_{name}"][:, columns] + w[f"b_{name}"][columns]
            for name, x in (("query", query), ("key", key), ("value", value))
        )
        scores = np.where(mask, np.exp(q @ np.swapaxes(k, -1, -2) / 3**0.5), 0.0)
        weights.append(scores / scores.sum(-1, keepdims=True))
        heads.append(weights[-1] @ v)
    return np.concatenate(heads, -1) @ w["w_output"] + w["b_output"], np.stack(weights, -3)


def test_self_attention(layer, rng):
    x = rng.normal(size=(5, 6))
    output, weights = layer(x, return_weights=True)
    for found, expected in zip((output, weights), by_the_book(layer, x, x, x), strict=True):
        np.testing.assert_allclose(found.numpy(), expected)
    np.testing.assert_array_equal(layer(x).numpy(), output.numpy())


def test_cross_attention_over_a_batch(layer, rng):
    query, key, value = rng.normal(size=(2, 5, 6)), rng.normal(size=(2, 7, 6)), rng.normal(size=(2, 7, 6))
    output, weights = layer(query, key, value, return_weights=True)
    assert weights.shape == (2, 2, 5, 7)
    for found, expected in zip((output, weights), by_the_book(layer, query, key, value), strict=True):
        np.testing.assert_allclose(found.numpy(), expected)
    np.testing.assert_allclose(layer(query, key).numpy(), by_the_book(layer, query, key, key)[0])


def test_masks_with_and_without_the_axis_of_heads(layer, rng):
    """A mask for each sentence has to be told from one for each head, here where both would broadcast: 2 and 2."""
    x = rng.normal(size=(2, 5, 6))
    mask = rng.random((2, 5, 5)) < 0.5
    mask[..., 0] = True
    expected = [by_the_book(layer, x[i], x[i], x[i], mask[i])[0] for i in range(2)]
    np.testing.assert_allclose(layer(x, mask=mask).numpy(), expected)
    np.testing.assert_allclose(layer(x, mask=mask[:, None]).numpy(), expected)
    np.testing.assert_allclose(layer(x, mask=mask[0]).numpy(), by_the_book(layer, x, x, x, mask[0])[0])
    np.testing.assert_allclose(layer(x[0], mask=mask[1]).numpy(), by_the_book(layer, x[0], x[0], x[0], mask[1])[0])
    _, weights = layer(x[0], mask=mask, return_weights=True)  # no batch: these are the heads'
    assert ((weights.numpy() > 0) == mask).all()
    _, weights = layer(x, mask=mask[:, None, :1], return_weights=True)  # which keys are there, for each sentence
    assert ((weights.numpy() > 0) == mask[:, None, :1]).all()


def test_causal(layer, rng):
    x = rng.normal(size=(2, 5, 6))
    mask = np.tri(5, dtype=bool)
    np.testing.assert_allclose(layer(x, causal=True).numpy(), layer(x, mask=mask).numpy())


def test_a_scale_of_ones_own(rng):
    x = rng.normal(size=(5, 6))
    _, weights = nn.MultiHeadAttention(6, 2, scale=0.0, rng=rng, **F64)(x, return_weights=True)
    np.testing.assert_allclose(weights.numpy(), 0.2)


def test_every_weight_of_attention_learns(layer, rng):
    (layer(rng.normal(size=(2, 5, 6))) ** 2).sum().backward()
    for name, parameter in layer.named_parameters():
        if name != "b_key":  # shifts all scores of a query alike, which the softmax doesn't notice
            assert abs(parameter.grad.numpy()).min() > 0
    np.testing.assert_allclose(layer.b_key.grad.numpy(), 0.0, atol=1e-12)


def test_heads_have_to_divide_the_model():
    for n_heads in (4, 5):
        with pytest.raises(ValueError, match=rf"n_heads must divide d_model; got {n_heads} heads of 6"):
            nn.MultiHeadAttention(6, n_heads)


# ------------------------------------------------------------------------------------------------------ the block


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_a_block_is_two_layers_beside_a_straight_path(norm, rng):
    block = nn.TransformerBlock(6, 2, 7, activation=ta.relu, norm=norm, rng=rng, **F64)
    x = rng.normal(size=(2, 5, 6))
    h = x + block.attention(block.norm_attention(x), causal=True).numpy()
    first, second = block.mlp.expand, block.mlp.contract
    hidden = np.maximum(block.norm_mlp(h).numpy() @ first.weight.numpy() + first.bias.numpy(), 0.0)
    expected = h + hidden @ second.weight.numpy() + second.bias.numpy()
    output, weights = block(x, causal=True, return_weights=True)
    np.testing.assert_allclose(output.numpy(), expected)
    np.testing.assert_array_equal(block(x, causal=True).numpy(), output.numpy())
    assert weights.shape == (2, 2, 5, 5)
    assert not np.triu(weights.numpy(), 1).any()
    assert nn.TransformerBlock(6, 2, rng=0).mlp.expand.weight.shape == (6, 24)


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm])
def test_without_biases_there_is_none_anywhere(norm):
    model = nn.Encoder(2, 6, 2, norm=norm, bias=False, rng=0)
    assert {name.rpartition(".")[2] for name, _ in model.named_parameters()} == {
        "weight", "w_query", "w_key", "w_value", "w_output"
    }  # fmt: skip


def test_the_gradients_of_a_whole_block(rng):
    block = nn.TransformerBlock(6, 2, 7, rng=rng, **F64)
    mask = rng.random((2, 5, 5)) < 0.5
    assert ta.gradcheck(lambda x: block(x, mask=mask), rng.normal(size=(2, 5, 6)), analytic=True)
    names = [name for name, _ in block.named_parameters()]

    def with_parameters(*values):
        other = nn.TransformerBlock(6, 2, 7, rng=0, **F64)
        for name, value in zip(names, values, strict=True):
            *path, last = name.split(".")
            owner = other
            for part in path:
                owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
            setattr(owner, last, value)
        return other(x, causal=True)

    x = rng.normal(size=(5, 6))
    report = ta.gradcheck(with_parameters, tuple(parameter.numpy() for parameter in block.parameters()))
    assert report, str(report)
    assert len(report.findings) == len(names) == 16


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ta.nn.Linear(0, 2), "Linear: d_in must be 1 or more; got 0"),
        (lambda: ta.nn.Linear(2, -1), "Linear: d_out must be 1 or more; got -1"),
        (lambda: ta.nn.Embedding(0, 2), "Embedding: vocab_size must be 1 or more; got 0"),
        (lambda: ta.nn.LayerNorm(-3), "LayerNorm: d_model must be 1 or more; got -3"),
        (lambda: ta.nn.RMSNorm(0), "RMSNorm: d_model must be 1 or more; got 0"),
        (lambda: ta.nn.MultiHeadAttention(-4, 2), "MultiHeadAttention: d_model must be 1 or more; got -4"),
        (lambda: ta.nn.MultiHeadAttention(4, 0), "MultiHeadAttention: n_heads must be 1 or more; got 0"),
        (lambda: ta.nn.TransformerBlock(4, 2, 0), "MLP: d_ff must be 1 or more; got 0"),
    ],
)
def test_sizes_below_1(make, told):
    with pytest.raises(ValueError, match=f"^{told}$"):
        make()


@pytest.mark.parametrize("size", [2.0, "2", None, True, (2,)])
def test_sizes_that_are_no_whole_numbers(size):
    for make in (lambda: ta.nn.Linear(size, 2), lambda: ta.nn.MultiHeadAttention(size, 1)):
        with pytest.raises(TypeError, match=r": d_\w+ must be a whole number; got"):
            make()
    assert ta.nn.Linear(np.int64(3), 2).weight.shape == (3, 2)


def test_dropout_drops_in_training_only(rng):
    layer, x = nn.Sequential(nn.Dropout(0.25, rng=rng)), ta.tensor(np.ones((100, 100)), requires_grad=True)
    y = layer(x)
    assert set(np.unique(y.numpy())) == {0.0, 1 / 0.75}
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
    assert (layer(x).numpy() != y.numpy()).any()
    layer.eval()
    np.testing.assert_array_equal(layer(x).numpy(), x.numpy())
    layer.train()
    assert (layer(x).numpy() == 0.0).any()
    assert layer.parameters() == []
    assert layer.state_dict() == {}


def test_dropouts_random_numbers_are_the_callers():
    x = np.ones(1000)
    outputs = [nn.Dropout(rng=rng)(x) for rng in (0, np.random.default_rng(0), 1)]
    assert (outputs[0] == outputs[1]).all()
    assert (outputs[0] != outputs[2]).any()
    with pytest.raises(ValueError, match=r"Dropout: p must lie in 0 … 1; got 1\.5"):
        nn.Dropout(1.5)
