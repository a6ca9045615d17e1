"""The commands softmax and attention. After a change that is meant, look, and write the golden text anew:

python tests/study/test_commands.py
"""

import contextlib
import json
import os
import re
from pathlib import Path

import pytest

from tinyattn import cli
from tinyattn.study import softmax as rows

GOLDEN = Path(__file__).parent / "golden"
SCORES = "0.1 2.8 0.2 0.1 1.1 0.3 1.5".split()
TOKENS = "The animal didn't cross street because tired".split()
PUBLISHED = "0.03 0.52 0.04 0.03 0.14 0.05 0.19".split()
EXAMPLE = ["softmax", *SCORES, "--tokens", *TOKENS, "--d-k", "64", "--gradient", *"0100000", "--published", *PUBLISHED]
SENTENCE = "The animal didn't cross the street because it was tired."
HEAD = ["attention", SENTENCE, "--query", "it", "--causal"]
CALLS = {"softmax.txt": EXAMPLE, "attention.txt": HEAD}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_printed_is_what_it_was(run, name):
    status, out, err = run(*CALLS[name])
    assert (status, err) == (0, "")
    assert comparable(out) == comparable((GOLDEN / name).read_text(encoding="utf-8"))


def comparable(text):
    """The text without what is 0 but for round-off, which differs between processors."""
    text = re.sub(r"(\((?:attention|softmax)\.\d\))(?: +(?:0|\d\.\de-1\d)){3}$", r"\1", text, flags=re.MULTILINE)
    return re.sub(r"Row sums: (?s:.*?)changes\s+no\s+weight", "Row sums: 0", text)


def test_json(run):
    status, out, err = run(*EXAMPLE, "--json")
    told = json.loads(out)
    assert (status, err, told["tokens"], told["d_weights"]) == (0, "", TOKENS, [0, 1, 0, 0, 0, 0, 0])
    assert told["published"]["temperature"] == pytest.approx(1.05905, abs=1e-5)
    told = json.loads(run(*HEAD, "--json")[1])
    assert told["word"] == "it"


@pytest.mark.parametrize("call", [EXAMPLE, HEAD])
def test_html(run, tmp_path, call):
    path = tmp_path / "page.html"
    status, out, err = run(*call, "--html", str(path))
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert out.startswith(f"{path}: ")
    made = path.read_text(encoding="utf-8")
    assert "<script" not in made
    assert made.endswith("</html>\n")
    assert os.listdir(tmp_path) == ["page.html"]
    status, out, _ = run(*call, "--html", str(path), "--json")
    assert (status, json.loads(out)["study"]) == (0, call[0])


def test_negative_scores_and_those_that_are_no_numbers(run):
    scores = ["-1.5", "-inf", "-1e3", "-.5", "-2", "inf", "-NaN", "-Infinity"]
    told = json.loads(run("softmax", *scores, "--json", "--gradient", *["-1e-2"] * 8)[1])
    assert told["scores"] == [-1.5, None, -1000.0, -0.5, -2.0, None, None, None]
    assert told["hidden"] == [False, True, False, False, False, False, False, True]
    assert told["d_weights"] == [-0.01] * 8
    assert run("softmax", "-1", "--tokens", "-7")[0] == 0


def test_tokens_may_come_as_one_argument(run):
    told = json.loads(run("softmax", *SCORES, "--tokens", " ".join(TOKENS), "--json")[1])
    assert told["tokens"] == TOKENS
    assert json.loads(run("softmax", "1", "--tokens", "New York", "--json")[1])["tokens"] == ["New York"]


def test_what_is_random_is_told(run):
    assert "random (seed 0)" in run("softmax", "1", "2")[1]
    assert "random (seed 3)" in run("softmax", "1", "2", "--seed", "3")[1]
    assert "random" not in run("softmax", "1", "2", "--gradient", "1", "2")[1]


def test_values_are_mixed(run):
    out = run("softmax", "0", "0", "--values", "1", "3")[1]
    assert "mix = Σ weights values" in out
    assert re.search(r"^  mix +2\.0000$", out, re.MULTILINE)


