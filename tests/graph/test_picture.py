import concurrent.futures
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.graph import engines


@pytest.fixture
def graph():
    x = ta.tensor([3.0, 4.0], requires_grad=True, name="x")
    return ta.graph((x * x).sum())


@pytest.fixture
def no_engine(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("PATH", "")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "pygraphviz.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("x.svg", b"<?xml"),
        ("x.png", b"\x89PNG"),
        ("x.pdf", b"%PDF"),
        ("x.dot", b"digraph"),
        ("x.html", b"<!doctype html>"),
        ("X.SVG", b"<?xml"),
    ],
)
def test_saved_in_the_format_of_the_ending(graph, pygraphviz, tmp_path, name, start):
    path = tmp_path / name
    assert graph.save(str(path)) == path
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]  # nothing else is left behind


def test_the_saved_dot_is_to_dot(graph, tmp_path):
    assert graph.save(tmp_path / "x.dot").read_text(encoding="utf-8") == graph.to_dot()


def test_the_svg_shows_what_was_computed(graph, pygraphviz, tmp_path):
    svg = ElementTree.parse(graph.save(tmp_path / "x.svg"))
    words = {text.strip() for text in svg.getroot().itertext()}
    assert {"multiply", "sum", "x", "parameter", "25"} <= words


@pytest.mark.parametrize("name", ["x.gif", "x", "svg", "x.svg.txt", "x.htm"])
def test_another_ending_is_refused(graph, tmp_path, name):
    with pytest.raises(ValueError, match=r"must end with one of \.svg, \.png, \.pdf, \.dot"):
        graph.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_told(graph, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        graph.save(tmp_path / "nowhere" / "x.svg")


def test_a_failed_save_leaves_the_old_file_and_nothing_else(graph, tmp_path, no_engine):
    path = tmp_path / "x.svg"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="needs an engine"):
        graph.save(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_leaves_nothing_behind(graph, tmp_path):
    path = tmp_path / "x.dot"
    path.mkdir()
    with pytest.raises(OSError, match=r"x\.dot"):
        graph.save(path)
    assert list(tmp_path.iterdir()) == [path]


def test_dot_and_text_need_no_engine(graph, tmp_path, no_engine):
    assert "multiply" in graph.save(tmp_path / "x.dot").read_text()
    assert "multiply" in str(graph)


def test_notebooks_get_an_svg(graph, pygraphviz):
    assert "<svg" in graph._repr_svg_()


def test_notebooks_without_an_engine_get_a_line_and_a_warning(graph, no_engine):
    with pytest.warns(UserWarning, match="needs an engine"):
        assert graph._repr_svg_() is None
    assert repr(graph) == "<Graph: 2 operations, 1 parameter>"


def test_names_for_the_picture():
    x = ta.tensor([3.0], requires_grad=True)
    assert "parameter weight" in str(ta.graph(x * 2.0, names={"weight": x}))


@pytest.mark.parametrize("thing", [3.0, None, "loss"])
def test_only_tensors_have_graphs(thing):
    with pytest.raises(TypeError, match=f"graph: needs a Tensor; got {type(thing).__name__}"):
        ta.graph(thing)


def test_several_tensors_on_one_picture():
    x = ta.tensor([3.0], requires_grad=True, name="x")
    assert repr(ta.graph([x * 2.0, ta.exp(x)])) == "<Graph: 2 operations, 1 parameter, 1 constant>"
    with pytest.raises(TypeError, match="needs a Tensor; got float"):
        ta.graph([x * 2.0, 3.0])
    with pytest.raises(TypeError, match="got an empty list"):
        ta.graph([])


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"depth": -1}, ValueError, "depth must be a whole number from 0 on, or None; got -1"),
        ({"depth": 1.5}, ValueError, "got 1.5"),
        ({"inside": "softmax"}, TypeError, "inside must be a list of names of rules; got 'softmax'"),
        ({"gradient": [1.0]}, ValueError, r"gradient must have the tensor's shape; got \(1,\) for \(\)"),
    ],
)
def test_wishes_that_make_no_sense(options, error, told):
    x = ta.tensor([3.0], requires_grad=True)
    with pytest.raises(error, match=told):
        ta.graph((x * x).sum(), **options)


