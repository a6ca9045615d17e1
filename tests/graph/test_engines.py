import sys

import pytest

from tinyattn.graph.engines import render

DOT = "digraph { a -> b }"


@pytest.fixture
def no_dot(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def no_pygraphviz(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)


@pytest.fixture
def fake_dot(monkeypatch, tmp_path, no_pygraphviz):
    """Puts a shell script on the PATH in place of `dot`."""

    def install(script):
        program = tmp_path / "dot"
        program.write_text(script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


@pytest.mark.parametrize(("format", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_pygraphviz_draws_where_no_dot_is_installed(pygraphviz, format, start):
    assert render(DOT, format).startswith(start)


def test_dot_draws_where_it_is_installed(fake_dot):
    fake_dot('#!/bin/sh\necho "drawn with $1:"\nwhile read line; do echo "$line"; done\n')
    assert render(DOT + "\n", "svg") == f"drawn with -Tsvg:\n{DOT}\n".encode()


def test_without_an_engine_the_error_names_both_ways(no_dot, no_pygraphviz):
    with pytest.raises(RuntimeError, match=r"apt install graphviz.*pip install 'tinyattn\[render\]'"):
        render(DOT, "svg")


def test_a_pygraphviz_that_cannot_be_loaded_is_told_why(no_dot, monkeypatch, tmp_path):
    (tmp_path / "pygraphviz.py").write_text("raise ImportError('libgobject-2.0.so.0: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "pygraphviz", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match=r"there is none \(libgobject-2\.0\.so\.0: cannot open shared"):
        render(DOT, "svg")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ('#!/bin/sh\necho "no plugin for png" >&2\nexit 3\n', "exit status 3.*no plugin for png"),
        ("#!/bin/sh\nexit 0\n", "it said: nothing"),  # nothing drawn is no success
        ("#!/nowhere/interpreter\n", "can't be run"),
    ],
)
def test_a_broken_dot_is_told(fake_dot, script, told):
    fake_dot(script)
    with pytest.raises(RuntimeError, match=told):
        render(DOT, "png")
