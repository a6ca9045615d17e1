"""docs/start.md and docs/tutorial/: the code on the pages runs, and what the pages say of it is so."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import tinyattn as ta
from tinyattn.kernels.threads import get_num_threads
from tinyattn.rules import RULES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
INDEX = (DOCS / "index.md").read_text(encoding="utf-8")
START = (DOCS / "start.md").read_text(encoding="utf-8")
CELL = re.compile(r"^```\{code-cell\} python\n(?:---\n(.*?)^---\n)?(.*?)^```$", re.DOTALL | re.MULTILINE)


def listed(caption):
    """The pages under a caption of the first page."""
    (pages,) = re.findall(rf"^:caption: {caption}\n(.*?)^```$", INDEX, re.DOTALL | re.MULTILINE)
    return [name for name in pages.split() if not name.startswith(":")]


FLOORS = [name.removeprefix("tutorial/") for name in listed("Tutorial")]
TEXTS = {name: (DOCS / "tutorial" / f"{name}.md").read_text(encoding="utf-8") for name in FLOORS}
ALL = {"start": START, **TEXTS}


def cells(text):
    """The options and the code of each cell."""
    return CELL.findall(text)


def ran(text):
    """The names that a page's cells leave, run from top to bottom, and what they print."""
    mpl = pytest.importorskip("matplotlib", reason="Matplotlib isn't installed")
    mpl.use("Agg")
    from matplotlib import pyplot

    names, printed = {"__name__": "__main__"}, io.StringIO()
    rules, path, threads = dict(RULES), list(sys.path), get_num_threads()
    show, pyplot.show = pyplot.show, lambda: pyplot.close("all")
    try:
        with np.printoptions(), threadpool_limits(1), contextlib.redirect_stdout(printed):
            for _, code in cells(text):
                exec(compile(code, "the page", "exec"), names)
    finally:
        RULES.clear()
        RULES.update(rules)
        sys.path[:] = path
        ta.set_num_threads(threads)
        pyplot.close("all")
        pyplot.show = show
    return names, printed.getvalue()


# ---------------------------------------------------------------------------------------------------- their form


def test_every_floor_is_in_the_index_and_start_comes_first():
    assert sorted(FLOORS) == sorted(path.stem for path in (DOCS / "tutorial").glob("*.md"))
    assert len(FLOORS) == 10
    assert listed("Start")[0] == "start"


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_begins_with_a_question_and_ends_with_exercises(name):
    text = TEXTS[name]
    title, _, rest = text.partition("\n# ")[2].partition("\n\n")
    assert title.startswith(f"{FLOORS.index(name) + 1}. ")
    question = rest.partition("\n\n")[0]
    assert question.startswith("*")
    assert question.endswith("?*")
    headings = re.findall(r"^## (.*)$", CELL.sub("", text), re.MULTILINE)
    assert headings[-2:] == ["What we have now", "Think it through"]
    now, exercises = text.split("\n## What we have now\n")[1].split("\n## Think it through\n")
    assert 2 <= len(re.findall(r"[.)](?=\s|$)", now)) <= 6
    asked = re.findall(r"^\*\*(\d)\.\*\* ", exercises, re.MULTILINE)
    assert asked == [str(i + 1) for i in range(len(asked))]
    assert 2 <= len(asked) <= 4
    assert exercises.count("\n<details><summary>Answer</summary>\n\n") == len(asked)
    assert exercises.count("\n\n</details>") == len(asked)


@pytest.mark.parametrize("name", ALL)
def test_every_picture_has_words_for_those_who_do_not_see_it(name):
    for options, code in cells(ALL[name]):
        draws = "plt.show()" in code or re.search(r"^(ta\.graph\(|picture$)", code.rstrip().split("\n")[-1])
        alt = re.search(r"^    alt: (.*)$", options, re.MULTILINE)
        assert bool(draws) == bool(alt), code
        if alt:
            assert len(alt[1]) > 60
            assert ": " not in alt[1], "YAML would read a key"


@pytest.mark.parametrize("name", ALL)
def test_code_fits_the_column(name):
    wide = [line for options, code in cells(ALL[name]) for line in code.split("\n") if len(line) > 100]
    assert wide == []