def test_a_layout_that_takes_too_long_is_ended_and_drawn_more_closed(tmp_path, monkeypatch, pygraphviz):
    """`dot` sleeps where a box is open."""
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\nif grep -q subgraph; then exec sleep 60; fi\necho '<svg>closed</svg>'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    model = ta.nn.Sequential(ta.nn.Linear(3, 5, rng=0), ta.relu)
    graph = ta.graph(model(np.ones((2, 3))).sum())
    assert "closed" in graph.save(tmp_path / "x.svg", time_limit=0.5).read_text()
    x = ta.tensor([3.0], requires_grad=True)
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(RuntimeError, match=r"took longer than 0.2 s to lay out svg, and was ended. Close boxes"):
        ta.graph(x * x).save(tmp_path / "y.svg", time_limit=0.2)
    assert not (tmp_path / "y.svg").exists()


# ---- what a hostile reader has tried


@pytest.fixture
def small():
    x = ta.tensor([1.0, 2.0], requires_grad=True, name="x")
    return ta.graph(ta.exp(x).sum())


def test_several_threads_may_write_one_file(small, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: small.save(tmp_path / "a.dot"), range(100)))
    assert {path.read_text() for path in paths} == {small.to_dot()}
    assert [path.name for path in tmp_path.iterdir()] == ["a.dot"]


def test_a_link_stays_a_link(small, tmp_path):
    (tmp_path / "target.dot").write_text("before")
    (tmp_path / "link.dot").symlink_to(tmp_path / "target.dot")
    small.save(tmp_path / "link.dot")
    assert (tmp_path / "link.dot").is_symlink()
    assert (tmp_path / "target.dot").read_text() == small.to_dot()


def test_the_longest_name_of_a_file_will_do(small, tmp_path):
    path = tmp_path / ("a" * 250 + ".dot")
    assert small.save(path).read_text() == small.to_dot()


def test_the_largest_floats_and_broken_characters_are_on_the_page():
    x = ta.tensor([np.finfo(float).max, 1.0], requires_grad=True)
    y = (x * 1.0).sum()
    y.name = "a\udc80"
    page = ta.graph(y).to_html()
    assert "<title>a?: computation graph</title>" in page
    assert '"most":1.7976931348623157e+308' in page.replace(" ", "")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"inside": ["sofmax"]}, r"there is no rule of that name; did you mean 'softmax'\?"),
        ({"inside": None}, "inside must be a list of names of rules; got None"),
        ({"depth": 1.5}, "depth must be a whole number from 0 on, or None; got 1.5"),
        ({"depth": True}, "depth must be a whole number"),
    ],
)
def test_mistakes_in_what_is_wished_are_told(given, told):
    y = ta.exp(ta.tensor([1.0], requires_grad=True))
    with pytest.raises((TypeError, ValueError), match=told):
        ta.graph(y, **given)


@pytest.mark.parametrize("limit", [0, -1.0, np.nan, np.inf, "a", True, None])
def test_a_time_limit_is_a_number_of_seconds(small, tmp_path, limit):
    with pytest.raises(ValueError, match="time_limit must be a number of seconds greater than 0"):
        small.save(tmp_path / "a.svg", time_limit=limit)


def test_depth_may_be_a_number_of_numpys(small):
    assert str(small.at_depth(np.int64(2))) == str(small)


def test_a_failure_is_told_also_where_a_long_graph_is_closed():
    y = ta.tensor(np.ones((2, 4)), requires_grad=True)
    for _ in range(450):
        y = ta.tanh(y)
    with pytest.raises(ValueError, match="must match") as caught:
        y @ y
    graph = ta.graph(caught.value)
    assert "FAILED: the last axis of x must match" in str(graph)
    assert "the last axis of x must" in graph.to_dot()


def test_a_slow_layout_of_a_flat_graph_is_drawn_in_groups(monkeypatch):
    y = ta.tensor([1.0], requires_grad=True)
    for _ in range(100):
        y = ta.tanh(y)
    drawn = []

    def slow(dot, format, time_limit):
        drawn.append(dot)
        if dot.count("->") > 50:
            raise engines.TooSlow("longer than it may")
        return b"<svg></svg>"

    monkeypatch.setattr(engines, "render", slow)
    assert ta.graph(y)._render("svg") == b"<svg></svg>"
    assert "operations 1 to 10" in drawn[-1]
    assert "drawn with boxes closed" in drawn[-1]


