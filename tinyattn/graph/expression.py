"""A formula on the command line, as `softmax(x @ w)`: read by Python's own parser, computed by nothing but rules.

What it may hold: names of arrays, numbers, + - * / @ **, rules with their options, `x.T`, `x[0, 1:]`, lists. Anything
else is refused before anything is computed.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinyattn import functions
from tinyattn.rules.registry import RULES
from tinyattn.tensor import Tensor, tensor

LONGEST = 2000  # characters
MOST_NUMBERS = 1 << 24  # in an array

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.MatMult: operator.matmul, ast.Pow: operator.pow,
}  # fmt: skip


class ExpressionError(ValueError):
    """A formula that can't be read or computed; the message says what is wrong with it."""


def compute(text: str, shapes: Mapping[str, tuple[int, ...]], rng: np.random.Generator) -> Tensor:
    """What the formula gives for arrays of these shapes, of random numbers, all of which require gradients.

    >>> y = compute("softmax(x @ w).T[0]", {"x": (3, 4), "w": (4, 2)}, np.random.default_rng(0))
    >>> y.shape
    (3,)
    """
    tree = _parsed(text)
    arrays = {name: _random(name, shape, rng) for name, shape in shapes.items()}
    used: set[str] = set()
    try:
        result = _value(tree, arrays, used)
    except RecursionError:
        raise ExpressionError("the formula is too deep") from None
    except (ArithmeticError, MemoryError) as error:
        raise ExpressionError(f"can't compute it: {error}") from None
    for name in arrays:
        if name not in used:
            raise ExpressionError(f"{name} has a shape, but doesn't stand in the formula")
    if not isinstance(result, Tensor) or result._rule is None:
        raise ExpressionError("the formula holds no operation on an array")
    return result


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise ExpressionError(f"a formula has {LONGEST} characters at most; got {len(text)}")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        place = f", at character {error.offset}" if error.offset else ""
        raise ExpressionError(f"can't read {text!r}: {error.msg}{place}") from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError("can't read the formula: it holds null bytes, or is too deep") from None


def _random(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    if math.prod(shape) > MOST_NUMBERS:
        raise ExpressionError(f"{name} may have {MOST_NUMBERS} numbers at most; {shape} are {math.prod(shape)}")
    return tensor(rng.normal(size=shape), requires_grad=True, name=name)


def _value(node: ast.expr, arrays: Mapping[str, Tensor], used: set[str]) -> Any:
    """What a part of the formula gives."""

    def value(part: ast.expr) -> Any:
        return _value(part, arrays, used)

    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as constant):
            return constant
        case ast.Name(id=name):
            if name not in arrays:
                raise _unknown(name)
            used.add(name)
            return arrays[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            x = _operand(value(operand))
            return -x if isinstance(sign, ast.USub) else x
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            x, y = _operand(value(left)), _operand(value(right))
            if not isinstance(x, Tensor) and not isinstance(y, Tensor):
                x, y = float(x), float(y)  # whole numbers would grow without end
            return _BINARY[type(op)](x, y)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            if name not in RULES or not hasattr(functions, name):
                raise _unknown_rule(name)
            if any(keyword.arg is None for keyword in keywords) or any(isinstance(x, ast.Starred) for x in args):
                raise ExpressionError(f"{name}: * and ** aren't for formulas")
            given = [value(x) for x in args]
            return getattr(functions, name)(*given, **{str(keyword.arg): value(keyword.value) for keyword in keywords})
        case ast.Attribute(value=part, attr="T"):
            x = value(part)
            if isinstance(x, Tensor):
                return x.T
        case ast.Subscript(value=part, slice=key):
            x = value(part)
            if isinstance(x, Tensor):
                return x[_key(key)]
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            found = [value(part) for part in parts]
            return found if isinstance(node, ast.List) else tuple(found)
    raise ExpressionError(
        f"{ast.unparse(node)[:60]!r} isn't for formulas; they have names, numbers, + - * / @ **, rules"
    )


def _operand(x: Any) -> Any:
    if isinstance(x, Tensor) or (isinstance(x, int | float) and not isinstance(x, bool)):
        return x
    raise ExpressionError(f"can't compute with {x!r}")


def _key(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | None as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as number)):
            return -number
        case ast.Slice(lower=lower, upper=upper, step=step):
            return slice(*[None if part is None else _key(part) for part in (lower, upper, step)])
        case ast.Tuple(elts=parts):
            return tuple(_key(part) for part in parts)
    raise ExpressionError(f"an index is made of whole numbers and slices; got {ast.unparse(node)[:60]!r}")


def _unknown(name: str) -> ExpressionError:
    if name in RULES:
        return ExpressionError(f"{name} is a rule, and is called, as in {name}(x)")
    return ExpressionError(f"{name} has no shape; add --shape {name}=N,N with its sizes")


def _unknown_rule(name: str) -> ExpressionError:
    near = difflib.get_close_matches(name, RULES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; `tinyattn gradcheck` lists them"
    return ExpressionError(f"there is no rule {name!r}{hint}")
