"""Floor 0: the derivative table. Every rule with its forward and its backward side by side; NumPy and nothing else.

`registry` says what a rule is. The families, one short module each: `elementwise`, `activations`, `reductions`,
`shapes`, `selection`, `products`, `softmax`, `normalization`, `losses`, `dropout`, `positions`,
`attention`.
"""

from tinyattn.rules import (
    activations,
    attention,
    dropout,
    elementwise,
    losses,
    normalization,
    positions,
    products,
    reductions,
    selection,
    shapes,
    softmax,
)
from tinyattn.rules.registry import RULES, rule

__all__ = [
    "RULES",
    "activations",
    "attention",
    "dropout",
    "elementwise",
    "losses",
    "normalization",
    "positions",
    "products",
    "reductions",
    "rule",
    "selection",
    "shapes",
    "softmax",
]
