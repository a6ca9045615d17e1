"""The viewer in a browser: clicked, typed, exported, read."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import tinyattn as ta

pytestmark = pytest.mark.slow

WORDS = ["it", "was", "so", "tired"]
WEIGHTS = np.array([[0.5, 0.25, 0.25, 0], [0, 0.8, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]])
NASTY = "</script><img src=x onerror=alert(1)>"


def softmax(x):
    exp = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


@pytest.fixture
def heads():
    """Two heads, the second with the rows of the first from below."""
    return ta.view(WORDS, np.array([WEIGHTS, WEIGHTS[::-1]]))


@pytest.fixture
def whole():
    """Two layers of two heads with all that explains their weights."""
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(2, 2, 5, 4)) for _ in range(3))
    scores = query @ key.swapaxes(-1, -2) / 2
    d_weights = rng.normal(size=scores.shape)
    words = ["the", "cat", "that", "it", "saw"]
    return ta.view(
        words, softmax(scores), scores=scores, query=query, key=key, value=value, d_weights=d_weights
    ), (query, key, value, scores, d_weights)  # fmt: skip


def word(page, place, which="queries"):
    return page.locator(f".ta-{which} .ta-word[data-place='{place}']")


def lines(page):
    """The thickness of each line, by its key."""
    found = page.locator(".ta-lines .ta-line").all()
    return {int(line.get_attribute("data-key")): float(line.get_attribute("stroke-width")) for line in found}


def said(page):
    return page.locator("[aria-live]").inner_text()


def panel(page, name):
    page.locator(".ta-tabs").get_by_role("button", name=name).click()
    return page.locator(".ta-panel")


def table(page, caption):
    rows = page.locator("table", has=page.locator("caption", has_text=caption)).locator("tbody tr").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


def number(text):
    return float(text.replace("−", "-").replace("∞", "inf").split()[0])


# ---- words and lines


def test_a_click_selects_a_word_and_its_lines_are_as_thick_as_their_weights(opened, heads):
    page = opened(heads)
    assert lines(page) == {}
    word(page, 1).click()
    found = lines(page)
    assert set(found) == {1, 2, 3}
    for key, thickness in found.items():
        assert thickness / found[1] == pytest.approx(WEIGHTS[1, key] / WEIGHTS[1, 1], abs=0.01)
    assert word(page, 1).get_attribute("aria-selected") == "true"
    assert [word(page, k, "keys").locator(".ta-number").inner_text() for k in range(4)] == ["", "0.80", "0.15", "0.05"]
    assert said(page) == "was → was, 80 percent; so, 15 percent; tired, 5 percent"
    page.mouse.move(5, 5)
    assert lines(page) == found  # it stays


def test_a_preview_leaves_the_selection(opened, heads):
    page = opened(heads)
    word(page, 1).click()
    word(page, 2).hover()
    assert set(lines(page)) == {0, 1, 2, 3}
    page.mouse.move(5, 5)
    assert set(lines(page)) == {1, 2, 3}
    word(page, 1).click()  # once more clears
    page.mouse.move(5, 5)
    assert lines(page) == {}


def test_everything_by_keys(opened, heads):
    page = opened(heads)
    word(page, 0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert said(page).startswith("was → was, 80 percent")
    page.keyboard.press(".")
    assert said(page).startswith("was → tired, 40 percent")
    page.keyboard.press("m")
    assert said(page).startswith("was → was, 50 percent")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.place") == "3"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('.ta-keys') !== null")
    page.keyboard.press("Escape")
    assert lines(page) == {}
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()


def test_all_heads_are_told_apart_by_more_than_colour(opened, heads):
    page = opened(heads)
    word(page, 1).click()
    page.keyboard.press("a")
    found = page.locator(".ta-lines .ta-line").all()
    assert {line.get_attribute("data-head") for line in found} == {"0", "1"}
    looks = {
        (line.get_attribute("data-head"), line.evaluate("line => getComputedStyle(line).strokeDasharray"))
        for line in found
    }
    assert len({dash for _, dash in looks}) == 2
    assert len({line.evaluate("line => getComputedStyle(line).stroke") for line in found}) == 2


def test_the_grid_opens_what_is_clicked(opened, whole):
    view, _ = whole
    page = opened(view)
    page.keyboard.press("Tab")
    word(page, 1).click()
    page.keyboard.press("g")
    maps = page.locator(".ta-map")
    assert maps.count() == 4
    page.get_by_role("button", name="Open layer 2, head 2").click()
    assert page.get_by_role("button", name="layer 2").get_attribute("aria-pressed") == "true"
    assert page.get_by_role("button", name="head 2", exact=True).get_attribute("aria-pressed") == "true"


def test_the_table_holds_the_numbers(opened, heads):
    page = opened(heads)
    word(page, 1).click()
    page.keyboard.press("t")
    assert table(page, "What") == [
        ["it", "0", "0.1", "0.05"], ["was", "0.8", "0.2", "0.5"], ["so", "0.15", "0.3", "0.225"],
        ["tired", "0.05", "0.4", "0.225"],
    ]  # fmt: skip


def test_what_is_masked_is_no_zero(opened):
    mask = np.tril(np.ones((4, 4), bool))
    weights = softmax(np.where(mask, 0.0, -np.inf))
    page = opened(ta.view(WORDS, weights, mask=mask))
    word(page, 1).click()
    assert "masked" in word(page, 2, "keys").get_attribute("aria-label")
    assert "masked" not in word(page, 0, "keys").get_attribute("aria-label")
    page.keyboard.press("t")
    assert [row[1] for row in table(page, "What")] == ["0.5", "0.5", "masked", "masked"]


def test_other_tokens_are_looked_at_in_two_rows(opened):
    page = opened(ta.view(["la", "maison"], [[0.9, 0.05, 0.05], [0, 0.1, 0.9]], key_tokens=["the", "blue", "house"]))
    word(page, 1).click()
    assert said(page) == "maison → house, 90 percent; blue, 10 percent"
    queries, keys = (page.locator(f".ta-{which} .ta-word").all() for which in ("queries", "keys"))
    assert max(w.bounding_box()["y"] for w in queries) < min(w.bounding_box()["y"] for w in keys)


def test_only_those_who_ask_may_be_selected(opened):
    page = opened(ta.view(WORDS, [WEIGHTS[None], WEIGHTS[None, 3:]], asking=[None, [3]]))
    page.get_by_role("button", name="layer 2").click()
    assert [word(page, i).get_attribute("aria-disabled") for i in range(4)] == ["true"] * 3 + [None]


@pytest.mark.parametrize("n", [0, 1])
def test_no_word_and_one(opened, n):
    page = opened(ta.view(WORDS[:n], np.ones((n, n))))
    assert page.locator(".ta-queries .ta-word").count() == n
    if n:
        word(page, 0).click()
        assert said(page) == "it → it, 100 percent"


def test_words_are_text_never_markup(opened):
    odd = [NASTY, '"q" & \'s\'', "שלום", "", "\n", " a", "🐈‍⬛", "\ud83d"]
    page = opened(ta.view(odd, np.eye(len(odd)), title=NASTY))
    assert page.locator("img").count() == 0
    assert page.inner_text("h1") == NASTY
    assert word(page, 0).locator(".ta-text").inner_text() == NASTY
    for place in range(len(odd)):
        assert word(page, place).locator(".ta-text").inner_text().strip()
        assert word(page, place).locator(".ta-text").get_attribute("dir") == "auto"


def test_what_is_not_finite_is_shown_as_such(opened):
    weights = WEIGHTS.copy()
    weights[1, 1] = np.nan
    with pytest.warns(UserWarning, match="NaN"):
        view = ta.view(WORDS, weights)
    page = opened(view)
    assert "1 weight is NaN or infinite" in page.inner_text(".ta-note")
    word(page, 1).click()
    page.keyboard.press("t")
    assert table(page, "What")[1][1].lower() == "nan"


# ---- long texts


@pytest.mark.parametrize(("n", "limit"), [(512, 200), (2000, 1000)])
def test_long_texts_stay_fluid(opened, n, limit):
    rng = np.random.default_rng(0)
    view = ta.view([f"w{i}" for i in range(n)], softmax(3 * rng.normal(size=(n, n))))
    page = opened(view)
    assert page.locator(".ta-word").count() < 300  # what is seen alone is drawn
    word(page, 3).click()
    took = page.evaluate(
        """() => { const started = performance.now();
        document.querySelector(".ta-queries .ta-word[data-place='5']").click();
        document.body.getBoundingClientRect(); return performance.now() - started; }"""
    )
    assert took < limit, "a click"
    rest = re.search(r"rest: (\S+) in (\d+) words", page.inner_text(".ta-told"))
    assert 0 < float(rest[1]) < 1
    assert int(rest[2]) > n / 2


# ---- panels


def test_steps_are_the_numbers_of_attention(opened, whole):
    view, (query, key, value, scores, _) = whole
    page = opened(view)
    word(page, 3).click()
    shown = panel(page, "Steps")
    rows = table(page, "From scores to weights")
    weights = softmax(scores)[0, 0, 3]
    dots = query[0, 0, 3] @ key[0, 0].T
    exp = np.exp(scores[0, 0, 3] - scores[0, 0, 3].max())
    for k, row in enumerate(rows):
        numbers = [number(cell) for cell in row[1:] if re.fullmatch(r"[−-]?[\d.]+(e[+-]\d+)?", cell)]
        for right in (dots[k], scores[0, 0, 3, k], exp[k], weights[k]):
            assert min(abs(x - right) for x in numbers) < 0.006 * max(1, abs(right))
    mix = weights @ value[0, 0]
    text = shown.inner_text().replace("−", "-")
    assert all(re.search(re.escape(f"{x:.3g}"[:5]), text) for x in mix)


def test_a_higher_temperature_levels_the_weights(opened, whole):
    view, (*_, scores, _) = whole
    page = opened(view)
    word(page, 3).click()
    shown = panel(page, "Steps")
    before = lines(page)
    slider = shown.get_by_label("temperature, a factor of √d_k")
    slider.fill("1")
    weights = softmax(scores[0, 0, 3] / float(re.search(r"× (\S+)", shown.inner_text())[1]))
    found = lines(page)
    assert max(found.values()) < max(before.values())
    top = weights.argmax()
    for k, thickness in found.items():
        assert thickness / found[top] == pytest.approx(weights[k] / weights[top], abs=0.02)
    page.locator(".ta-force").get_by_role("button").click()
    assert lines(page) == before


def test_backward_turns_the_lines_round_with_signs(opened, whole):
    view, (*_, scores, d_weights) = whole
    page = opened(view)
    word(page, 3).click()
    panel(page, "Backward")
    weights, d_w = softmax(scores)[0, 0, 3], d_weights[0, 0, 3]
    d_scores = weights * (d_w - weights @ d_w)
    drawn = page.locator(".ta-lines .ta-line").all()
    assert page.locator(".ta-lines .ta-arrow").count() == len(drawn) > 2
    largest = max(abs(d_scores))
    thickness = lines(page)
    for line in drawn:
        k = int(line.get_attribute("data-key"))
        assert ("ta-minus" in line.get_attribute("class")) == (d_scores[k] < 0)
        assert (line.evaluate("line => getComputedStyle(line).strokeDasharray") != "none") == (d_scores[k] < 0)
        assert thickness[k] / max(thickness.values()) == pytest.approx(abs(d_scores[k]) / largest, abs=0.02)
    shown = page.locator(".ta-panel")
    checks = shown.get_by_role("button", name="check").all()
    assert len(checks) == 5
    checks[1].click()
    text = shown.inner_text().replace("−", "-")
    assert f"{d_scores[1]:.4g}"[:5] in text
    jacobian = np.diag(weights) - np.outer(weights, weights)
    assert f"{jacobian[0, 0]:.2f}"[-3:] in text


def test_predict_then_reveal(opened, heads):
    page = opened(heads)
    word(page, 1).click()
    shown = panel(page, "Predict")
    assert lines(page).get(1) != pytest.approx(12.8, abs=0.1)  # the weights are hidden
    sliders = shown.get_by_role("slider").all()
    assert len(sliders) == 4
    for slider, guess in zip(sliders, (20, 60, 10, 10), strict=True):
        slider.fill(str(guess))
    shown.get_by_role("button", name=re.compile("reveal", re.IGNORECASE)).click()
    p, q = WEIGHTS[1], np.array([0.2, 0.6, 0.1, 0.1])
    divergence = sum(x * np.log(x / y) for x, y in zip(p, q, strict=True) if x)
    assert f"{divergence:.2f}" in shown.inner_text()


def test_panels_that_need_a_model_are_not_there_without_one(opened, heads):
    page = opened(heads)
    assert page.locator(".ta-tabs button").all_inner_texts() == ["Steps", "Backward", "Predict"]


# ---- numbers that must not mislead


def test_float16_is_read_without_the_browsers_help(opened):
    page = opened(ta.view(WORDS, WEIGHTS.astype(np.float16)))
    word(page, 1).click()
    assert said(page) == "was → was, 80 percent; so, 15 percent"


def test_a_slider_stays_with_its_key_where_not_all_are_listed(opened):
    scores = np.random.default_rng(0).normal(size=(60, 60))
    page = opened(ta.view([f"w{i}" for i in range(60)], softmax(scores), scores=scores))
    word(page, 1).click()
    shown = panel(page, "Steps")
    before = [row[0] for row in table(page, "From scores")]
    slider = shown.locator("table input").first
    slider.fill("-6")
    assert [row[0] for row in table(page, "From scores")] == before
    assert shown.locator("table input").nth(1).input_value() == "0"
    (row, *others) = table(page, "From scores")
    assert "−6" in row[-4]
    assert number(row[-3]) == pytest.approx(number(row[-5]) - 6, abs=0.01)  # the chain adds up
    assert all(row[-4].split()[-1] == "0" for row in others)


def test_a_panel_of_one_head_has_lines_and_chooser_of_that_head(opened, whole):
    view, (*_, scores, _) = whole
    page = opened(view)
    word(page, 3).click()
    page.keyboard.press("m")
    mean = said(page)
    for name in ("Steps", "Backward", "Predict"):
        panel(page, name)
        assert page.get_by_role("button", name="head 1", exact=True).get_attribute("aria-pressed") == "true"
        page.locator(".ta-tabs").get_by_role("button", name=name).click()
        page.mouse.move(5, 5)
        assert said(page) == mean  # it comes back
    panel(page, "Steps")
    numbers = [number(row[-1]) for row in table(page, "From scores")]
    np.testing.assert_allclose(numbers, softmax(scores)[0, 0, 3], atol=0.001)
    page.locator(".ta-tabs").get_by_role("button", name="Steps").press("m")
    assert said(page) == mean
    assert not page.locator(".ta-panel").is_visible()


def test_nan_is_not_left_out_of_sums(opened):
    query, key = np.ones((4, 2)), np.ones((4, 2))
    key[1, 0] = np.nan
    weights = WEIGHTS.copy()
    weights[1, 1] = np.nan
    with pytest.warns(UserWarning, match="NaN"):
        view = ta.view(WORDS, weights, query=query, key=key, value=key)
    page = opened(view)
    word(page, 1).click()
    assert "NaN" in said(page)
    assert "NaN or infinite: 1 word" in page.inner_text(".ta-told")
    assert "NaN" in panel(page, "Steps").locator(".ta-numbers").inner_text()
    assert "can't be guessed" in panel(page, "Predict").inner_text()


def test_what_is_masked_counts_nowhere(opened):
    mask = np.ones((4, 4), bool)
    mask[1, 2] = False
    with pytest.warns(UserWarning, match="not 0, though masked"):
        view = ta.view(WORDS, WEIGHTS, mask=mask)
    page = opened(view)
    word(page, 1).click()
    assert set(lines(page)) == {1, 3}
    panel(page, "Steps")
    assert table(page, "From scores")[2][-1] == "masked"
    panel(page, "Backward")
    assert table(page, "Gradients")[2][1:] == ["masked"] * 4


def test_a_key_without_weight_has_a_finite_gradient_in_its_score(opened, heads):
    page = opened(heads)
    word(page, 1).click()
    word(page, 0, "keys").click()
    panel(page, "Backward")
    assert [number(row[3]) for row in table(page, "Gradients")] == pytest.approx([-1, 0.8, 0.15, 0.05])


def test_scores_with_a_bias_are_not_called_scaled(opened):
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 4, 4))
    scores = query @ key.T / 2 + np.arange(4)
    page = opened(ta.view(WORDS, softmax(scores), scores=scores, query=query, key=key))
    word(page, 1).click()
    shown = panel(page, "Steps")
    assert "softmax(scores)" in shown.inner_text()
    assert "√d_k" not in shown.locator("thead").inner_text()


def test_a_guess_is_of_one_word(opened, heads):
    page = opened(heads)
    word(page, 1).click()
    panel(page, "Predict").get_by_role("button", name="Reveal").click()
    assert "KL" in page.locator(".ta-panel").inner_text()
    word(page, 2).click()
    assert "KL" not in page.locator(".ta-panel").inner_text()
    assert said(page) == ""


def test_hovering_leaves_panels(opened, whole):
    view, _ = whole
    page = opened(view)
    word(page, 3).click()
    panel(page, "Backward").get_by_role("button", name="Verify all").click()
    page.mouse.move(5, 5)
    before = page.locator(".ta-panel").inner_text()
    assert before.count("off by") == 5
    drawn = lines(page)
    word(page, 1).hover()
    assert lines(page) != drawn
    assert page.locator(".ta-panel").inner_text() == before


def test_gradients_are_told_as_such(opened, whole):
    view, _ = whole
    page = opened(view)
    word(page, 3).click()
    page.keyboard.press("b")
    assert "d_scores" in said(page)
    assert "percent" not in said(page)


def test_paper_has_the_whole_picture(opened, heads):
    page = opened(heads, width=1200)
    word(page, 1).click()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".ta-view").bounding_box()["width"] <= 700
    ends = [line.bounding_box() for line in page.locator(".ta-line").all()]
    assert max(box["x"] + box["width"] for box in ends) < 700


# ---- what is taken along


def test_svg_and_png_of_what_is_on_screen(opened, heads, tmp_path):
    page = opened(heads)
    word(page, 1).click()
    for name, start in (("SVG", b"<svg"), ("PNG", b"\x89PNG\r\n")):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        path = Path(tmp_path / download.value.suggested_filename)
        download.value.save_as(path)
        assert path.suffix == f".{name.lower()}"
        assert path.read_bytes().lstrip().startswith(start)
    svg = next(tmp_path.glob("*.svg")).read_text(encoding="utf-8")
    assert svg.count("tired") == 3  # asks, is looked at, is listed
    assert "0.80" in svg
    assert "var(" not in svg


@pytest.mark.parametrize(("keys", "tags"), [("a", "path"), ("g", "image"), ("t", "text"), ("b", "path")])
def test_whatever_is_on_screen_is_exported(opened, whole, tmp_path, keys, tags):
    """All heads, the grid, the table, gradients: in shapes and text with their styles, and inside of the picture."""
    view, _ = whole
    page = opened(view)
    word(page, 3).click()
    page.keyboard.press(keys)
    page.wait_for_timeout(200)
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG").click()
    download.value.save_as(tmp_path / "attention.svg")
    svg = ElementTree.parse(tmp_path / "attention.svg").getroot()
    names = [element.tag.partition("}")[2] for element in svg.iter()]
    shown = {"a": ".ta-lines > path:not(.ta-hit)", "g": "canvas", "t": "table :is(td, th, caption)", "b": ".ta-line"}
    assert names.count(tags) >= page.locator(shown[keys]).count() > 3
    texts = ["".join(element.itertext()) for element in svg.iter() if element.tag.endswith("text")]
    caption = page.locator(".ta-caption").inner_text()
    assert (caption in texts) if keys in "ab" else not caption
    width, height = float(svg.get("width")), float(svg.get("height"))
    for element in svg.iter():
        if element.tag.endswith("}text") and element.get("x") and element.get("dy"):
            assert 0 <= float(element.get("x")) <= width
            assert 0 <= float(element.get("y")) <= height
    assert "NaN" not in (tmp_path / "attention.svg").read_text(encoding="utf-8")


def test_gradients_are_a_table_too(opened, whole):
    view, (*_, scores, d_weights) = whole
    page = opened(view)
    word(page, 3).click()
    page.keyboard.press("b")
    page.keyboard.press("t")
    weights, d_w = softmax(scores)[0, 0, 3], d_weights[0, 0, 3]
    right = np.array([weights, d_w, weights * (d_w - weights @ d_w)]).T
    found = [[number(cell.replace("+", "")) for cell in row[1:]] for row in table(page, "What")]
    np.testing.assert_allclose(found, right, rtol=0.01)


def test_forced_colours_mark_what_is_chosen(opened, whole):
    view, _ = whole
    page = opened(view, forced_colors="active")
    word(page, 3).click()
    chosen, other = (page.get_by_role("button", name=f"layer {n}") for n in (1, 2))
    mark = "button => getComputedStyle(button, '::before').content"
    assert "✓" in chosen.evaluate(mark)
    assert "✓" not in other.evaluate(mark)
    borders = [word(page, place).evaluate("w => getComputedStyle(w).borderWidth") for place in (3, 2)]
    assert borders[0] != borders[1]


def test_steps_without_scores_begin_with_the_logarithms(opened, heads):
    page = opened(heads)
    word(page, 1).click()
    shown = panel(page, "Steps")
    assert "softmax(log w)" in shown.inner_text()
    rows = table(page, "From scores")
    assert rows[0][1] == "−∞"  # a weight of 0
    assert [number(row[1]) for row in rows[1:]] == pytest.approx(np.log(WEIGHTS[1, 1:]), abs=0.005)
    shown.get_by_label("What the score of “so” gains").fill("1")
    exp = WEIGHTS[1] * np.exp([0, 0, 1, 0])
    assert [number(row[-1]) for row in table(page, "From scores")] == pytest.approx(exp / exp.sum(), abs=0.001)


def test_masked_keys_have_a_mask_in_steps(opened):
    mask = np.tril(np.ones((4, 4), bool))
    page = opened(ta.view(WORDS, softmax(np.where(mask, 0.0, -np.inf)), mask=mask))
    word(page, 1).click()
    shown = panel(page, "Steps")
    assert [row[-3] for row in table(page, "From scores")] == ["0", "0", "−∞", "−∞"]
    assert [row[-2] for row in table(page, "From scores")] == ["1", "1", "0", "0"]
    assert "Σ exp = 2" in shown.inner_text()


@pytest.fixture
def long(opened):
    """Sixty words, in two columns that scroll."""
    page = opened(ta.view([f"w{i}" for i in range(60)], np.eye(60)))
    word(page, 0).click()
    return page


def focused(page):
    return page.evaluate("document.activeElement.dataset.place ?? document.activeElement.className")


def test_keys_reach_both_ends_of_a_long_text(long):
    for key, place in (("End", "59"), ("Home", "0"), ("End", "59")):
        long.keyboard.press(key)
        assert focused(long) == place
    long.keyboard.press("Escape")
    long.keyboard.press("g")
    assert long.locator(".ta-map").count() == 1


def test_no_stray_words_stand_in_panels(opened, whole):
    view, _ = whole
    page = opened(view)
    word(page, 3).click()
    for name in ("Steps", "Backward", "Predict"):
        text = panel(page, name).inner_text()
        assert not re.search(r"\b(true|false|null|undefined)\b", text.replace("KL(true", "").replace("(true", ""))


def test_the_grid_comes_back_after_the_table(opened, whole):
    view, _ = whole
    page = opened(view)
    word(page, 3).click()
    for key, n in (("g", 4), ("t", 0), ("g", 4)):
        page.keyboard.press(key)
        assert page.locator("canvas").count() == n
        assert page.locator(".ta-other table").count() == (key == "t")


def test_a_guess_is_dragged_all_the_way_and_no_further(opened, heads):
    page = opened(heads)
    word(page, 1).click()
    panel(page, "Predict")
    box = word(page, 0, "keys").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 60)
    page.mouse.move(x, y + 180)
    page.mouse.up()
    sliders = page.locator(".ta-panel").get_by_role("slider")
    assert sliders.first.input_value() == "0"
    page.mouse.move(5, 5)
    page.mouse.down()
    page.mouse.move(x, y - 40)
    page.mouse.up()
    assert sliders.first.input_value() == "0"
    assert word(page, 0, "keys").get_attribute("aria-selected") == "false"


def test_what_is_revealed_is_weights(opened, heads):
    page = opened(heads)
    word(page, 1).click()
    shown = panel(page, "Predict")
    page.keyboard.press("b")
    button = shown.get_by_role("button", name="Reveal")
    button.focus()
    page.keyboard.press("Enter")
    assert "weights" in page.inner_text(".ta-caption")
    assert word(page, 1, "keys").locator(".ta-number").inner_text() == "0.80"
    assert page.evaluate("document.activeElement.closest('.ta-panel') !== null")  # not lost


def test_checks_leave_the_focus(opened, whole):
    view, _ = whole
    page = opened(view)
    word(page, 3).click()
    check = panel(page, "Backward").get_by_role("button", name="check").nth(1)
    check.focus()
    page.keyboard.press("Enter")
    assert "off by" in page.evaluate("document.activeElement.textContent")


def test_the_first_layer_has_none_before_it(opened, whole):
    view, _ = whole
    page = opened(view)
    word(page, 3).click()
    page.keyboard.press("]")
    page.keyboard.press("[")
    page.keyboard.press("[")
    page.wait_for_timeout(400)
    assert "layer=-" not in page.url
    assert page.get_by_role("button", name="layer 1").get_attribute("aria-pressed") == "true"


def test_a_link_that_can_not_be_read_says_so(opened, heads):
    assert opened(heads, hash="#show=%22grid").inner_text(".ta-said") == "This link can't be shown."


@pytest.mark.parametrize("n", [1, 61])
def test_a_panel_that_is_not_there_hides_nothing(opened, n):
    page = opened(ta.view([f"w{i}" for i in range(n)], np.eye(n)), hash="#tab=%22predict%22&selected=0")
    assert page.locator(".ta-tabs").get_by_role("button", name="Predict").count() == 0
    assert said(page) == "w0 → w0, 100 percent"
    assert "guess" not in page.inner_text(".ta-shown")


def test_predict_shows_lines_whatever_was_shown_before(opened, heads):
    page = opened(heads)
    word(page, 1).click()
    page.keyboard.press("g")
    panel(page, "Predict").get_by_role("button", name="Reveal").click()
    assert set(lines(page)) == {1, 2, 3}
    assert page.get_by_role("button", name="Grid").get_attribute("aria-pressed") == "false"


def test_a_wide_table_is_exported_whole(opened, tmp_path):
    page = opened(ta.view(WORDS, np.stack([WEIGHTS] * 12)), width=390)
    word(page, 1).click()
    page.keyboard.press("t")
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG").click()
    download.value.save_as(tmp_path / "attention.svg")
    svg = ElementTree.parse(tmp_path / "attention.svg").getroot()
    texts = [element for element in svg.iter() if element.tag.endswith("}text")]
    assert sum("head" in "".join(text.itertext()) for text in texts) == 12
    assert max(float(text.get("x")) for text in texts) < float(svg.get("width"))


def test_who_does_not_ask_says_so(opened):
    page = opened(ta.view(WORDS, [WEIGHTS[None, 3:]], asking=[[3]]))
    assert word(page, 0).get_attribute("title") == "“it” doesn't ask in layer 1."
    word(page, 0).click(force=True)
    assert page.locator(".ta-said").inner_text() == "“it” doesn't ask in layer 1."


def test_a_link_opens_the_same_state(opened, heads):
    page = opened(heads)
    word(page, 1).click()
    page.keyboard.press(".")
    page.mouse.move(5, 5)
    page.wait_for_function("location.hash.length > 1")
    page.wait_for_timeout(400)
    before = said(page)
    again = opened(heads, hash="#" + page.url.partition("#")[2])
    assert said(again) == before
    assert lines(again) == lines(page)
    assert said(opened(heads)) != before


@pytest.mark.parametrize("hash", [
    "#selected=99", "#selected=%22a%22&layer=-3&head=%5B%5D", "#%%%", "#tab=%22none%22",
    "#tweak=%7B%22layer%22%3A0%7D&cuts=%5B%5B0%5D%5D", "#text=5&guess=%5B%5D&theme=7&snapshot=%22x%22&toString=1",
])  # fmt: skip
def test_a_broken_link_breaks_nothing(opened, heads, hash):
    page = opened(heads, hash=hash)
    word(page, 1).click()
    assert said(page).startswith("was → ")
    assert "NaN" not in page.inner_text("body")


# ---- light and dark, narrow, printed, spoken


def background(page):
    return page.evaluate("getComputedStyle(document.querySelector('.ta-view')).backgroundColor")


def test_light_and_dark(opened, heads):
    light, dark = (opened(heads, color_scheme=scheme) for scheme in ("light", "dark"))
    brightness = [sum(map(int, re.findall(r"\d+", background(page))[:3])) for page in (light, dark)]
    assert brightness[0] > 600 > 200 > brightness[1]
    button = light.get_by_role("button", name=re.compile("^theme"))
    button.click()
    button.click()
    assert sum(map(int, re.findall(r"\d+", background(light))[:3])) < 200


def test_a_phone_has_columns_and_no_sideways_scrolling(opened, heads):
    page = opened(heads, width=360, height=740)
    queries, keys = (page.locator(f".ta-{which} .ta-word").all() for which in ("queries", "keys"))
    assert max(w.bounding_box()["x"] for w in queries) < min(w.bounding_box()["x"] for w in keys)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    word(page, 1).click()
    assert set(lines(page)) == {1, 2, 3}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["nothing", "word", "grid", "table", "Steps", "Backward", "Predict"])
def test_axe_has_nothing_to_complain_of(opened, whole, scheme, state):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python isn't installed")
    view, _ = whole
    page = opened(view, color_scheme=scheme)
    if state != "nothing":
        word(page, 1).click()
    if state in ("grid", "table"):
        page.keyboard.press(state[0])
    elif state[0].isupper():
        panel(page, state)
    found = axe.Axe().run(page).response["violations"]
    assert [(broken["id"], broken["nodes"][0]["html"]) for broken in found] == []


def test_still_where_motion_is_unwanted(opened, heads):
    page = opened(heads, reduced_motion="reduce")
    word(page, 1).click()
    assert page.evaluate("document.getAnimations().length") == 0


def test_printed_in_light_without_buttons(opened, heads):
    page = opened(heads, color_scheme="dark")
    word(page, 1).click()
    page.emulate_media(media="print")
    assert not page.get_by_role("button", name="SVG").is_visible()
    assert sum(map(int, re.findall(r"\d+", background(page))[:3])) > 600 or "0, 0, 0, 0" in background(page)


def test_two_viewers_share_a_document(browser, heads, tmp_path):
    """As two cells of a notebook do; keys go to the one that has the focus."""
    from tinyattn.viewer.page import asset

    data = json.dumps(heads.data).replace("<", "\\u003c")
    script = (
        f"{asset('viewer.js')}\nfor (const el of document.querySelectorAll('div'))"
        f" render({{ model: {{ get: (name) => ({{ data: {data} }})[name] }}, el }});"
    )
    page_text = (
        f"<!DOCTYPE html><meta charset=utf-8><style>{asset('viewer.css')}</style><div id=a></div><div id=b></div>"
        f"<script type=module>{script}</script>"
    )
    (tmp_path / "two.html").write_text(page_text, encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "two.html").as_uri())
    page.locator("#b .ta-queries .ta-word").nth(1).click()
    assert page.locator("#b .ta-line").count() == 3
    assert page.locator("#a .ta-line").count() == 0
    page.keyboard.press(".")
    assert page.locator("#b [aria-live]").inner_text().startswith("was → tired")
    assert page.locator("#a [aria-live]").inner_text() == ""
    page.close()
