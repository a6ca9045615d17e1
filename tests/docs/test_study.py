"""What docs/study.md shows of a command is what the command prints, up to the dots; its figures are the command's."""

import contextlib
import io
import re
import shlex
from pathlib import Path

from tinyattn.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "study.md").read_text(encoding="utf-8")


def printed(command):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert main(shlex.split(command)[1:]) == 0
    return shown.getvalue()


def test_what_is_shown_is_what_is_printed():
    (block,) = re.findall(r"```text\n\$ (.*?)```", PAGE, re.DOTALL)
    command, _, shown = block.partition("\n")
    assert printed(command).startswith(shown.removesuffix("...\n"))


def test_the_published_example_has_the_figures_of_the_page():
    (command,) = re.findall(r"^    (tinyattn softmax .*--published .*)$", PAGE, re.MULTILINE)
    found = printed(command)
    assert "Closest is T = 1.059" in found
    assert re.search(r"#2 +2\.8000 +0\.5200 +0\.5727", found)
    assert re.search(r"largest off +0\.0527 +0\.0303", found)
    assert re.search(r"#5 and #1 +0\.5689 +0\.7408", found)
    assert re.search(r"#2 and #5 +1\.252 +1\.341", found)
