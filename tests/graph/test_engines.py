import os
import time

import pytest

from tinyattn.graph.engines import TooSlow, render

DOT = "digraph { a -> b }"


@pytest.fixture
def no_dot(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def fake_pygraphviz(monkeypatch, tmp_path):
    """Puts a module in the place of pygraphviz."""

    def install(source):
        (tmp_path / "pygraphviz.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return install


@pytest.fixture
def fake_dot(monkeypatch, tmp_path, fake_pygraphviz):
    """Puts a shell script on the PATH in place of `dot`, where there is no pygraphviz."""
    fake_pygraphviz("raise ImportError")

    def install(script):
        program = tmp_path / "dot"
        program.write_text(script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


@pytest.mark.parametrize(("format", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_pygraphviz_draws_where_no_dot_is_installed(pygraphviz, format, start):
    assert render(DOT, format, 60.0).startswith(start)


def test_dot_draws_where_it_is_installed(fake_dot):
    fake_dot('#!/bin/sh\necho "<svg> drawn with $1:"\nwhile read line; do echo "$line"; done\necho "</svg>"\n')
    assert render(DOT + "\n", "svg", 60.0) == f"<svg> drawn with -Tsvg:\n{DOT}\n</svg>\n".encode()


@pytest.mark.parametrize("format", ["svg", "png", "pdf"])
@pytest.mark.parametrize("what", ["hello", "<svg><g>", "%PDF-1.4", "\\211PNG\\r\\n\\032\\n", "\\377\\200\\001"])
def test_garbage_and_half_files_are_no_pictures(fake_dot, tmp_path, format, what):
    fake_dot(f"#!/bin/sh\nwhile read line; do :; done\nprintf '%b' '{what}'\n")
    with pytest.raises(RuntimeError, match=f"isn't a whole {format} file"):
        render(DOT + "\n", format, 60.0)


def test_what_a_slow_program_has_started_is_ended_too(fake_dot, tmp_path, monkeypatch):
    mark = tmp_path / "still here"
    path = os.environ["PATH"]
    fake_dot(f"#!/bin/sh\nPATH={path}\n(sleep 1; touch '{mark}') &\nsleep 5\n")
    with pytest.raises(TooSlow, match=r"longer than 0\.2 s"):
        render(DOT, "svg", 0.2)
    time.sleep(1.5)
    assert not mark.exists()


@pytest.mark.parametrize(
    "reason", ["No module named 'pygraphviz'", "libgobject-2.0.so.0: cannot open shared object file"]
)
def test_without_an_engine_the_error_says_why_and_names_both_ways(no_dot, fake_pygraphviz, reason):
    fake_pygraphviz(f"raise ImportError({reason!r})")
    with pytest.raises(RuntimeError, match=rf"there is none \({reason}\).*apt install graphviz.*'tinyattn\[render\]'"):
        render(DOT, "svg", 60.0)


def test_what_pygraphviz_breaks_or_prints_stays_in_its_process(no_dot, fake_pygraphviz, capfd):
    fake_pygraphviz("import os; os.write(2, b'Fontconfig warning'); os.abort()")
    with pytest.raises(RuntimeError, match=r"pygraphviz failed to draw svg .*Fontconfig warning"):
        render(DOT, "svg", 60.0)
    assert capfd.readouterr() == ("", "")


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
        render(DOT, "png", 60.0)