def test_uses_are_counted_by_what_is_drawn():
    x = ta.tensor(np.ones((3, 2)), requires_grad=True, name="x")
    closed = ta.graph(ta.attention(x, x, x).sum(), depth=0)
    assert [(node.title, node.uses) for node in closed.nodes if node.uses != 1] == [("x", 3), ("sum", 0)]


def test_every_root_of_a_closed_graph_has_its_numbers():
    class Two(ta.nn.Module):
        def forward(self, x):
            y = ta.exp(x)
            return y.sum(), (y * y).sum()

    x = ta.tensor([1.0, 2.0], requires_grad=True)
    parts = ta.graph(list(Two()(x)), depth=0)
    assert [(node.title, node.is_root) for node in parts.nodes] == [("parameter", False), ("Two", True)]
    layers = [ta.nn.Linear(2, 2, rng=i, dtype=float) for i in range(2)]
    graph = ta.graph([layer(x) for layer in layers], gradient=np.ones(2), depth=0)
    assert all(node.value and node.gradient for node in graph.nodes if node.kind == "box")


def test_memory_of_a_box_leaves_parameters_out():
    layer = ta.nn.Linear(7, 3, rng=0, dtype=float)
    y = layer(np.ones((2, 7)))
    whole, closed = ta.graph(y), ta.graph(y, depth=0)
    assert [node.n_bytes for node in closed.nodes if node.kind == "box"] == [
        sum(node.n_bytes for node in whole.nodes if node.kind == "operation")
    ]


def test_linear_needs_its_output_for_nothing():
    layer = ta.nn.Linear(7, 3, rng=0, dtype=float)
    (linear,) = [node for node in ta.graph(layer(np.ones((2, 7)))).nodes if node.rule == "linear"]
    assert not linear.saves_output


@pytest.mark.parametrize(
    ("subscripts", "shapes", "flops"),
    [
        ("bij,bjk->bik", [(4, 3, 5), (4, 5, 2)], 2 * 4 * 3 * 5 * 2),
        ("bhqd,bhkd->bhqk", [(2, 4, 8, 16)] * 2, 2 * 2 * 4 * 8 * 8 * 16),
        ("ij->i", [(3, 50)], 150),
        ("ij,ij->ij", [(3, 4)] * 2, 12),
        ("...ij,...jk->...ik", [(5, 2, 3), (3, 4)], 2 * 5 * 2 * 3 * 4),
    ],
)
def test_products_of_einsum_are_counted_by_its_indices(subscripts, shapes, flops):
    given = [ta.tensor(np.ones(shape), requires_grad=True) for shape in shapes]
    assert ta.graph(ta.einsum(subscripts, *given)).nodes[-1].flops == flops


def test_flops_of_many_heads_are_those_of_its_parts():
    layer = ta.nn.MultiHeadAttention(8, 2, rng=0, dtype=float)
    node = next(node for node in ta.graph(layer(np.ones((3, 5, 8))), inside=()).nodes if node.rule)
    n, d = 3 * 5, 8
    assert node.flops == 4 * (2 * n * d * d + n * d) + 2 * (2 * n * 5 * d) + 5 * 3 * 2 * 5 * 5


def test_an_outer_product_takes_one_product_a_number():
    x, y = (ta.tensor(np.ones(n), requires_grad=True) for n in (3, 5))
    assert ta.graph(ta.outer(x, y)).nodes[-1].flops == 15


@pytest.mark.parametrize("x", [np.full(50, 3e38, np.float32), np.full(50, 1e308), np.full(4, 1e308)])
def test_the_mean_of_the_largest_numbers_is_finite(x):
    """Warnings are errors in these tests: none is raised either."""
    leaf, *_ = ta.graph(ta.tensor(x, requires_grad=True) * 1.0).nodes
    assert leaf.value.mean == pytest.approx(float(x[0]), rel=1e-6)
