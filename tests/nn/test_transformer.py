"""Blocks, encoder, decoder, GPT and ViT: their formulas, their caches, what they can't see; and PyTorch beside them."""

import numpy as np
import pytest

import tinyattn as ta
from tinyattn import nn

F64 = {"dtype": np.float64}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def shaken(module, seed=1):
    """The module with all its parameters moved, so that zeros and ones hide nothing."""
    rng = np.random.default_rng(seed)
    module.load_state_dict({name: x + 0.3 * rng.normal(size=x.shape) for name, x in module.state_dict().items()})
    return module


def gradients_agree(module, f, *arrays):
    """`ta.gradcheck` of f in the arrays, and differences of a random direction in all parameters at once."""
    assert ta.gradcheck(f, arrays, analytic=False)
    rng = np.random.default_rng(2)
    parameters = dict(module.named_parameters())
    along = {name: rng.normal(size=x.shape) for name, x in parameters.items()}
    d_output = rng.normal(size=f(*arrays).shape)
    (f(*arrays) * d_output).sum().backward()
    found = sum((x.grad.numpy() * along[name]).sum() for name, x in parameters.items())
    at = module.state_dict()

    def loss(step):
        module.load_state_dict({name: x + step * along[name] for name, x in at.items()})
        return (f(*arrays) * d_output).sum().item()

    coarse, fine = ((loss(step) - loss(-step)) / (2 * step) for step in (2e-4, 1e-4))
    module.load_state_dict(at)
    np.testing.assert_allclose(found, (4 * fine - coarse) / 3, rtol=1e-6)


# ---------------------------------------------------------------------------------------------------- blocks


@pytest.mark.parametrize("norm_first", [True, False])
def test_where_the_norms_stand(rng, norm_first):
    block = shaken(nn.TransformerBlock(6, 2, 7, norm_first=norm_first, rng=0, **F64))
    x = rng.normal(size=(2, 5, 6))
    if norm_first:
        h = x + block.attention(block.norm_attention(x), causal=True)
        expected = h + block.mlp(block.norm_mlp(h))
    else:
        h = block.norm_attention(x + block.attention(x, causal=True))
        expected = block.norm_mlp(h + block.mlp(h))
    np.testing.assert_allclose(block(x, causal=True).numpy(), expected.numpy(), rtol=1e-12)
    gradients_agree(block, lambda x: block(x, causal=True), x)


def test_a_block_with_a_source(rng):
    block = shaken(nn.TransformerBlock(6, 2, cross=True, rope=50.0, d_k=4, rng=0, **F64))
    x, source = rng.normal(size=(2, 5, 6)), rng.normal(size=(2, 7, 6))
    seen = rng.random((5, 7)) < 0.6
    h = x + block.attention(block.norm_attention(x), causal=True)
    h = h + block.cross(block.norm_cross(h), source, mask=seen)
    expected = h + block.mlp(block.norm_mlp(h))
    found = block(x, source, causal=True, source_mask=seen)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12)
    assert block.cross.rope_base is None  # positions in two sequences have no distance
    gradients_agree(block, lambda x, source: block(x, source, causal=True, source_mask=seen), x, source)


def test_a_source_too_many_or_too_few(rng):
    x = rng.normal(size=(5, 6))
    with pytest.raises(ValueError, match=r"^TransformerBlock: source is needed: the block was made with cross=True"):
        nn.TransformerBlock(6, 2, cross=True)(x)
    with pytest.raises(ValueError, match=r"^TransformerBlock: source needs a block with cross=True"):
        nn.TransformerBlock(6, 2)(x, x)


def test_dropout_in_a_block_is_for_training(rng):
    block = nn.TransformerBlock(6, 2, dropout=0.5, rng=0, **F64)
    x = rng.normal(size=(5, 6))
    assert not np.array_equal(block(x).numpy(), block(x).numpy())
    block.eval()
    np.testing.assert_array_equal(block(x).numpy(), block(x).numpy())


# ---------------------------------------------------------------------------------------------------- stacks


