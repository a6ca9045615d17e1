import base64
import json
import os
import re
import warnings

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.viewer.pack import MOST_EXACT, float_for, pack

NASTY = "</script><img src=x onerror=alert(1)>"
HIDDEN = np.triu(np.full((5, 5), 1e9), 1)


def weights_of(*shape, seed=0):
    x = np.random.default_rng(seed).random(shape)
    return x / x.sum(axis=-1, keepdims=True)


def read(packed):
    """As the page reads it."""
    return np.frombuffer(base64.b64decode(packed["data"]), packed["dtype"]).reshape(packed["shape"])


def words(n):
    return [f"w{i}" for i in range(n)]


@pytest.mark.parametrize(
    ("shape", "n_layers"), [((5, 5), 1), ((3, 5, 5), 1), ((2, 3, 5, 5), 2)], ids=["one head", "heads", "layers"]
)
def test_the_first_axes_may_be_left_out(shape, n_layers):
    weights = weights_of(*shape)
    data = ta.view(words(5), weights).data
    assert len(data["layers"]) == n_layers
    found = np.array([read(layer["weights"]) for layer in data["layers"]])
    assert found.shape == (n_layers, *((1,) * (3 - len(shape)) + shape)[-3:])
    np.testing.assert_allclose(found.reshape(shape), weights, rtol=1e-6)
    assert (data["queries"], data["keys"], data["notes"]) == (words(5), None, [])
    assert [layer["name"] for layer in data["layers"]] == [f"layer {i + 1}" for i in range(n_layers)]


def test_layers_may_differ_and_have_a_batch_axis_of_one():
    layers = [weights_of(1, 2, 7, 7), weights_of(1, 3, 7, 7)]
    data = ta.view(words(7), layers).data
    assert [layer["weights"]["shape"] for layer in data["layers"]] == [[2, 7, 7], [3, 7, 7]]
    np.testing.assert_allclose(read(data["layers"][1]["weights"]), layers[1][0], rtol=1e-6)


def test_tensors_are_arrays():
    scores = ta.tensor(np.random.default_rng(0).normal(size=(3, 3)), requires_grad=True)
    data = ta.view(words(3), ta.softmax(scores), scores=scores).data
    np.testing.assert_allclose(read(data["layers"][0]["scores"])[0], scores.numpy(), rtol=1e-6)


def test_other_tokens_are_looked_at_in_cross_attention():
    data = ta.view(["la", "maison"], weights_of(2, 3), key_tokens=["the", "blue", "house"]).data
    assert data["keys"] == ["the", "blue", "house"]
    assert data["layers"][0]["weights"]["shape"] == [1, 2, 3]


def test_where_only_some_tokens_ask():
    data = ta.view(words(5), [weights_of(2, 5, 5), weights_of(2, 1, 5)], asking=[None, [3]], names=["a", "b"]).data
    assert [(layer["name"], layer["asking"]) for layer in data["layers"]] == [("a", None), ("b", [3])]


def test_everything_that_explains_the_weights_travels_with_them():
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(2, n, 4)) for n in (3, 5, 5))
    mask = np.tril(np.ones((3, 5), bool), 2)
    scores = query @ key.swapaxes(-1, -2) / 2
    weights = ta.attention_weights(query, key, mask=mask)
    given = {"query": query, "key": key, "value": value, "scores": scores, "d_weights": scores * 0.5}
    (layer,) = ta.view(words(3), weights, key_tokens=words(5), mask=mask, **given).data["layers"]
    for name, x in given.items():
        np.testing.assert_allclose(read(layer[name]), x, rtol=1e-6)
    assert layer["mask"]["shape"] == [1, 3, 5]  # the same for both heads
    np.testing.assert_array_equal(read(layer["mask"])[0], mask)
    assert layer["scale"] == 0.5


