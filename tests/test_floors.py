"""The floors hold: a module of tinyattn imports downward only; demos and benchmarks see only the public face.

Imports are read from the source, so that one inside a function or under TYPE_CHECKING counts as well: whoever reads
the code follows it. What a module takes from others at import time is held down too, see `outside_faults`.
"""

import ast
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# A new module gets its floor here first.
FLOORS = {
    "rules": 0,
    "kernels": 1,
    "tensor": 1,
    "engine": 1,
    "nodes": 1,
    "watch": 1,
    "checkpoint": 1,
    "compilation": 1,
    "functions": 1,
    "variants": 1,
    "linalg": 1,
    "derivatives": 1,
    "rows": 1,
    "structures": 1,
    "explain": 2,
    "gradcheck": 2,
    "gallery": 2,
    "nn": 2,
    "optim": 2,
    "by_hand": 2,
    "pages": 2,
    "graph": 3,
    "viewer": 3,
    "study": 3,
    "diagnosis": 3,
    "cli": 4,
    "__main__": 4,
    "__init__": 4,  # the face
}
# Those that share a line of the plan, and so may import each other.
TOGETHER = [
    {"nodes", "watch", "checkpoint", "compilation", "engine", "tensor", "functions", "linalg", "derivatives", "rows",
     "structures", "variants"},
    {"kernels", "functions", "compilation"},
    {"gradcheck", "gallery"},
    {"cli", "__main__"},
]
# Those that a student reads with NumPy's manual alone.
NUMPY_ONLY = {"rules", "by_hand"}
# What a demo may import beside `tinyattn` itself.
PUBLIC = {"by_hand", "linalg", "nn", "optim", "rules", "study"}
# The underscores of a NamedTuple keep its methods apart from its fields; they aren't private.
OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}


class Import(NamedTuple):
    line: int
    module: str  # absolute and dotted; the submodule's name where one is imported from its package
    name: str | None  # what is taken from the module, if anything by name
    at_import_time: bool


def imports(path: Path, root: Path) -> Iterator[Import]:
    """Every import in the file, relative ones made absolute; `root` is the folder that holds the top package."""
    package = path.relative_to(root).parent.parts

    def is_module(dotted: str) -> bool:
        place = root.joinpath(*dotted.split("."))
        return place.is_dir() or place.with_suffix(".py").is_file()

    def walk(node: ast.AST, at_import_time: bool) -> Iterator[Import]:
        match node:
            case ast.Import():
                for alias in node.names:
                    yield Import(node.lineno, alias.name, None, at_import_time)
            case ast.ImportFrom():
                above = package[: len(package) - node.level + 1] if node.level else ()
                module = ".".join([*above, *([node.module] if node.module else [])])
                for alias in node.names:
                    inner = f"{module}.{alias.name}"
                    yield Import(node.lineno, inner if is_module(inner) else module, alias.name, at_import_time)
            case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__")):
                if node.args and isinstance(node.args[0], ast.Constant):
                    yield Import(node.lineno, str(node.args[0].value), None, at_import_time)
        deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_import_time and not deferred)

    return walk(ast.parse(path.read_text(encoding="utf-8")), True)


def place_of(dotted: str) -> str:
    """The place on the plan of a module of tinyattn: `tinyattn.nn.linear` lives in `nn`, `tinyattn` is the face."""
    return [*dotted.split("."), "__init__"][1]


def upward_faults(package: Path) -> list[str]:
    """Imports within the package that don't go downward, and modules that have no floor."""
    faults = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package.parent)
        place = path.relative_to(package).with_suffix("").parts[0]
        if place not in FLOORS:
            faults.append(f"{relative}: {place!r} has no floor; give it one in {Path(__file__).name}")
            continue
        for line, module, _, _ in imports(path, package.parent):
            if module.partition(".")[0] != package.name:
                continue
            target = place_of(module)
            if target == place or any({place, target} <= row for row in TOGETHER):
                continue
            if FLOORS.get(target, 99) >= FLOORS[place]:
                faults.append(f"{relative}:{line}: {place} may not import {module}, which is not on a lower floor")
    return faults


def outside_faults(package: Path) -> list[str]:
    """Imports from other projects: NumPy anywhere, the rest only where it is used, and not at all in `NUMPY_ONLY`."""
    faults = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package.parent)
        place = path.relative_to(package).with_suffix("").parts[0]
        for line, module, _, at_import_time in imports(path, package.parent):
            top = module.partition(".")[0]
            if top in {package.name, "numpy"} or top in sys.stdlib_module_names:
                continue
            if place in NUMPY_ONLY:
                faults.append(f"{relative}:{line}: {place} may import NumPy only, not {module}")
            elif at_import_time:
                faults.append(f"{relative}:{line}: import {module} inside the function that needs it")
    return faults


def is_private(node: ast.Attribute) -> bool:
    """Whether it is an underscore name of another object, or goes through a module as in `ta.engine.apply`."""
    underscore = node.attr.startswith("_") and not node.attr.endswith("__") and node.attr not in OF_NAMED_TUPLES
    own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
    owner = ast.unparse(node.value)
    return (underscore and not own) or owner in {f"ta.{place}" for place in FLOORS.keys() - PUBLIC}