@pytest.mark.parametrize("norm_first", [True, False])
def test_an_encoder_is_its_blocks(rng, norm_first):
    encoder = shaken(nn.Encoder(3, 6, 2, norm_first=norm_first, rng=0, **F64))
    x = rng.normal(size=(2, 5, 6))
    expected = x
    for block in encoder.blocks:
        expected = block(expected)
    expected = encoder.norm(expected) if norm_first else expected
    output, weights = encoder(x, return_weights=True)
    np.testing.assert_allclose(output.numpy(), expected.numpy(), rtol=1e-12)
    assert [w.shape for w in weights] == [(2, 2, 5, 5)] * 3
    assert (encoder.norm is None) != norm_first


def test_a_decoder_sees_nothing_that_comes_later(rng):
    decoder = shaken(nn.Decoder(2, 6, 2, rng=0, **F64))
    x, source = rng.normal(size=(2, 5, 6)), rng.normal(size=(2, 7, 6))
    before = decoder(x, source).numpy()[:, :3]
    later = x.copy()
    later[:, 3:] = np.nan
    np.testing.assert_allclose(decoder(later, source).numpy()[:, :3], before, rtol=1e-12)
    other = source + 1.0
    assert not np.allclose(decoder(x, other).numpy()[:, :3], before)
    gradients_agree(decoder, decoder, x, source)


def test_a_decoder_step_by_step(rng):
    decoder = shaken(nn.Decoder(2, 6, 2, rope=True, d_k=4, rng=0, **F64))
    x, source = rng.normal(size=(5, 6)), rng.normal(size=(7, 6))
    caches = decoder.caches()
    steps = [decoder(x[i : i + 1], source, caches=caches).numpy() for i in range(5)]
    np.testing.assert_allclose(np.concatenate(steps), decoder(x, source).numpy(), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match=r"^Decoder: needs a cache for each of 2 blocks; got 1\. Its caches\(\) makes"):
        decoder(x, source, caches=caches[:1])


# ---------------------------------------------------------------------------------------------------- GPT


def gpt(**options):
    return shaken(nn.GPT(11, 13, 8, 2, 4, rng=0, **options, **F64))


GPTS = {
    "learned": {},
    "sinusoidal": {"positions": "sinusoidal"},
    "rotary": {"positions": "rotary"},
    "untied": {"tied": False},
    "modern": {"positions": "rotary", "n_kv_heads": 2, "bias": False, "norm": nn.RMSNorm, "activation": ta.silu},
}


@pytest.mark.parametrize("about", GPTS)
def test_gpt_step_by_step(rng, about):
    model = gpt(**GPTS[about])
    ids = rng.integers(11, size=(2, 9))
    expected = model(ids).numpy()
    caches, found = model.caches(), []
    for start, stop in ((0, 4), (4, 5), (5, 8), (8, 9)):
        found.append(model(ids[:, start:stop], caches=caches).numpy())
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, rtol=1e-8, atol=1e-11)
    changed = ids.copy()
    changed[:, 5:] = (changed[:, 5:] + 1) % 11
    np.testing.assert_allclose(model(changed).numpy()[:, :5], expected[:, :5], rtol=1e-12)
    assert not np.allclose(model(changed).numpy()[:, 5:], expected[:, 5:])


@pytest.mark.parametrize("about", GPTS)
def test_gpt_knows_positions_and_learns(rng, about):
    model = gpt(**GPTS[about])
    scores = model([[3, 3, 5], [3, 5, 3]]).numpy()
    assert not np.allclose(scores[0, 2], scores[1, 2])
    ids = rng.integers(11, size=(2, 7))
    targets = rng.integers(11, size=(2, 7))
    optimizer, losses = ta.optim.Adam(model.parameters(), 0.01), []
    for _ in range(30):
        loss = ta.cross_entropy(model(ids), targets)
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 3


def test_tied_words_are_one_parameter():
    assert len(gpt().parameters()) + 1 == len(gpt(tied=False).parameters())


def test_generating_is_choosing_what_the_model_expects(rng):
    model = gpt()
    ids = rng.integers(11, size=(2, 3))
    found = model.generate(ids, 6, temperature=0.0)
    np.testing.assert_array_equal(found[:, :3], ids)
    for i in range(3, 9):
        np.testing.assert_array_equal(found[:, i], model(found[:, :i]).numpy()[:, -1].argmax(-1))
    np.testing.assert_array_equal(model.generate(ids, 6, top_k=1, rng=5), found)
    np.testing.assert_array_equal(model.generate(ids, 6, rng=5), model.generate(ids, 6, rng=5))
    np.testing.assert_array_equal(model.generate(ids, 0), ids)


