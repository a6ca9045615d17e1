"""The notebooks of docs/exercises run from top to bottom; the solved ones say exact, and the others don't yet."""

import contextlib
import io
import json
from pathlib import Path

import pytest

from tinyattn import study
from tinyattn.study.exercises import EXERCISES
from tinyattn.study.faults import PLANTED

FOLDER = Path(__file__).parents[2] / "docs" / "exercises"
NAMES = [*EXERCISES, "faults"]
BOTH = {"unsolved": FOLDER, "solved": FOLDER / "solutions"}


def notebook(kind, name):
    return json.loads((BOTH[kind] / f"{name}.ipynb").read_text(encoding="utf-8"))


def text(cell):
    return "".join(cell["source"])


def tagged(cell):
    """Whether it is the one to be written, or of the answer; other tags say what the site shows."""
    return bool({"yours", "answer"} & set(cell["metadata"].get("tags", [])))


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=BOTH)
def kind(request):
    return request.param


def test_there_is_one_for_each_exercise_and_no_other():
    for folder in BOTH.values():
        assert sorted(path.stem for path in folder.glob("*.ipynb")) == sorted(NAMES)


def test_it_is_what_jupyter_vs_code_and_colab_open(kind, name):
    found = notebook(kind, name)
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    assert found["metadata"]["kernelspec"]["name"] == "python3"
    assert found["metadata"]["language_info"]["name"] == "python"
    ids = [cell["id"] for cell in found["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in found["cells"]:
        assert cell.keys() <= {"cell_type", "id", "metadata", "source", "outputs", "execution_count"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), "outputs are stripped"
    assert text(found["cells"][0]).startswith("# ")


def test_the_first_cell_of_code_installs_what_is_missing(kind, name):
    first = next(cell for cell in notebook(kind, name)["cells"] if cell["cell_type"] == "code")
    lines = text(first).splitlines()
    assert lines[:3] == ["try:", "    import tinyattn", "except ImportError:"]
    assert lines[3] == "    %pip install --quiet ../.."
    assert (FOLDER / "../.." / "pyproject.toml").is_file(), "from docs/exercises that is the project"


def test_both_kinds_have_the_same_cells_but_for_the_answer(name):
    plain = {kind: [c for c in notebook(kind, name)["cells"] if not tagged(c)] for kind in BOTH}
    assert plain["unsolved"] == plain["solved"]
    tags = {kind: [c["metadata"]["tags"] for c in notebook(kind, name)["cells"] if tagged(c)] for kind in BOTH}
    answers = 2 if name == "faults" else 3  # the derivation, the function, and what is asked at the end
    assert tags == {"unsolved": [["yours"]], "solved": [["answer"]] * answers}


def test_the_task_is_not_the_solution(name):
    """No line of the answer's function that makes a gradient stands in the notebook without it."""
    solved = notebook("solved", name)["cells"]
    (answer,) = (text(cell) for cell in solved if tagged(cell) and cell["cell_type"] == "code")
    unsolved = "\n".join(text(cell) for cell in notebook("unsolved", name)["cells"])
    made = [line.strip() for line in answer.splitlines() if line.strip().startswith("d_")]
    assert made or name == "faults"
    assert [line for line in made if line in unsolved] == []


def run(kind, name):
    """The cells in one namespace, without a kernel; what is printed, and the names that are left."""
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in notebook(kind, name)["cells"]:
            if cell["cell_type"] == "code" and cell["id"] != "install":
                exec(text(cell), names)
    return printed.getvalue(), names


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_is_exact(name):
    _, names = run("solved", name)
    assert names["found"]
    assert names["found"].verdict == f"{name}: exact"
    assert {row.status for row in names["found"].rows if row.name in names["found"].asked} == {"exact"}


@pytest.mark.parametrize("name", EXERCISES)
def test_what_is_not_written_yet_is_not_right(name):
    _, names = run("unsolved", name)
    found = names["found"]
    assert not found
    assert found.verdict.startswith(f"{name}: Nothing yet: ")
    assert len(found.hints) == 1


def test_the_faults_are_found():
    printed, names = run("solved", "faults")
    assert sorted(names["guesses"]) == list(range(len(PLANTED)))
    assert printed.count("  right\n") == len(PLANTED)
    printed, names = run("unsolved", "faults")
    assert sorted(names["guesses"]) == list(range(len(PLANTED)))
    assert printed.count("  not yet\n") == len(PLANTED)
    assert not names["found"]


def test_the_page_lists_them_in_their_order():
    page = (FOLDER / "index.md").read_text(encoding="utf-8")
    index = (FOLDER.parent / "index.md").read_text(encoding="utf-8")
    assert [page.index(f"({name}.ipynb)") for name in NAMES] == sorted(page.index(f"({name}.ipynb)") for name in NAMES)
    listed = [line.removeprefix("exercises/") for line in index.splitlines() if line.startswith("exercises/")]
    assert listed == ["index", *NAMES]
    assert f"{len(PLANTED)} times" in page


@pytest.mark.slow
def test_a_kernel_runs_it_from_top_to_bottom(kind, name, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="nbconvert isn't installed")
    nbconvert = pytest.importorskip("nbconvert", reason="nbconvert isn't installed")
    pytest.importorskip("ipykernel", reason="ipykernel isn't installed")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    found = nbformat.read(BOTH[kind] / f"{name}.ipynb", as_version=4)
    nbformat.validate(found)
    nbconvert.preprocessors.ExecutePreprocessor(timeout=120).preprocess(found, {"metadata": {"path": str(tmp_path)}})
    cells = {cell["id"]: cell for cell in found.cells if cell["cell_type"] == "code"}
    assert cells["install"].outputs == []
    (checked,) = (output["data"] for output in cells["check"].outputs)
    solved = kind == "solved" and name in EXERCISES
    assert checked["text/plain"].startswith(f"{name}: exact\n") == solved
    assert "<table>" in checked["text/html"]
    (hint,) = (output["data"]["text/plain"] for output in cells["hint"].outputs)
    if name in EXERCISES:
        assert hint.startswith("Nothing is wrong." if solved else "Hint 1, the shape: ")
    else:
        assert hint == str(study.fault(0).hint())