# ------------------------------------------------------------------------------------------------ the student's tape


@pytest.fixture(scope="module")
def scalar_tape():
    return ran(TEXTS["graph"])[0]


@pytest.fixture(scope="module")
def array_tape():
    return ran(TEXTS["broadcasting"])[0]


def test_the_first_tape_is_as_short_as_it_says(scalar_tape):
    code = "".join(code for _, code in cells(TEXTS["graph"]) if re.search(r"^(class Node|def ordered)", code))
    assert 20 <= len([line for line in code.split("\n") if line.strip()]) <= 30


@pytest.mark.parametrize("seed", range(30))
def test_the_first_tape_agrees_with_tinyattn_on_random_graphs(scalar_tape, seed):
    """Nodes are drawn with replacement, so that many are used several times, in one operation and in several."""
    rng = np.random.default_rng(seed)
    apply, node = scalar_tape["apply"], scalar_tape["Node"]
    numbers = rng.uniform(0.2, 2.0, size=3)
    ours = [node(x) for x in numbers]
    theirs = [ta.tensor(x, requires_grad=True) for x in numbers]
    leaves = list(zip(ours, theirs, strict=True))
    for _ in range(25):
        name = rng.choice(["add", "multiply", "negative", "exp", "log"])
        places = rng.integers(len(ours), size=2 if name in ("add", "multiply") else 1)
        values = [theirs[i].item() for i in places]
        if (name == "exp" and values[0] > 1.5) or (name == "log" and values[0] < 0.1):
            continue
        if name in ("add", "multiply") and abs(np.multiply(*values)) > 50:
            continue
        ours.append(apply(scalar_tape[name], *(ours[i] for i in places)))
        theirs.append(getattr(ta, name)(*(theirs[i] for i in places)))
    our_root, their_root = ours[-1], theirs[-1]
    for our, their in zip(ours[3:-1], theirs[3:-1], strict=True):  # so that nothing is left out
        our_root = apply(scalar_tape["add"], our_root, our)
        their_root = their_root + their
    scalar_tape["walk"](our_root)
    their_root.backward()
    assert len(theirs) > 8
    for our, their in leaves:
        np.testing.assert_allclose(our.grad, 0.0 if their.grad is None else their.grad.numpy(), rtol=1e-12)


SHAPES = (), (1,), (4,), (3, 1), (1, 4), (3, 4), (2, 1, 1), (2, 3, 4)


