"""Floor 3: studies, in which a computation is taken apart to be looked at step by step.

`steps` says what softmax, attention and multi-head attention are made of; `witnesses` differentiates what comes after a
step; `comparison` sets side by side what came out; `compare` is the face.

Behind the commands `tinyattn softmax` and `tinyattn attention`: `softmax` takes one row of scores apart, `head` a whole
head on a sentence; `heard` is what three witnesses say of a gradient; `temperature` finds the one that comes closest to
published weights. `show` says what is shown of them, and `blocks` writes it as text or HTML.
"""

from tinyattn.study.compare import side_by_side
from tinyattn.study.comparison import Comparison

__all__ = ["Comparison", "side_by_side"]
