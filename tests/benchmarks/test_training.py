"""The benchmarks of training: all compute the same numbers, wrong ones aren't timed, and the page of all of them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyattn as ta
from benchmarks import __main__ as everything
from benchmarks import common, gpt, step
from benchmarks.common import BenchmarkError
from benchmarks.step import Sizes, Subject, batches, losses, measure, start, subjects
from benchmarks.step_by_hand import ByHand

ROOT = Path(__file__).parents[2]
TINY = Sizes(3, 5, 6, 2, 7, 11)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(common, "A_SAMPLE", 1e-6)
    monkeypatch.setattr(common, "PAUSE", 0.0)
    monkeypatch.setattr(common, "WARM_UP", 0.0)


def test_the_models_of_the_table():
    assert [tuple(sizes) for sizes in step.CASES] == [
        (16, 12, 16, 2, 40, 32), (8, 12, 32, 4, 64, 64), (64, 16, 32, 4, 64, 64), (32, 32, 64, 4, 64, 256)
    ]  # fmt: skip


def test_all_subjects_take_the_same_steps():
    own = subjects(with_compiled=False)
    assert [subject.name for subject in own][:3] == ["tinyattn, 1", "tinyattn compiled, 1", "by hand, 1"]
    row = measure(own, TINY, 1)
    assert row["case"] == list(TINY)
    assert all(time > 0 for time in row["milliseconds"].values())
    assert (row["ratio"] is None) == (set(row["milliseconds"]) == {"tinyattn", "tinyattn compiled", "by hand"})


def test_the_step_by_hand_has_the_tapes_gradients():
    """Another witness: every gradient, not the losses alone."""
    arrays = start(TINY)
    hand = ByHand(arrays, TINY.n_heads, step.RATE)
    model = step.Model(TINY, arrays)
    for ids, targets in batches(TINY)[:3]:
        loss = hand.gradients(ids, targets)
        tape = ta.cross_entropy(model(ids), targets)
        model.zero_grad()
        tape.backward()
        assert loss == pytest.approx(tape.item(), rel=1e-5)
        found = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
        for name, ours in step.OURS.items():
            scale = abs(found[ours]).max()
            np.testing.assert_allclose(hand.g[name], found[ours], atol=2e-5 * scale, rtol=0)


def test_wrong_losses_are_not_timed():
    def faulty(sizes, arrays):
        take = step.tinyattn_step(sizes, arrays)
        return lambda ids, targets: take(ids, targets) * 1.01

    with pytest.raises(BenchmarkError, match=r"^wrong: losses of \(3, 5, 6, 2, 7, 11\) are off by 1.0e-02 from tiny"):
        measure([subjects()[0], Subject("wrong", faulty)], TINY, 1)


def test_the_losses_fall():
    found = losses(subjects()[0], Sizes(16, 5, 6, 2, 7, 11), start(Sizes(16, 5, 6, 2, 7, 11)))
    assert len(found) == step.COMPARED
    assert np.isfinite(found).all()


def test_gpt_beside_its_peers(monkeypatch, tmp_path):
    monkeypatch.setattr(gpt, "COMPARED", 3)
    for name, size in (("BLOCKS", 1), ("HEADS", 2), ("D_MODEL", 8), ("LENGTH", 6), ("BATCH", 2)):
        monkeypatch.setattr(gpt, name, size)
    path = tmp_path / "text"
    path.write_text("the cat sat on the mat; " * 40)
    row = gpt.measure(gpt.subjects(with_compiled=False), gpt.read(path), 1, 5)
    assert row["case"] == [1, 2, 8, 6, 2, 11]
    assert row["steps"] == 5
    values = list(row["validation_loss"].values())
    np.testing.assert_allclose(values, values[0], rtol=1e-3)
    with pytest.raises(BenchmarkError, match="no text that can be read"):
        gpt.read(tmp_path / "nothing")
    path.write_text("short")
    with pytest.raises(BenchmarkError, match="5 characters are too few"):
        gpt.read(path)
    assert gpt.read(None).vocab_size > 90


@pytest.mark.parametrize("name", ["step", "gpt"])
@pytest.mark.parametrize("arguments", [["--rounds", "x"], ["--fast"], ["/nowhere"]])
def test_a_mistake_is_told_in_one_line(name, arguments):
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_json(monkeypatch, capsys):
    monkeypatch.setattr(step, "CASES", (TINY,))
    monkeypatch.setattr(step, "subjects", lambda with_compiled: subjects(with_compiled=False)[:3])
    step.main(["--json", "--as-set", "--rounds", "1"])
    (row,) = json.loads(capsys.readouterr().out)
    assert set(row) == {"case", "mode", "milliseconds", "ratio"}
    step.main(["--as-set", "--rounds", "1"])
    assert "(3, 5, 6, 2, 7, 11)" in capsys.readouterr().out


def test_the_page_of_all(monkeypatch, tmp_path, capsys):
    def pretended(command, **options):
        return subprocess.CompletedProcess(command, 0, f"what {command[2]} says\n")

    monkeypatch.setattr(subprocess, "run", pretended)
    out = tmp_path / "RESULTS.md"
    everything.main(["--out", str(out), "--only", "step", "--only", "gpt"])
    text = out.read_text()
    assert text == capsys.readouterr().out
    assert "    $ python -m benchmarks.step\n    what benchmarks.step says\n" in text
    assert "benchmarks.gpt" in text
    assert "benchmarks.attention" not in text
    with pytest.raises(SystemExit, match="2"):  # before anything is run
        everything.main(["--out", str(tmp_path / "nowhere" / "x")])
    with pytest.raises(SystemExit, match="2"):
        everything.main(["--out", str(tmp_path)])
    assert "can't be written" in capsys.readouterr().err
    monkeypatch.setattr(subprocess, "run", lambda command, **options: subprocess.CompletedProcess(command, 1, ""))
    out.unlink()
    with pytest.raises(BenchmarkError, match=r"^benchmarks.overhead ended with status 1; nothing is written"):
        everything.main(["--out", str(out)])
    assert not out.exists()
