"""The command as a user types it: what it leaves behind, answers, errors in one line, Ctrl-C and kill."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import tinyattn as ta
from demos.pronoun.files import load_arrays, save_arrays
from tests.demos.running import ROOT, call_demo, run_demo

ANSWERS = {
    "The animal didn't cross the street because it was tired.": "animal",
    "The animal didn't cross the street because it was too tired.": "animal",
    "The animal didn't cross the street because it was wide.": "street",
    "The animal did not cross the street because it was too wide": "street",
    "The cat sat on the mat because it was tired.": "cat",
    "The cat sat on the mat because it was soft.": "mat",
    "The trophy didn't fit in the suitcase because it was too big.": "trophy",
    "The trophy didn't fit in the suitcase because it was too small.": "suitcase",
    "The box didn't fit in the bag because it was too big.": "box",
    "The bag didn't fit in the box because it was too big.": "bag",
    "the cat was chased by the dog because it was hungry": "dog",
    "THE DOG WAS CHASED BY THE CAT BECAUSE IT WAS HUNGRY": "cat",
    "the nurse thanked the queen because she had helped": "queen",
    "the queen thanked the nurse because she had helped": "nurse",
    "the ball near the dog that growled": "dog",
    "the ball near the dog that barked": "dog",
    "the soldiers were paid by the doctors because they were rich": "doctors",
}


def resolve(trained, *arguments, check=0):
    return call_demo("resolve", *arguments, "--model", trained[0] / "model.safetensors", check=check)


@pytest.mark.parametrize("sentence", ANSWERS)
def test_it_answers(trained, sentence):
    printed = resolve(trained, sentence).stdout.splitlines()
    pronoun = next(word for word in ("it", "she", "that", "they") if word in sentence.lower().split())
    assert printed[0] == f"{pronoun} → {ANSWERS[sentence]}"
    assert "runner-up" in printed[2]


def test_every_pronoun_is_answered(trained):
    sentence = "The nurse thanked the queen because she had helped and the cat sat on the mat because it was soft."
    assert resolve(trained, sentence).stdout.splitlines()[:3] == ["she → queen", "it → mat", ""]


def test_json_says_it_all(trained):
    result = json.loads(resolve(trained, "The cat sat on the mat because it was soft.", "--json").stdout)
    (answer,) = result["answers"]
    assert (answer["pronoun"], answer["antecedent"]) == ("it", "mat")
    assert [noun["noun"] for noun in answer["nouns"]] == ["mat", "cat"]
    assert 0.5 < answer["nouns"][0]["probability"] <= 1
    assert np.shape(answer["weights"]) == (2, 4, len(result["words"]))
    np.testing.assert_allclose(np.sum(answer["weights"], axis=-1), 1, rtol=1e-5)


def test_what_a_run_prints_and_leaves_behind(trained):
    out, printed = trained
    left = {"model.safetensors", "metrics.json", "attention.png", "log.csv", "checkpoint.safetensors"}
    assert left <= {p.name for p in out.iterdir()} <= left | {"graph.svg", "graph.dot"}
    assert (out / "attention.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with open(out / "log.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["loss"]) > float(rows[-1]["loss"])
    arrays, metadata = load_arrays(out / "model.safetensors", "model")
    assert len(metadata["vocabulary"]) == metadata["config"]["vocab_size"] == len(arrays["words.weight"])
    for told in ("central differences", "held-out", "it → animal", "it → street", "Trained in"):
        assert told in printed


def test_a_run_draws_its_graph(trained):
    if not shutil.which("dot"):
        pytest.importorskip("pygraphviz", reason="nothing here can draw a graph", exc_type=ImportError)
    assert ET.parse(trained[0] / "graph.svg").getroot().tag.endswith("svg")


def test_without_an_engine_the_graph_is_left_as_dot(tmp_path, monkeypatch):
    def no_engine(self, path):
        if path.suffix != ".dot":
            raise RuntimeError("there is no engine")
        path.write_text(self.to_dot())

    monkeypatch.setattr(type(ta.graph(ta.tensor(1.0, requires_grad=True) * 2)), "save", no_engine)
    done = call_demo("--steps", 5, "--out", tmp_path, check=0)
    assert "graph.dot stands in its place: there is no engine" in done.stderr
    assert (tmp_path / "graph.dot").read_text().startswith("digraph")
    assert (tmp_path / "model.safetensors").exists()


def check_figures(metrics):
    """What the toy is meant to reach, for each seed and either backprop."""
    assert metrics["heldout_accuracy"] >= 0.99
    assert metrics["same_kind_accuracy"] >= 0.98
    assert metrics["minimal_pair_accuracy"] >= 0.98
    assert metrics["swap_accuracy"] >= 0.98
    assert metrics["antecedent_attention"] >= 0.7
    assert metrics["antecedent_over_rival"] >= 0.95
    assert metrics["gradient_error_tape"] < 1e-12
    assert metrics["gradient_error_numeric"] < 1e-6
    assert metrics["parameters"] < 100_000


def test_it_reaches_its_figures(trained):
    metrics = json.loads((trained[0] / "metrics.json").read_text())
    check_figures(metrics)
    assert (metrics["seed"], metrics["backprop"], metrics["steps"]) == (0, "hand", 3500)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "backprop"), [(1, "hand"), (2, "hand"), (3, "hand"), (4, "hand"), (0, "tape"), (3, "tape")]
)
def test_other_seeds_and_the_tape_reach_them_too(tmp_path, seed, backprop):
    run_demo("--seed", seed, "--backprop", backprop, "--out", tmp_path, check=0)
    check_figures(json.loads((tmp_path / "metrics.json").read_text()))


@pytest.mark.slow
def test_the_baselines_stand_in_the_table(tmp_path):
    printed = run_demo("--baselines", "--steps", 60, "--out", tmp_path, check=0).stdout
    for name in ("this model", "values from the stream", "no scaling", "one head", "one layer", "LSTM", "mean pooling",
                 "bag of words", "nearest noun"):  # fmt: skip
        (row,) = [line for line in printed.splitlines() if line.startswith(f" {name} ")]
        assert all(0 <= float(number) <= 1 for number in row.removeprefix(f" {name} ").split())


MISTAKES = {
    "unknown words": (["the unicorn chased the dog because it was hungree"], "'unicorn' (nearest: "),
    "no pronoun": (["the dog chased the cat"], "there is no pronoun"),
    "no noun": (["it was tired"], "there is no noun"),
    "nothing": ([""], "the sentence is empty"),
    "punctuation alone": (["?!"], "the sentence is empty"),
    "too long": (["the dog chased the cat because it was hungry" + " again" * 40], "49 words, and the model"),
    "no sentence": ([], "required: SENTENCE"),
    "an unknown option": (["--jsn", "it"], "--jsn"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(trained, mistake):
    arguments, told = MISTAKES[mistake]
    done = resolve(trained, *arguments, check=2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert told in done.stderr


def damaged(path, trained, how):
    arrays, metadata = load_arrays(trained[0] / "model.safetensors", "model")
    if how == "cut off":
        path.write_bytes((trained[0] / "model.safetensors").read_bytes()[:-1000])
    elif how == "text":
        path.write_text("it was tired\n" * 100)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a checkpoint":
        path.write_bytes((trained[0] / "checkpoint.safetensors").read_bytes())
    elif how == "a folder":
        path.mkdir()
    elif how == "NaN inside":
        arrays["norm.bias"][3] = np.nan
        save_arrays(path, "model", arrays, metadata)
    elif how == "a parameter missing":
        del arrays["norm.bias"]
        save_arrays(path, "model", arrays, metadata)
    elif how == "another vocabulary":
        save_arrays(path, "model", arrays, metadata | {"vocabulary": metadata["vocabulary"][:-1]})
    elif how == "an empty header":
        save_arrays(path, "model", arrays, {})


HOW = ["missing", "cut off", "text", "empty", "a checkpoint", "a folder", "NaN inside", "a parameter missing",
       "another vocabulary", "an empty header"]  # fmt: skip


@pytest.mark.parametrize("how", HOW)
def test_a_bad_model_file_is_told_in_one_line(trained, tmp_path, how):
    path = tmp_path / "model.safetensors"
    damaged(path, trained, how)
    done = call_demo("resolve", "the cat sat on the mat because it was soft", "--model", path, check=2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert str(path) in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seed", "-1"], "from 0 on, got '-1'"),
        (["--seed", "x"], "got 'x'"),
        (["--steps", "0"], "from 1 on"),
        (["--rate", "nan"], "a positive number"),
        (["--backprop", "magic"], "invalid choice: 'magic'"),
        (["--out", "README.md"], "README.md"),
        (["--out", "/proc/none"], "/proc/none"),
        (["--resume", "--out", "{tmp}"], "checkpoint.safetensors: there is no such file"),
        (["tranin"], "invalid choice: 'tranin'"),
        (["--rate", "1e30", "--steps", "20", "--out", "{tmp}"], "try a smaller --rate"),
    ],
)
def test_a_mistake_in_training_is_told_in_one_line(tmp_path, arguments, told):
    done = call_demo(*(argument.format(tmp=tmp_path) for argument in arguments), check=2)
    assert done.stderr.count("\n") == 1
    assert told in done.stderr


def test_mistakes_end_the_process_with_status_2_and_one_line(tmp_path):
    for arguments in (["resolve", "it was", "--model", tmp_path / "none"], ["--seed", "x"]):
        assert run_demo(*arguments, check=2).stderr.count("\n") == 1


def test_help_names_the_commands_and_their_options():
    assert "resolve" in run_demo("--help", check=0).stdout
    assert "--backprop" in run_demo("train", "--help", check=0).stdout
    assert "--json" in run_demo("resolve", "--help", check=0).stdout


def test_samples_of_the_corpus_are_shown_with_their_answers():
    lines = run_demo("--show-corpus", 5, "--seed", 3, check=0).stdout.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert line.split("→ ")[1].rstrip("]") in line.split("[")[0].lower()


def start(*arguments):
    command = [sys.executable, "-m", "demos.pronoun", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(checkpoint, step):
    """Until the checkpoint is that of a later step; a file in the making must never be seen."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if checkpoint.exists() and load_arrays(checkpoint, "checkpoint")[1]["step"] >= step:
            return
        time.sleep(0.01)
    raise AssertionError("no checkpoint in time")


SETTINGS = ["--seed", 4, "--steps", 800]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The parameters after a run that nothing interrupted."""
    out = tmp_path_factory.mktemp("unbroken")
    run_demo(*SETTINGS, "--out", out, check=0)
    return load_arrays(out / "model.safetensors", "model")[0]


@pytest.mark.parametrize(("how", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_goes_on_to_the_same_bits(unbroken, tmp_path, how, status):
    running = start(*SETTINGS, "--out", tmp_path)
    wait_for_step(tmp_path / "checkpoint.safetensors", 250)
    os.kill(running.pid, how)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == status
    assert "Traceback" not in errors
    assert load_arrays(tmp_path / "checkpoint.safetensors", "checkpoint")[1]["step"] < 800
    run_demo("--resume", "--out", tmp_path, check=0)
    resumed, _ = load_arrays(tmp_path / "model.safetensors", "model")
    assert resumed.keys() == unbroken.keys()
    for name, array in unbroken.items():
        np.testing.assert_array_equal(resumed[name], array, err_msg=name)


def test_resuming_with_other_settings_is_a_mistake(trained):
    done = run_demo("--resume", "--seed", 1, "--out", trained[0], check=2)
    assert "its run has --seed 0; leave out --seed 1" in done.stderr
