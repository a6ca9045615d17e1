"""The page in a browser: headless Chromium, driven by Playwright. Whoever has neither skips these tests."""

import itertools
import re

import numpy as np
import pytest

import tinyattn as ta

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed")
pytestmark = pytest.mark.slow

ALL_OPEN = 9  # deeper than any box of these tests
NASTY = "<img src=x onerror=alert(1)>"


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the page of a graph. By the end it has told of no error, and has asked for nothing but itself."""
    contexts, complaints, asked = [], [], []
    path = tmp_path / "graph.html"

    def open_page(graph, width=1200, **settings):
        graph.save(path)
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url.partition("#")[0] for url in asked} == {path.as_uri()}


@pytest.fixture
def fan_out():
    """Nodes n0 x, n1 softmax, n2 exp, n3 multiply, n4 sum; two gradients arrive at x."""
    x = ta.tensor([1.0, 2.0, 4.0], requires_grad=True, name="x")
    return ta.graph((ta.softmax(x) * ta.exp(x)).sum())


@pytest.fixture
def block():
    """Boxes in boxes: b0 the block, b2 its attention, b3 what that operation is made of."""
    h = ta.tensor(np.random.default_rng(0).normal(size=(1, 5, 8)), dtype=np.float32, name="h")
    return ta.graph((ta.nn.TransformerBlock(8, 2, rng=0)(h) ** 2).sum(), depth=ALL_OPEN)


def titles(page, selector=".node"):
    return page.locator(f"#items {selector} .title").all_inner_texts()


def all_nodes(page):
    return page.locator("#items .node").all()


def numbers(page, selector):
    return [row.locator("td").all_inner_texts() for row in page.locator(f"{selector} tr").all()]


def go_to(page, step):
    page.keyboard.press("Home")
    for _ in range(step):
        page.keyboard.press(".")


def with_gradient(page):
    return [node.get_attribute("id") for node in all_nodes(page) if node.locator(".gradient").is_visible()]


# ---- the picture


def test_every_node_is_drawn_after_its_sources(opened, fan_out):
    page = opened(fan_out)
    assert page.inner_text("h1") == "sum: computation graph"
    assert titles(page) == ["x", "softmax", "exp", "multiply", "sum"]
    assert page.locator(".edge").count() == 5


def test_nodes_do_not_overlap_and_stand_below_what_they_are_made_of(opened, block):
    page = opened(block)
    found = "[...document.querySelectorAll('#items .node')]"
    places = page.evaluate(f"{found}.map(node => node.getBoundingClientRect().toJSON())")
    assert len(places) == len(block.nodes)
    for i, a in enumerate(places):
        for b in places[:i]:
            is_beside = a["right"] <= b["left"] or b["right"] <= a["left"]
            assert is_beside or a["bottom"] <= b["top"] or b["bottom"] <= a["top"]
    for node, place in zip(block.nodes, places, strict=True):
        assert all(places[source.node]["bottom"] < place["top"] for source in node.sources)


def test_dashed_is_what_carries_no_gradient_and_a_dot_what_is_saved(opened):
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    page = opened(ta.graph((x * 3.0).sum()))
    assert page.locator(".edge.dashed").count() == 1
    heads = [edge.locator(".head").count() for edge in page.locator(".edge").all()]
    graph = ta.graph((x * 3.0).sum())
    saved = [source.is_saved for node in graph.nodes for source in node.sources]
    assert sorted(heads) == sorted(1 + is_saved for is_saved in saved)


def test_names_are_text_never_markup(opened):
    x = ta.tensor([1.0], requires_grad=True, name=NASTY)
    page = opened(ta.graph(ta.exp(x).sum(), names={f"</script>{NASTY}": ta.exp(x)}))
    assert titles(page)[0] == NASTY
    page.click("#n0")
    assert page.inner_text("#panel h2") == NASTY
    page.click("#as-table")
    assert NASTY in page.inner_text("#table")
    assert page.locator("img").count() == 0


def test_a_failed_operation_is_marked(opened):
    x = ta.tensor(np.ones((2, 2)), requires_grad=True)
    with pytest.raises(ValueError, match="must match") as caught:
        ta.matmul(ta.exp(x), ta.tensor(np.ones((3, 2))))
    page = opened(ta.graph(caught.value))
    failed = page.locator(".node", has_text="failed")
    assert failed.locator(".title").inner_text() == "matmul"
    assert "must match" in failed.inner_text()
    assert page.inner_text("#caption") == "everything: 1 operation forward, then matmul failed"
    page.keyboard.press(",")
    assert "matmul fails: " in page.inner_text("#caption")
    assert page.inner_text("#caption").count("matmul") == 1


def test_what_is_not_finite_is_marked(opened):
    with np.errstate(all="ignore"):
        y = ta.log(ta.tensor(np.linspace(-1, 1, 40).reshape(4, 10), requires_grad=True))
    page = opened(ta.graph(y.sum()))
    assert "20 NaN" in page.inner_text("#n1")
    page.click("#n1")
    assert "20 NaN" in page.inner_text("#panel")
    assert page.locator("#panel h3 + canvas").count() == 2


# ---- boxes


def test_boxes_open_and_close_by_their_buttons(opened, block):
    page = opened(block)
    n_open = len(all_nodes(page))
    page.click("#close-all")
    assert titles(page) == ["h", "TransformerBlock", "2", "power", "sum"]
    assert "44 operations" in page.inner_text("#b0")
    page.click("button[aria-label='Open TransformerBlock']")
    assert titles(page, ".node.box") == ["norm_attention", "attention", "drop", "norm_mlp", "mlp", "drop"]
    page.focus("button[aria-label='Close TransformerBlock']")
    page.keyboard.press("Enter")
    assert len(all_nodes(page)) == 5
    assert page.evaluate("document.activeElement.ariaLabel") == "Open TransformerBlock"
    page.click("#open-all")
    assert len(all_nodes(page)) == n_open


def test_levels_open_one_by_one(opened, block):
    page = opened(block)
    page.click("#close-all")
    counts = []
    while page.locator("#open-level").is_enabled():
        page.click("#open-level")
        counts.append(len(all_nodes(page)))
    assert counts == sorted(counts)
    assert len(counts) >= 4
    assert counts[-1] == len(block.nodes)


def test_a_closed_operation_tells_what_it_does(opened, block):
    page = opened(block.at_depth(2))
    page.click("#fit")
    page.click("#b3")
    assert "(multi_head.1)" in page.inner_text("#panel .formula")
    assert "as query" in page.inner_text("#panel")
    page.keyboard.press("Enter")  # on the box that is selected
    assert titles(page, "#b4") == ["linear"]
    assert "open operation" in page.inner_text("#panel")


def test_a_selected_node_that_is_closed_away_leaves_its_box_selected(opened, block):
    page = opened(block)
    page.click("#fit")
    page.click("#n4")
    page.click("#close-all")
    assert page.inner_text("#panel h2") == "TransformerBlock"


# ---- the panel


def test_a_click_shows_value_formula_and_derivative(opened, fan_out):
    page = opened(fan_out)
    page.click("#n1")
    panel = page.inner_text("#panel")
    assert page.inner_text("#panel h2") == "softmax"
    assert "w_i = exp(s_i) / Σ_k exp(s_k)" in panel
    assert "(softmax.1)" in panel
    weights = np.exp([1.0, 2.0, 4.0]) / np.exp([1.0, 2.0, 4.0]).sum()
    assert numbers(page, "#panel h3.value + .scroll")[0] == [f"{w:.4g}" for w in weights]
    jacobian = page.locator("#panel table", has_text="∂ softmax / ∂ scores: a row for each number of the output")
    shown = [float(x) for x in jacobian.locator("td").all_inner_texts()]
    np.testing.assert_allclose(np.reshape(shown, (3, 3)), np.diag(weights) - np.outer(weights, weights), rtol=1e-2)


def test_links_lead_to_sources_and_users(opened, fan_out):
    page = opened(fan_out)
    page.click("#n1")
    page.click("#panel li .link >> nth=1")
    assert page.inner_text("#panel h2") == "multiply"
    page.click("#panel li .link >> nth=0")
    assert page.inner_text("#panel h2") == "softmax"


def test_arrows_walk_through_the_graph(opened, fan_out):
    page = opened(fan_out)
    page.click("#n3")
    ways = ["Up softmax", "Up x", "Right softmax", "Right exp", "Down multiply", "Left exp"]
    for key, title in map(str.split, ways):
        page.keyboard.press(f"Arrow{key}")
        assert page.inner_text("#panel h2") == title
    page.keyboard.press("Escape")
    assert page.locator("#panel").is_hidden()
    before = page.locator("#n0").bounding_box()
    page.keyboard.press("ArrowDown")
    assert page.locator("#n0").bounding_box()["y"] < before["y"]


def test_the_panel_does_not_tell_what_is_not_computed_yet(opened, fan_out):
    page = opened(fan_out)
    go_to(page, 1)
    page.click("#n2")
    assert page.inner_text("#panel h3.value + p") == "not there yet"
    page.keyboard.press(".")
    assert page.locator("#panel h3.value + .scroll").is_visible()


# ---- search


def test_search_goes_from_match_to_match_and_opens_boxes(opened, block):
    page = opened(block)
    page.click("#close-all")
    page.keyboard.press("/")
    page.keyboard.type("swapaxes")
    n = sum(node.rule == "swapaxes" for node in block.nodes)
    assert page.inner_text("#found") == f"{n} found"
    page.keyboard.press("Enter")
    assert page.inner_text("#found") == f"1 of {n}"
    first = page.locator(".node[aria-pressed=true]").get_attribute("id")
    assert block.nodes[int(first[1:])].rule == "swapaxes"
    page.keyboard.press("Enter")
    assert page.locator(".node[aria-pressed=true]").get_attribute("id") != first
    page.keyboard.press("Shift+Enter")
    assert page.locator(".node[aria-pressed=true]").get_attribute("id") == first
    page.keyboard.press("Shift+Enter")
    assert page.inner_text("#found") == f"{n} of {n}"


def test_search_finds_names_and_boxes(opened, block):
    page = opened(block)
    for wanted, found in [("w_query", 1), ("layernorm", 2), ("no such thing", 0)]:
        page.fill("#query", wanted)
        assert page.inner_text("#found") == f"{found} found"


def test_keys_are_letters_while_one_searches(opened, fan_out):
    page = opened(fan_out)
    page.focus("#query")
    page.keyboard.type(" ,.0?/+-")
    assert page.input_value("#query") == " ,.0?/+-"
    assert page.input_value("#step") == page.get_attribute("#step", "max")


# ---- the two passes


def test_at_first_everything_is_shown(opened, fan_out):
    page = opened(fan_out)
    assert page.locator(".pending, .current, .hidden").count() == 0
    assert page.inner_text("#caption") == "everything: 4 operations forward, 4 backward"
    assert page.locator("#forth").is_disabled()


def test_forward_each_step_makes_one_value(opened, fan_out):
    page = opened(fan_out)
    for k in range(5):
        go_to(page, k)
        assert titles(page, ".node:not(.pending)") == ["x", "softmax", "exp", "multiply", "sum"][: k + 1]
        values = [node.locator(".value").is_visible() for node in all_nodes(page)]
        assert values == [True] * (k + 1) + [False] * (4 - k)
        assert with_gradient(page) == []
        assert page.inner_text("#caption").startswith(f"forward {k} of 4: ")
    go_to(page, 3)
    assert page.inner_text("#caption") == "forward 3 of 4: multiply makes (3,) from softmax and exp"


def test_backward_gradients_appear_one_by_one(opened, fan_out):
    page = opened(fan_out)
    expected = [["n4"], ["n3", "n4"], ["n1", "n2", "n3", "n4"], *[["n0", "n1", "n2", "n3", "n4"]] * 2]
    for k, ids in enumerate(expected):
        go_to(page, 5 + k)
        assert with_gradient(page) == ids
        assert page.inner_text("#caption").startswith(f"backward {k} of 4: ")
        assert page.locator(".edge.sending").count() == [0, 1, 2, 1, 1][k]
    assert page.input_value("#step") == "9"


def test_at_a_fan_out_gradients_are_added(opened, fan_out):
    page = opened(fan_out)
    x, _, exp, *_ = fan_out.nodes
    go_to(page, 8)
    assert page.inner_text("#n0 .arrived") == "1 of 2 gradients arrived"
    assert numbers(page, "#n0 .gradient") == [list(row) for row in exp.sources[0].gradient.rows]
    assert page.inner_text("#caption") == "backward 3 of 4: exp sends back to x; x has 1 of its 2 gradients"
    page.keyboard.press(".")
    assert page.inner_text("#n0 .arrived") == "sum of 2"
    assert numbers(page, "#n0 .gradient") == [list(row) for row in x.gradient.rows]
    assert page.inner_text("#caption") == (
        "backward 4 of 4: softmax sends back to x; x has both of its 2 gradients: they are added"
    )
    page.keyboard.press(",")  # and back again
    assert numbers(page, "#n0 .gradient") == [list(row) for row in exp.sources[0].gradient.rows]


def test_running_sums_are_written_as_python_writes_numbers(opened):
    x = ta.tensor([1e-7, 3.0, -250000.0], requires_grad=True, name="x")
    graph = ta.graph((x + x * 2.0 + x * x).sum())
    page = opened(graph)
    told = []
    for step in range(int(page.get_attribute("#step", "max"))):
        go_to(page, step)
        if "gradients arrived" in page.inner_text("#n0") and page.locator("#n0 .gradient").is_visible():
            told.append(numbers(page, "#n0 .gradient")[0])
    assert told
    assert all(text == f"{float(text):.4g}" for row in told for text in row)


def test_a_closed_box_takes_one_step(opened, block):
    page = opened(block)
    page.click("#close-all")
    page.click("#legend summary")  # the focus is elsewhere: keys work all the same
    go_to(page, 1)
    assert page.inner_text("#caption") == "forward 1 of 3: TransformerBlock makes (1, 5, 8) from h"
    assert page.locator("#b0 .value").is_visible()
    go_to(page, 7)
    told = page.inner_text("#caption")
    assert told == "backward 3 of 3: TransformerBlock fills the gradients of its 16 parameters"


def test_opening_a_box_keeps_the_time(opened, block):
    page = opened(block)
    page.click("#close-all")
    go_to(page, 1)
    page.click("#open-all")
    assert titles(page, ".pending") == ["power", "sum"]


def test_without_gradients_there_is_only_the_way_forward(opened):
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    page = opened(ta.graph(ta.exp(x)))
    assert page.inner_text("#caption").endswith("no gradient: the root isn't a single number")
    assert page.get_attribute("#step", "max") == "2"


def test_it_plays_to_the_end(opened, fan_out):
    page = opened(fan_out)
    page.select_option("#speed", "4")
    page.click("#play")
    playwright.expect(page.locator("#step")).to_have_value(re.compile("[1-8]"))
    assert page.inner_text("#play") == "❚❚ Pause"
    page.click("#play")
    paused = page.input_value("#step")
    page.wait_for_timeout(500)
    assert page.input_value("#step") == paused
    page.locator("#n1").focus()
    page.keyboard.press(" ")
    playwright.expect(page.locator("#step")).to_have_value("10")
    assert page.inner_text("#play") == "▶ Play"


def test_the_slider_and_its_buttons(opened, fan_out):
    page = opened(fan_out)
    page.locator("#step").fill("2")
    assert titles(page, ".pending") == ["multiply", "sum"]
    page.click("#forth")
    assert titles(page, ".pending") == ["sum"]
    page.click("#back")
    page.click("#back")
    assert titles(page, ".pending") == ["exp", "multiply", "sum"]
    assert page.get_attribute("#step", "aria-valuetext") == page.inner_text("#caption")
    page.keyboard.press("End")
    assert page.locator(".pending").count() == 0


# ---- the rest


def test_zoom_and_fit(opened, fan_out):
    page = opened(fan_out)
    width = page.locator("#n0").bounding_box()["width"]
    page.keyboard.press("+")
    assert page.locator("#n0").bounding_box()["width"] == pytest.approx(1.25 * width)
    page.mouse.move(300, 300)
    page.mouse.wheel(0, 200)
    assert page.locator("#n0").bounding_box()["width"] < width
    page.keyboard.press("0")
    assert page.locator("#n0").bounding_box()["width"] == pytest.approx(width)


def test_dragging_moves_the_graph_and_selects_nothing(opened, fan_out):
    page = opened(fan_out)
    before = page.locator("#n1").bounding_box()
    page.mouse.move(before["x"] + 20, before["y"] + 20)
    page.mouse.down()
    page.mouse.move(before["x"] + 60, before["y"] + 50, steps=4)
    page.mouse.up()
    after = page.locator("#n1").bounding_box()
    assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((40, 30))
    assert page.locator("#panel").is_hidden()


def test_the_address_keeps_selection_time_and_boxes(opened, block):
    page = opened(block)
    page.click("#close-all")
    page.click("button[aria-label='Open TransformerBlock']")
    page.click("#b2")
    go_to(page, 2)
    page.wait_for_url(lambda url: "step" in url and "node=b2" in url)
    before = titles(page), titles(page, ".pending"), page.inner_text("#panel"), page.inner_text("#caption")
    page.reload()
    assert (titles(page), titles(page, ".pending"), page.inner_text("#panel"), page.inner_text("#caption")) == before


@pytest.mark.parametrize("hash", ["#node=n99&step=-3&open=77.x", "#node=nlength", "#step=1e9", "#%%%", "#graph"])
def test_an_address_that_makes_no_sense_does_no_harm(opened, fan_out, hash):
    page = opened(fan_out)
    page.goto(page.url.partition("#")[0] + hash)
    page.reload()
    assert len(titles(page)) == 5
    assert page.locator("#panel").is_hidden()


def test_the_table_has_all_nodes(opened, block):
    page = opened(block)
    page.click("#close-all")
    page.click("#as-table")
    assert page.locator("#graph").is_hidden()
    heads = page.locator("#table thead th").all_inner_texts()
    assert heads == ["Number", "Operation", "Inputs", "Shape", "Value", "Gradient"]
    assert page.locator("#table tbody tr").count() == len(block.nodes)
    row = page.locator("#table tbody tr").last.locator("th, td").all_inner_texts()
    assert row[1:4] == ["sum", f"#{len(block.nodes) - 1}", "() float32"]
    page.click("#table tbody tr:last-child .link")
    assert page.inner_text("#panel h2") == "sum"
    page.click("#as-table")
    assert page.locator("#n69").is_visible()


def test_dark_and_light(opened, fan_out):
    def brightness(page):
        return sum(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"))

    dark, light = opened(fan_out, color_scheme="dark"), opened(fan_out, color_scheme="light")
    assert brightness(dark) < 150 < 600 < brightness(light)
    light.click("#theme")
    assert (light.inner_text("#theme"), brightness(light) > 600) == ("Theme: light", True)
    light.click("#theme")
    assert (light.inner_text("#theme"), brightness(light) < 150) == ("Theme: dark", True)


def test_nothing_moves_by_itself_where_motion_is_reduced(opened, fan_out):
    for wish, name in [("reduce", "none"), ("no-preference", "flow")]:
        page = opened(fan_out, reduced_motion=wish)
        go_to(page, 6)
        line = page.locator(".edge.sending .line")
        assert line.evaluate("line => getComputedStyle(line).animationName") == name


def test_a_narrow_screen_has_a_sheet_at_the_bottom(opened, fan_out):
    page = opened(fan_out, width=390)
    page.click("#n1")
    panel, graph = page.locator("#panel").bounding_box(), page.locator("#graph").bounding_box()
    assert panel["y"] >= graph["y"] + graph["height"] - 1
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_every_control_has_a_name_and_headings_are_in_order(opened, block):
    page = opened(block)
    page.click("#n3")
    nameless = "control => !(control.ariaLabel || control.innerText.trim() || control.labels?.length)"
    for control in page.locator("button, input, select, summary, [role=button], [tabindex='0']").all():
        assert not control.evaluate(nameless), control.evaluate("control => control.outerHTML")
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(heading => Number(heading.tagName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_keyboards_can_skip_the_graph(opened, fan_out):
    page = opened(fan_out)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "graph"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "play"


def test_help_tells_the_keys(opened, fan_out):
    page = opened(fan_out)
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Home")  # means nothing while help is open
    page.keyboard.press("Escape")
    assert page.locator("#help").is_hidden()
    assert page.locator(".pending").count() == 0


def test_on_paper_the_graph_is_light(opened, fan_out):
    page = opened(fan_out, color_scheme="dark")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.locator("#player").is_hidden()
    assert page.locator("#legend li").first.is_visible()
    assert page.pdf().count(b"/Type /Page\n") == 1
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


# ---- the first view


def scale(page):
    return page.evaluate("new DOMMatrix(document.getElementById('stage').style.transform).a")


def test_boxes_are_closed_until_titles_can_be_read_unless_a_depth_is_asked_for(opened, block):
    everything, fewer = opened(block), opened(block.at_depth(None))
    assert len(titles(everything)) == len(block.nodes) > len(titles(fewer)) > 4
    assert "attention" in titles(fewer)
    assert fewer.url.partition("#")[2] == ""
    for page in (everything, fewer):
        assert scale(page) >= 0.75
        top = min(node.bounding_box()["y"] for node in all_nodes(page))
        assert 0 < top < 400


def test_what_is_computed_first_is_in_view_on_a_narrow_screen(opened, block):
    page = opened(block, width=390)
    boxes = [node.bounding_box() for node in all_nodes(page)]
    first = min(boxes, key=lambda box: box["y"])
    assert first["x"] >= 0
    assert first["x"] + first["width"] <= 390


def test_a_long_chain_comes_in_closed_groups(opened):
    x = ta.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(4500):
        y = y * 1.0001
    page = opened(ta.graph(y))
    assert "operations 1 to 67" in titles(page)
    assert len(titles(page)) < 100


# ---- several roots


def test_what_backward_starts_with_counts_among_the_gradients_that_arrive(opened):
    x = ta.tensor([1.0, 2.0], requires_grad=True, name="x")
    loss = x.sum()
    page = opened(ta.graph([loss, loss * 3.0]))
    assert "sum of 2" in page.locator(".node", has_text="sum").first.inner_text()
    go_to(page, 3)
    assert "gradient is 1; multiply, whose gradient is 1" in page.inner_text("#caption")
    assert "1 of 2 gradients arrived" in page.locator(".node", has_text="() float64").nth(0).inner_text()
    page.keyboard.press(".")
    assert "4" in page.locator("#n1 .gradient").inner_text()


def test_labels_tell_the_numbers_that_are_there(opened, fan_out):
    page = opened(fan_out)
    assert page.get_attribute("#n0", "aria-label").startswith("x, parameter, (3,), value 1 2 4, gradient ")
    go_to(page, 0)
    assert page.get_attribute("#n0", "aria-label") == "x, parameter, (3,), value 1 2 4"
    assert page.get_attribute("#n4", "aria-label") == "sum, operation, (), not computed yet"


def test_zeros_are_told_and_other_marks_alarm(opened):
    x = ta.tensor([0.0, 0.0], requires_grad=True, name="x")
    with np.errstate(divide="ignore"):
        page = opened(ta.graph(ta.log(x).sum()))
    assert page.locator("#n0 .mark").all_inner_texts() == ["⚠ gradient 2 Inf"]
    assert "all zero" in page.inner_text("#n0")


def test_a_closed_box_tells_what_differs_in_it(opened):
    x = ta.tensor(np.ones((3, 2)), requires_grad=True, name="x")
    graphs = [ta.graph(ta.attention(x, x, x, causal=causal).sum(), depth=0) for causal in (False, True)]
    page = opened(graphs[0].diff(graphs[1]))
    assert "changed" in page.locator(".node", has_text="attention").inner_text()
    page.locator(".node", has_text="attention").click()
    assert "inside: " in page.inner_text("#panel")


# ---- differences take no part in the passes


@pytest.fixture
def compared():
    """w n0 and what is made of it; tanh and add were removed, multiply and exp were added."""

    def graph(is_later):
        w = ta.tensor(np.linspace(-1, 1, 64).reshape(8, 8), requires_grad=True, name="w")
        y = w @ w
        y = ta.exp(y * 0.1) if is_later else ta.tanh(y) + 1.0
        return ta.graph((y * w).sum())

    return graph(False).diff(graph(True))


def test_what_was_removed_takes_no_part_in_the_passes(opened, compared):
    page = opened(compared)
    removed = [f"n{i}" for i, node in enumerate(compared.nodes) if node.change == "removed"]
    assert len(removed) >= 2
    assert page.inner_text("#caption") == "everything: 5 operations forward, 5 backward"
    assert page.inner_text("#n0 .arrived") == "sum of 3"
    assert page.locator(f"#{removed[0]}.pending").count() == 0
    for step in range(int(page.get_attribute("#step", "max"))):
        go_to(page, step)
        assert "tanh" not in page.inner_text("#caption")
        assert all(page.locator(f"#{id}.pending").count() == 1 for id in removed)
        assert not set(removed) & set(with_gradient(page))


def test_faces_say_what_differs(opened, compared):
    page = opened(compared)
    told = [f"≠ changed: {node.difference}" for node in compared.nodes if node.change == "changed"]
    assert "≠ changed: it was made of others" in told
    assert page.locator(".change", has_text="changed").all_inner_texts() == told


# ---- marks wait for what they are about


def test_marks_come_with_what_they_are_about(opened):
    x = ta.tensor([0.0, 0.0], requires_grad=True, name="x")
    with np.errstate(divide="ignore"):
        page = opened(ta.graph(ta.log(x).sum()))
    borders = "[...document.querySelectorAll('#items .node')].map(node => getComputedStyle(node).borderTopColor)"
    for step, seen in enumerate([[], ["log"], ["log", "sum"], ["log", "sum"], ["log", "sum"], ["x", "log", "sum"]]):
        go_to(page, step)
        shown = [node for node in all_nodes(page) if node.locator(".mark:visible").count()]
        assert [node.locator(".title").inner_text() for node in shown] == seen
        assert page.evaluate(borders).count("rgb(192, 0, 0)") == len(seen)
        assert ("gradient 2 Inf" in page.get_attribute("#n0", "aria-label")) == (step == 5)


def test_closed_boxes_tell_the_marks_inside(opened):
    class Inverse(ta.nn.Module):
        def forward(self, x):
            return ta.exp(-(1.0 / x))

    with np.errstate(all="ignore"):
        page = opened(ta.graph(Inverse()(ta.tensor([0.0, 1.0], requires_grad=True)).sum(), depth=0))
    assert re.fullmatch("⚠ inside: .*Inf.*", page.locator(".node.box .mark").first.inner_text())
    go_to(page, 0)
    assert page.locator(".mark:visible").count() == 0


# ---- what items are called


def test_captions_tell_operations_of_one_title_apart(opened):
    x = ta.tensor(np.eye(2), requires_grad=True, name="x")
    scores = x @ x
    scores.name = "scores"
    page = opened(ta.graph((scores @ ta.exp(x) @ ta.log(ta.exp(x))).sum()))
    captions = []
    for step in range(1, int(page.get_attribute("#step", "max"))):
        go_to(page, step)
        captions.append(page.inner_text("#caption"))
    told = "\n".join(captions)
    assert "scores (matmul) makes (2, 2) from x\n" in told
    assert re.search(r"matmul #\d+ makes \(2, 2\) from scores \(matmul\) and exp #\d+", told)
    assert re.search(r"sends back to scores \(matmul\) and exp #\d+", told)
    page.locator(".node", has_text="scores").click()
    assert page.inner_text("#panel h2") == "scores (matmul)"
    number = page.locator(".node[aria-pressed=true]").get_attribute("id")[1:]
    assert page.inner_text("#panel-number") == f"#{int(number) + 1}"
    assert re.search(r"matmul #\d+", page.locator("#panel li .link").last.inner_text())


def test_a_box_says_what_it_fills_inside(opened, block):
    page = opened(block)
    page.click("#close-all")
    page.click("#open-level")
    told = []
    for step in range(int(page.get_attribute("#step", "max"))):
        go_to(page, step)
        told.append(page.inner_text("#caption"))
    assert told[-1].endswith("norm_attention fills the gradients of its 2 parameters")
    assert any("sends back to norm_attention, and fills the gradients of its 8 parameters" in text for text in told)


def test_used_several_times_inside_a_closed_box(opened, block):
    page = opened(block)
    page.click("#close-all")
    page.click("#open-level")
    page.click("#fit")
    page.click("#b1")
    assert page.inner_text("#b1 .arrived") == "sum of 3, inside attention"
    assert "3 times, inside attention" in page.inner_text("#panel dl")


def test_the_end_counts_operations_not_only_steps(opened, block):
    page = opened(block)
    page.click("#close-all")
    assert re.fullmatch(
        r"everything: 3 steps forward \(46 operations\), 3 backward(; \d+ operations? without a gradient)?",
        page.inner_text("#caption"),
    )


def test_closing_a_box_in_mid_backward_shows_none_of_it_half_sent(opened, block):
    page = opened(block)
    page.keyboard.press("End")
    for _ in range(10):
        page.keyboard.press(",")
    assert page.locator(".edge.sending").count()
    page.click("#close-all")
    step = page.input_value("#step")
    page.keyboard.press(".")
    page.keyboard.press(",")
    assert page.input_value("#step") == step
    assert page.inner_text("#caption").startswith("backward 2 of 3: power sends back")


# ---- sums


def test_addends_are_seen(opened, fan_out):
    page = opened(fan_out)
    go_to(page, 8)
    assert page.locator(".label").count() == 1
    assert numbers(page, ".label")[0] == numbers(page, "#n0 .gradient")[0]
    assert page.locator("#n0 .addends").is_hidden()
    page.keyboard.press(".")
    assert page.locator(".label").count() == 1
    terms = page.inner_text("#n0 .addends").splitlines()
    for line, row in zip(terms, numbers(page, "#n0 .gradient")[0], strict=True):
        assert line.endswith(f"= {row.replace('-', '−')}")
        left, right = re.sub(r"[()]", "", line.replace("−", "-")).split(" = ")
        assert sum(map(float, left.split(" + "))) == pytest.approx(float(right), rel=1e-3)
    page.keyboard.press("End")
    assert page.locator(".label").count() == 0
    page.click("#n0")
    assert page.inner_text("#panel .addends").splitlines() == terms


def test_larger_gradients_have_running_sums_and_addends_as_maps(opened):
    w = ta.tensor(np.linspace(-1, 1, 36).reshape(6, 6), requires_grad=True, name="w")
    page = opened(ta.graph((w @ w * w + w).sum()))
    go_to(page, 7)  # add has sent, and then multiply
    assert page.inner_text("#n0 .arrived") == "1 of 4 gradients arrived"
    page.keyboard.press(".")
    assert page.inner_text("#n0 .arrived") == "2 of 4 gradients arrived"
    assert "sum so far" in page.inner_text("#n0 .gradient")
    assert page.locator("#n0 .addends canvas").count() == 2
    page.keyboard.press(".")
    assert page.inner_text("#n0 .arrived") == "sum of 4"
    assert page.locator("#n0 .addends canvas").count() == 4
    assert page.locator(".label").count() == 2


# ---- the panel, once more


def test_the_panel_tells_the_way_back_in_order(opened, fan_out):
    page = opened(fan_out)
    page.click("#n2")
    told = page.inner_text("#panel")
    places = [told.index(words) for words in ("Inputs", "Used by", "sends to this node", "Backward", "arrives:")]
    places += [told.index(words) for words in ("∂ exp / ∂ x", "sends back to x, that times the derivative:")]
    assert places == sorted(places)


def test_derivatives_that_are_too_large_are_told(opened):
    x = ta.tensor(np.eye(3), requires_grad=True)
    page = opened(ta.graph((x @ ta.exp(x)).sum()))
    page.locator(".node", has_text="matmul").click()
    assert "∂ matmul / ∂ x: 9 × 9 numbers, not written out" in page.inner_text("#panel")


def test_an_open_box_has_the_edges_of_the_closed_one(opened, block):
    page = opened(block.at_depth(1))
    page.click("#open-all")
    page.locator("button.name", has_text="norm_mlp").click()
    links = page.locator("#panel li .link").all_inner_texts()
    assert len(links) == 2
    assert links[0].startswith("add")


def test_docstrings_have_code(opened):
    x = ta.tensor(np.arange(3.0), requires_grad=True)
    page = opened(ta.graph(x[1]))
    page.locator(".node", has_text="index").click()
    assert page.locator("#panel p code").inner_text() == "x[key]"


def test_the_panel_leaves_the_graph_in_view(opened, fan_out):
    page = opened(fan_out)
    before = page.locator("#n0").bounding_box()
    page.click("#n1")
    graph = page.locator("#graph").bounding_box()
    for node in all_nodes(page):
        box = node.bounding_box()
        assert graph["x"] <= box["x"]
        assert box["x"] + box["width"] <= graph["x"] + graph["width"]
    page.keyboard.press("Escape")
    assert page.locator("#n0").bounding_box() == pytest.approx(before)


def test_a_key_leads_into_the_panel_and_escape_back(opened, fan_out):
    page = opened(fan_out)
    page.click("#n1")
    page.keyboard.press("p")
    assert page.evaluate("document.activeElement.id") == "close"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "n1"
    page.keyboard.press("Escape")
    assert page.locator("#panel").is_hidden()


def test_arrows_go_round_among_siblings(opened, fan_out):
    page = opened(fan_out)
    page.click("#n0")
    for key, title in [("Down", "softmax"), ("Right", "exp"), ("Right", "softmax"), ("Left", "exp")]:
        page.keyboard.press(f"Arrow{key}")
        assert page.inner_text("#panel h2") == title


# ---- the picture, once more


def test_arguments_that_cannot_change_places_stand_in_order(opened):
    x, y = (ta.tensor(np.eye(2), requires_grad=True, name=name) for name in "xy")
    page = opened(ta.graph(((y - x) @ (x - y)).sum()))
    for node in page.locator(".node:has(.role)").all():
        roles = [(role.bounding_box()["x"], role.inner_text()) for role in node.locator(".role").all()]
        assert [name for _, name in sorted(roles)] == ["x", "y"]


def test_many_roles_are_told_on_hover(opened, block):
    page = opened(block.at_depth(2))
    assert page.locator(".hint").count() == 0
    page.click("#fit")
    page.click("#b3")
    page.keyboard.press("Escape")
    assert page.locator(".hint").count() == 0
    page.mouse.move(5, 5)
    page.hover("#b3")
    assert {"query", "w_query", "w_output"} <= set(page.locator(".hint").all_inner_texts())


def test_saved_outputs_have_a_dot(opened, fan_out):
    page = opened(fan_out)
    saved = [f"n{i}" for i, node in enumerate(fan_out.nodes) if node.saves_output]
    assert saved
    assert [node.get_attribute("id") for node in all_nodes(page) if node.locator(".saved").count()] == saved


def test_constant_arrays_are_told_as_such(opened):
    x = ta.tensor(np.linspace(0, 1, 40).reshape(4, 10), requires_grad=True, name="x")
    page = opened(ta.graph(x.sum()))
    assert "all 1" in page.inner_text("#n0 .gradient")


def test_matrices_of_a_stack_have_gaps_between_them(opened):
    heights = []
    for shape in [(6, 4), (2, 3, 4)]:
        x = ta.tensor(np.linspace(-1, 1, 24).reshape(shape), requires_grad=True, name="x")
        page = opened(ta.graph(x.sum()))
        heights.append(page.evaluate("document.querySelector('#n0 canvas').height"))
    assert heights[1] > heights[0]


def test_the_slider_brings_its_step_into_view(opened, block):
    page = opened(block)
    page.locator("#step").fill("1")
    node, graph = (page.locator(where).bounding_box() for where in (".node.current", "#graph"))
    assert node["y"] >= graph["y"] - 1
    assert node["y"] + node["height"] <= graph["y"] + graph["height"] + 1


def test_the_legend_is_open_where_there_is_room(opened, fan_out):
    assert opened(fan_out).locator("#legend li").first.is_visible()
    assert opened(fan_out, width=390).locator("#legend li").first.is_hidden()


def test_tools_of_a_narrow_screen_are_behind_a_button(opened, fan_out):
    page = opened(fan_out, width=390)
    assert page.locator("#fit").is_hidden()
    page.click("#menu")
    for button in page.locator(".tools button:visible").all():
        box = button.bounding_box()
        assert box["height"] >= 40
        assert box["x"] + box["width"] <= 390


def test_the_table_follows_the_player(opened, fan_out):
    page = opened(fan_out)
    page.click("#as-table")
    go_to(page, 2)
    rows = page.locator("#rows tr")
    assert [row.locator("th").inner_text() for row in page.locator("#rows .current").all()] == ["3"]
    assert rows.nth(2).locator(".value div").is_visible()
    assert rows.nth(3).locator(".value div").is_hidden()
    page.keyboard.press("End")
    assert rows.nth(3).locator(".value div").is_visible()
    assert "sum of 2" in rows.nth(0).inner_text()


def test_playing_comes_near_enough_to_read(opened, block):
    page = opened(block)
    page.click("#fit")
    assert scale(page) < 0.45
    page.click("#play")
    playwright.expect(page.locator(".node.current")).to_have_count(1)
    assert scale(page) >= 0.75


def test_edges_of_the_selection_stand_out_only_in_the_end(opened, fan_out):
    page = opened(fan_out)
    page.click("#n3")
    assert page.locator(".edge.near").count() == 3
    go_to(page, 2)
    assert page.locator(".edge.near").count() == 0
    assert page.locator(".edge.giving").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["first", "selected", "table", "backward"])
def test_axe_has_nothing_to_complain_of(opened, fan_out, scheme, state):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python isn't installed")
    page = opened(fan_out, color_scheme=scheme)
    if state == "selected":
        page.click("#n1")
    elif state == "table":
        page.click("#as-table")
    elif state == "backward":
        go_to(page, 7)
    found = axe.Axe().run(page).response["violations"]
    assert [(broken["id"], broken["nodes"][0]["html"]) for broken in found] == []


def test_a_root_of_no_numbers_has_nothing_to_send_its_gradient_to(opened):
    x = ta.tensor(np.ones((0, 3)), requires_grad=True)
    page = opened(ta.graph(x.sum()))
    assert page.inner_text("#caption").endswith("and nothing that a gradient could be sent back to")