def test_shared_keys_are_given_to_each_head():
    query, key = np.ones((4, 3, 2)), np.arange(2.0)[:, None, None] * np.ones((2, 3, 2))
    (layer,) = ta.view(words(3), np.full((4, 3, 3), 1 / 3), query=query, key=key).data["layers"]
    np.testing.assert_array_equal(read(layer["key"])[:, 0, 0], [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w * 0.5, "layer 1, head 2: the weights of 4 of 4 queries don't sum to 1; those of query"),
        (lambda w: w - np.eye(4), "layer 1, head 2: 4 weights are negative"),
        (lambda w: np.where(np.eye(4), np.nan, w), "layer 1, head 2: 4 weights are NaN or infinite"),
        (lambda w: np.where(np.eye(4), np.inf, w), "layer 1, head 2: 4 weights are NaN or infinite"),
    ],
    ids=["sum", "negative", "nan", "inf"],
)
def test_what_is_odd_is_shown_with_a_warning(change, told):
    weights = weights_of(2, 4, 4)
    weights[1] = change(weights[1])
    with pytest.warns(UserWarning, match="^view: layer 1, head 2: ") as caught:
        view = ta.view(words(4), weights)
    assert any(str(warning.message).startswith(f"view: {told}") for warning in caught)
    assert any(note.startswith(told) for note in view.data["notes"])
    np.testing.assert_allclose(read(view.data["layers"][0]["weights"]), weights, rtol=1e-6)


def test_weights_that_do_not_follow_from_scores_or_mask_are_told():
    with pytest.warns(UserWarning, match="10 weights are not 0, though masked"):
        ta.view(words(5), np.full((5, 5), 0.2), mask=np.tril(np.ones((5, 5), bool)))
    with pytest.warns(UserWarning, match="aren't the softmax of the scores, but up to 0.2"):
        ta.view(words(2), np.full((2, 2), 0.5), scores=np.log([[0.7, 0.3], [0.5, 0.5]]))
    mask = np.array([[True, False], [False, False]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ta.view(words(2), [[1.0, 0.0], [0.0, 0.0]], scores=np.full((2, 2), 700.0), mask=mask)


@pytest.mark.parametrize("mask", [np.array([True, True, False]), True])
def test_a_mask_broadcasts(mask):
    weights = ta.attention_weights(np.ones((3, 2)), np.ones((3, 2)), mask=np.broadcast_to(mask, (3, 3)))
    (layer,) = ta.view(words(3), weights, mask=mask).data["layers"]
    np.testing.assert_array_equal(read(layer["mask"])[0], np.broadcast_to(mask, (3, 3)))


def test_a_query_that_may_attend_to_nothing_is_no_reason_to_warn():
    weights = weights_of(3, 3)
    weights[0] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ta.view(words(3), weights)


def test_many_odd_heads_are_counted():
    with pytest.warns(UserWarning, match="^view: ") as caught:
        ta.view(words(3), weights_of(9, 3, 3) * 2)
    assert len(caught) == 4
    assert str(caught[-1].message) == "view: 6 more of this kind"


@pytest.mark.parametrize(
    ("tokens", "weights", "options", "error", "told"),
    [
        ("it was", weights_of(2, 2), {}, TypeError, r"tokens must be a list of strings.*tokens.split\(\)\?"),
        ([1, 2], weights_of(2, 2), {}, TypeError, "tokens must be strings; got 1"),
        (5, weights_of(2, 2), {}, TypeError, "tokens must be a list of strings; got int"),
        (words(3), weights_of(2, 2), {}, ValueError, r"got \(1, 2, 2\) for 3 tokens"),
        (words(3), weights_of(3, 5), {}, ValueError, "Other tokens that are looked at are given as key_tokens"),
        (words(3), weights_of(5, 3), {"key_tokens": words(5)}, ValueError, "transposed"),
        (words(3), weights_of(1, 3), {}, ValueError, "Where only some tokens ask, asking says which"),
        (words(3), np.ones(3), {}, ValueError, r"or have fewer of the first axes; got \(3,\)"),
        (words(3), np.ones((2, 2, 2, 3, 3)), {}, ValueError, "fewer of the first axes"),
        (words(3), [np.ones((2, 2, 3, 3))], {}, ValueError, r"take weights\[i\]"),
        (words(3), [["a"]], {}, TypeError, "array of real numbers; got dtype"),
        (words(3), weights_of(3, 3) * 1j, {}, TypeError, "complex128"),
        (words(3), [[1.0], [1.0, 2.0]], {}, TypeError, "weights must be an array of numbers"),
        (words(3), weights_of(3, 3), {"mask": np.ones((3, 3), int)}, TypeError, "mask must be boolean.*mask == 1"),
        (words(3), weights_of(3, 3), {"scores": np.ones((4, 3))}, ValueError, "scores must broadcast"),
        (words(3), weights_of(3, 3), {"query": np.ones((1, 4, 2))}, ValueError, "query must be"),
        (words(3), weights_of(3, 3), {"query": np.ones((3, 2)), "key": np.ones((3, 5))}, ValueError, "share d_k"),
        (words(3), weights_of(3, 3), {"scale": "a"}, ValueError, "scale must be a number"),
        (words(3), weights_of(2, 1, 3, 3), {"scores": [np.ones((1, 3, 3))] * 3}, ValueError, "got scores of 3"),
        (words(3), weights_of(3, 3), {"names": ["a", "b"]}, ValueError, "names must be 1 string,"),
        (words(3), weights_of(3, 3), {"names": 5}, ValueError, "names must be 1 string, .* got 5"),
        (words(3), weights_of(3, 3), {"query": np.ones((0, 3, 4))}, ValueError, "query must be"),
        (words(3), weights_of(3, 3), {"asking": 2}, ValueError, "asking must have None or a list of places"),
        (words(3), weights_of(1, 3), {"asking": [[1.7]]}, TypeError, "lists of whole numbers"),
        (words(3), np.ma.masked_array(np.eye(3)), {}, TypeError, r"masked array; pass its .filled\(0\)"),
        (words(3), weights_of(1, 3), {"asking": [[3]]}, ValueError, "different places from 0 to 2"),
        (words(3), weights_of(1, 3), {"asking": [[0], [1]]}, ValueError, "for each of 1"),
        (words(3), weights_of(3, 3), {"title": None}, TypeError, "title must be a string"),
    ],
)  # fmt: skip
def test_mistakes_are_told(tokens, weights, options, error, told):
    with pytest.raises(error, match=f"view: .*{told}"):
        ta.view(tokens, weights, **options)


@pytest.mark.parametrize("n", [0, 1])
def test_no_token_and_a_single_one(n):
    view = ta.view(words(n), np.ones((n, n)))
    assert view.data["layers"][0]["weights"]["shape"] == [1, n, n]
    assert "<main>" in view.to_html()


def test_many_numbers_travel_in_half_precision():
    weights = weights_of(4, 1024, 1024)
    (layer,) = ta.view(words(1024), weights).data["layers"]
    assert layer["weights"]["dtype"] == "float16"
    np.testing.assert_allclose(read(layer["weights"]), weights, rtol=1e-3, atol=1e-7)


def test_an_array_travels_in_what_has_its_numbers():
    x = np.array([1.0, np.inf, np.nan])
    assert [float_for(x, n) for n in (MOST_EXACT, MOST_EXACT + 1)] == [np.float32, np.float16]
    assert [float_for(x * 1e5, n) for n in (MOST_EXACT, MOST_EXACT + 1)] == [np.float32, np.float32]
    assert float_for(x * -1e300, 1) == np.float64
    scores = np.where(np.tril(np.ones((3, 3), bool)), 0.0, np.finfo(float).min)
    weights = np.tril(np.ones((3, 3))) / np.arange(1, 4)[:, None]
    (layer,) = ta.view(words(3), weights, scores=scores).data["layers"]
    np.testing.assert_array_equal(read(layer["scores"])[0], scores)


def test_bytes_are_little_endian_and_in_c_order():
    packed = pack(np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)), np.float32)
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(packed["data"]), "<f4"), np.arange(6))


