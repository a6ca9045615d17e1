import numpy as np

import tinyattn as ta
from tinyattn.graph.text import summary, to_text
from tinyattn.graph.trace import Wishes, trace


def recorded(tensor):
    return trace([tensor], Wishes({}))


def test_each_line_is_made_from_the_numbered_ones_above():
    x = ta.tensor([[1.0, 2.0]], name="x")
    weight = ta.tensor([[3.0], [4.0]], requires_grad=True, name="weight")
    loss = (x @ weight * 0.5).sum(axis=0)
    loss.name = "loss"
    loss.backward(retain_graph=True)
    assert to_text(recorded(loss)).splitlines() == [
        "3 operations, 1 parameter, 1 input, 1 constant",
        "1  input x                 (1, 2) float64  value [[1 2]]",
        "2  parameter weight        (2, 1) float64  value [[3] [4]]  gradient [[0.5] [1]]",
        "3  matmul(x=#1, y=#2)      (1, 1) float64  value [[11]]  gradient [[0.5]]",
        "4  constant                () float64  value 0.5",
        "5  multiply(x=#3, y=#4)    (1, 1) float64  value [[5.5]]  gradient [[1]]",
        "6  loss = sum(#5, axis=0)  (1,) float64  value [5.5]  gradient [1]",
    ]


def test_numbers_of_lines_are_right_aligned_and_large_arrays_have_no_value():
    x = ta.tensor(np.ones(20), requires_grad=True)
    for _ in range(9):
        x = -x
    lines = to_text(recorded(x)).splitlines()
    assert lines[1] == " 1  parameter     (20,) float64  value 1 … 1, mean 1"
    assert lines[10] == "10  negative(#9)  (20,) float64  value -1 … -1, mean -1"


def test_a_name_stays_on_its_line():
    x = ta.tensor(1.0, requires_grad=True, name="two\nlines \x1b[31m")
    assert len(to_text(recorded(-x)).splitlines()) == 3
    assert "\x1b" not in to_text(recorded(-x))


def test_kinds_that_are_not_there_are_not_counted():
    x = ta.tensor(1.0, requires_grad=True)
    assert summary(recorded(x * x)) == "1 operation, 1 parameter"


def test_boxes_are_headings_and_what_is_in_them_is_indented():
    model = ta.nn.Sequential(ta.nn.Linear(1, 1, bias=False, rng=0), ta.relu)
    lines = str(ta.graph(model(ta.tensor(np.ones((1, 1)))).sum())).splitlines()
    assert [line.split("  (")[0].rstrip() for line in lines] == [
        "3 operations, 1 parameter, 1 input",
        "1  input",
        "2  parameter layers.0.weight",
        "Sequential:",
        "  layers.0 (Linear):",
        "    3  linear(x=#1, weight=#2)",
        "  4  relu(#3)",
        "5  sum(#4)",
    ]
