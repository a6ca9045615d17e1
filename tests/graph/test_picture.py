import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import tinyattn as ta


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
