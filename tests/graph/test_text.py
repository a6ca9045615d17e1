import numpy as np

import tinyattn as ta
from tinyattn.graph.text import summary, to_text
from tinyattn.graph.trace import trace


def test_each_line_is_made_from_the_numbered_ones_above():
    x = ta.tensor([[1.0, 2.0]], name="x")
    weight = ta.tensor([[3.0], [4.0]], requires_grad=True, name="weight")
    loss = (x @ weight * 0.5).sum(axis=0)
    loss.name = "loss"
    loss.backward(retain_graph=True)
    assert to_text(trace(loss, {})).splitlines() == [
        "3 operations, 1 parameter, 1 input, 1 constant",
        "1  input x                 (1, 2) float64  value [[1 2]]",
        "2  parameter weight        (2, 1) float64  value [[3] [4]]  gradient [[0.5] [1]]",
        "3  matmul(x=#1, y=#2)      (1, 1) float64  value [[11]]",
        "4  constant                () float64  value 0.5",
        "5  multiply(x=#3, y=#4)    (1, 1) float64  value [[5.5]]",
        "6  loss = sum(#5, axis=0)  (1,) float64  value [5.5]",
    ]


def test_numbers_of_lines_are_right_aligned_and_large_arrays_have_no_value():
    x = ta.tensor(np.ones(20), requires_grad=True)
    for _ in range(9):
        x = -x
    lines = to_text(trace(x, {})).splitlines()
    assert lines[1] == " 1  parameter     (20,) float64"
    assert lines[10] == "10  negative(#9)  (20,) float64"


def test_a_name_stays_on_its_line():
    x = ta.tensor(1.0, requires_grad=True, name="two\nlines \x1b[31m")
    assert len(to_text(trace(-x, {})).splitlines()) == 3
    assert "\x1b" not in to_text(trace(-x, {}))


def test_kinds_that_are_not_there_are_not_counted():
    x = ta.tensor(1.0, requires_grad=True)
    assert summary(trace(x * x, {})) == "1 operation, 1 parameter"