def test_generating_draws_from_the_softmax():
    model = gpt()
    scores = model([[4]]).numpy()[0, -1] / 0.7
    expected = np.exp(scores - scores.max())
    drawn = model.generate(np.full((20000, 1), 4), 1, temperature=0.7, rng=0)[:, 1]
    counts = np.bincount(drawn, minlength=11) / 20000
    np.testing.assert_allclose(counts, expected / expected.sum(), atol=0.015)
    best = np.argsort(scores)[-3:]
    assert set(model.generate(np.full((500, 1), 4), 1, top_k=3, rng=0)[:, 1]) == set(best)


def test_of_equals_the_first_are_likeliest():
    model = gpt()
    model.words.weight.data[...] = 0
    assert set(model.generate([1], 12, top_k=1, rng=0)[1:]) == {0}
    assert set(model.generate(np.full((200, 1), 1, np.uint64), 1, top_k=3, rng=0)[:, 1]) == {0, 1, 2}


def test_a_failed_step_leaves_the_caches_as_they_were(rng):
    model, ids = gpt(), [[1, 2, 3]]
    caches = model.caches()
    model(ids, caches=caches)
    last = model.blocks.blocks[1].attention
    last.w_output, kept = ta.tensor(np.ones((3, 3))), last.w_output
    with pytest.raises(ValueError, match="linear"):
        model([[4]], caches=caches)
    last.w_output = kept
    assert [cache.length for cache in caches] == [3, 3]
    expected = model([[1, 2, 3, 4]]).numpy()[:, -1:]
    np.testing.assert_allclose(model([[4]], caches=caches).numpy(), expected, rtol=1e-11)
    with pytest.raises(ValueError, match=r"^GPT: all caches must keep equally much; they keep \[0, 4\]"):
        model([[5]], caches=[nn.KeyValueCache(), caches[1]])


