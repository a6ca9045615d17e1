"""Planted faults: one line each, all of them seen by the check, and found by nobody who only asks."""

import traceback

import numpy as np
import pytest

from tinyattn import study
from tinyattn.study.exercises import EXERCISES, code
from tinyattn.study.faults import BACKWARDS, PLANTED


@pytest.fixture(params=range(len(PLANTED)))
def n(request):
    return request.param


def test_there_are_some_for_every_exercise():
    assert len(PLANTED) >= 12
    assert f"There are {len(PLANTED)}, numbered from 0." in study.fault.__doc__
    assert {planted.exercise for planted in PLANTED} == set(EXERCISES) == set(BACKWARDS)


def test_it_is_one_line_that_was_changed(n):
    planted = PLANTED[n]
    right = code(BACKWARDS[planted.exercise])
    assert right.count(planted.right) == 1
    lines = study.fault(n).lines
    changed = [i for i, pair in enumerate(zip(lines, right.splitlines(), strict=True), 1) if pair[0] != pair[1]]
    assert len(changed) == 1
    assert study.fault(n).guess(changed[0])


def test_it_is_seen(n):
    fault = study.fault(n)
    for seed in (0, 1, 2):
        found = study.check(fault.exercise, fault.backward, rng=seed)
        assert not found
        assert found.problem is None
        assert found.first is not None
    assert not study.check(fault.exercise, fault)  # the object itself will do


def test_the_first_gradient_that_is_wrong_is_made_in_that_line(n):
    fault = study.fault(n)
    name = study.check(fault.exercise, fault.backward).first.name
    (line,) = [i for i in range(1, len(fault.lines) + 1) if fault.guess(i)]
    assert fault.lines[line - 1].strip().startswith(f"{name} = ")


def test_put_right_it_is_exact(n):
    """What is shown is the whole of it: with that line as it was, the same text is right."""
    planted, fault = PLANTED[n], study.fault(n)
    text = "\n".join(fault.lines)
    assert text.count(planted.wrong) >= 1
    (line,) = [i for i in range(1, len(fault.lines) + 1) if fault.guess(i)]
    lines = list(fault.lines)
    lines[line - 1] = lines[line - 1].replace(planted.wrong, planted.right)
    names = dict(BACKWARDS[planted.exercise].__globals__)
    exec("\n".join(lines), names)
    assert study.check(planted.exercise, names[BACKWARDS[planted.exercise].__name__]).verdict.endswith(": exact")


def test_the_right_one_still_is(n):
    study.fault(n).backward  # noqa: B018
    exercise = PLANTED[n].exercise
    assert study.check(exercise, BACKWARDS[exercise])


def test_guessing(n):
    fault = study.fault(n)
    right = [line for line in range(1, len(fault.lines) + 1) if study.fault(n).guess(line)]
    assert len(right) == 1
    wrong = next(line for line in range(1, len(fault.lines) + 1) if line not in right)
    assert fault.guess(wrong) is False
    assert fault.explain() == "Guess the line first, by guess(line); or give up, by explain(reveal=True)."
    assert fault.guess(np.int64(right[0])) is True
    assert fault.explain().startswith(f"Line {right[0]}: {PLANTED[n].mistake}\n    it says    ")
    assert study.fault(n).explain(reveal=True) == fault.explain()
    assert not study.fault(n).explain().startswith("Line")  # of another object nothing was guessed


def test_neither_source_nor_hint_give_it_away(n):
    fault = study.fault(n)
    shown = str(fault)
    assert repr(fault) == shown
    assert PLANTED[n].mistake not in shown
    assert '"""' not in shown
    assert shown.splitlines()[0] == f"fault {n}, of {fault.exercise}: one line is wrong. Which?"
    assert [line.split()[0] for line in shown.splitlines()[2:]] == [str(i) for i in range(1, len(fault.lines) + 1)]
    (line,) = [i for i in range(1, len(fault.lines) + 1) if study.fault(n).guess(i)]
    assert str(line) not in fault.hint().split()
    assert PLANTED[n].right not in fault.hint()


def test_an_error_in_it_shows_its_lines():
    fault = study.fault(3)
    with pytest.raises(KeyError) as raised:
        fault.backward(np.ones(3), {})
    assert 'line 2, in attention_backward\n    query, key, value, weights' in "".join(
        traceback.format_exception(raised.value)
    )


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: study.fault(-1), ValueError, rf"^fault: there are faults 0 … {len(PLANTED) - 1}; got -1$"),
        (lambda: study.fault(len(PLANTED)), ValueError, rf"^fault: there are faults 0 … .*; got {len(PLANTED)}$"),
        (lambda: study.fault("1"), TypeError, "^fault: needs the number of a fault; got str$"),
        (lambda: study.fault(1.0), TypeError, "^fault: needs the number of a fault; got float$"),
        (lambda: study.fault(True), TypeError, "^fault: needs the number of a fault; got bool$"),
        (lambda: study.fault(0).guess(0), ValueError, "^guess: line must be 1 … 4; got 0$"),
        (lambda: study.fault(0).guess(5), ValueError, "^guess: line must be 1 … 4; got 5$"),
        (lambda: study.fault(0).guess("3"), TypeError, "^guess: line must be a whole number; got str$"),
        (lambda: study.fault(0).guess(None), TypeError, "^guess: line must be a whole number; got NoneType$"),
    ],
)
def test_what_makes_no_sense_is_told(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
