"""The language model's demo as a user runs it: training, writing on, Ctrl-C and kill, mistakes in one line."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from demos.files import load_arrays, save_arrays
from demos.gpt.command import main
from demos.gpt.parallel import Mpi
from demos.gpt.sampling import Writer
from demos.gpt.text import Corpus, TextError, Vocabulary, own_files, read
from demos.gpt.training import PRESETS, Run, Settings, TrainingError, load_checkpoint
from tests.demos.running import ROOT

TEXT = "the cat sat on the mat, and the dog sat by the door; who sat where?\n" * 40
TINY = ("--layers", 1, "--heads", 2, "--d-model", 16, "--length", 8, "--batch", 4, "--evaluate", 50)
SMALL = Settings(steps=120, layers=1, heads=2, d_model=16, length=8, batch=6, evaluate=60, warmup=10)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def call(*arguments, check=None):
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = ended.code
    if check is not None:
        assert status == check, printed.getvalue() + errors.getvalue()
    return status, printed.getvalue(), errors.getvalue()


def started(*arguments):
    command = [sys.executable, "-m", "demos.gpt", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# ---------------------------------------------------------------------------------------------------- a training


def test_what_a_training_leaves_behind(tmp_path, text):
    out = tmp_path / "out"
    _, printed, _ = call("train", text, *TINY, "--steps", 100, "--out", out, check=0)
    assert "held out" in printed
    assert "characters/s" in printed
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint.safetensors", "log.csv", "loss.png", "metrics.json", "model.safetensors"
    ]  # fmt: skip
    rows = list(csv.DictReader((out / "log.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [50, 100]
    assert float(rows[1]["validation"]) < float(rows[0]["validation"]) < np.log(30)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["validation_loss"] == float(rows[1]["validation"])
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    model = out / "model.safetensors"
    _, written, _ = call("sample", "--model", model, "--prompt", "the cat", "--n", 60, check=0)
    assert written.startswith("the cat")
    assert len(written) == len("the cat") + 60 + 1
    assert set(written) <= set(TEXT)
    assert call("sample", "--model", model, "--prompt", "the cat", "--n", 60)[1] == written
    assert call("sample", "--model", model, "--prompt", "the cat", "--n", 60, "--seed", 1)[1] != written
    likeliest = [call("sample", "--model", model, "--prompt", "the cat", "--temperature", 0)[1] for _ in range(2)]
    assert likeliest[0] == likeliest[1] == call("sample", "--model", model, "--prompt", "the cat", "--top-k", 1)[1]


def test_it_learns_the_text():
    run = Run(SMALL, Corpus(TEXT, SMALL.length))
    losses = [run.take_step()[0] for _ in range(SMALL.steps)]
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:20])
    assert run.validation_loss() == run.validation_loss()  # nothing is drawn at random


def test_the_preset_is_nanogpts():
    settings = PRESETS["nano-cpu"]
    assert (settings.layers, settings.heads, settings.d_model, settings.length, settings.batch) == (4, 4, 128, 64, 12)
    assert (settings.steps, settings.warmup, settings.rate, settings.floor) == (2000, 100, 1e-3, 1e-4)
    assert (settings.beta2, settings.decay, settings.clip, settings.dropout) == (0.99, 0.1, 1.0, 0.0)
    run = Run(settings, Corpus(TEXT, settings.length))
    assert not [name for name in run.parameters if "bias" in name or ".b_" in name]
    assert run.model.head is None  # the table of words is the head
    decayed = dict(zip(run.parameters, run.optimizer._decayed, strict=True))
    assert not decayed["blocks.norm.weight"]
    assert decayed["positions.weight"]


def test_the_same_numbers_again():
    runs = [Run(SMALL, Corpus(TEXT, SMALL.length)) for _ in range(2)]
    for run in runs:
        for _ in range(30):
            run.take_step()
    for name, parameter in runs[0].parameters.items():
        np.testing.assert_array_equal(parameter.numpy(), runs[1].parameters[name].numpy())


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_run_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path, dropout):
    settings = Settings(**{**vars(SMALL), "dropout": dropout, "steps": 150, "evaluate": 50})
    corpus = Corpus(TEXT, settings.length)
    whole = Run(settings, corpus)
    whole.train(lambda run, loss: None, tmp_path / "whole")

    def stop(run, loss):
        if run.step == 117:
            raise KeyboardInterrupt

    cut = Run(settings, corpus)
    with pytest.raises(KeyboardInterrupt):
        cut.train(stop, tmp_path / "cut")
    kept, arrays, state = load_checkpoint(tmp_path / "cut")
    assert (kept, state["step"]) == (settings, 100)
    again = Run(kept, corpus)
    again.restore(tmp_path / "cut", arrays, state)
    again.train(lambda run, loss: None, tmp_path / "cut")
    assert again.losses == whole.losses
    assert [row.validation for row in again.log] == [row.validation for row in whole.log]
    for name, parameter in whole.parameters.items():
        np.testing.assert_array_equal(parameter.numpy(), again.parameters[name].numpy())


def test_a_killed_run_is_resumed(tmp_path, text):
    common = (text, *TINY, "--steps", 1500, "--out")
    call("train", *common, tmp_path / "whole", check=0)
    process = started("train", *common, tmp_path / "killed")
    try:
        checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            if checkpoint.exists() and load_checkpoint(checkpoint)[2]["step"] >= 100:
                break
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
    assert load_checkpoint(checkpoint)[2]["step"] >= 100
    call("train", text, "--resume", "--out", tmp_path / "killed", check=0)
    whole, killed = (load_arrays(tmp_path / name / "model.safetensors", "GPT model")[0] for name in ("whole", "killed"))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, killed[name])


def test_ctrl_c_says_how_to_go_on(tmp_path, text):
    process = started("train", text, *TINY, "--steps", 10**6, "--out", tmp_path / "out dir")
    checkpoint = tmp_path / "out dir" / "checkpoint.safetensors"
    until = time.monotonic() + 60
    while time.monotonic() < until and not checkpoint.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted in step" in errors
    assert f"--resume --out '{tmp_path / 'out dir'}'" in errors
    assert "Traceback" not in errors
    load_checkpoint(checkpoint)


# ---------------------------------------------------------------------------------------------------- mistakes


def fails(*arguments, told):
    status, _, errors = call(*arguments)
    assert status == 2, errors
    assert errors.count("\n") == 1
    assert "Traceback" not in errors
    assert told in errors, errors


def test_texts_that_are_none(tmp_path):
    fails("train", tmp_path / "nothing.txt", told="nothing.txt: it can't be read (No such file or directory)")
    fails("train", tmp_path, told="it can't be read")
    for name, content, told in (
        ("empty", b"", "the file is empty"),
        ("binary", b"\x89PNG\r\n\x1a\n\x00", "no text in UTF-8 (byte 0 is 0x89)"),
        ("zeros", b"a\x00b" * 500, "no text: it has zero bytes in it"),
        ("short", b"to be or not to be", "the text has 18 characters; sequences of 64 need 650"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        fails("train", path, "--out", tmp_path / "out", told=told)
    assert not (tmp_path / "out").exists()


def test_arguments_that_make_no_sense(text, tmp_path):
    fails("train", text, "--preset", "large", told="invalid choice: 'large'")
    fails("train", text, "--steps", "many", told="expected a whole number from 1 on, got 'many'")
    fails("train", text, "--heads", 3, told="heads must divide d_model; got 3 heads of 64")
    fails("train", text, "--length", 1, told="length must be a whole number from 2 on; got 1")
    fails("train", text, "--rate", -1, told="--rate")
    fails("sample", "--model", tmp_path / "none", told="there is no such file")
    fails("sample", "--temperature", "hot", told="expected a positive number, got 'hot'")
    fails(told="COMMAND")


def test_prompts_that_can_not_be_gone_on_with(tmp_path, text):
    call("train", text, *TINY, "--steps", 1, "--out", tmp_path, check=0)
    model = tmp_path / "model.safetensors"
    fails("sample", "--model", model, "--prompt", "Ünï", told="has never seen 'Ü' 'ï'")
    fails("sample", "--model", model, "--prompt", "", told="the prompt is empty")
    fails("sample", "--model", tmp_path / "checkpoint.safetensors", told="but not a GPT model of this demo")
    call("sample", "--model", model, "--prompt", "the " * 50, "--n", 20, check=0)  # longer than it sees


def test_a_page_shows_where_characters_look(tmp_path, text):
    call("train", text, *TINY, "--steps", 1, "--out", tmp_path, check=0)
    model, page = tmp_path / "model.safetensors", tmp_path / "attention.html"
    _, printed, _ = call("view", "the cat", "--model", model, "-o", page, check=0)
    assert printed == f"{page}: open it in a browser\n"
    assert r'"queries":["t","h","e","\u2423","c","a","t"]' in page.read_text(encoding="utf-8")
    fails("view", "Ünï", "--model", model, "-o", page, told="has never seen 'Ü' 'ï'")
    fails("view", "", "--model", model, "-o", page, told="the text has 0 characters, and the model sees 1 to")
    fails("view", "the " * 50, "--model", model, "-o", page, told="the text has 200 characters, and the model sees")
    fails("view", "the", "--model", model, "-o", tmp_path / "none" / "a.html", told="there is no folder")
    fails("view", "the", "--model", tmp_path / "none", told="there is no such file")


def test_checkpoints_that_do_not_fit(tmp_path, text):
    out = tmp_path / "out"
    call("train", text, *TINY, "--steps", 1, "--out", out, check=0)
    again = ("train", text, "--resume", "--out", out)
    fails(*again, "--layers", 2, told="its run has --layers 1; leave out --layers 2")
    other = tmp_path / "other.txt"
    other.write_text(TEXT.replace("cat", "cow"))
    fails("train", other, "--resume", "--out", out, told="its run learned another text")
    fails("train", text, "--resume", "--out", tmp_path / "nowhere", told="there is no such file")
    path = out / "checkpoint.safetensors"
    arrays, state = load_arrays(path, "GPT checkpoint")
    wrong = arrays | {"model.words.weight": np.ones((3, 3), np.float32)}
    save_arrays(path, "GPT checkpoint", wrong, state)
    fails(*again, told="a checkpoint of another shape or version")
    path.write_bytes(path.read_bytes()[:-50])
    fails(*again, told="not a whole safetensors file")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    run = Run(SMALL, Corpus(TEXT, SMALL.length))
    path = tmp_path / "checkpoint"
    run.save(path)
    before = path.read_bytes()
    run.take_step()
    opened = open

    def full(name, *rest, **options):
        return opened("/dev/full", *rest, **options) if str(name).endswith(".part") else opened(name, *rest, **options)

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(Exception, match="it can't be written \\(No space left on device\\)"):
        run.save(path)
    assert path.read_bytes() == before


def test_numbers_that_run_away(tmp_path):
    run = Run(Settings(**{**vars(SMALL), "rate": 1e30, "warmup": 0}), Corpus(TEXT, SMALL.length))
    with pytest.raises(TrainingError, match=r"step \d+ led to numbers that are not finite: try a smaller --rate"):
        run.train(lambda run, loss: None, tmp_path / "checkpoint")


# ---------------------------------------------------------------------------------------------------- the text


def test_characters_and_numbers():
    vocabulary = Vocabulary("abcab")
    assert len(vocabulary) == 3
    assert vocabulary.text(vocabulary.ids("cab")) == "cab"
    with pytest.raises(TextError, match="has never seen 'd' 'é': its text had 3 other characters"):
        vocabulary.ids("dabé")


def test_what_is_held_out_is_never_learned():
    corpus = Corpus("".join(chr(200 + i) for i in range(1000)), 8)
    seen = {i for step in range(200) for i in np.ravel(corpus.batch(0, step, 16, 8))}
    held = {i for ids, following in corpus.validation(0, 20, 16, 8) for i in np.ravel([ids, following])}
    assert max(seen) < 900 <= min(held)
    ids, following = corpus.batch(3, 7, 4, 8)
    np.testing.assert_array_equal(ids[:, 1:], following[:, :-1])
    np.testing.assert_array_equal(ids, corpus.batch(3, 7, 4, 8)[0])
    assert (ids != corpus.batch(3, 8, 4, 8)[0]).any()


def test_its_own_text_is_there():
    text = read(own_files())
    assert "def softmax(" in text
    assert len(text) > 500_000


def test_writing_goes_on_where_positions_end():
    run = Run(SMALL, Corpus(TEXT, SMALL.length))
    writer = Writer(run.model, run.corpus.vocabulary)
    assert len("".join(writer.write("the", 50))) == 50
    whole = "".join(writer.write("the", 5, seed=3))
    ids = run.model.generate(run.corpus.vocabulary.ids("the"), 5, temperature=0.8, rng=np.random.default_rng(3))
    assert whole == run.corpus.vocabulary.text(ids[3:])


# ---------------------------------------------------------------------------------------------------- several processes


class Pretended(Mpi):
    """One of several processes, whose gradients are added up by the test."""

    def __init__(self, rank, n):
        self.rank, self.n, self.is_first = rank, n, rank == 0
        self.flat = None

    def add_up(self, flat):
        self.flat = flat.copy()
        raise InterruptedError

    def sum(self, number):
        return number


@pytest.mark.parametrize("n", [2, 4, 5])
def test_shares_add_up_to_the_batch(n):
    """The gradients of n processes, weighted, are those of one; also where the batch can't be cut evenly."""
    corpus = Corpus(TEXT, SMALL.length)
    alone = Run(SMALL, corpus, Pretended(0, 1))
    runs = [Run(SMALL, corpus, Pretended(rank, n)) for rank in range(n)]
    for run in (alone, *runs):
        with pytest.raises(InterruptedError):
            run.take_step()
    total = sum(run.ranks.flat for run in runs)
    np.testing.assert_allclose(total, alone.ranks.flat, rtol=1e-4, atol=1e-7)
    assert sum(run.ranks.weight(SMALL.batch) for run in runs) == pytest.approx(1.0)


