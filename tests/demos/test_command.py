"""The command as a user types it: what it leaves behind, answers, errors in one line, Ctrl-C and kill."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import tinyattn as ta
from demos.files import load_arrays, save_arrays
from demos.pronoun.resolve import as_text
from tests.demos.running import ROOT, call_demo, run_demo
from tinyattn.by_hand import pronoun as by_hand

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
    left = {"model.safetensors", "metrics.json", "attention.png", "attention.html", "log.csv", "checkpoint.safetensors"}
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


def test_the_printed_tables_say_what_metrics_json_says(trained):
    out, printed = trained
    metrics = json.loads((out / "metrics.json").read_text())
    lines = printed.splitlines()
    (row,) = [line.split()[2:] for line in lines if line.startswith(" this model ")]
    names = ("heldout_accuracy", "same_kind_accuracy", "minimal_pair_accuracy", "swap_accuracy",
             "antecedent_attention", "antecedent_over_rival")  # fmt: skip
    assert row == [f"{metrics[name]:.3f}" for name in names]
    best = max((head for head in metrics["heads"] if head["layer"] == 2), key=lambda head: head["antecedent"])
    assert metrics["antecedent_attention"] == best["antecedent"]
    assert metrics["antecedent_over_rival"] == best["over_rival"]
    looks = [line.split() for line in lines[next(i for i, line in enumerate(lines) if "on rival" in line) + 2 :]][:8]
    shares = ("antecedent", "rival", "over_rival")
    told = [
        [str(head["layer"]), str(head["head"]), *(f"{head[name]:.3f}" for name in shares)] for head in metrics["heads"]
    ]
    assert looks == told
    first_step = next(i for i, line in enumerate(lines) if line.startswith("step"))
    assert any("central differences" in line for line in lines[:first_step]), "checked before it is trained"


def test_the_answer_names_probabilities_and_head_as_they_are():
    weights = [[[0.2, 0.3, 0.5]] * 2, [[0.1, 0.6, 0.3], [0.05, 0.7, 0.25]]]
    nouns = [{"noun": "cat", "place": 1, "probability": 0.75}, {"noun": "mat", "place": 2, "probability": 0.125}]
    answer = {"pronoun": "it", "place": 0, "antecedent": "cat", "nouns": nouns, "best_head": 2, "weights": weights}
    lines = as_text({"words": ["it", "cat", "mat"], "answers": [answer]}).splitlines()
    assert lines[:4] == ["it → cat", "", "it (word 1): cat 0.750; runner-up mat 0.125",
                         "its weights in head 2 of the last layer, which looks there most:"]  # fmt: skip
    assert [line.split()[:2] for line in lines[4:]] == [["it", "0.050"], ["cat", "0.700"], ["mat", "0.250"]]


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
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    check_figures(metrics)
    page = (ROOT / "docs" / "pronoun.md").read_text(encoding="utf-8")
    told = next(line for line in page.splitlines() if re.match(rf"\| {seed} \| [\d.]+ \|", line)).split("|")[2:]
    for name, number in zip(("heldout_accuracy", "same_kind_accuracy", "minimal_pair_accuracy"), told, strict=False):
        assert abs(metrics[name] - float(number)) < 0.008, "rounding differs between machines, and so do the last runs"


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
    elif how == "a few bytes changed":
        content = bytearray((trained[0] / "model.safetensors").read_bytes())
        content[80_000:80_005] = b"\x07\x07\x07\x07\x07"
        path.write_bytes(content)
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
    elif how == "whole numbers inside":
        save_arrays(path, "model", {name: array.astype(np.int32) for name, array in arrays.items()}, metadata)
    elif how == "numbers that overflow":
        save_arrays(path, "model", {name: array * np.float32(1e30) for name, array in arrays.items()}, metadata)
    elif how.startswith("vocabulary "):
        known = metadata["vocabulary"]
        n = len(known)
        words = {"short": known[:-1], "of numbers": list(range(n)), "a text": "x" * n, "twice": ["cat"] * n}
        save_arrays(path, "model", arrays, metadata | {"vocabulary": words[how.removeprefix("vocabulary ")]})
    elif how.startswith("config "):
        _, name, value = how.split()
        save_arrays(path, "model", arrays, metadata | {"config": metadata["config"] | {name: json.loads(value)}})
    elif how == "a nested header":
        nested = {"format": "tinyattn-pronoun-1", "kind": "model", "config": "[" * 100_000}
        header = json.dumps({"__metadata__": nested})
        path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    elif how == "an empty header":
        save_arrays(path, "model", arrays, {})


HOW = ["missing", "cut off", "a few bytes changed", "text", "empty", "a checkpoint", "a folder", "NaN inside",
       "a parameter missing", "an empty header", "a nested header", "whole numbers inside", "numbers that overflow",
       "vocabulary short", "vocabulary of numbers", "vocabulary a text", "vocabulary twice",
       "config d_model 0", "config d_model 1000000000", "config vocab_size 10000000000", "config max_length -1",
       "config n_heads 0", "config n_heads 5", "config n_heads null", 'config n_heads "4"', "config d_ff 1e10",
       "config unknown 1"]  # fmt: skip


@pytest.mark.parametrize("how", HOW)
def test_a_bad_model_file_is_told_in_one_line(trained, tmp_path, how):
    path = tmp_path / "model.safetensors"
    damaged(path, trained, how)
    done = call_demo("resolve", "the cat sat on the mat because it was soft", "--model", path, check=2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert str(path) in done.stderr or how == "numbers that overflow"


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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_terminal_shows_the_answer(trained, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    model = ["--model", trained[0] / "model.safetensors"]
    done = run_demo("resolve", "the cat sat on the mat because it was soft", *model, check=0, env=environment)
    assert done.stdout.splitlines()[0] in ("it → mat", "it ? mat")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no device that is always full")
def test_output_that_cannot_be_written_is_told(trained):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    arguments = ["resolve", "it was the cat", "--model", trained[0] / "model.safetensors"]
    with open("/dev/full", "w") as full:
        running = start(*arguments, stdout=full, env=environment)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 2
    assert errors.count("\n") == 1
    assert "No space left" in errors


def test_what_is_typed_is_never_echoed_raw(trained):
    for done in (call_demo("--foo\nbar\x1b[31mx", check=2), resolve(trained, "the \x1b]0;x\x07unicorn sat", check=2)):
        assert done.stderr.count("\n") == 1
        assert done.stderr.rstrip("\n").isprintable()
    assert len(resolve(trained, " ".join("x" * 90 + str(i) for i in range(99)), check=2).stderr) < 600


def test_a_wrong_backward_trains_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(by_hand, "softmax_backward", lambda d_weights, weights: weights * d_weights)
    assert "the gradients differ" in call_demo("--steps", 5, "--out", tmp_path, check=2).stderr
    assert not (tmp_path / "model.safetensors").exists()


def test_help_names_the_commands_and_their_options():
    assert "resolve" in run_demo("--help", check=0).stdout
    assert "--backprop" in run_demo("train", "--help", check=0).stdout
    assert "--json" in run_demo("resolve", "--help", check=0).stdout


def test_samples_of_the_corpus_are_shown_with_their_answers():
    lines = run_demo("--show-corpus", 5, "--seed", 3, check=0).stdout.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert line.split("→ ")[1].rstrip("]") in line.split("[")[0].lower()


def start(*arguments, stdout=subprocess.PIPE, **options):
    command = [sys.executable, "-m", "demos.pronoun", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, **options)


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
    assert ("--resume --out" in errors) == (how == signal.SIGINT)
    assert load_arrays(tmp_path / "checkpoint.safetensors", "checkpoint")[1]["step"] < 800
    run_demo("--resume", "--out", tmp_path, check=0)
    resumed, _ = load_arrays(tmp_path / "model.safetensors", "model")
    assert resumed.keys() == unbroken.keys()
    for name, array in unbroken.items():
        np.testing.assert_array_equal(resumed[name], array, err_msg=name)


def test_resuming_with_other_settings_is_a_mistake(trained):
    done = run_demo("--resume", "--seed", 1, "--out", trained[0], check=2)
    assert "its run has --seed 0; leave out --seed 1" in done.stderr