def test_a_witness_that_differs_is_a_failure(run, monkeypatch):
    monkeypatch.setattr(rows, "back", lambda weights, d_weights: weights * d_weights)
    status, out, err = run("softmax", *SCORES)
    assert (status, err) == (1, "")
    assert "They DIFFER by more than round-off." in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("softmax",), "needs from 1 to 1000 scores, before any option, as in tinyattn softmax 0.1 2.8 0.2; got 0"),
        (("softmax", "--tokens", "a", "1"), "got 0"),
        (("softmax", "1", "x"), "argument SCORE: needs a number, as 2.8, -1.5 or -inf; got 'x' (see --help)"),
        (("softmax", "1", "--tokens", "a", "b"), "tokens must be as many as the scores; got 2 for 1 score"),
        (("softmax", "1", "--gradient", "1", "2"), "gradient must be as many as the scores; got 2 for 1 score"),
        (("softmax", "1", "--gradient", "nan"), "gradient must be finite numbers; got nan"),
        (("softmax", "1", "--values", "1", "2"), "values must be as many as the scores; got 2 for 1 score"),
        (("softmax", "1", "--values", "much"), "argument --values: needs a number"),
        (("softmax", "1", "--d-k", "0"), "argument --d-k: needs a whole number, 1 or more; got '0' (see --help)"),
        (("softmax", "1", "--d-k", "-4"), "argument --d-k: needs a whole number, 1 or more; got '-4' (see --help)"),
        (("softmax", "1", "--d-k", "2.5"), "got '2.5'"),
        (("softmax", "1", "--seed", "-1"), "a seed is a whole number, 0 or more; got '-1'"),
        (("softmax", "1", "--published", "2"), "a published weight is a number from 0 to 1, as 0.52; got '2'"),
        (("softmax", "1", "--html", "/nowhere/x.html"), "can't write '/nowhere/x.html': No such file or directory"),
        (("softmax", "1", "--html", "a\0b"), "can't write 'a\\x00b': embedded null byte"),
        (("softmax", "1", "--nonsense"), "unrecognized arguments: --nonsense"),
        (("attention",), "the following arguments are required: SENTENCE"),
        (("attention", " "), "needs a sentence of 1 to 200 words; got 0"),
        (("attention", SENTENCE, "--query", "dog"), "there is no word 'dog' in the sentence"),
        (("attention", "the cat the", "--query", "the"), "'the' stands at 1 and 3 of the sentence; say which"),
        (("attention", SENTENCE, "--heads", "3"), "8 columns can't be had by 3"),
        (("attention", SENTENCE, "--heads", "0"), "argument --heads: needs a whole number, 1 or more; got '0'"),
        (("attention", SENTENCE, "--html", "/nowhere/x.html"), "can't write '/nowhere/x.html'"),
    ],
)
def test_a_mistake_is_answered_with_one_line(run, arguments, told):
    status, out, err = run(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert f"tinyattn {arguments[0]}: " in err or "unrecognized" in err


@pytest.mark.parametrize("typed", ["\x1b[31mred\x07\r\n\u202e", "\udc80", "long" * 1000, "9" * 5000])
@pytest.mark.parametrize(
    "arguments",
    [
        ("softmax",),
        ("softmax", "1", "--tokens", "a"),
        ("softmax", "1", "--d-k"),
        ("softmax", "1", "2", "--published", "0.5"),
        ("attention", "a b", "--query"),
        ("attention", "a b", "--heads"),
    ],
)
def test_what_was_typed_does_the_terminal_no_harm(run, arguments, typed):
    status, out, err = run(*arguments, typed)
    if status == 2:
        assert out == ""
        assert err[:-1].isprintable()
        assert len(err) < 500
    else:  # so many digits are a number
        assert out.replace("\n", "").isprintable()


def test_a_file_is_written_whole_or_not_at_all(run, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("before")

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    status, out, err = run("softmax", "1", "--html", str(path))
    assert (status, out) == (2, "")
    assert err.endswith("': No space left on device\n")
    assert (path.read_text(), os.listdir(tmp_path)) == ("before", ["page.html"])


if __name__ == "__main__":
    for name, arguments in CALLS.items():
        with open(GOLDEN / name, "w", encoding="utf-8") as golden, contextlib.redirect_stdout(golden):
            cli.main(arguments)
