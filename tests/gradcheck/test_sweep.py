"""Truncation against round-off: slopes, plateaus and the best steps are where theory has them."""

import csv
import json
import math
import sys

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.gradcheck.report import COMPLEX
from tinyattn.gradcheck.sweep import CENTRAL, EXTRAPOLATED, step_sweep, sweep_rule

X = np.random.default_rng(0).normal(size=(3, 5))


@pytest.fixture(scope="module")
def sweep():
    return step_sweep(ta.softmax, X)


def slope(sweep, way, longest, shortest):
    """How many powers of 2 the error gains with each power of 2 of the step."""
    (places,) = np.nonzero((np.array(sweep.steps) <= longest) & (np.array(sweep.steps) >= shortest))
    return np.polyfit(np.log2(sweep.steps)[places], np.log2(sweep.errors[way])[places], 1)[0]


def test_errors_fall_with_the_square_of_the_step_and_with_its_fourth_power(sweep):
    assert slope(sweep, CENTRAL, 2**-3, 2**-10) == pytest.approx(2, abs=0.05)
    assert slope(sweep, EXTRAPOLATED, 2**-2, 2**-6) == pytest.approx(4, abs=0.2)
    assert slope(sweep, COMPLEX, 2**-3, 2**-10) == pytest.approx(2, abs=0.05)


def test_round_off_rises_as_the_step_falls(sweep):
    for way in (CENTRAL, EXTRAPOLATED):
        assert slope(sweep, way, 2**-24, 2**-44) == pytest.approx(-1, abs=0.15)
    assert max(sweep.errors[COMPLEX][30:]) < 1e-14


def test_the_checkers_own_step_is_a_good_one(sweep):
    own = sweep.errors[EXTRAPOLATED][9]
    assert sweep.steps[9] == 2.0**-10
    assert own < 20 * min(sweep.errors[EXTRAPOLATED])
    in_32 = step_sweep(ta.softmax, X, dtype=np.float32)
    assert in_32.errors[EXTRAPOLATED][4] < 20 * min(in_32.errors[EXTRAPOLATED])


def test_the_best_step_is_the_longest_with_the_least_error():
    assert ta.Sweep("f", (4.0, 2.0, 1.0), {CENTRAL: (0.5, 0.25, 0.25)}).best == {CENTRAL: 2.0}


@pytest.mark.usefixtures("own_rules")
def test_a_wrong_backward_is_a_plateau():
    @ta.rule
    def off(x):
        return np.sin(x), lambda d_output: (1.01 * d_output * np.cos(x),)

    sweep = step_sweep(off, X, steps=[2.0**-8, 2.0**-12, 2.0**-16])
    for errors in sweep.errors.values():
        np.testing.assert_allclose(errors, 0.01 / 1.01, rtol=1e-3)


def test_a_function_that_takes_no_complex_numbers_has_no_such_line():
    sweep = step_sweep(lambda x: x * math.cos(x.numpy()[0, 0]), X, steps=[0.1])
    assert list(sweep.errors) == [CENTRAL, EXTRAPOLATED]
    assert COMPLEX not in step_sweep(ta.exp, X, steps=[0.1], analytic=False).errors


def test_a_rule_is_swept_on_its_first_sample():
    sweep = sweep_rule("matmul")
    assert sweep.subject == "matmul, matrices"
    assert COMPLEX not in sweep_rule("absolute").errors


def test_printed_it_is_a_picture(sweep):
    head, *lines = str(sweep).splitlines()
    assert head == "softmax: relative error (down), by step (across)"
    rows = [line for line in lines if line.startswith("1e")]
    decades = [int(row.split()[0][2:]) for row in rows]
    assert decades == list(range(decades[0], decades[-1] - 1, -1))
    marks = [row.partition("|")[2].ljust(52) for row in rows]
    for column in range(52):
        assert 1 <= sum(row[column] != " " for row in marks) <= 3
    first = [row[0] for row in marks]
    assert first.index("r") <= len(first) - 1
    assert "5e-01" in lines[len(rows) + 1]
    assert "2e-16" in lines[len(rows) + 1]
    assert f"c  central differences: {min(sweep.errors[CENTRAL]):.1e} at best" in str(sweep)


def test_numbers_can_be_saved(sweep, tmp_path):
    assert sweep.save(tmp_path / "sweep.json") == tmp_path / "sweep.json"
    assert json.loads((tmp_path / "sweep.json").read_text()) == json.loads(json.dumps(sweep.to_dict()))
    with (sweep.save(str(tmp_path / "sweep.csv"))).open() as file:
        titles, first, *rest = csv.reader(file)
    assert titles == ["step", CENTRAL, EXTRAPOLATED, COMPLEX]
    assert list(map(float, first)) == [0.5, *(errors[0] for errors in sweep.errors.values())]
    assert len(rest) == 51


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("b.SVG", b"<?xml"), ("c.pdf", b"%PDF")])
def test_a_picture_can_be_saved(sweep, tmp_path, name, start):
    pytest.importorskip("matplotlib")
    assert sweep.save(tmp_path / name).read_bytes().startswith(start)


def test_what_a_picture_needs_is_named(sweep, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'tinyattn\[demos\]'"):
        sweep.save(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["sweep", "sweep.txt", "sweep.png.zip"])
def test_other_endings_are_told(sweep, tmp_path, name):
    with pytest.raises(ValueError, match=r"must end with one of \.csv, \.json, \.png, \.svg, \.pdf; got"):
        sweep.save(tmp_path / name)


@pytest.mark.parametrize("steps", [[], [0.1, 0.0], [-1.0], [np.nan], [np.inf]])
def test_steps_that_are_none(steps):
    with pytest.raises(ValueError, match="steps must be numbers above 0, one at least"):
        step_sweep(ta.exp, X, steps=steps)


def test_there_must_be_something_to_sweep():
    with pytest.raises(ValueError, match="has gradient 0, or NaN"):
        step_sweep(lambda x: x * 0.0, X)
    with pytest.raises(TypeError, match="none of the 1 inputs is floating"):
        step_sweep(ta.exp, [1, 2])
    with pytest.raises(ValueError, match="did you mean 'softmax'"):
        sweep_rule("sofmax")


def test_it_is_on_the_face():
    assert ta.step_sweep is step_sweep
    assert isinstance(step_sweep(ta.exp, X, steps=[0.1]), ta.Sweep)
