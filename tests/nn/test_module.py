import numpy as np
import pytest

import tinyattn as ta
from tinyattn import nn


class Pair(nn.Module):
    def __init__(self):
        self.weight = ta.tensor([[1.0, 2.0]], requires_grad=True)
        self.layers = [nn.Linear(2, 3, rng=0), nn.Linear(3, 2, bias=False, rng=1)]
        self.named = {"first": nn.LayerNorm(2)}
        self.tied = self.weight
        self.size = 7

    def forward(self, x):
        return x * self.weight


NAMES = ["weight", "layers.0.weight", "layers.0.bias", "layers.1.weight", "named.first.weight", "named.first.bias"]


def test_parameters_have_dotted_names_and_are_counted_once():
    pair = Pair()
    assert [name for name, _ in pair.named_parameters()] == NAMES
    assert pair.parameters()[0] is pair.weight
    assert len(pair.parameters()) == len(NAMES)


def test_frozen_parameters_are_parameters():
    pair = Pair()
    pair.weight.requires_grad = False
    assert [name for name, _ in pair.named_parameters()] == NAMES
    assert "weight" in pair.state_dict()


def test_a_call_is_a_forward():
    assert Pair()(ta.tensor([[3.0, 4.0]])).tolist() == [[3.0, 8.0]]
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        nn.Module()(1.0)


def test_states_are_copies_and_come_back():
    pair, other = Pair(), Pair()
    state = pair.state_dict()
    state["weight"][...] = 7.0
    assert pair.weight.tolist() == [[1.0, 2.0]]
    weight = other.weight
    other.load_state_dict(state)
    assert other.weight is weight
    assert other.tied.tolist() == [[7.0, 7.0]]
    assert all((other.state_dict()[name] == state[name]).all() for name in NAMES)


def test_a_state_keeps_the_dtype_of_the_parameters():
    layer = nn.Linear(2, 3, rng=0)
    layer.load_state_dict({"weight": np.ones((2, 3)), "bias": np.zeros(3)})
    assert layer.weight.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": None}, "Pair: misses weight"),
        ({"wieght": np.ones(2)}, "Pair: has no wieght"),
        ({"layers.0.bias": None, "bias": np.ones(3)}, r"misses layers\.0\.bias; has no bias"),
        ({"named.first.bias": np.ones(3)}, r"named\.first\.bias has shape \(2,\); got \(3,\)"),
        ({"named.first.bias": np.array(["a", "b"])}, r"named\.first\.bias needs numbers; got ndarray of dtype <U1"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    pair = Pair()
    before = pair.state_dict()
    state = {name: array + 1.0 for name, array in before.items()} | change
    state = {name: array for name, array in state.items() if array is not None}
    with pytest.raises((TypeError, ValueError), match=message):
        pair.load_state_dict(state)
    assert all((pair.state_dict()[name] == before[name]).all() for name in NAMES)


def test_training_and_evaluation():
    pair = Pair()
    assert pair.training
    assert pair.eval() is pair
    assert not any(module.training for module in pair.modules())
    assert len(list(pair.modules())) == 4
    pair.train()
    assert all(module.training for module in pair.modules())


def test_gradients_are_forgotten():
    pair = Pair()
    pair(np.ones((1, 2))).sum().backward()
    assert pair.weight.grad is not None
    pair.zero_grad()
    assert pair.weight.grad is None


def test_repr_shows_the_tree():
    block = nn.TransformerBlock(6, 2, bias=False, rng=0)
    lines = repr(block).splitlines()
    assert lines[0] == "TransformerBlock()"
    assert "  attention: MultiHeadAttention(w_query (6, 6), w_key (6, 6), w_value (6, 6), w_output (6, 6))" in lines
    assert "    expand: Linear(weight (6, 24))" in lines
