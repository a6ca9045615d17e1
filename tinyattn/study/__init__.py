"""Floor 3: studies, in which a computation is taken apart to be looked at step by step.

`steps` says what softmax, attention and multi-head attention are made of; `witnesses` differentiates what comes after a
step; `comparison` sets side by side what came out; `compare` is the face.
"""

from tinyattn.study.compare import side_by_side
from tinyattn.study.comparison import Comparison

__all__ = ["Comparison", "side_by_side"]
