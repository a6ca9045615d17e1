"""Write docs/reference.md from the docstrings of the public face: `make reference`.

Nothing is written twice: what the page says of a name is its docstring, and what it takes is its signature. A public
name that belongs to no family below, or has no docstring, ends the script with a line that names it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import tinyattn
from tinyattn.rules import RULES

PAGE = Path(__file__).with_name("reference.md")


class Family(NamedTuple):
    """Names that belong together: those that come from these modules, in this order."""

    title: str
    modules: str
    about: str = ""


FAMILIES = (
    Family("Rules: elementwise", "rules.elementwise"),
    Family("Rules: reductions", "rules.reductions"),
    Family("Rules: products", "rules.products"),
    Family("Rules: shapes", "rules.shapes"),
    Family("Rules: selection", "rules.selection"),
    Family(
        "Rules: networks",
        "rules.activations rules.softmax rules.normalization rules.losses rules.dropout rules.positions"
        " rules.attention rules.multi_head",
    ),
    Family("Variants of attention", "variants"),
    Family("Engine", "tensor nodes engine functions checkpoint compilation watch"),
    Family("Derivatives", "derivatives structures"),
    Family("Checker", "gradcheck gallery"),
    Family("Studies and pictures", "explain study graph viewer"),
    Family("Layers", "nn", "Each is called with its inputs; `forward` says which."),
    Family("Optimisers", "optim"),
    Family("Kernels", "kernels diagnosis"),
)

HEAD = """\
# Reference

Written by `make reference` from the docstrings; change those, not this page. `ta` is `import tinyattn as ta`.

