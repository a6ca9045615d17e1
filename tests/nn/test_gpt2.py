"""GPT-2's checkpoints: names, shapes, and beside Hugging Face's own model where that is installed."""

import json

import numpy as np
import pytest

import tinyattn as ta
from tinyattn import nn

safetensors = pytest.importorskip("safetensors.numpy")
D, LAYERS, HEADS, VOCABULARY, LENGTH = 12, 2, 3, 17, 11


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def theirs(rng, *, prefix="", dtype=np.float32):
    """A checkpoint with Hugging Face's names and layout."""
    shapes = {"wte.weight": (VOCABULARY, D), "wpe.weight": (LENGTH, D), "ln_f.weight": (D,), "ln_f.bias": (D,)}
    for i in range(LAYERS):
        for name, shape in {
            "ln_1": (D,), "ln_2": (D,), "attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D), "mlp.c_fc": (D, 4 * D),
            "mlp.c_proj": (4 * D, D),
        }.items():  # fmt: skip
            shapes[f"h.{i}.{name}.weight"], shapes[f"h.{i}.{name}.bias"] = shape, shape[-1:]
    state = {prefix + name: rng.normal(0.0, 0.3, shape).astype(dtype) for name, shape in shapes.items()}
    for i in range(LAYERS):  # old checkpoints hold their masks
        state[f"{prefix}h.{i}.attn.bias"] = np.tri(LENGTH, dtype=dtype)[None, None]
    return state


def saved(tmp_path, state, **config):
    path = tmp_path / "model.safetensors"
    safetensors.save_file({name: np.ascontiguousarray(x) for name, x in state.items()}, path)
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_every_number_has_its_place(tmp_path, rng, prefix):
    state = theirs(rng, prefix=prefix)
    model = nn.GPT.from_safetensors(saved(tmp_path, state, n_head=HEADS))
    own = model.state_dict()
    plain = {name.removeprefix(prefix): x for name, x in state.items()}
    np.testing.assert_array_equal(own["words.weight"], plain["wte.weight"])
    np.testing.assert_array_equal(own["positions.weight"], plain["wpe.weight"])
    for i, block in enumerate(model.blocks.blocks):
        attention = block.attention
        assert attention.n_heads == HEADS
        whole = np.concatenate([w.numpy() for w in (attention.w_query, attention.w_key, attention.w_value)], axis=1)
        np.testing.assert_array_equal(whole, plain[f"h.{i}.attn.c_attn.weight"])
        np.testing.assert_array_equal(attention.b_output.numpy(), plain[f"h.{i}.attn.c_proj.bias"])
        np.testing.assert_array_equal(block.mlp.contract.weight.numpy(), plain[f"h.{i}.mlp.c_proj.weight"])
        np.testing.assert_array_equal(block.norm_mlp.bias.numpy(), plain[f"h.{i}.ln_2.bias"])
    assert sum(x.size for x in own.values()) == sum(
        x.size for name, x in plain.items() if not name.endswith(".attn.bias")
    )
    assert model.max_length == LENGTH


def test_the_activation_is_gpt2s(tmp_path, rng):
    path = saved(tmp_path, theirs(rng))
    assert nn.GPT.from_safetensors(path, n_heads=HEADS).blocks.blocks[0].mlp.expand.activation == "gelu_tanh"
    exact = nn.GPT.from_safetensors(path, n_heads=HEADS, activation="gelu", dtype=np.float64)
    assert exact.blocks.blocks[0].mlp.expand.activation == "gelu"
    assert exact([1, 2]).dtype == np.float64


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"wte.weight": None}, "is no GPT-2: it has nothing that would be words.weight"),
        ({"h.0.mlp.c_fc.weight": None}, "is no GPT-2: it has nothing that would be blocks"),
        ({"h.1.ln_1.bias": None}, "load_state_dict: the state doesn't fit GPT: misses blocks.blocks.1.norm_attention"),
        ({"h.0.attn.rotary.weight": np.ones(3)}, "from_safetensors: h.0.attn.rotary.weight is no parameter of a GPT-2"),
        ({"layers.0.weight": np.ones(3)}, "from_safetensors: layers.0.weight is no parameter of a GPT-2"),
        ({"h.0.attn.c_attn.weight": np.ones((D, D + 1))}, "must hold queries, keys and values; got shape"),
        ({"lm_head.weight": np.ones((VOCABULARY, D))}, "lm_head.weight isn't wte.weight"),
    ],
)
def test_what_is_no_gpt2(tmp_path, rng, change, told):
    state = {name: x for name, x in (theirs(rng) | change).items() if x is not None}
    with pytest.raises(ValueError, match=told.replace(".", r"\.")):
        nn.GPT.from_safetensors(saved(tmp_path, state), n_heads=HEADS)


def test_files_that_are_none(tmp_path, rng):
    with pytest.raises(FileNotFoundError, match="from_safetensors: there is no file"):
        nn.GPT.from_safetensors(tmp_path / "nothing")
    (tmp_path / "torn").write_bytes(saved(tmp_path, theirs(rng)).read_bytes()[:-100])
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        nn.GPT.from_safetensors(tmp_path / "torn")
    path = saved(tmp_path, theirs(rng), activation_function="wavy")
    with pytest.raises(ValueError, match=r"activation_function can be gelu_new, .*; got 'wavy'"):
        nn.GPT.from_safetensors(path)
    path = saved(tmp_path, theirs(rng), layer_norm_epsilon=1e-3)
    with pytest.raises(ValueError, match=r"norms have ε = 1e-05; config\.json has 0\.001"):
        nn.GPT.from_safetensors(path)


@pytest.mark.parametrize(("dtype", "close"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_scores_and_gradients_are_hugging_faces(tmp_path, rng, dtype, close):
    """Every parameter randomised, biases and norms, too."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    sizes = {"n_embd": D, "n_layer": LAYERS, "n_head": HEADS, "vocab_size": VOCABULARY, "n_positions": LENGTH}
    config = transformers.GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    model = transformers.GPT2LMHeadModel(config).to(torch.float32 if dtype == np.float32 else torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.tensor(rng.normal(0.0, 0.3, parameter.shape)))
    model.save_pretrained(tmp_path)
    ours = nn.GPT.from_safetensors(tmp_path / "model.safetensors", dtype=dtype)
    ids, following = rng.integers(0, VOCABULARY, (5, 7)), rng.integers(0, VOCABULARY, (5, 7))
    scores, right = ours(ids), model(torch.tensor(ids)).logits
    assert np.abs(scores.numpy() - right.detach().numpy()).max() <= close * right.abs().max().item()
    ta.cross_entropy(scores, following).backward()
    torch.nn.functional.cross_entropy(right.flatten(0, 1), torch.tensor(following).flatten()).backward()
    named = {name: x.grad.numpy() for name, x in model.transformer.named_parameters()}
    expected = nn.gpt2.from_gpt2(named)
    found = {name: x.grad.numpy() for name, x in ours.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert found[name].dtype == dtype
        assert np.abs(found[name] - gradient).max() <= close * max(np.abs(gradient).max(), 1e-2), name
