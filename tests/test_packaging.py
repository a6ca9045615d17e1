"""What is shipped, and what an import costs."""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> str:
    given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | environment
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_nothing_heavy():
    loaded = set(run("-c", "import tinyattn, sys; print(*sys.modules)").split())
    heavy = {"graphviz", "hypothesis", "matplotlib", "pygraphviz", "pytest", "rich", "safetensors", "scipy", "torch"}
    assert "numpy" in loaded
    assert loaded & heavy == set()


def test_the_face_keeps_its_functions_whatever_is_imported():
    # `ta.graph` and the package tinyattn.graph share a name; loading the package must not hide the function.
    code = """
import tinyattn as ta, tinyattn.graph, tinyattn.gradcheck, tinyattn.tensor, tinyattn.cli
print(callable(ta.graph), callable(ta.gradcheck), callable(ta.tensor))
"""
    assert run("-c", code).split() == ["True", "True", "True"]


@pytest.mark.slow
def test_a_fresh_python_that_imports_tinyattn_takes_little_longer_than_one_that_imports_numpy():
    """Both are timed whole, the interpreter's own start-up included: what somebody who runs a script waits for."""

    def seconds(module: str) -> float:
        start = process_seconds()
        run("-c", f"import {module}")
        return process_seconds() - start

    def process_seconds() -> float:  # of the processor, in processes that have ended: others' work doesn't count
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    seconds("tinyattn")  # writes the byte code
    # Each ratio is of two runs in a row, so that a busy machine slows both; the median forgets the odd ones.
    ratios = [seconds("tinyattn") / seconds("numpy") for _ in range(21)]
    assert statistics.median(ratios) < 1.3


@pytest.mark.slow
def test_wheel_carries_the_package_and_nothing_else(tmp_path):
    # From a copy, since building leaves its own files beside the sources; with the setuptools that is here: no network.
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "out", "build", "*.egg-info"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path)]
    run("-m", "pip", "wheel", "--quiet", *options, str(source))
    (wheel,) = tmp_path.glob("tinyattn-*.whl")

    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
        (scripts,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/entry_points.txt"))
    files = {name for name in names if ".dist-info/" not in name}
    in_checkout = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tinyattn").rglob("*.py")}
    page = {f"tinyattn/graph/assets/page.{kind}" for kind in ("html", "css", "js")}
    page |= {f"tinyattn/viewer/assets/viewer.{kind}" for kind in ("css", "js")}
    assert files == in_checkout | page | {"tinyattn/py.typed"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "tinyattn = tinyattn.cli:main" in scripts

    needs = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert [need.split()[1].split(">")[0] for need in needs] == ["numpy", "graphviz", "threadpoolctl"]

    # And it runs from the wheel alone, away from the checkout.
    target = tmp_path / "installed"
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    place = run("-c", "import tinyattn; print(tinyattn.__file__)", cwd=tmp_path, PYTHONPATH=str(target))
    assert Path(place.strip()).is_relative_to(target)
    assert "gradients agree" in run("-m", "tinyattn", "gradcheck", "exp", cwd=tmp_path, PYTHONPATH=str(target))