A function below that is a rule takes Tensors, arrays, lists and numbers, mixed at will: it gives a Tensor where any of
them is one, and a plain array otherwise; and `np.exp(tensor)` is `ta.exp(tensor)`. Arguments stand in NumPy's order;
arrays are called x and y all over, where NumPy calls them a and b, x1 and x2, m or arr. What NumPy's functions take
beside, [`out=` say](left-out.md#the-engine), is left out.

The examples in a rule's text call the rule itself, the NumPy function `arrays -> (output, backward)`: `softmax(x)[0]`
there is `ta.softmax(x)`. A label such as (softmax.3) is that of the line of code which computes it.
"""

FORMULA = re.compile(r"\([a-z0-9_]+\.\d+'?\)$|\S {3,}\S", re.MULTILINE)  # labelled, or aligned by hand
AT_HOME = {"ta.split": "tinyattn.rules.shapes"}  # no rules, but made of some, and at home with them


class Entry(NamedTuple):
    """A public name."""

    name: str  # as users write it
    value: Any
    origin: str  # the module that it was written in
    place: int  # where in the module


# ---------------------------------------------------------------------------------------------------- what there is


def entries() -> Iterator[Entry]:
    """Every name of the face; of the modules among them, each of their names."""
    for name in tinyattn.__all__:
        value = getattr(tinyattn, name)
        if isinstance(value, ModuleType):
            for inner in public(value):
                if getattr(tinyattn, inner, None) is getattr(value, inner):
                    continue  # it is the face's own, under a shorter name
                yield entry(f"ta.{name}.{inner}", getattr(value, inner))
        else:
            yield entry(f"ta.{name}", value)


def public(module: ModuleType) -> list[str]:
    """What a module exports: its `__all__`; or what is defined in it, and the rules that it lifts."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    here = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    made_here = (n for n, x in here.items() if getattr(x, "__module__", "") == module.__name__ and callable(x))
    return sorted({*made_here, *(name for name, value in here.items() if is_rule(name, value))})


def is_rule(name: str, value: Any) -> bool:
    """Whether it is the rule of that name, lifted."""
    return name in RULES and getattr(value, "__wrapped__", None) is RULES[name]


def entry(name: str, value: Any) -> Entry:
    """A name, and where it comes from: a rule from its own module, whatever function makes it public."""
    source = RULES.get(name.rpartition(".")[2]) or inspect.unwrap(described_by(value))
    if name in AT_HOME:
        return Entry(name, value, AT_HOME[name], sys.maxsize)  # after those that are from there
    return Entry(name, value, source.__module__, inspect.getsourcelines(source)[1])


def described_by(value: Any) -> Any:
    """What tells of it: itself, if it's a function or a class; else the class that it is one of."""
    return value if inspect.isroutine(value) or inspect.isclass(value) else type(value)


def families() -> Iterator[tuple[Family, list[Entry]]]:
    """Each family with its names: module by module, in the order in which they stand there."""
    left = list(entries())
    for family in FAMILIES:
        modules = [f"tinyattn.{module}" for module in family.modules.split()]

        def rank(e: Entry, modules: list[str] = modules) -> int | None:
            return next((i for i, m in enumerate(modules) if f"{e.origin}.".startswith(f"{m}.")), None)

        mine = [e for e in left if rank(e) is not None]
        left = [e for e in left if rank(e) is None]
        yield family, sorted(mine, key=lambda e: (rank(e), e.origin, e.place, e.name))
    if left:
        sys.exit(f"make_reference: {left[0].name} is from {left[0].origin}, which belongs to no family in {__file__}")


# ---------------------------------------------------------------------------------------------------- how it is written


def page() -> str:
    """The whole page."""
    found = [(family, members) for family, members in families() if members]
    taken: Counter[str] = Counter()
    contents = "\n".join(
        f"- [{family.title}](#{anchor(family.title)}): " + ", ".join(link(e, taken) for e in members)
        for family, members in found
    )
    return "\n".join([HEAD, contents, *(part for family, members in found for part in section(family, members)), ""])


def anchor(title: str) -> str:
    """What a heading is called in a link."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def link(e: Entry, taken: Counter[str]) -> str:
    """A name that leads to its heading. Of those that differ in capitals only, the second is called …-1."""
    place = anchor(e.name + signature(e.value))
    number = f"-{taken[place]}" if taken[place] else ""
    taken[place] += 1
    return f"[`{e.name.removeprefix('ta.')}`](#{place}{number})"


def section(family: Family, members: list[Entry]) -> Iterator[str]:
    """A family: its names, one after the other."""
    yield f"\n## {family.title}\n"
    if family.about:
        yield f"{family.about}\n"
    yield "\n".join(text for e in members for text in written(e))


def written(e: Entry) -> Iterator[str]:
    """A name: what it takes, what it means, and, of a class, its methods and properties."""
    yield f"### `{e.name}{signature(e.value)}`\n"
    teller = described_by(e.value)
    yield from described(e.name, inspect.unwrap(teller) if inspect.isroutine(teller) else teller)
    if inspect.isclass(teller) and not issubclass(teller, BaseException):
        if teller is e.value and vars(teller).get("__init__") and teller.__init__.__doc__:
            yield from described(e.name, teller.__init__)
        for name, member in methods(teller):
            if isinstance(member, property):
                yield f"#### `.{name}`\n"
            else:
                yield f"#### `.{name}{signature(member, method=True)}`\n"
            if is_rule(name, member):
                yield f"As `ta.{name}`.\n"
            else:
                yield from described(f"{e.name}.{name}", member)


def methods(owner: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that the class, or a private base of it, defines and describes."""
    seen: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        if base is owner or base.__name__.startswith("_") or base.__name__ == "Node":
            seen |= {name: member for name, member in vars(base).items() if not name.startswith("_")}
    for name, member in seen.items():
        if isinstance(member, property) or inspect.isfunction(member):
            yield name, member


def signature(value: Any, *, method: bool = False) -> str:
    """What it takes, without types."""
    if described_by(value) is not value or (inspect.isclass(value) and issubclass(value, BaseException)):
        return ""
    shown = []
    for p in list(inspect.signature(value).parameters.values())[method:]:
        default = p.empty if p.default is p.empty else Shown(p.default)
        shown.append(p.replace(annotation=p.empty, default=default))
    return str(inspect.Signature(shown))


class Shown:
    """A default as users would write it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        if getattr(self.value, "__module__", None) == "numpy":
            return f"np.{self.value.__name__}"
        if callable(self.value):
            return next((e.name for e in entries() if e.value is self.value), self.value.__name__)
        return repr(self.value)


def described(name: str, value: Any) -> Iterator[str]:
    """A docstring in Markdown: prose as it is; formulas, tables and examples as they stand in the code."""
    doc = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    if not doc:
        sys.exit(f"make_reference: {name} is public and has no docstring")
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(doc)):
        lines = paragraph.split("\n")
        if paragraph.startswith(">>>"):
            yield f"```python\n{paragraph}\n```\n"
        elif FORMULA.search(paragraph) or all(line.startswith("    ") for line in lines):
            yield f"```text\n{paragraph}\n```\n"
        else:
            yield f"{escaped(paragraph)}\n"


def escaped(prose: str) -> str:
    """Prose in which nothing but what stands between backticks is taken for markup."""
    parts = re.split(r"(`[^`]*`)", prose)
    return "".join(p if p.startswith("`") else re.sub(r"([*\\]|<(?=[\w/!?])|(?<!\w)_)", r"\\\1", p) for p in parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {sum(1 for _ in entries())} names")
