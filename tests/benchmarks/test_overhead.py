"""`python -m benchmarks.overhead` on tiny chains; what the figures are is nobody's business here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import overhead
from benchmarks.common import BenchmarkError, is_installed
from benchmarks.overhead import SUBJECTS, Micrograd, Subject, TinyAttn, chain, check, expected, measure

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch):
    monkeypatch.setattr(overhead, "NODES_A_RUN", 1)


def run_benchmark(*arguments, check=0, **options):
    command = [sys.executable, "-m", "benchmarks.overhead", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, **options)
    assert done.returncode == check, done.stdout + done.stderr
    return done


@pytest.fixture
def alone(monkeypatch):
    """As where no peer is installed."""
    monkeypatch.setattr(overhead, "is_installed", lambda module: module == "tinyattn")


def test_the_right_numbers_by_head():
    # y = c x + x;  then c y + x = x (c² + c + 1), with c = 3/4
    assert expected(2) == (0.875, 1.75)
    assert expected(4) == (0.5 * 2.3125, 2.3125)
    assert chain(1.0, 0) == 1.0


def test_tinyattn_computes_them():
    assert check(TinyAttn(), 100) is None
    x, y = TinyAttn().forward(4)
    y.backward()
    assert (y.item(), x.grad.item()) == (0.5 * 2.3125, 2.3125)


@pytest.mark.parametrize("peer", SUBJECTS[1:], ids=lambda peer: peer.name)
def test_peers_compute_them_too(peer):
    if not is_installed(peer.module):
        pytest.skip(f"{peer.name} is not installed")
    assert check(peer(), 100) is None


class Wrong(Subject):
    name, module = "wrong", "math"

    def __init__(self, value, gradient):
        self.said = value, gradient

    def forward(self, nodes):
        return None, None

    def backward(self, x, y):
        return self.said

    def numbers(self, x, y, said):
        return said


@pytest.mark.parametrize(
    ("value", "gradient", "what"),
    [(0.875, 1.76, "gradient"), (0.874, 1.75, "value"), (0.875, float("nan"), "gradient")],
)
def test_a_subject_with_a_wrong_number_is_not_timed(value, gradient, what):
    assert check(Wrong(0.875, 1.75), 2) is None
    with pytest.raises(BenchmarkError, match=f"wrong: the {what} of 2 nodes is .*, and should be"):
        measure([TinyAttn(), Wrong(value, gradient)], 2, 1)


class Recursive(Wrong):
    name = "recursive"

    def backward(self, x, y):
        return self.backward(x, y)


def test_a_chain_that_is_too_long_is_a_finding():
    fine, broken = measure([TinyAttn(), Recursive(0, 0)], 10, 2)
    assert broken == {"subject": "recursive", "nodes": 10, "failure": "RecursionError"}
    assert fine["failure"] is None
    for phase in ("forward", "backward", "both"):
        assert 0 < fine[phase]["least"] <= fine[phase]["median"]


@pytest.mark.skipif(not is_installed("micrograd"), reason="micrograd is not installed")
def test_micrograds_recursion_ends_at_long_chains():
    assert check(Micrograd(), 10_000) == "RecursionError"


def test_the_table(alone, capsys):
    overhead.main(["--nodes", "10", "1000", "--repeat", "2"])
    printed = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in printed if line.startswith("tinyattn ")]
    assert [row[:2] for row in rows[:2]] == [["tinyattn", "10"], ["tinyattn", "1,000"]]
    assert all(float(number.strip("()")) > 0 for row in rows[:2] for number in row[2:])
    assert "2 interleaved runs" in printed[1]
    assert printed[-1] == (
        "not installed: micrograd, PyTorch, MyGrad, HIPS autograd; pip install 'tinyattn[bench]' brings them"
    )


def test_a_finding_stands_in_the_table(capsys, monkeypatch):
    monkeypatch.setattr(overhead, "SUBJECTS", (type("R", (Recursive,), {"__init__": lambda self: None}),))
    overhead.main(["--nodes", "10", "--repeat", "1"])
    assert "recursive     10        -         -  RecursionError" in capsys.readouterr().out


def test_json(alone, capsys):
    overhead.main(["--json", "--nodes", "10", "--repeat", "2"])
    found = json.loads(capsys.readouterr().out)
    assert found["benchmark"] == "overhead"
    assert found["repeat"] == 2
    assert found["missing"] == ["micrograd", "PyTorch", "MyGrad", "HIPS autograd"]
    assert set(found["machine"]) == {"cpu", "cores", "system", "python", "numpy"}
    assert set(found["versions"]) == {"tinyattn"}
    (row,) = found["results"]
    assert (row["subject"], row["nodes"], row["failure"]) == ("tinyattn", 10, None)
    assert 0 < row["both"]["least"] <= row["both"]["median"]
    assert row["forward"]["least"] < row["both"]["least"]


def test_a_peer_that_is_there_but_broken_is_named(monkeypatch):
    class Broken(TinyAttn):
        name = "broken"

        def __init__(self):
            raise ImportError("no libbroken.so")

    monkeypatch.setattr(overhead, "SUBJECTS", (Broken,))
    with pytest.raises(BenchmarkError, match=r"broken is installed, but can't be imported: no libbroken\.so"):
        overhead.main(["--nodes", "2"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nodes", "3"], "--nodes: expected an even number"),
        (["--nodes", "0"], "--nodes: expected a whole number from 2 to 1,000,000, got '0'"),
        (["--nodes", "10", "many"], "got 'many'"),
        (["--nodes"], "--nodes: expected at least one argument"),
        (["--repeat", "0"], "--repeat: expected a whole number from 1 to 10,000, got '0'"),
        (["--repeat", "1.5"], "got '1.5'"),
        (["--fast"], "--fast"),
        (["softmax\x1b[31m\n"], "softmax\\x1b[31m\\n"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        overhead.main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_as_a_user_runs_it():
    done = run_benchmark("--nodes", "10", "--repeat", "1")
    assert "\ntinyattn" in done.stdout
    assert done.stderr == ""
    done = run_benchmark("--nodes", "1", check=2)
    assert done.stdout == ""
    assert done.stderr.startswith("python -m benchmarks.overhead: argument --nodes: ")
    assert "--repeat" in run_benchmark("--help").stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "benchmarks.overhead", "--nodes", "2", "--repeat", "1"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "python -m benchmarks.overhead: can't write the output: No space left on device\n"
