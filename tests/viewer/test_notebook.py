"""The display in a notebook: a cell is executed, exported by nbconvert, and looked at in a browser."""

import pytest

pytestmark = pytest.mark.slow
nbformat = pytest.importorskip("nbformat", reason="nbconvert isn't installed")
nbconvert = pytest.importorskip("nbconvert", reason="nbconvert isn't installed")
pytest.importorskip("ipykernel", reason="ipykernel isn't installed")

CELL = """
import numpy as np
import tinyattn as ta

ta.view(["it", "was", "tired"], np.full((3, 3), 1 / 3))
"""


def test_a_cell_shows_the_viewer_in_a_frame_of_its_own(browser, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    executed = nbconvert.preprocessors.ExecutePreprocessor(timeout=120)
    executed.preprocess(notebook, {"metadata": {"path": str(tmp_path)}})
    (output,) = [output for output in notebook.cells[0].outputs if "data" in output]
    assert output["data"]["text/plain"] == "<View: 3 tokens, 1 layer, 1 head>"
    body, _ = nbconvert.HTMLExporter(template_name="basic").from_notebook_node(notebook)
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><meta charset=utf-8>{body}", encoding="utf-8")
    page = browser.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((tmp_path / "notebook.html").as_uri())
    frame = page.frame_locator("iframe")
    frame.locator(".ta-queries .ta-word", has_text="tired").click()
    assert frame.locator("[aria-live]").inner_text().startswith("tired → ")
    assert page.evaluate("document.querySelector('iframe').contentDocument") is None  # what is in it stays in it
    assert complaints == []
    page.close()
