"""Floor 1: structures of arrays: dicts, lists, tuples and named tuples, nested to any depth, and modules.

What is none of these is a leaf. A list of nothing but numbers, or of such lists, is an array, and a leaf, as it is all
over tinyattn. A module (whatever has `named_parameters()`) is a leaf that can be opened. None holds nothing.
"""

import copy
from collections.abc import Callable, Iterable
from numbers import Number
from typing import Any, Final, TypeAlias

Structure: TypeAlias = Any

STRUCTURES: Final = (dict, list, tuple)


def mapped(function: Callable[[Any, str], Any], x: Structure, path: str = "") -> Structure:
    """The same structure, with `function(leaf, path)` in place of every leaf; None stays None.

    >>> mapped(lambda leaf, path: leaf * 2.0, {"w": (1.0, None), "b": 3.0})
    {'w': (2.0, None), 'b': 6.0}
    """
    try:
        if _is_leaf(x):
            return None if x is None else function(x, path)
        return _rebuilt(x, [mapped(function, part, path + step) for step, part in _held(x)])
    except RecursionError:
        raise _too_deep(path) from None


def leaves(x: Structure, path: str = "") -> list[tuple[str, Any]]:
    """Every leaf with the path to it.

    >>> leaves({"w": (1.0, None), "b": [3.0, 5.0]})
    [("['w'][0]", 1.0), ("['b']", [3.0, 5.0])]
    """
    try:
        if _is_leaf(x):
            return [] if x is None else [(path, x)]
        return [found for step, part in _held(x) for found in leaves(part, path + step)]
    except RecursionError:
        raise _too_deep(path) from None


def opened(x: Structure, path: str = "") -> Structure:
    """The same structure, with a dict in place of every module: its parameters that require a gradient, by name."""

    def open_module(leaf: Any, _: str) -> Any:
        if not is_module(leaf):
            return leaf
        return {name: parameter for name, parameter in leaf.named_parameters() if parameter.requires_grad}

    return mapped(open_module, x, path)


def is_module(x: Any) -> bool:
    """Whether x is a module: something that names its parameters."""
    return hasattr(type(x), "named_parameters")


def is_array(x: Any) -> bool:
    """Whether x is meant as one array, and not as a structure of them, or a module."""
    return x is not None and _is_leaf(x) and not is_module(x)


def _too_deep(path: str) -> ValueError:
    return ValueError(f"{path[:40]}: structures can't be as deep as that. Does one hold itself?")


def _is_leaf(x: Any) -> bool:
    return not isinstance(x, STRUCTURES) or (isinstance(x, list) and _is_numbers(x))


def _is_numbers(x: list[Any]) -> bool:
    return all(_is_numbers(part) if isinstance(part, list) else isinstance(part, Number) for part in x)


def _held(x: Structure) -> list[tuple[str, Any]]:
    """What a structure holds, each with the step that leads to it."""
    if isinstance(x, dict):
        return [(f"[{key!r}]", part) for key, part in x.items()]
    if hasattr(x, "_fields"):
        return [(f".{name}", part) for name, part in zip(x._fields, x, strict=True)]
    return [(f"[{i}]", part) for i, part in enumerate(x)]


def _rebuilt(x: Structure, parts: Iterable[Any]) -> Structure:
    """A structure like x that holds other parts."""
    if isinstance(x, dict):
        other = copy.copy(x)  # also one with an order or a default of its own
        other.update(zip(x, parts, strict=True))
        return other
    if hasattr(x, "_fields"):
        return type(x)(*parts)
    return list(parts) if isinstance(x, list) else tuple(parts)
