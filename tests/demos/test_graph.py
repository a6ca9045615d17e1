import re

import pytest

import tinyattn as ta
from demos.graph.command import main
from demos.graph.subjects import SUBJECTS


def test_pages_and_pictures_of_all_subjects(tmp_path, capsys):
    pytest.importorskip("pygraphviz", reason="pygraphviz can't be loaded on this system", exc_type=ImportError)
    assert main(["--out", str(tmp_path / "out")]) == 0
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {f"graph-{subject.name}.{format}" for subject in SUBJECTS for format in ("svg", "html")}
    assert "the pronoun toy's loss" in capsys.readouterr().out
    page = tmp_path / "out" / "graph-toy.html"
    assert page.stat().st_size < 400_000
    assert not re.findall(r"https?://(?!www\.w3\.org)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_gradients_on_the_picture_are_those_of_backward(subject):
    loss = subject.compute()
    whole = ta.graph(loss, inside=subject.inside, depth=99)
    found = {node.name: node.gradient.mean for node in whole.nodes if node.kind == "parameter"}
    by_name = {x.name: x for x in [loss] if x.name}
    assert loss.size == 1
    assert found
    assert all(mean == mean for mean in found.values())
    assert by_name or not loss.name


def test_without_an_engine_there_is_dot(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "pygraphviz.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))
    assert main(["--out", str(tmp_path / "out"), "--format", "svg"]) == 0
    assert "graph-softmax.dot stands in the place of the svg" in capsys.readouterr().err
    assert (tmp_path / "out" / "graph-softmax.dot").exists()


def test_mistakes_are_told_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as caught:
        main(["--format", "gif"])
    assert caught.value.code == 2
