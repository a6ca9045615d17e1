"""What the benchmarks share."""

import argparse
import gc
import json

import pytest

from benchmarks.common import (
    BenchmarkError,
    as_json,
    interleaved,
    machine,
    one_line,
    run,
    spread,
    table,
    told,
    version,
    whole_number,
)


def test_least_and_median():
    assert spread([3.0, 1.0, 11.0]) == (1.0, 3.0)


def test_subjects_take_turns_and_each_is_first_once():
    calls = []
    subjects = {name: (lambda name=name: calls.append(name) or len(calls)) for name in "abc"}
    assert interleaved(subjects, 3) == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}
    assert "".join(calls) == "abcbcacab"
    assert gc.get_freeze_count() == 0
    assert interleaved({}, 3) == {}


def test_what_was_there_before_is_handed_back_to_the_collector_after_an_error():
    with pytest.raises(ZeroDivisionError):
        interleaved({"a": lambda: 1 / 0}, 1)
    assert gc.get_freeze_count() == 0


def test_the_machine_is_told_in_a_line():
    here = machine()
    assert here["cores"] >= 1
    assert all(here.values())
    line = told(here)
    assert "\n" not in line
    assert here["cpu"] in line
    assert f"NumPy {version('numpy')}" in line
    assert version("no-such-project") == "(version unknown)"


def test_a_table_is_flush_left_in_its_first_column_and_right_in_the_others():
    assert table([("", "n"), ("long", "1"), ("x", "100")]) == "        n\nlong    1\nx     100"


def test_json_has_no_nan():
    assert json.loads(as_json({"µ": [1.5, None]})) == {"µ": [1.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json(float("nan"))


@pytest.mark.parametrize("text", ["0", "11", "-1", "2.5", "ten", "", "1e3", "9" * 30])
def test_whole_numbers_out_of_bounds(text):
    with pytest.raises(argparse.ArgumentTypeError, match="a whole number from 1 to 10"):
        whole_number(1, 10)(text)


def test_whole_numbers_within_bounds():
    assert [whole_number(1, 10)(text) for text in ("1", "10")] == [1, 10]


def test_a_line_is_one_line_whatever_is_in_it():
    assert one_line("a\nb\x1b[31m") == "a\\nb\\x1b[31m\n"
    assert len(one_line("x" * 1000)) == 501


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (BenchmarkError("2 is 3"), 1, "bench: 2 is 3\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_the_exit_status_tells_how_it_ended(raised, status, said, capsys):
    def main():
        raise raised

    assert run("bench", main) == status
    assert capsys.readouterr().err == said
    assert run("bench", lambda: None) == 0
