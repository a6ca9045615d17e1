import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.cli import main
from tinyattn.graph.expression import ExpressionError, compute

ROOT = Path(__file__).parents[2]
SHAPES = {"x": (3, 4), "w": (4, 2)}


def computed(text, shapes=SHAPES):
    used = {name: shape for name, shape in shapes.items() if name in text}
    return compute(text, used, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("softmax(x @ w)", lambda x, w: ta.softmax(x @ w)),
        ("-x.T[0, 1:] * 2 + 3 ** -1.5", lambda x, w: -x.T[0, 1:] * 2 + 3**-1.5),
        ("sum(x, axis=(0, 1))", lambda x, w: ta.sum(x, axis=(0, 1))),
        ("concatenate([x, x / 2], axis=1)", lambda x, w: ta.concatenate([x, x / 2], axis=1)),
        ("linear(x, w, activation='gelu')", lambda x, w: ta.linear(x, w, activation="gelu")),
        ("cross_entropy(x, [0, 1, 3])", lambda x, w: ta.cross_entropy(x, [0, 1, 3])),
    ],
)
def test_what_a_formula_gives(text, right):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4))
    w = rng.normal(size=(4, 2))
    np.testing.assert_allclose(computed(text).numpy(), right(ta.tensor(x), ta.tensor(w)).numpy(), rtol=1e-15)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("softmx(x)", "there is no rule 'softmx'; did you mean 'softmax'?"),
        ("__import__('os')", "there is no rule '__import__'"),
        ("x.__class__", "isn't for formulas"),
        ("x.numpy()", "isn't for formulas"),
        ("(lambda: x)()", "isn't for formulas"),
        ("[y for y in x]", "isn't for formulas"),
        ("x if x else x", "isn't for formulas"),
        ("x := 3", "can't read"),
        ("f'{x}'", "isn't for formulas"),
        ("softmax(*x)", "softmax: * and ** aren't for formulas"),
        ("x[x]", "an index is made of whole numbers and slices"),
        ("relu", "relu is a rule, and is called"),
        ("y + 1", "y has no shape; add --shape y=N,N with its sizes"),
        ("x +", "can't read 'x +': invalid syntax"),
        ("x + 'a'", "can't compute with 'a'"),
        ("2 ** 99999 * x", "can't compute it"),
        ("1 / 0 * x", "can't compute it: float division by zero"),
        ("x", "holds no operation"),
        ("3 + 4", "holds no operation"),
        ("(" * 500 + "x" + ")" * 500, "can't read"),
        ("-" * 1900 + "x", "too deep|can't read"),
        ("x" * 3000, "has 2000 characters at most; got 3000"),
        ("x\0", "can't read"),
        ("", "can't read"),
    ],
)
def test_what_is_not_for_formulas_is_refused(text, told):
    with pytest.raises(ExpressionError, match=told.replace("*", r"\*").replace("?", r"\?").replace("+", r"\+")):
        computed(text)


def test_shapes_that_make_no_sense():
    with pytest.raises(ExpressionError, match="w has a shape, but doesn't stand in the formula"):
        compute("sum(x)", SHAPES, np.random.default_rng(0))
    with pytest.raises(ExpressionError, match="x may have 16777216 numbers at most"):
        compute("sum(x)", {"x": (10**5, 10**5)}, np.random.default_rng(0))


def run(capsys, *arguments):
    try:
        status = main(["graph", *arguments])
    except SystemExit as error:
        status = error.code
    return status, *capsys.readouterr()


def test_the_command_prints_or_saves(capsys, tmp_path):
    status, out, err = run(capsys, "softmax(x @ w)", "--shape", "x=3,4", "--shape", "w=4,2")
    assert (status, err) == (0, "")
    assert out.startswith("2 operations, 2 parameters\n")
    assert "gradient" in out
    path = tmp_path / "graph.html"
    status, out, _ = run(capsys, "sum(x * x)", "--shape", "x=2", "-o", str(path))
    assert status == 0
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert run(capsys, "softmax(x)", "--shape", "x=2", "--inside", "softmax")[1].count("inside softmax") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["softmx(x)", "--shape", "x=3"], "did you mean 'softmax'?"),
        (["x @ x", "--shape", "x=3,4"], "matmul: the last axis of x must match the rows of y"),
        (["sum(x)", "--shape", "x=a"], "a shape is a name and sizes, as in x=3,4; got 'x=a'"),
        (["sum(x)", "--shape", "x"], "a shape is a name and sizes"),
        (["sum(x)", "--shape", "x=3", "--shape", "x=4"], "x has two shapes"),
        (["sum(x)", "--shape", "x=3", "--depth", "-1"], "depth"),
        (["sum(x)", "--shape", "x=3", "--inside", "y"], "inside has 'y', and there is no rule of that name"),
        (["sum(x)", "--shape", "x=3", "-o", "graph.gif"], "must end with one of .svg, .png"),
        (["sum(x)", "--shape", "x=3", "-o", "nowhere/graph.dot"], "there is no folder"),
    ],
)
def test_mistakes_are_told_in_one_line(capsys, arguments, told):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_what_is_too_large_for_the_machine_is_told(capsys):
    status, out, err = run(capsys, "broadcast_to(x, (1000000, 1000000))", "--shape", "x=1")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "too large for this machine" in err


def test_a_terminal_of_few_characters_gets_question_marks():
    command = [sys.executable, "-m", "tinyattn", "graph", "x @ x", "--shape", "x=40,40"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=True, cwd=ROOT)
    assert b"value -3.9 ? 3.07" in done.stdout
