"""The doctor: what NumPy computes with here, and what it advises; what the figures are is nobody's business."""

import json
import os
import subprocess
import sys

import pytest

import tinyattn as ta
from tinyattn import diagnosis
from tinyattn.kernels import threads


class Blas:
    """A BLAS that says what it is."""

    def __init__(self, *libraries):
        self.libraries = list(libraries)

    def info(self):
        return self.libraries


@pytest.fixture
def machine(monkeypatch):
    """A machine with this BLAS, on which kernels do so many GFLOP/s."""

    def make(library, gflops, runnable=("SkylakeX", "Haswell")):
        monkeypatch.setattr(diagnosis, "blas", lambda: Blas(*library))
        monkeypatch.setattr(diagnosis, "_runnable", lambda: list(runnable))
        monkeypatch.setattr(diagnosis, "_gflops", lambda kernels: gflops[kernels])
        return ta.doctor()

    return make


OPENBLAS = {"internal_api": "openblas", "version": "0.3.31", "num_threads": 2, "architecture": "Haswell"}


def test_faster_kernels_are_advised(machine):
    found = machine([OPENBLAS], {None: 100.0, "SkylakeX": 200.0})
    assert found.settings == {"OPENBLAS_CORETYPE": "SkylakeX"}
    assert found.gflops == {"Haswell": 100.0, "SkylakeX": 200.0}
    text = str(found)
    assert "OpenBLAS 0.3.31, 2 threads, kernels for Haswell" in text
    assert "kernels for SkylakeX: 200 GFLOP/s a thread" in text
    assert text.endswith("before Python starts, write\n  export OPENBLAS_CORETYPE=SkylakeX")


def test_what_is_as_fast_is_left_as_it_is(machine):
    for other in (105.0, 50.0, None):  # hardly faster, slower, fails
        found = machine([OPENBLAS], {None: 100.0, "SkylakeX": other})
        assert found.settings == {}
        assert str(found).endswith("nothing to be set")


def test_kernels_that_the_processor_has_no_instructions_for_are_not_tried(machine):
    found = machine([OPENBLAS], {None: 100.0}, runnable=["Haswell"])
    assert found.gflops == {"Haswell": 100.0}


def test_another_blas(machine):
    mkl = {"internal_api": "mkl", "version": None, "num_threads": 1}
    found = machine([mkl], {})
    assert (found.blas, found.kernels, found.settings) == ("MKL", None, {})
    assert "with MKL, 1 thread\n" in str(found)
    nothing = machine([], {})
    assert nothing.blas == "a BLAS that isn't known"


def test_the_environment_is_followed():
    """A process of its own, as for users: BLAS reads it when NumPy is imported."""
    program = "import tinyattn as ta; x = ta.doctor(measure=False); print(x.kernels, x.threads, x.gflops)"
    said = {"TINYATTN_NUM_THREADS": "3", "OPENBLAS_CORETYPE": "Haswell"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | said, capture_output=True, text=True, check=True
    )
    kernels, n_threads, gflops = done.stdout.split()
    assert (n_threads, gflops) == ("3", "{}")
    if "Haswell" in diagnosis._runnable() and ta.doctor(measure=False).blas.startswith("OpenBLAS"):
        assert kernels == "Haswell"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"TINYATTN_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 3),
        ({"OMP_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "0"}, threads.cores()),
        ({"OMP_NUM_THREADS": "many", "TINYATTN_NUM_THREADS": "-1"}, threads.cores()),
        ({"TINYATTN_NUM_THREADS": "1000"}, threads.cores()),
        ({}, threads.cores()),
    ],
)
def test_how_many_threads(monkeypatch, said, expected):
    for name in ("TINYATTN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads, "_n_threads", None)
    assert threads.get_num_threads() == expected


def test_the_measure_is_one():
    numbers = [diagnosis._gflops(None), diagnosis._gflops("Haswell")]
    assert all(number is None or 0.01 < number < 1e5 for number in numbers)
    assert numbers[0] is not None


def test_the_command():
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "tinyattn", "doctor", *arguments], capture_output=True, text=True, check=False
        )

    text = run()
    assert text.returncode == 0
    assert text.stdout.startswith("NumPy ")
    found = json.loads(run("--json").stdout)
    assert set(found) == set(ta.Diagnosis._fields)
    wrong = run("--fast")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1