def demo_faults(demos: Path) -> list[str]:
    """Places in demos, or benchmarks, that reach past the public face: modules that aren't public, underscore names."""
    faults = []
    for path in sorted(demos.rglob("*.py")):
        relative = path.relative_to(demos.parent)
        for line, module, name, _ in imports(path, demos.parent):
            parts = [*module.split("."), *([name] if name else [])]
            if parts[0] != "tinyattn":
                continue
            hidden = any(part.startswith("_") for part in parts)
            if hidden or not (module == "tinyattn" or place_of(module) in PUBLIC):
                faults.append(f"{relative}:{line}: {module} is not part of the public face: {name or module}")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and is_private(node):
                faults.append(f"{relative}:{node.lineno}: {ast.unparse(node)} is not part of the public face")
    return faults


def test_every_module_imports_downward():
    assert upward_faults(ROOT / "tinyattn") == []


def test_other_projects_are_imported_only_where_they_are_used():
    assert outside_faults(ROOT / "tinyattn") == []


@pytest.mark.parametrize("folder", ["demos", "benchmarks"])
def test_demos_and_benchmarks_see_only_the_public_face(folder):
    assert (ROOT / folder).is_dir()
    assert demo_faults(ROOT / folder) == []


@pytest.fixture
def copy(tmp_path):
    """A copy of the sources, to plant faults in."""
    for folder in ("tinyattn", "demos"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("engine", "tensor", "optim"):
        (tmp_path / "tinyattn" / f"{name}.py").touch()
    (tmp_path / "tinyattn" / "nn").mkdir(exist_ok=True)
    return tmp_path


def plant(root: Path, place: str, source: str) -> None:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")


UPWARD = [
    ("rules/planted.py", "from tinyattn.tensor import Tensor"),
    ("rules/planted.py", "from ..tensor import Tensor"),
    ("rules/planted.py", "from .. import engine"),
    ("rules/deep/planted.py", "from ...engine import apply"),
    ("rules/__init__.py", "from ..engine import apply"),
    ("rules/planted.py", "import tinyattn as ta"),
    ("rules/planted.py", "def softmax(scores):\n    from tinyattn.tensor import Tensor"),
    ("rules/planted.py", "if TYPE_CHECKING:\n    from tinyattn.tensor import Tensor"),
    ("rules/planted.py", "importlib.import_module('tinyattn.engine')"),
    ("engine.py", "import tinyattn.nn"),
    ("engine.py", "from tinyattn import nn"),
    ("nn/planted.py", "from tinyattn import optim"),  # the same floor, but another place
    ("graph/planted.py", "from ..cli import main"),
    ("surprise.py", "import numpy"),
]


@pytest.mark.parametrize(("place", "source"), UPWARD)
def test_a_planted_upward_import_is_caught(copy, place, source):
    plant(copy, f"tinyattn/{place}", source)
    assert [fault.partition(":")[0] for fault in upward_faults(copy / "tinyattn")] == [f"tinyattn/{place}"]


DOWNWARD = [
    ("graph/planted.py", "from tinyattn.engine import apply\nfrom ..rules import softmax\nfrom . import other"),
    ("tensor.py", "from tinyattn.engine import apply"),
    ("engine.py", "from .tensor import Tensor"),
    ("cli.py", "from tinyattn.graph import graph"),
    ("__main__.py", "from tinyattn.cli import main"),
]


@pytest.mark.parametrize(("place", "source"), DOWNWARD)
def test_a_downward_import_passes(copy, place, source):
    plant(copy, f"tinyattn/{place}", source)
    assert upward_faults(copy / "tinyattn") == []


@pytest.mark.parametrize(
    ("place", "source", "caught"),
    [
        ("rules/planted.py", "def f():\n    import scipy", True),
        ("by_hand/planted.py", "import scipy", True),
        ("graph/planted.py", "import graphviz", True),
        ("graph/planted.py", "try:\n    import graphviz\nexcept ImportError:\n    graphviz = None", True),
        ("graph/planted.py", "def f():\n    import graphviz", False),
        ("graph/planted.py", "if TYPE_CHECKING:\n    import graphviz", False),
        ("rules/planted.py", "import math\nimport numpy.typing", False),
    ],
)
def test_a_planted_import_of_another_project(copy, place, source, caught):
    plant(copy, f"tinyattn/{place}", source)
    assert len(outside_faults(copy / "tinyattn")) == caught


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("from tinyattn.engine import apply", True),
        ("from tinyattn import engine", True),
        ("import tinyattn.cli", True),
        ("from tinyattn.nn._linear import Linear", True),
        ("from tinyattn import _walk", True),
        ("import tinyattn as ta\nta.tensor(1)._rule", True),
        ("import tinyattn as ta\nta.engine.apply", True),
        ("import tinyattn as ta\nta.tensor(1).grad\nta.nn.Linear\nfrom tinyattn import nn, Tensor", False),
        ("from tinyattn.by_hand import loss", False),
        ("class C:\n    def f(self):\n        return self._x, self.__class__", False),
    ],
)
def test_a_demo_that_reaches_past_the_face(copy, source, caught):
    plant(copy, "demos/planted.py", source)
    faults = [fault for fault in demo_faults(copy / "demos") if fault.startswith("demos/planted.py")]
    assert len(faults) == caught