def test_more_processes_than_sequences():
    with pytest.raises(TrainingError, match="a batch of 6 can't be shared by 7 processes"):
        Run(SMALL, Corpus(TEXT, SMALL.length), Pretended(0, 7))


MPIEXEC = Path(sys.executable).with_name("mpiexec")


def together(n, *arguments):
    """`mpiexec -n N python -m demos.gpt ...`, with the launcher that stands beside this Python."""
    command = [str(MPIEXEC), "-n", str(n), sys.executable, "-m", "demos.gpt", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


needs_mpi = pytest.mark.skipif(not MPIEXEC.exists(), reason="needs mpiexec and mpi4py: pip install 'tinyattn[mpi]'")


@needs_mpi
def test_two_processes_learn_what_one_does(tmp_path, text):
    common = (text, *TINY, "--steps", 100, "--out")
    call("train", *common, tmp_path / "one", check=0)
    process = together(2, "train", *common, tmp_path / "two")
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "2 processes. Should one of them end, all do; then python -m demos.gpt train" in printed
    assert printed.count("held out") == 4  # one of the two speaks
    logs = []
    for name in ("one", "two"):
        rows = csv.DictReader((tmp_path / name / "log.csv").read_text().splitlines())
        logs.append([[float(row["loss"]), float(row["validation"])] for row in rows])
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-4)


@needs_mpi
def test_a_process_that_dies_ends_the_run(tmp_path, text):
    out = tmp_path / "out"
    process = together(2, "train", text, *TINY, "--steps", 10**6, "--out", out)
    try:
        checkpoint = out / "checkpoint.safetensors"
        until = time.monotonic() + 60
        while time.monotonic() < until and not (checkpoint.exists() and load_checkpoint(checkpoint)[2]["step"] >= 100):
            time.sleep(0.05)
        os.kill(_ranks_of(process.pid)[-1], signal.SIGKILL)
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode != 0
    assert "goes on from the last checkpoint" in printed
    assert "BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES" in printed + errors
    assert load_checkpoint(checkpoint)[2]["step"] >= 100
    assert not _ranks_of(process.pid)


@needs_mpi
def test_a_mistake_is_told_once(tmp_path):
    process = together(2, "train", tmp_path / "nothing.txt")
    _, errors = process.communicate(timeout=60)
    assert errors.count("it can't be read (No such file or directory)") == 1
    assert "Traceback" not in errors
    assert process.returncode == 2


def _ranks_of(launcher):
    """The processes of a run: those whose parent's parent is the launcher."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return sorted(pid for pid, parent in parents.items() if parents.get(parent) == launcher)
