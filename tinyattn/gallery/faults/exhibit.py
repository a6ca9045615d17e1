"""What a planted fault is, and the collection of them."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

import ast
import difflib
import functools
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyattn.gallery.samples import Rng, Sample
from tinyattn.rules.registry import RULES, Array, Gradients, Result

Forward: TypeAlias = "Callable[..., tuple[Array, tuple[Any, ...]]]"
WrongBackward: TypeAlias = "Callable[..., Gradients]"
Sampler: TypeAlias = "Callable[[Rng], Iterable[Sample]]"


class Fault(NamedTuple):
    """A rule with a mistake in its backward.

    `forward` computes the output and what the backward needs; `backward(d_output, *saved)` is wrong. `right` is the
    rule that it should be, the table's unless there is none.
    """

    name: str
    rule: str
    mistake: str
    forward: Forward
    backward: WrongBackward
    sampler: Sampler
    other_right: Callable[..., Result] | None = None
    helpers: tuple[Callable[..., Any], ...] = ()

    @property
    def right(self) -> Callable[..., Result]:
        """The rule that the fault should be."""
        return self.other_right or RULES[self.rule]

    @property
    def function(self) -> Callable[..., Result]:
        """The two halves as a rule, a plain function `arrays -> (output, backward)`."""

        @functools.wraps(self.forward)
        def rule(*arrays: Array, **options: Any) -> Result:
            output, saved = self.forward(*arrays, **options)
            return output, lambda d_output: self.backward(d_output, *saved)

        rule.__name__ = self.name
        return rule

    @property
    def source(self) -> str:
        """The code, forward and wrong backward, with nothing in it that gives the mistake away."""
        parts = [*self.helpers, self.forward]
        code = [_source(part, part.__name__) for part in parts]
        return "\n\n".join([*code, _source(self.backward, f"{self.rule}_backward")])

    def samples(self, rng: Rng | None = None) -> list[Sample]:
        """Arrays and options on which it is caught."""
        return list(self.sampler(np.random.default_rng(0) if rng is None else rng))

    def exercise(self) -> str:
        """The fault as a task: what is computed, and code in whose backward is one mistake.

        >>> "row sum" in FAULTS["softmax_without_row_sum"].exercise()
        False
        """
        formulas = textwrap.indent(_formulas(self.right), "    ")
        task = f"The forward pass of {self.rule} is right; in its backward pass is one mistake. Where?"
        told = (
            "The backward pass takes the gradient of a loss in the output, and what the forward pass has saved. It\n"
            "returns the gradients in the arrays that the forward pass was given, in order; None where there is none\n"
            "to give. What was broadcast (a bias, say) is summed over afterwards."
        )
        return f"{task}\n\n{formulas}\n\n{self.source}\n\n{told}"

    def solution(self) -> str:
        """What the mistake is, and the rule as it should be."""
        right = inspect.getsource(self.right).rstrip()
        return f"{self.name}: {self.mistake}\n\nThe whole rule, as it should be:\n\n{right}"

    def __repr__(self) -> str:
        return f"<Fault {self.name}: {self.mistake}>"


class Faults(Mapping[str, Fault]):
    """All planted faults by name, read-only; printed, they are listed by the rule that each should be.

    >>> FAULTS["softmax_zero"].mistake
    'It is zero, which a cotangent of ones takes for right.'
    """

    def __getitem__(self, name: str) -> Fault:
        faults = _loaded()
        if name in faults:
            return faults[name]
        near = difflib.get_close_matches(name, faults, n=1) if isinstance(name, str) else []
        raise KeyError(f"there is no fault {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))

    def __iter__(self) -> Iterator[str]:
        return iter(_loaded())

    def __len__(self) -> int:
        return len(_loaded())

    def random(self, rng: Rng | int | None = None) -> Fault:
        """Any one of them."""
        names = list(self)
        return self[names[int(np.random.default_rng(rng).integers(len(names)))]]

    def by_rule(self) -> dict[str, list[Fault]]:
        """The rules, each with its faults."""
        found: dict[str, list[Fault]] = {}
        for fault in self.values():
            found.setdefault(fault.rule, []).append(fault)
        return found

    def __str__(self) -> str:
        width = max(map(len, self))
        lines = []
        for rule, faults in self.by_rule().items():
            lines += [rule, *(f"  {fault.name:<{width}}  {fault.mistake}" for fault in faults)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<{len(self)} planted faults>"


FAULTS = Faults()
FAMILIES = ("softmax", "losses", "normalization", "attention", "multi_head", "others")  # as they are listed

_faults: dict[str, Fault] = {}


@functools.cache
def _loaded() -> dict[str, Fault]:
    """All faults. Their modules are imported when somebody asks for one, and not by whoever imports tinyattn."""
    modules = [importlib.import_module(f"tinyattn.gallery.faults.{family}").__name__ for family in FAMILIES]
    return dict(sorted(_faults.items(), key=lambda item: modules.index(item[1].backward.__module__)))


def fault(
    rule: str,
    forward: Forward,
    sampler: Sampler,
    *,
    right: Callable[..., Result] | None = None,
    helpers: tuple[Callable[..., Any], ...] = (),
) -> Callable[[WrongBackward], WrongBackward]:
    """Put a wrong backward on show; its docstring tells the mistake."""

    def register(backward: WrongBackward) -> WrongBackward:
        name = backward.__name__
        mistake = backward.__doc__ or ""  # of one line
        _faults[name] = Fault(name, rule, mistake, forward, backward, sampler, right, helpers)
        return backward

    return register


def _source(function: Callable[..., Any], name: str) -> str:
    """The code of a function under another name, without its docstring and decorators."""
    text = textwrap.dedent(inspect.getsource(function))
    definition = ast.parse(text).body[0]
    assert isinstance(definition, ast.FunctionDef)
    lines = text.splitlines()
    first = definition.body[0]
    if ast.get_docstring(definition) is not None:
        assert first.end_lineno is not None
        del lines[first.lineno - 1 : first.end_lineno]
    lines = lines[definition.lineno - 1 :]
    return "\n".join(lines).replace(f"def {function.__name__}(", f"def {name}(", 1)


def _formulas(rule: Callable[..., Result]) -> str:
    """The docstring, up to its examples."""
    return (inspect.getdoc(rule) or "").partition(">>>")[0].strip()
