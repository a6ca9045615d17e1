"""Layer norm, cross-entropy and the block by hand against the rules and the layer, which share no code with them."""

import re
from pathlib import Path

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.by_hand import block as by_hand


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 7)])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_layer_norm(shape, eps):
    given = [draw(*shape), draw(shape[-1], seed=1), draw(shape[-1], seed=2)]
    tensors = [ta.tensor(x, requires_grad=True) for x in given]
    output = ta.layer_norm(*tensors, eps=eps)
    saved = by_hand.layer_norm(*given, eps=eps)
    close(saved["output"], output.numpy())
    d_output = draw(*shape, seed=3)
    output.backward(d_output)
    gradients = by_hand.layer_norm_backward(d_output, saved)
    for name, tensor in zip(("d_x", "d_weight", "d_bias"), tensors, strict=True):
        close(gradients[name], tensor.grad.numpy())


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 7)])
@pytest.mark.parametrize("size", [1.0, 300.0])
def test_cross_entropy(shape, size):
    targets = np.random.default_rng(4).integers(shape[-1], size=shape[:-1])
    scores = ta.tensor(size * draw(*shape), requires_grad=True)
    output = ta.cross_entropy(scores, targets)
    saved = by_hand.cross_entropy(scores.numpy(), targets)
    close(saved["output"], output.numpy())
    output.backward(0.7)
    close(by_hand.cross_entropy_backward(np.array(0.7), saved)["d_scores"], scores.grad.numpy())


@pytest.mark.parametrize("shape", [(3, 6), (2, 3, 6)])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"mask": np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1]], bool)}])
def test_the_block_is_the_layer(shape, options):
    layer = ta.nn.TransformerBlock(6, 2, 11, activation=ta.relu, dtype=float, rng=0)
    of_attention = re.compile(r"\bb_(query|key|value|output)$")  # biases, which the block by hand has none of
    parameters = {name: p for name, p in layer.named_parameters() if not of_attention.search(name)}
    rng = np.random.default_rng(5)
    for name, p in layer.named_parameters():
        p.data = 0.5 * rng.normal(size=p.shape) * (name in parameters)
    names = {
        "weight_1": "norm_attention.weight", "bias_1": "norm_attention.bias", "w_query": "attention.w_query",
        "w_key": "attention.w_key", "w_value": "attention.w_value", "w_output": "attention.w_output",
        "weight_2": "norm_mlp.weight", "bias_2": "norm_mlp.bias", "w_expand": "mlp.expand.weight",
        "b_expand": "mlp.expand.bias", "w_contract": "mlp.contract.weight", "b_contract": "mlp.contract.bias",
    }  # fmt: skip
    assert set(names.values()) == set(parameters)
    x, d_output = ta.tensor(draw(*shape), requires_grad=True), draw(*shape, seed=1)
    output = layer(x, **options)
    output.backward(d_output)
    given = {name: parameters[theirs].numpy() for name, theirs in names.items()}
    saved = by_hand.block(x.numpy(), **given, n_heads=2, **options)
    close(saved["output"], output.numpy())
    gradients = by_hand.block_backward(d_output, saved)
    close(gradients["d_x"], x.grad.numpy())
    for name, theirs in names.items():
        close(gradients[f"d_{name}"], parameters[theirs].grad.numpy())


def test_every_gradient_has_the_shape_of_what_it_belongs_to():
    weights = {name: draw(6, 6) for name in ("w_query", "w_key", "w_value", "w_output")}
    weights |= {"w_expand": draw(6, 11), "w_contract": draw(11, 6), "b_expand": draw(11), "b_contract": draw(6)}
    weights |= {name: draw(6) for name in ("weight_1", "bias_1", "weight_2", "bias_2")}
    saved = by_hand.block(draw(2, 3, 6), **weights, n_heads=2)
    for name, gradient in by_hand.block_backward(draw(2, 3, 6), saved).items():
        assert gradient.shape == saved[name.removeprefix("d_")].shape, name


def test_the_backward_pass_undoes_each_labelled_line():
    code = Path(by_hand.__file__).read_text(encoding="utf-8")
    families = "layer_norm|cross_entropy|mlp|block"
    forward, back = (set(re.findall(rf"# \(((?:{families})\.\d){prime}\)", code)) for prime in ("", "'"))
    assert back == {"layer_norm.1", "layer_norm.2", "cross_entropy.1", "mlp.1", "block.1", "block.2"}
    assert forward == back | {"cross_entropy.2"}, "which is a gradient, and has this label in the rule"


def test_what_the_labels_say_is_what_those_of_the_rules_say():
    """One formula has one label, and one label one formula."""
    at_formula = re.compile(r"^ +(\S.*?) {3,}\(([a-z_]+\.\d)\)$", re.MULTILINE)
    said = []
    for module in ("by_hand/block.py", "rules/normalization.py", "rules/losses.py"):
        code = (Path(ta.__file__).parent / module).read_text(encoding="utf-8")
        said.append({label: formula for formula, label in at_formula.findall(code)})
    here, norms, losses = said
    for label, rule in (("layer_norm.1", norms), ("layer_norm.2", norms), ("cross_entropy.1", losses)):
        assert here[label] == rule[label]
