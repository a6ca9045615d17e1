"""The toy's page in a browser: it computes what NumPy computes, and answers when a word is changed."""

import json
import re
from importlib.resources import files

import numpy as np
import pytest

import tinyattn as ta
from demos.files import load_arrays
from demos.pronoun.corpus import Corpus
from demos.pronoun.model import PronounModel
from demos.pronoun.text import Vocabulary
from tinyattn.by_hand import pronoun as by_hand

pytestmark = pytest.mark.slow

LABELS = re.compile(r"\((?:model|attend|mlp|norm|softmax)\.\d'?\)")


@pytest.fixture(scope="module")
def model(trained):
    """The trained parameters in doubles, the vocabulary, and the number of heads."""
    arrays, metadata = load_arrays(trained[0] / "model.safetensors", "model")
    parameters = {name: array.astype(float) for name, array in arrays.items()}
    return parameters, Vocabulary(metadata["vocabulary"]), metadata["config"]["n_heads"]


@pytest.fixture
def page(browser, trained):
    """The page that the run has left; nothing is complained of, and nothing asked for."""
    complaints, asked = [], []
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.set_default_timeout(10_000)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((trained[0] / "attention.html").as_uri())
    yield page
    page.close()
    assert complaints == []
    assert {url.partition("#")[0] for url in asked} == {(trained[0] / "attention.html").as_uri()}


@pytest.fixture
def inside(page, trained):
    """Runs JavaScript in which `engine` is the page's own, made anew from what the page carries."""
    source = (trained[0] / "attention.html").read_text(encoding="utf-8")
    given = re.search(r'\["engine", pronounModel\((\{.*\})\)\]\]\);', source)[1]
    script = (files("demos.pronoun") / "assets" / "model.js").read_text(encoding="utf-8")
    assert script in source
    page.evaluate(
        "([script, given]) => { globalThis.engine = (0, eval)(`${script}; pronounModel`)(given); }",
        [script, json.loads(given)],
    )
    return page.evaluate


def test_it_is_small(trained):
    assert (trained[0] / "attention.html").stat().st_size < 1_500_000


def test_its_numbers_are_numpys(inside, model):
    """Words, weights, probabilities of the whole vocabulary, over 200 sentences."""
    parameters, vocabulary, n_heads = model
    sentences = Corpus(0).heldout[:200]
    found = inside(
        """texts => texts.map((text) => {
          const { words, pronoun, problem } = engine.read(text);
          if (problem) return { problem };
          const run = engine.run(words, pronoun);
          return { words, pronoun, probabilities: [...run.probabilities],
                   weights: run.layers.map(({ weights }) => [...weights.values]) };
        })""",
        [str(sentence) for sentence in sentences],
    )
    for sentence, there in zip(sentences, found, strict=True):
        assert there["words"] == list(sentence.words)
        tokens, place = vocabulary.encode([there["words"]]), np.array([there["pronoun"]])
        scores, layers, _ = by_hand.forward(parameters, tokens, place, n_heads)
        np.testing.assert_allclose(there["probabilities"], by_hand.softmax(scores)[0], atol=1e-10)
        for weights, right in zip(there["weights"], layers, strict=True):
            np.testing.assert_allclose(weights, right.ravel(), atol=1e-10)


def test_its_gradients_are_the_tapes(inside, model, trained):
    """In the weights of both layers, by way of a gradient in what each is multiplied with."""
    parameters, vocabulary, _ = model
    found = inside(
        """() => {
          const { words, pronoun } = engine.read("The animal did not cross the street because it was wide.");
          const run = engine.run(words, pronoun);
          const { loss, layers } = engine.gradients(run, "animal");
          const numeric = layers.map(({ d_scores }, layer) => [...d_scores.values.keys()].map((i) => {
            const [rows, n] = d_scores.shape.slice(1);
            const [head, query, key] = [Math.floor(i / (rows * n)), Math.floor(i / n) % rows, i % n];
            const at = (by) => engine.run(words, pronoun, { nudge: { layer, head, query, key, by } }).loss("animal");
            return (at(1e-5) - at(-1e-5)) / 2e-5;
          }));
          return { words, pronoun, loss, numeric, hand: layers.map(({ d_scores }) => [...d_scores.values]),
                   d_query: [...layers[1].d_query.values] };
        }"""
    )
    for hand, numeric in zip(found["hand"], found["numeric"], strict=True):
        np.testing.assert_allclose(hand, numeric, atol=1e-7)
    tokens, place = vocabulary.encode([found["words"]]), np.array([found["pronoun"]])
    sizes = by_hand.Sizes(vocab_size=len(vocabulary))
    tape = PronounModel(sizes, np.random.default_rng(0), "float64")
    tape.load_state_dict(parameters)
    loss = ta.cross_entropy(tape(tokens, place), targets=np.array([vocabulary.numbers["animal"]]))
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-10)


