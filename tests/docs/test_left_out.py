"""docs/left-out.md tells the truth: what it says is missing is, and stands where it says in PyTorch."""

import doctest
import functools
import importlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import tinyattn as ta

PAGE = Path(__file__).parents[2] / "docs" / "left-out.md"
TEXT = PAGE.read_text(encoding="utf-8")
NAMED = re.findall(r"`(np(?:\.\w+)+)`", TEXT)
OF_PYTORCH = sorted(set(re.findall(r"`(torch(?:\.\w+)+)`", TEXT)))


def called(path):
    name, *rest = path.split(".")
    return functools.reduce(getattr, rest, {"np": np}[name])


@pytest.mark.parametrize("path", NAMED)
def test_what_is_left_out_has_no_rule(path):
    x = ta.tensor([[2.0, 1.0], [1.0, 2.0]], requires_grad=True)
    arguments = {"arctan2": 2, "solve": 2, "convolve": 2, "correlate": 2, "quantile": 2, "partition": 2}
    second = {"quantile": 0.5, "partition": 1}
    name = path.rpartition(".")[2]
    given = (x, second.get(name, x))[: arguments.get(name, 1)]
    with pytest.raises(TypeError, match=r"has no rule, so that no gradient could go through it"):
        called(path)(*given)


def test_it_names_some():
    assert len(NAMED) > 15
    assert len(OF_PYTORCH) > 15


def test_what_it_shows_is_what_happens():
    failures, attempted = doctest.testfile(str(PAGE), module_relative=False)
    assert failures == 0
    assert attempted >= 4


def test_complex_numbers_have_no_gradient():
    with pytest.raises(TypeError, match="gradients need float32 or float64; got complex128"):
        ta.tensor([1j], requires_grad=True)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("path", OF_PYTORCH)
def test_pytorch_has_it_where_the_page_says(path):
    parent, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(parent), name)
    except AttributeError:
        found = importlib.import_module(path)
    assert found is not None
