"""Colours of numbers: white is 0, blue is below, orange above. They tell apart without colour vision, too."""

from __future__ import annotations

import math

BELOW, ABOVE, NOT_A_NUMBER = (33, 102, 172), (214, 96, 16), "#c00000"


def color_of(x: float, top: float) -> str:
    """The colour of a number, where ±top is the darkest; red where it isn't finite."""
    if not math.isfinite(x):
        return NOT_A_NUMBER
    share = min(abs(x) / top, 1.0) if top else 0.0
    end = ABOVE if x > 0 else BELOW
    return "#" + "".join(f"{round(255 + (channel - 255) * share):02x}" for channel in end)