def test_its_labels_are_those_of_the_model_in_python():
    def labels(text):
        return set(LABELS.findall(text))

    script = (files("demos.pronoun") / "assets" / "model.js").read_text(encoding="utf-8")
    module = (files("tinyattn.by_hand") / "pronoun.py").read_text(encoding="utf-8")
    # The gradients of parameters aren't computed in the page, nor those in embeddings.
    without = {"(model.2')", "(model.1')", "(attend.2')", "(norm.4')", "(mlp.3')"}
    assert labels(script) <= labels(module)
    assert labels(module) - labels(script) <= without


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "The sentence is empty."),
        ("The wolf slept because it was tired.", "The model never saw “wolf” (nearest: of); “slept” (nearest: "),
        ("The cat sat on the mat.", "There is no pronoun in the sentence"),
        ("It was tired.", "There is no noun that the pronoun could mean"),
        ("the cat " * 20 + "it", "the model reads at most 32"),
    ],
)
def test_a_sentence_that_can_not_be_read_says_why(inside, text, problem):
    assert problem in inside("text => engine.read(text).problem", text)


@pytest.mark.parametrize("text", ["The animal didn’t cross.", "it's", "they can't", "DIDNT", "didn't it", "co-op 3rd"])
def test_words_are_split_as_python_does(inside, text):
    from demos.pronoun.text import split_words

    assert inside("text => engine.read(text).words", text) == split_words(text)


def test_unknown_words_are_named_with_the_nearest_that_python_names(inside, model):
    _, vocabulary, _ = model
    for word in ("tierd", "crosss", "wolf", "anmal", "becuase"):
        (found,) = inside("word => engine.read(word).unknown", word)
        assert found == {"word": word, "nearest": vocabulary.nearest(word)}


# ---- on the page


def said(page):
    return page.locator("[aria-live]").inner_text()


def type_sentence(page, text):
    page.get_by_role("textbox").fill(text)


def test_one_word_moves_it_from_animal_to_street(page):
    assert said(page).startswith("it → animal, 9")
    type_sentence(page, "The animal didn't cross the street because it was wide.")
    assert said(page).startswith("it → street, ")
    type_sentence(page, "The animal didn't cross the street because it was tired.")
    assert said(page).startswith("it → animal, 9")


def test_an_unknown_word_is_exchanged_by_a_click(page):
    type_sentence(page, "The animal didn't cross the street because it was wid.")
    page.get_by_role("button", name="wide", exact=True).click()
    assert said(page).startswith("it → street, ")


@pytest.mark.parametrize("odd", ["well-known", "rock'n'roll", "robot’s", "wouldn’t", "İstanbul", "cafe\u0301", "a.b*c"])
def test_an_unknown_word_is_found_however_it_is_written(page, odd):
    type_sentence(page, f"The {odd} animal was tired because it was wide.")
    for _ in range(8):
        if not page.locator(".ta-panel .ta-chip").count():
            break
        page.locator(".ta-panel .ta-chip").first.click()
    assert page.locator(".ta-problem").inner_text() == ""
    assert odd not in page.get_by_role("textbox").input_value()


def press_in(page, name):
    page.locator(".ta-tabs").get_by_role("button", name=name).click()
    return page.locator(".ta-panel")


def test_the_means_line_is_cut_in_all_heads_and_mended_in_all(page):
    press_in(page, "Cut and see")
    page.get_by_role("button", name="head 1", exact=True).click()
    animal = page.locator(".ta-keys .ta-word").nth(1)
    animal.press("Delete")
    assert animal.locator(".ta-number").inner_text() == "cut"
    page.get_by_role("button", name="mean", exact=True).click()
    animal.press("Delete")
    assert "4 cuts" in page.inner_text(".ta-force")
    assert animal.locator(".ta-number").inner_text() == "cut"
    animal.press("Delete")
    assert page.locator(".ta-force").count() == 0


def test_a_chosen_pronoun_stays_while_one_types(page):
    type_sentence(page, "The nurse was kind because she was tired and it was wide.")
    assert page.inner_text("h1") == "What does “it” stand for?"
    page.get_by_role("button", name="she, word 6").click()
    assert page.inner_text("h1") == "What does “she” stand for?"
    type_sentence(page, "The nurse was kind because she was tired and it was small.")
    assert page.inner_text("h1") == "What does “she” stand for?"


def test_what_is_cut_has_not_learned_already(page):
    press_in(page, "Backward")
    page.get_by_role("button", name="head 1", exact=True).click()
    assert page.get_by_role("button", name="Learned already").count() == 1
    press_in(page, "Cut and see").get_by_role("checkbox").nth(4).click()
    press_in(page, "Backward")
    assert page.get_by_role("button", name="Learned already").count() == 0


def test_a_cut_line_is_mended_by_a_click_on_its_key(page):
    press_in(page, "Cut and see")
    page.locator(".ta-hit[data-key='1']").first.dispatch_event("click")
    assert "4 cuts" in page.inner_text(".ta-force")  # the mean's
    page.locator(".ta-keys .ta-word").nth(1).click()
    assert page.locator(".ta-force").count() == 0
    page.locator(".ta-keys .ta-word").nth(1).press("Backspace")  # the key that laptops call delete
    assert "4 cuts" in page.inner_text(".ta-force")


