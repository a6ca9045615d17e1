from collections import OrderedDict, defaultdict, namedtuple

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.structures import is_array, is_module, leaves, mapped, opened

Pair = namedtuple("Pair", "left right")


def test_a_structure_is_made_again():
    given = {"w": [np.ones(2), (3.0, None)], 5: Pair(left=7.0, right=[]), "none": None}
    doubled = mapped(lambda leaf, path: f"{path} {np.shape(leaf)}", given)
    assert doubled == {
        "w": ["['w'][0] (2,)", ("['w'][1][0] ()", None)],
        5: Pair(left="[5].left ()", right="[5].right (0,)"),
        "none": None,
    }
    assert type(doubled[5]) is Pair


def test_leaves_have_their_paths():
    assert leaves({"a": (1.0, None, [2.0, (3.0,)])}) == [
        ("['a'][0]", 1.0),
        ("['a'][2][0]", 2.0),
        ("['a'][2][1][0]", 3.0),
    ]
    assert leaves(5.0) == [("", 5.0)]
    assert leaves(None) == []


@pytest.mark.parametrize("numbers", [[1.0, 2], [[1.0, 2.0], [3.0, 4.0]], [], [[]], [np.float32(1)]])
def test_lists_of_numbers_are_arrays(numbers):
    assert is_array(numbers)
    assert leaves(numbers) == [("", numbers)]


@pytest.mark.parametrize(
    "structure", [[np.ones(1)], [1.0, None], [[1.0], (2.0,)], (1.0, 2.0), {}, [ta.tensor(1.0)], None]
)
def test_anything_else_is_none(structure):
    assert not is_array(structure)


def test_dicts_keep_their_kind_and_order():
    ordered = mapped(lambda leaf, _: -leaf, OrderedDict(b=1.0, a=2.0))
    assert ordered == OrderedDict(b=-1.0, a=-2.0)
    default = mapped(lambda leaf, _: -leaf, defaultdict(list, b=1.0))
    assert default["b"] == -1.0
    assert default["new"] == []


def test_what_came_in_is_left_as_it_was():
    given = {"w": [(1.0, 2.0)]}
    mapped(lambda leaf, _: 0.0, given)["w"].append(1)
    assert given == {"w": [(1.0, 2.0)]}


def test_a_module_opens_to_its_parameters():
    layer = ta.nn.Linear(3, 2, rng=np.random.default_rng(0))
    assert is_module(layer)
    assert not is_module(ta.nn.Linear)
    assert opened([layer, None, 2.0])[0] == dict(layer.named_parameters())
    layer.bias.requires_grad = False
    assert list(opened({"layer": layer})["layer"]) == ["weight"]
    assert leaves(opened((layer,))) == [("[0]['weight']", layer.weight)]