@pytest.mark.parametrize("seed", range(30))
def test_the_array_tape_agrees_with_tinyattn_whatever_is_stretched(array_tape, seed):
    rng = np.random.default_rng(seed)
    apply, node = array_tape["apply"], array_tape["Node"]
    arrays = [rng.normal(size=SHAPES[i]) for i in rng.integers(len(SHAPES), size=4)]
    ours = [node(x) for x in arrays]
    theirs = [ta.tensor(x, requires_grad=True) for x in arrays]
    for _ in range(12):
        name = rng.choice(["add", "multiply", "tanh", "softmax"])
        places = rng.integers(len(ours), size=2 if name in ("add", "multiply") else 1)
        if name == "softmax" and theirs[places[0]].ndim == 0:
            continue
        rule = array_tape[name] if name in ("add", "multiply") else RULES[name]
        ours.append(apply(rule, *(ours[i] for i in places)))
        theirs.append(getattr(ta, name)(*(theirs[i] for i in places)))
    our_root, their_root = ours[0], theirs[0]
    for our, their in zip(ours[1:], theirs[1:], strict=True):
        our_root, their_root = apply(array_tape["add"], our_root, our), their_root + their
    d_root = rng.normal(size=their_root.shape)
    array_tape["walk"](our_root, d_root)
    their_root.backward(d_root)
    for our, their in zip(ours[:4], theirs[:4], strict=True):
        assert np.shape(our.grad) == their.shape
        np.testing.assert_allclose(our.grad, their.grad.numpy(), rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------------------------------------- what they say


def test_one_derivative():
    names, printed = ran(TEXTS["derivative"])
    assert abs(names["by_differences"] - names["by_hand"]) < 1e-10
    assert names["by_complex_step"] == pytest.approx(names["by_hand"], rel=1e-15)
    assert names["by_tape"] == pytest.approx(names["by_hand"], rel=1e-15)
    assert re.search(r"^abs\(x\): +0\.0$", printed, re.MULTILINE)
    ways = {way: found for way, (found, _) in names["drawn"].items()}
    best = {way: names["steps"][abs(found - names["by_hand"]).argmin()] for way, found in ways.items()}
    assert 1e-10 < best["one-sided difference"] < 1e-6
    assert 1e-7 < best["central difference"] < 1e-4


def test_a_graph_gives_the_gradients_that_were_found_by_hand(scalar_tape):
    by_hand = scalar_tape["d_q"], scalar_tape["d_k"]
    assert by_hand == pytest.approx((scalar_tape["query"].grad.item(), scalar_tape["key"].grad.item()))
    assert max(by_hand) < 0, "the page says that both are negative"


def test_what_is_used_twice_gets_both_gradients():
    text = ran(TEXTS["broadcasting"])[1]
    assert re.search(r"^added +x\.grad = 6\.0$", text, re.MULTILINE)
    assert re.search(r"^last_kept +x\.grad = 3\.0$", text, re.MULTILINE)
    assert re.search(r"^ +15 +16 +65535 +32768, 32768$", text, re.MULTILINE)
    assert all(float(off) < 1e-12 for off in re.findall(r"(?:difference|product:|tape:) +(\S+)$", text, re.MULTILINE))


def test_softmax():
    names, printed = ran(TEXTS["softmax"])
    formula, composition = re.findall(r"^the (?:formula|composition): +(.*)$", printed, re.MULTILINE)
    assert formula == composition
    assert (np.array(names["by_hand"]) > 0).tolist() == [word == "animal" for word in names["words"]]
    pushes, weights = np.array(names["pushes"]), names["path"][:, 1]
    assert 0 < pushes.argmax() < len(pushes) - 1, "small at first, and small again at the end"
    assert abs(weights[pushes.argmax()] - 0.5) < 0.1
    of_weight, of_log = (float(x) for x in re.findall(r"(?:itself|−log): +(\S+)$", printed, re.MULTILINE))
    assert abs(of_log) > 1000 * abs(of_weight)
    assert "as the formula says:  [nan nan]" in printed


def test_attention():
    names, _ = ran(TEXTS["attention"])
    weights = ta.attention_weights(names["query"], names["key"])
    assert [names["words"][i] for i in weights.argmax(axis=1)] == ["animal", "street"]
    assert weights.max(axis=1).min() > 0.9
    assert ta.attention_weights(names["now"], names["key"])[0, 0] > 0.9 > 0.1 > weights[1, 0]
    assert -names["d_query"].numpy()[0, 1] < 0 < -names["d_query"].numpy()[0, 0]
    wrong = names["wrong"][0]
    assert -names["d_key"].numpy()[0] @ wrong > 0 > -names["d_key"].numpy()[2] @ wrong
    assert abs(names["difference"]).max() < 1e-15


@pytest.mark.slow
def test_many_heads():
    names, printed = ran(TEXTS["heads"])
    assert len(set(re.findall(r"^ +[124] +(\d+) +\S+$", printed, re.MULTILINE))) == 1
    share = {n: names["share_right"](model) for n, model in names["models"].items()}
    assert share[1] < 0.6
    assert min(share[2], share[4]) > 0.99
    only, *two = names["looks"]
    left, right = np.roll(np.eye(8), -1, axis=1), np.roll(np.eye(8), 1, axis=1)
    assert min((only * side).sum(axis=1).min() for side in (left, right)) > 0.3
    assert sorted((head * left).sum(axis=1).mean() > 0.5 for head in two) == [False, True]
    cut = [tuple(map(float, row)) for row in re.findall(r"^head \d cut +(\S+) +(\S+)$", printed, re.MULTILINE)]
    assert {(a > 0.99, b > 0.99) for a, b in cut} == {(True, False), (False, True)}
    assert all(abs(min(pair) - 1 / 6) < 0.05 for pair in cut), "a guess among six letters"
    assert float(re.search(r"16 heads: (\S+)", printed)[1]) < 0.99
    assert float(re.search(r"one head in a block: (\S+)", printed)[1]) > 0.99


def test_a_block():
    names, printed = ran(TEXTS["block"])
    apart = {name: [different for different, _ in numbers] for name, numbers in names["found"].items()}
    size = {name: [gradient for _, gradient in numbers] for name, numbers in names["found"].items()}
    assert apart["layers only"][2] < 1e-3
    assert apart["with norms"][2] < 1e-3
    assert apart["with both"][5] > 0.1
    assert size["layers only"][5] < 1e-20
    assert size["with residuals"][5] > 1e6
    assert 0.1 < min(size["with both"]) < max(size["with both"]) < 10
    assert 0.01 < size["with norms"][5] < 10, "the third exercise"
    linear, unbent, bent = (float(x) for x in re.findall(r"^(?:attention, w|an MLP).* (\S+)$", printed, re.MULTILINE))
    assert max(linear, unbent) < 1e-12 < 1 < bent
    assert float(re.search(r"against the layer: (\S+)", printed)[1]) < 1e-12
    parameters = {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+) parameters$", printed, re.MULTILINE)}
    assert parameters["mlp"] > sum(parameters.values()) / 2
    assert sum(parameters.values()) == sum(p.size for p in names["block"].parameters())
    (bare, enlarged) = map(float, re.search(r"for 10 x: +(\S+) (\S+)", printed).groups())
    assert enlarged == pytest.approx(bare / 10, rel=1e-3)


@pytest.mark.slow
def test_training():
    names, printed = ran(TEXTS["training"])
    np.testing.assert_allclose(names["by_hand"][-1], [0.085855, 0.005724], atol=1e-5)
    shown = re.findall(r"^(?:by hand|tinyattn): +(\[.*\])$", printed, re.MULTILINE)
    assert shown[0] == shown[1]
    guess, runs = names["guess"], names["runs"]
    assert all(abs(log[0, 1] - guess) < 0.2 for log in runs.values())
    assert runs[0.01][-1, 1] < 0.001
    assert runs[0.0001][-1, 1] > 0.9 * guess
    assert runs[1.0][-1, 1] > 0.9 * guess
    (_, under), (_, over), (_, fit) = names["cases"].items()
    assert 0.5 < under[-1, 1] < guess
    assert abs(under[-1, 1] - under[-1, 2]) < 0.2
    assert over[-1, 1] < 0.001 < guess < over[-1, 2]
    assert over[:, 2].argmin() == 0, "to stop earlier doesn't help"
    assert max(fit[-1, 1:]) < 0.001
    assert re.findall(r"^gradient .*: p = (\S+)$", printed, re.MULTILINE) == ["-0.010000"] * 2
    enough = dict(re.findall(r"^ +(\d+) strings .* held out (\S+)$", printed, re.MULTILINE))
    assert float(enough["64"]) < 0.01, "a few dozen are enough"


@pytest.mark.slow
def test_what_the_toy_learned():
    pytest.importorskip("safetensors", reason="safetensors isn't installed")
    names, printed = ran(TEXTS["toy"])
    log = names["log"]
    assert names["right"].mean() > 0.8
    middle = log[np.searchsorted(log[:, 0], 300)]
    assert middle[2] > middle[1] + 0.2, "kinds are learned first"
    assert log[-1, 1] > 0.7, "and then roles"
    assert re.findall(r"^The animal .* → (\w+) ", printed, re.MULTILINE) == ["animal", "street"]
    row = r"^layer (\d), head \d +(\S+) +(\S+) +\S+$"
    rows = [tuple(map(float, found)) for found in re.findall(row, printed, re.MULTILINE)]
    first, second = ([row[1:] for row in rows if row[0] == layer] for layer in (1, 2))
    everything = names["right"].mean()
    assert min(weight for weight, _ in second) > 0.5
    assert min(share for _, share in second) > everything - 0.08, "cut at little cost"
    assert min(share for _, share in first) < everything - 0.08, "some are missed badly"
    assert max(first)[1] > min(share for _, share in first), "the one that looks most isn't missed most"
    cut = [tuple(map(float, shares)) for shares in re.findall(r"^layer \d, all +(\S+) +(\S+)$", printed, re.MULTILINE)]
    assert max(found for found, _ in cut) < everything - 0.25
    assert sum(cut[1]) > 0.5, "most answers are still one of the two nouns"
    assert cut[1][0] > cut[1][1], "and more often the right one"
    assert float(re.search(r"gradients: (\S+),", printed)[1]) < 1e-9
    assert re.findall(r"^The (?:fox|rabbit) .* → (\w+) ", printed, re.MULTILINE) == ["fox", "rabbit", "rabbit", "fox"]
    assert re.findall(r"^The trophy .* → (\w+) ", printed, re.MULTILINE) == ["trophy", "trophy"]


@pytest.mark.slow
def test_how_fast():
    """Nothing timed is held to anything; memory is."""
    names, printed = ran(TEXTS["speed"])
    held = {way: dict(zip(names["lengths"], mb, strict=True)) for way, mb in names["held"].items()}
    assert held["composed"][1024] > 1.5 * held["readable rule"][1024] > 10 * held["fast twin"][1024]
    assert held["fast twin"][1024] < 5
    assert float(re.search(r"queries differ by (\S+) at most", printed)[1]) < 1e-4
    assert names["much"] > 2 * names["little"]


# ---------------------------------------------------------------------------------------------------- ten minutes


def test_the_first_gradient_and_the_first_mistake():
    _, printed = ran(START)
    shown = [[float(x) for x in re.findall(r"-?\d\.\d+", line)] for line in printed.split("\n")[1:3]]
    np.testing.assert_allclose(shown[0], shown[1], atol=1e-6)
    assert np.sign(shown[0]).tolist() == [1, -1, 1]
    assert "cube: the gradients DIFFER" in printed
    assert "x: it is 0.666667 times what it should be" in printed


def blocks():
    """What the page shows of the terminal: (command or None, lines)."""
    for block in re.findall(r"^```text\n(.*?)^```$", START, re.DOTALL | re.MULTILINE):
        command, lines = None, block.rstrip().split("\n")
        if lines[0].startswith("$ python "):
            command, lines = lines[0].removeprefix("$ python "), lines[1:]
        yield command, lines


def worded(line):
    """A line without what differs between machines: numbers, bars, places of parameters."""
    line = re.sub(r"block_\d\.\S+|out/pronoun/|/\S+/$", "", line)
    return " ".join(re.sub(r"[\d.,+e█▏▎▍▌▋▊▉-]*\d[\d.,+e-]*( [█▏▎▍▌▋▊▉]+)?", "#", line).split())


def in_order(shown, printed):
    """The lines shown that aren't printed, in that order; `...` stands for any."""
    rest, missing = iter([worded(line) for line in printed.split("\n")]), []
    for line in map(worded, shown):
        if line not in ("", "...", "─" * len(line)) and not any(line == other for other in rest):
            missing.append(line)
    return missing


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    pytest.importorskip("matplotlib", reason="the demo's packages aren't installed")
    out = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "demos.pronoun", "--out", out], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return out, done.stdout


@pytest.mark.slow
def test_the_demo_prints_what_the_page_shows_and_leaves_what_it_names(demo):
    out, printed = demo
    (shown,) = [lines for command, lines in blocks() if command is None]
    assert len(shown) > 10
    assert in_order(shown, printed) == []
    assert (out / "attention.html").stat().st_size > 500_000
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["parameters"] == 24864
    assert metrics["heldout_accuracy"] == pytest.approx(0.997, abs=0.005)
    assert metrics["antecedent_attention"] == pytest.approx(0.97, abs=0.03)


@pytest.mark.slow
def test_it_answers_as_the_page_shows(demo):
    out, _ = demo
    asked = [(command, lines) for command, lines in blocks() if command]
    assert len(asked) == 2
    negated = "The trophy did not fit in the suitcase because it was not big."
    assert f"*{negated.removesuffix('.')}* is one" in START.replace("\n", " ")
    asked.append((f'-m demos.pronoun resolve "{negated}"', ["it → trophy"]))
    for command, lines in asked:
        *words, sentence, _ = re.split(r' "|"', command)
        arguments = [*" ".join(words).split(), sentence, "--model", str(out / "model.safetensors")]
        done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert in_order(lines, done.stdout + done.stderr) == []