def test_what_is_cut_is_told_in_exports(page, tmp_path):
    press_in(page, "Cut and see").get_by_role("checkbox").first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG").click()
    download.value.save_as(tmp_path / "attention.svg")
    assert "Shown with 1 cut." in (tmp_path / "attention.svg").read_text(encoding="utf-8")


def test_the_title_follows_the_pronoun(page):
    assert page.inner_text("h1") == "What does “it” stand for?"
    type_sentence(page, "The queen thanked the nurse because she was kind.")
    assert page.inner_text("h1") == "What does “she” stand for?"


def test_a_sentence_that_can_not_be_read_dims_the_old_answer(page):
    opacity = "getComputedStyle(document.querySelector('.ta-lists')).opacity"
    assert page.evaluate(opacity) == "1"
    type_sentence(page, "The wolf slept.")
    assert float(page.evaluate(opacity)) < 0.6


def test_answers_sum_to_one(page):
    type_sentence(page, "The animal didn't cross the street because it was wide.")
    shares = [float(share) for share in page.locator(".ta-answers .ta-number").all_inner_texts()]
    assert "other words" in page.inner_text(".ta-answers")
    assert sum(shares) == pytest.approx(1, abs=0.006 * len(shares))


def test_plots_stand_on_the_moments(page, inside):
    page.locator(".ta-tabs").get_by_role("button", name="Training").click()
    scrubber = page.locator(".ta-panel").get_by_role("slider").first
    moments = inside("engine.snapshots")
    assert len(moments) > 10
    for at in (0, len(moments) // 2, len(moments) - 1):
        scrubber.fill(str(at))
        loss, accuracy = (plot.get_attribute("aria-label") for plot in page.locator(".ta-plot").all())
        assert float(loss.split()[-1]) == pytest.approx(moments[at]["loss"], rel=0.01)
        assert float(accuracy.split()[-1]) == pytest.approx(moments[at]["accuracy"], rel=0.01)
        x = float(page.locator(".ta-plot .ta-dot").first.get_attribute("cx"))
        assert x == pytest.approx(400 * moments[at]["step"] / moments[-1]["step"], abs=0.5)


def test_what_is_wanted_is_the_whole_trained_models_answer(page):
    page.locator(".ta-tabs").get_by_role("button", name="Training").click()
    page.locator(".ta-panel").get_by_role("slider").first.fill("0")
    assert "for “animal”" in page.locator(".ta-panel").inner_text()
    page.locator(".ta-tabs").get_by_role("button", name="Edit").click()
    assert "step 0 of training" in page.locator(".ta-force").inner_text()
    page.locator(".ta-force button").click()
    assert page.locator(".ta-force").count() == 0


def test_cut_lines_stay_with_their_sentence(page):
    page.locator(".ta-tabs").get_by_role("button", name="Cut and see").click()
    page.get_by_role("checkbox").first.click()
    assert page.get_by_role("button", name="head 1 (cut)").count() == 0  # that is block 1's
    page.locator(".ta-keys .ta-word").nth(1).press("Delete")
    assert "2 cuts" not in page.locator(".ta-force").inner_text()  # the mean's: a line of each head
    assert "cuts" in page.locator(".ta-force").inner_text()
    page.locator(".ta-tabs").get_by_role("button", name="Edit").click()
    type_sentence(page, "The animal didn't cross the street because it was wide.")
    assert "1 cut" in page.locator(".ta-force").inner_text()


def test_training_goes_back_to_the_first_step_and_forward_again(page):
    page.locator(".ta-tabs").get_by_role("button", name="Training").click()
    scrubber = page.locator(".ta-panel").get_by_role("slider").first
    trained = said(page)
    scrubber.fill("0")
    assert "step 0" in page.locator(".ta-panel").inner_text().lower()
    assert said(page) != trained
    scrubber.fill(scrubber.get_attribute("max"))
    assert said(page) == trained


def test_a_head_that_is_cut_changes_answer_and_gradients(page):
    page.locator(".ta-tabs").get_by_role("button", name="Cut and see").click()
    shown = page.locator(".ta-panel")
    before = shown.inner_text()
    for box in shown.get_by_role("checkbox").all():
        if "block 2" in (box.evaluate("box => box.closest('label').textContent + box.ariaLabel")):
            box.click()
    assert shown.inner_text() != before


@pytest.mark.parametrize("tab", ["Edit", "Steps", "Backward", "Training", "Cut and see", "Predict"])
def test_axe_has_nothing_to_complain_of(page, tab):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python isn't installed")
    page.locator(".ta-tabs").get_by_role("button", name=tab).click()
    found = axe.Axe().run(page).response["violations"]
    assert [(broken["id"], broken["nodes"][0]["html"]) for broken in found] == []