def test_names_are_text_never_markup(tmp_path):
    page = ta.view([NASTY, "\u05e9\u05dc\u05d5\u05dd"], weights_of(2, 2), title=NASTY).to_html()
    assert "<img" not in page
    assert "&lt;/script&gt;&lt;img" in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["queries"][0] == NASTY
    frame = ta.view([NASTY, 'a"b'], weights_of(2, 2), title='"><b>')._repr_html_()
    assert frame.count("<") == 2
    assert ta.view(["a", "b"], weights_of(2, 2), title="\ud800")._repr_html_().encode()
    assert 'sandbox="allow-scripts allow-downloads"' in frame


def test_the_page_asks_for_nothing_from_elsewhere():
    page = ta.view(words(2), weights_of(2, 2)).to_html()
    found = set(re.findall(r"https?://[^\s\"'`)]+", page))
    assert found <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"}  # names, not addresses
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|sendBeacon|importScripts|eval)\s*\(", page)


def test_the_same_view_gives_the_same_bytes():
    assert ta.view(words(3), weights_of(3, 3)).to_html() == ta.view(words(3), weights_of(3, 3)).to_html()


def test_saved_whole_or_not_at_all(tmp_path):
    view = ta.view(words(2), weights_of(2, 2))
    path = view.save(tmp_path / "a.html")
    assert path.read_text(encoding="utf-8") == view.to_html()
    with pytest.raises(ValueError, match=r"must end with \.html; got 'a.png'"):
        view.save(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        view.save(tmp_path / "b" / "a.html")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"):
        view.save(tmp_path)
    assert os.listdir(tmp_path) == ["a.html"]


def test_a_model_comes_with_its_function():
    view = ta.view(words(2), weights_of(2, 2))
    page = view.with_model("function own(given) { return given }", "own", {"a": "</script>"}).to_html()
    assert 'own({"a":"\\u003c/script>"})' in page
    with pytest.raises(ValueError, match="doesn't define a function 'other'"):
        view.with_model("function own() {}", "other", {})
    for script in ("const own = '</script>'", "// <!-- <SCRIPT>\nfunction own() {}"):
        with pytest.raises(ValueError, match="may hold neither"):
            view.with_model(script, "own", {})
    with pytest.raises(TypeError, match="what the model is given must be JSON"):
        view.with_model("function own() {}", "own", {"a": np.ones(2)})
    with pytest.raises(ValueError, match="a widget has no model"):
        view.with_model("function own() {}", "own", {}).widget()


def test_repr_counts():
    assert repr(ta.view(words(2), weights_of(2, 3, 2, 2))) == "<View: 2 tokens, 2 layers, 6 heads>"


def test_the_module_is_small():
    from tinyattn.viewer.page import asset

    assert len(asset("viewer.js").encode()) < 60_000


def test_tokens_travel_as_they_are_shown():
    odd = [" a ", "b\n", "\t", "", "\x00\x7f", "\ud83d", "\ud83d\udc08", "\uffff", "  ", "\xa0", "\u200b", "a\u202eb"]
    seen = ["␣a␣", "b⏎", "⇥", "∅", "␀\ufffd", "\ufffd", "🐈", "\ufffd", "␣␣", "␣", "␣", "a\ufffdb"]
    data = ta.view(odd, np.eye(12), key_tokens=odd[::-1], names=["one\x01"]).data
    assert (data["queries"], data["keys"], data["layers"][0]["name"]) == (seen, seen[::-1], "one␁")


@pytest.mark.parametrize(
    ("given", "scoring"),
    [
        (lambda q, k: {}, "log w"),
        (lambda q, k: {"scores": q @ k.T}, "scores"),
        (lambda q, k: {"query": q, "key": k}, "÷ √d_k"),
        (lambda q, k: {"query": q, "key": k, "scale": 0.3}, "× 0.3"),
        (lambda q, k: {"query": q, "key": k, "scores": q @ k.T / 2}, "÷ √d_k"),
        (lambda q, k: {"query": q, "key": k, "scores": q @ k.T / 2 + 0.1 * np.arange(5)}, "scores"),
        (lambda q, k: {"query": q, "key": k, "scores": q @ k.T / 2 + HIDDEN, "mask": HIDDEN == 0}, "÷ √d_k"),
        (lambda q, k: {"query": q, "key": k, "scores": np.where(HIDDEN, -np.inf, q @ k.T / 2)}, "scores"),
    ],
)
def test_it_is_told_what_makes_a_score(given, scoring):
    query, key = np.random.default_rng(0).normal(size=(2, 5, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these weights are no softmax of those scores
        view = ta.view(words(5), weights_of(5, 5), **given(query, key))
    assert view.data["layers"][0]["scoring"] == scoring


def test_weights_that_queries_and_keys_do_not_make_are_told():
    """As where the mask was forgotten."""
    query, key = np.random.default_rng(0).normal(size=(2, 5, 4))
    exp = np.exp(query @ key.T / 2) * (HIDDEN == 0)
    weights = exp / exp.sum(axis=-1, keepdims=True)
    with pytest.warns(UserWarning, match="aren't the softmax of the scaled products of queries and keys"):
        ta.view(words(5), weights, query=query, key=key)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ta.view(words(5), weights, query=query, key=key, mask=HIDDEN == 0)


def test_a_widget_holds_the_same_data():
    pytest.importorskip("anywidget")
    view = ta.view(words(2), weights_of(2, 2))
    widget = view.widget()
    assert widget.data == view.data
    assert "export default" in widget._esm
    widget.data = {}  # it may be set, to show something else


def test_without_anywidget_the_error_names_the_extra(monkeypatch):
    from tinyattn.viewer import widget

    monkeypatch.setitem(__import__("sys").modules, "anywidget", None)
    widget._kind.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'tinyattn\[widget\]'"):
        ta.view(words(2), weights_of(2, 2)).widget()
    widget._kind.cache_clear()
