"""What the pages say in words of their experiments is what comes out of them, when their code is run."""

import itertools
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tinyattn.kernels.threads import get_num_threads, set_num_threads

ROOT = Path(__file__).parents[2]
CELL = re.compile(r"^```\{code-cell\} python\n(?:---\n.*?^---\n)?(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture
def played(capsys, monkeypatch, tmp_path):
    """Runs the cells of a page; gives their names, and what they printed."""
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib isn't installed")
    pyplot.switch_backend("agg")
    monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.chdir(tmp_path)
    threads, folders = get_num_threads(), []

    def play(name):
        there = {"__name__": "page"}
        cells = CELL.findall((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8"))
        assert cells
        for cell in cells:
            exec(compile(cell, f"{name}.md", "exec"), there)
        if isinstance(there.get("folder"), tempfile.TemporaryDirectory):
            folders.append(there["folder"])
        return there, capsys.readouterr().out

    yield play
    for folder in folders:
        folder.cleanup()
    set_num_threads(threads)


def numbers(line):
    return [float(x.replace("%", "")) for x in re.findall(r"-?\d+\.?\d*(?:e[+-]\d+)?%?", line)]


def line(text, start):
    (found,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return found


def test_checking(played):
    there, said = played("checking")
    assert "first wrong operation: to_unit_scale (1 of 3)" in said
    assert "w: ok, 0 of" in said
    rows = said[said.index("right         True") :]
    verdicts = {name: line(rows, name).split(maxsplit=name.count(" ") + 2)[-1] for name in there["cases"]}
    assert verdicts == {
        "right": "the gradients agree",
        "wrong sign": "the gradients DIFFER",
        "severed": "the gradients DIFFER",
        "unused input": "the gradients agree",
        "vacuous": "vacuous: no input moves the output along the cotangent, so …",
        "at a kink": "can't tell",
        "random": "two calls with the same inputs gave different outputs",
        "not finite": "the gradients DIFFER",
    }
    assert "the sign is wrong" in said
    assert "y: no influence" in said
    assert {row.name: row.status for row in there["found"].rows if row.status != "agrees"} == {
        "d_output": "not given",
        "d_query": "WRONG",
    }
    assert "['saturated softmax']" in said


def test_gpt2(played):
    there, said = played("gpt2")
    assert "124,439,808 parameters, 498 MB" in said
    whole, by_formula = re.search(r"^([\d,]+) parameters; by the formula ([\d,]+)$", said, re.MULTILINE).groups()
    assert whole == by_formula
    assert numbers(line(said, "largest difference"))[0] < 1e-12
    assert there["loss"].item() < 0.1


@pytest.mark.slow
def test_history(played):
    there, said = played("history")
    table, by_d = there["table"], there["by_d"]
    one = table["one vector"]
    assert one[0] > 0.95
    assert all(b < a - 0.03 for a, b in itertools.pairwise(one)), "each pair makes it worse"
    assert min(table["additive"] + table["product / √d"]) > 0.98
    assert max(table["product"][2:]) < 0.7
    assert min(by_d["additive"][1:] + by_d["product / √d"][1:] + by_d["product, small"][1:]) > 0.98
    assert max(by_d["product"][1:] + by_d["product, again"][1:]) < 0.95
    assert max(row[0] for row in by_d.values()) < 0.9
    plain = [numbers(row)[-1] for row in said.splitlines() if " plain " in row]
    scaled = [numbers(row)[-1] for row in said.splitlines() if " ÷ √d " in row]
    assert plain == sorted(plain, reverse=True)
    assert plain[-1] < plain[0] / 5
    assert min(scaled) > 0.8 * max(scaled)


@pytest.mark.slow
def test_cost(played):
    """Memory only: times are nothing to test."""
    there, _ = played("cost")
    grows = {name: np.log2(row[-1] / row[-2]) for name, row in there["memory_of"].items()}
    assert grows["all scores at once"] == pytest.approx(2, abs=0.15)
    assert grows["tile by tile"] == pytest.approx(1, abs=0.15)
    assert grows["without softmax"] == pytest.approx(1, abs=0.15)


@pytest.mark.slow
def test_what_weights_tell(played):
    there, said = played("what-weights-tell")
    assert there["moved"] > 0.3
    assert there["other"].min() > 0
    assert numbers(line(said, "largest difference of the outputs"))[0] < 1e-12
    before, after = numbers(line(said, "‖v‖ of the token in front").partition(":")[2])
    assert after < before / 10
    assert numbers(line(said, "where the key is missing, its weight"))[0] > 0.8
    assert numbers(line(said, "where the key is missing, its share"))[0] < 0.5
    words, weights, lost = (there[name] for name in ("words", "weights", "lost"))
    assert len(words) == len(weights) == len(lost)
    assert lost[weights < 0.01].max() > 1
    assert (there["cue_weights"] < 0.05).mean() > 0.8
    assert abs(np.mean(there["correlations"])) < 0.3
    assert np.mean(there["same"]) > 0.85
    assert len(there["same"]) == len(there["cue_weights"]) > 200
    assert numbers(line(said, "as trained"))[0] > numbers(line(said, "even weights"))[0] + 20
    assert numbers(line(said, "even weights"))[0] < 55


@pytest.mark.slow
def test_misconceptions(played):
    there, said = played("misconceptions")
    first, second = (numbers(line(said, f"word {j}:")) for j in (0, 1))
    assert first[1] > second[1], "the larger weight"
    assert first[2] < second[2], "has the smaller share"
    rows = said[said.index("   d_k   largest score") :].splitlines()
    roots = rows[1:4]
    assert all("True" in row for row in roots)
    small, middle, large = map(numbers, roots)
    assert (small[0], middle[0], large[0]) == (16, 1024, 65536)
    assert large[2] < small[2] / 20
    assert large[3] > small[3] / 2
    assert "exactly 0: True" in said
    assert "scores + (-1e+09): largest masked weight 0.0e+00, gradient 0.0e+00" in said
    assert numbers(line(said, "scores + (-10)"))[1] > 0
    assert line(said, "all hidden, by mask").endswith(" [0. 0. 0. 0.]")
    nothing, in_doubles, in_singles = (
        line(said, name).partition("[")[2]
        for name in ("nothing hidden", "all hidden, by −1e9, float64", "all hidden, by −1e9, float32")
    )
    assert in_doubles == nothing
    assert in_singles == "0.25 0.25 0.25 0.25]"
    heads = [numbers(row.replace(",", "")) for row in said.splitlines() if row.endswith(" ms")]
    assert [row[0] for row in heads] == [1, 2, 4, 8, 16]
    assert len({tuple(row[2:4]) for row in heads}) == 1, "parameters and products are the same"
    assert numbers(line(said, "without positions"))[-1] < 1e-12
    assert numbers(line(said, "with positions"))[-1] > 0.1
    assert numbers(line(said, "causal, without positions"))[-1] > 0.1
    even = [numbers(row)[-1] for row in said.splitlines() if row.startswith("T =")]
    assert even == sorted(even)
    diagonal = [numbers(row) for row in said.splitlines() if " scores: off by " in row]
    assert [row[1] for row in diagonal] == sorted((row[1] for row in diagonal), reverse=True)
    assert all(row[2] > 100 for row in diagonal)
    assert "gradcheck: the gradients DIFFER" in said
    stuck, half, free = (numbers(line(said, name)) for name in ("both zero", "only W_k zero", "both random"))
    assert stuck[:2] == [0, 0]
    assert stuck[2] == stuck[3]
    assert half[0] == 0
    assert max(half[3], free[3]) < 0.9 * stuck[3]
    assert "x · x              looks most at itself: 100%" in said
    assert there["own"] < 0.2
    assert "ones    zeros passes, sign turned passes, three times passes, right passes" in said
    assert "random  zeros fails, sign turned fails, three times fails, right passes" in said


@pytest.mark.slow
def test_your_text(played):
    pytest.importorskip("rich", reason="what the demos need isn't installed")
    there, said = played("your-text")
    entropies = [numbers(line(said, name))[0] for name in ("knowing nothing", "knowing frequencies", "this model")]
    assert entropies == sorted(entropies, reverse=True)
    assert there["held_out"] < 1.5
