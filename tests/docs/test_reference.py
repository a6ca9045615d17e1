"""docs/reference.md is what docs/make_reference.py makes of the docstrings."""

import importlib.util
import inspect
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

import tinyattn as ta

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_page_is_what_the_script_makes(script):
    written = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert written == script.page(), "docstrings have changed since docs/reference.md was made: run `make reference`"


def test_every_public_name_has_its_place(script):
    headings = re.findall(r"^### `([\w.]+)", script.page(), flags=re.MULTILINE)
    assert len(set(headings)) == len(headings)
    functions = {f"ta.{name}" for name in ta.__all__ if not inspect.ismodule(getattr(ta, name))}
    assert functions <= set(headings)
    assert {f"ta.nn.{name}" for name in ta.nn.__all__} <= set(headings)
    assert {"ta.optim.Adam", "ta.optim.clip_grad_norm"} <= set(headings)
    assert not any(part.startswith("_") for name in headings for part in name.split("."))


def test_what_a_name_takes(script):
    assert script.signature(ta.softmax) == "(scores, *, axis=-1)"
    assert script.signature(ta.concatenate) == "(arrays, axis=0)"  # and not *arrays, as the rule has it
    assert script.signature(ta.Tensor.sum, method=True) == "(axis=None, *, keepdims=False)"
    assert "dtype=np.float32" in script.signature(ta.nn.Linear)
    assert "activation=ta.gelu, norm=ta.nn.LayerNorm" in script.signature(ta.nn.TransformerBlock)
    assert script.signature(ta.GradientError) == ""
    assert script.signature(ta.faults) == ""  # neither function nor class: its class tells of it
    assert " at 0x" not in script.page()


def test_links_lead_to_headings_and_every_name_has_one(script):
    text = script.page()
    families = {script.anchor(heading) for heading in re.findall(r"^## (.*)$", text, flags=re.MULTILINE)}
    names = [script.anchor(heading) for heading in re.findall(r"^### (.*)$", text, flags=re.MULTILINE)]
    links = re.findall(r"\]\(#([^)]+)\)", text)
    assert len(names) > 140
    again = {f"{name}-1" for name, n in Counter(names).items() if n == 2}  # `ta.Tensor(…)`, and `ta.tensor(…)`
    assert len(again) == 1
    assert set(links) == families | set(names) | again
    assert len(links) == len(set(links))
    assert script.anchor("`ta.softmax(scores, *, axis=-1)`") == "tasoftmaxscores--axis-1"  # as GitHub and MyST have it


def test_formulas_and_examples_stand_as_they_are_and_prose_is_not_taken_for_markup(script):
    def made():
        """Less than _nothing, f(*args) and `*code*`; x < 0, |x| and d_model.

        y = 1                                    (made.1)

        >>> made()
        """

    parts = list(script.described("made", made))
    assert parts == [
        "Less than \\_nothing, f(\\*args) and `*code*`; x < 0, |x| and d_model.\n",
        "```text\ny = 1                                    (made.1)\n```\n",
        "```python\n>>> made()\n```\n",
    ]


def test_a_name_without_a_docstring_ends_the_script(script):
    with pytest.raises(SystemExit, match=r"^make_reference: ta\.f is public and has no docstring$"):
        list(script.described("ta.f", lambda x: x))


def test_a_name_of_no_family_ends_the_script(script, monkeypatch):
    monkeypatch.setattr(script, "FAMILIES", script.FAMILIES[:-1])
    with pytest.raises(SystemExit, match=r"^make_reference: ta\.\w+ is from tinyattn\.(kernels|diagnosis)\b"):
        script.page()
