"""`python -m benchmarks.attention` on tiny cases; what the figures are is nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import attention, common
from benchmarks.attention import CASES, MODES, Readable, Subject, TinyAttn, calls, measure
from benchmarks.common import BenchmarkError, is_installed

ROOT = Path(__file__).parents[2]
TINY = (2, 3, 7, 5)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(common, "A_SAMPLE", 1e-6)
    monkeypatch.setattr(common, "PAUSE", 0.0)
    monkeypatch.setattr(common, "WARM_UP", 0.0)


def run_benchmark(*arguments, check=0):
    command = [sys.executable, "-m", "benchmarks.attention", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == check, done.stdout + done.stderr
    return done


def test_the_cases_of_the_table():
    assert len(CASES) == len(set(CASES)) == 9
    assert {mode.partition(",")[0] for mode in MODES} == {"full", "causal"}


@pytest.mark.parametrize("mode", MODES)
def test_subjects_agree_and_are_timed(mode):
    row = measure([TinyAttn(), Readable()], TINY, mode, 2)
    assert row["case"] == list(TINY)
    assert set(row["milliseconds"]) == {"tinyattn", "readable"}
    assert all(time > 0 for time in row["milliseconds"].values())
    assert row["ratio"] is None  # nobody else is there


class Peer(Readable):
    """The readable rule under other names, at another speed, or with a mistake."""

    def __init__(self, name, wrong=0.0):
        self.name, self.wrong = name, wrong

    def forward(self, arrays, causal):
        call = super().forward(arrays, causal)
        return lambda: call() + self.wrong


def test_the_ratio_is_to_the_fastest_peer(monkeypatch):
    times = {"tinyattn": [6.0], "fast, 1 thread": [3.0], "fast, 2 threads": [2.0], "slow": [9.0], "readable": [1.0]}
    monkeypatch.setattr(common, "interleaved", lambda timers, rounds: {name: times[name] for name in timers})
    here = [TinyAttn(), Peer("fast, 1 thread"), Peer("fast, 2 threads"), Peer("slow"), Readable()]
    row = measure(here, TINY, MODES[0], 1)
    assert row["milliseconds"] == {"tinyattn": 6.0, "fast": 2.0, "slow": 9.0, "readable": 1.0}
    assert row["ratio"] == 3.0


def test_wrong_numbers_are_not_timed():
    with pytest.raises(BenchmarkError, match=r"^wrong: the output of \(2, 3, 7, 5\), full, forward, is off by"):
        calls([TinyAttn(), Peer("wrong", 0.01)], TINY, MODES[0])
    with pytest.raises(BenchmarkError, match="off by nan"):
        calls([TinyAttn(), Peer("wrong", np.nan)], TINY, MODES[0])


def test_the_readable_rule_is_left_out_where_it_would_take_gigabytes():
    assert Readable().takes((1, 8, 1024, 64))
    assert not Readable().takes((1, 8, 4096, 64))
    assert Subject.takes(TinyAttn(), (1, 8, 4096, 64))


def test_json():
    rows = json.loads(run_benchmark("--json", "--as-set", "--rounds", "1", "--case", "1,2,5,3").stdout)
    assert [row["mode"] for row in rows] == list(MODES)
    for row in rows:
        assert list(row) == ["case", "mode", "milliseconds", "ratio"]
        assert row["case"] == [1, 2, 5, 3]
        peers = row["milliseconds"].keys() - {"tinyattn", "readable"}
        assert (row["ratio"] is None) == (not peers)


def test_the_table():
    out = run_benchmark("--as-set", "--rounds", "1", "--case", "1,2,5,3", "--case", "2,1,3,4").stdout
    assert out.count("causal, forward and backward") == 2
    assert "OPENBLAS_CORETYPE=" in out
    assert ("not installed" in out) == (not (is_installed("torch") and is_installed("jax")))


def test_other_kernels_are_told(monkeypatch, capsys):
    """As after the new start that the doctor's advice brings."""
    monkeypatch.setenv(common.WAS, "Haswell")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "SkylakeX")
    attention.main(["--rounds", "1", "--case", "1,1,3,2"])
    told = capsys.readouterr().out
    assert "OPENBLAS_CORETYPE=SkylakeX" in told
    assert "OPENBLAS_CORETYPE was Haswell; it is set here as `tinyattn doctor` advises (--as-set keeps it)" in told


@pytest.mark.parametrize("arguments", [["--case", "1,2,3"], ["--case", "0,1,1,1"], ["--rounds", "x"], ["--fast"]])
def test_a_mistake_is_told_in_one_line(arguments):
    done = run_benchmark(*arguments, check=2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_one_position_has_gradients_of_zeros():
    row = measure([TinyAttn(), Readable()], (1, 1, 1, 1), MODES[1], 1)
    assert row["milliseconds"]["tinyattn"] > 0


def test_a_case_too_large_for_the_machine(capsys, monkeypatch):
    monkeypatch.setenv(common.WAS, "")
    with pytest.raises(BenchmarkError, match=r"^\(1000000, .* is too large for this machine"):
        attention.main(["--case", "1000000,1000000,1000000,1000000", "--as-set"])