def test_generating_leaves_the_model_as_it_was():
    model = gpt(dropout=0.5)
    assert model.training
    model.blocks.blocks[0].eval()
    model.generate([1], 2, rng=0)
    assert not model.blocks.blocks[0].training
    model.train()
    np.testing.assert_array_equal(model.generate([1, 2], 5, rng=0), model.generate([1, 2], 5, rng=0))
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("call", "kind", "told"),
    [
        (lambda: nn.GPT(11, 13, 8, 2, 4, positions="both"), ValueError, "GPT: positions must be one of learned, sinus"),
        (lambda: nn.GPT(11, 0, 8, 2, 4), ValueError, "GPT: max_length must be 1 or more; got 0"),
        (lambda: nn.GPT(11, 13, 8, 0, 4), ValueError, "Encoder: n_layers must be 1 or more; got 0"),
        (lambda: nn.GPT(11, 13, 8, 2, 4, tied=None), TypeError, "GPT: tied must be True or False"),
        (lambda: gpt()(np.zeros((1, 14), int)), ValueError, "GPT: there are positions for 13 ids; got 14"),
        (lambda: gpt()(3), ValueError, r"GPT: ids must be \(\.\.\., length\); got shape \(\)"),
        (lambda: gpt()("text"), TypeError, "GPT: ids needs numbers; got str"),
        (lambda: gpt().generate([1] * 10, 4), ValueError, "generate: the model has positions for 13 ids; got 10"),
        (lambda: gpt().generate([], 4), ValueError, "generate: ids must be .* one id at least"),
        (lambda: gpt().generate([1], -1), ValueError, "generate: n must be 1 or more; got -1"),
        (lambda: gpt().generate([1], 2, temperature=-1.0), ValueError, "generate: temperature must be 0 or more"),
        (lambda: gpt().generate([1], 2, temperature=np.inf), ValueError, "generate: temperature must be finite"),
        (lambda: gpt().generate([1.0], 0), TypeError, "embedding: ids must be integers; got float64"),
        (lambda: gpt().generate([200], 0), ValueError, r"embedding: ids must lie in 0 … 10; got 200"),
        (lambda: gpt()([1], caches=5), TypeError, "GPT: needs a list of KeyValueCaches, one for each block; got 5"),
        (lambda: gpt()([1], caches=[nn.KeyValueCache()] * 3), ValueError, "GPT: needs a cache for each of 2 blocks"),
        (lambda: nn.Encoder(1, 8, 2, cross=True), TypeError, "Encoder: takes no 'cross'"),
        (lambda: nn.TransformerBlock(8, 2)(np.ones((3, 8)), source_mask=[True]), ValueError, "source_mask needs a blo"),
        (lambda: nn.ViT((8, 8, 3), 4, n_channels=3, n_classes=2, d_model=8, n_layers=1, n_heads=2), ValueError,
         r"ViT: image_size must be \(height, width\)"),
        (lambda: nn.from_torch({1: np.ones(3)}), TypeError, "from_torch: state must be a dict of arrays, by name; got"),
        (lambda: nn.from_torch({"in_proj_weight": np.ones(())}), ValueError, "must hold three blocks of rows"),
        (lambda: gpt().generate([1], 2, top_k=0), ValueError, "generate: top_k must be 1 or more; got 0"),
        (lambda: nn.ViT(9, 4, n_channels=3, n_classes=2, d_model=8, n_layers=1, n_heads=2), ValueError,
         "ViT: patches of 4 must fill the picture; got 9 × 9"),
        (lambda: vit()(np.zeros((3, 9, 12))), ValueError, r"ViT: images must be \(\.\.\., 2, 6, 9\); got \(3, 9, 12\)"),
        (lambda: nn.from_torch({"weight": np.ones(3)}), ValueError, "from_torch: weight is no parameter of Multihead"),
        (lambda: nn.from_torch({"bias_k": np.ones(3)}), ValueError, "from_torch: bias_k is no parameter"),
        (lambda: nn.from_torch({"in_proj_weight": np.ones((4, 2))}), ValueError, "must hold three blocks of rows"),
        (lambda: nn.from_torch(3), TypeError, "from_torch: state must be a dict of arrays, by name; got int"),
        (lambda: nn.to_torch({"sinks": np.ones(3)}), ValueError, "to_torch: PyTorch's layers have nothing like sinks"),
        (lambda: nn.to_torch({"w_query": np.ones((3, 3))}), ValueError, "to_torch: w_key or w_value is missing"),
        (lambda: nn.to_torch(nn.MultiHeadAttention(8, 4, 2).state_dict()), ValueError, "no heads that share keys"),
        (lambda: nn.to_torch(nn.MultiHeadAttention(8, 2, d_k=8, d_v=8).state_dict()), ValueError,
         "whose widths don't add up to d_model; got w_… of query "),
        (lambda: nn.to_torch(nn.MultiHeadAttention(8, 2, d_v=6).state_dict()), ValueError, "whose widths don't add up"),
        (lambda: nn.to_torch({"w_key": np.ones((3, 3))}), ValueError, "to_torch: w_query is missing"),
        (lambda: nn.to_torch(nn.TransformerBlock(8, 2, norm=nn.RMSNorm).state_dict()), ValueError, "norms have a bias"),
        (lambda: nn.from_torch({f"{name}_proj_weight": np.ones((8, d)) for name, d in (("q", 8), ("k", 5), ("v", 7))}),
         ValueError, "from_torch: MultiHeadAttention makes keys and values of the same width; got 5 and 7"),
        (lambda: nn.to_torch([]), TypeError, "to_torch: state must be a dict"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(call, kind, told):
    with pytest.raises(kind, match=f"^{told}" if told[0].isupper() or ":" in told else told):
        call()


# ---------------------------------------------------------------------------------------------------- ViT


def vit(**options):
    sizes = {"n_channels": 2, "n_classes": 5, "d_model": 8, "n_layers": 2, "n_heads": 2}
    return shaken(nn.ViT((6, 9), 3, **sizes, rng=0, **options, **F64))


def test_vit_reads_patches_in_rows(rng):
    """Each patch goes through one matrix; written out with loops."""
    model = vit()
    images = rng.normal(size=(4, 2, 6, 9))
    x = [model.token.numpy()[None].repeat(4, axis=0)]
    for row in (0, 3):
        for column in (0, 3, 6):
            patch = images[:, :, row : row + 3, column : column + 3].reshape(4, 1, -1)
            x.append(patch @ model.patches.weight.numpy() + model.patches.bias.numpy())
    x = np.concatenate(x, axis=1) + model.positions.numpy()
    expected = model.head(model.blocks(x)[:, 0])
    output, weights = model(images, return_weights=True)
    np.testing.assert_allclose(output.numpy(), expected.numpy(), rtol=1e-11)
    assert [w.shape for w in weights] == [(4, 2, 7, 7)] * 2
    np.testing.assert_allclose(model(images[0]).numpy(), output.numpy()[0], rtol=1e-11)
    gradients_agree(model, model, images)


def test_vit_of_no_pictures():
    assert vit()(np.zeros((0, 2, 6, 9))).shape == (0, 5)


def test_vit_learns_to_tell_pictures_apart(rng):
    model = nn.ViT(4, 2, n_channels=1, n_classes=2, d_model=8, n_layers=1, n_heads=2, rng=0, **F64)
    images = rng.normal(size=(16, 1, 4, 4)) * 0.3
    labels = np.arange(16) % 2
    images[labels == 1, :, :2, :2] += 1.0  # a bright corner
    optimizer = ta.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        loss = ta.cross_entropy(model(images), labels)
        model.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(images).numpy().argmax(-1) == labels).all()


# ---------------------------------------------------------------------------------------------------- PyTorch


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("d_source", [8, 5])
def test_names_go_there_and_back(bias, d_source):
    state = shaken(nn.MultiHeadAttention(8, 4, bias=bias, d_source=d_source, rng=0, **F64)).state_dict()
    theirs = nn.to_torch({f"layers.0.attention.{name}": x for name, x in state.items()})
    assert all(name.startswith("layers.0.self_attn.") for name in theirs)
    assert ("layers.0.self_attn.in_proj_weight" in theirs) == (d_source == 8)
    back = nn.from_torch(theirs)
    assert {name.removeprefix("layers.0.attention.") for name in back} == set(state)
    for name, x in state.items():
        np.testing.assert_array_equal(back[f"layers.0.attention.{name}"], x, strict=True)


def test_a_block_there_and_back():
    state = shaken(nn.TransformerBlock(6, 2, 7, rng=0, **F64)).state_dict()
    back = nn.from_torch(nn.to_torch(state))
    assert set(back) == set(state)
    assert all(np.array_equal(back[name], x) for name, x in state.items())


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_checkpoint_of_an_encoder_layer(rng, norm_first, activation):
    """The same outputs, and the same gradients of the input and of every parameter."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch.nn.TransformerEncoderLayer(
        8, 4, 13, dropout=0.0, activation=activation, batch_first=True, norm_first=norm_first, dtype=torch.float64
    )
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    block = nn.TransformerBlock(8, 4, 13, norm_first=norm_first, activation=getattr(ta, activation), rng=0, **F64)
    block.load_state_dict(nn.from_torch(theirs.state_dict()))
    x, d_output = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 5, 8))
    their_x = torch.tensor(x, requires_grad=True)
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
    their_output = theirs(their_x, src_mask=hidden)
    their_output.backward(torch.tensor(d_output))
    our_x = ta.tensor(x, requires_grad=True)
    output = block(our_x, causal=True)
    output.backward(d_output)
    np.testing.assert_allclose(output.numpy(), their_output.detach().numpy(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(our_x.grad.numpy(), their_x.grad.numpy(), rtol=1e-8, atol=1e-10)
    expected = nn.from_torch({name: parameter.grad for name, parameter in theirs.named_parameters()})
    found = {name: parameter.grad.numpy() for name, parameter in block.named_parameters()}
    assert set(found) == set(expected)
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-8, atol=1e-9, err_msg=name)
    theirs.load_state_dict({name: torch.tensor(x) for name, x in nn.to_torch(block.state_dict()).items()})


@pytest.mark.parametrize("widths", [{}, {"kdim": 5, "vdim": 5}])
@pytest.mark.parametrize("bias", [True, False])
def test_a_checkpoint_of_multi_head_attention(rng, widths, bias):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(8, 4, bias=bias, batch_first=True, dtype=torch.float64, **widths)
    layer = nn.MultiHeadAttention(8, 4, bias=bias, d_source=widths.get("kdim"), rng=0, **F64)
    layer.load_state_dict(nn.from_torch(theirs.state_dict()))
    x, source = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 7, widths.get("kdim", 8)))
    expected, weights = theirs(*map(torch.tensor, (x, source, source)), average_attn_weights=False)
    output, our_weights = layer(x, source, return_weights=True)
    np.testing.assert_allclose(output.numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(our_weights.numpy(), weights.detach().numpy(), rtol=1e-9, atol=1e-12)
