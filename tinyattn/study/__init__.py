"""Floor 3: studies, in which a computation is taken apart to be looked at step by step.

`steps` says what softmax, attention and multi-head attention are made of; `witnesses` differentiates what comes after a
step; `comparison` sets side by side what came out; `compare` is the face.

Exercises: `exercises` has the forward passes and their steps, `checking` compares what a student hands in, `checked`
says what was found, `slips` finds out how it went wrong, and `hints` tells it step by step. `faults` are backward
passes in which one line is wrong.

    print(study.exercise("softmax"))                what to write
    study.check("softmax", my_backward).hint()      whether it is right, and hints if it isn't
    study.fault(0)                                  which line is wrong?

Behind the commands `tinyattn softmax` and `tinyattn attention`: `softmax` takes one row of scores apart, `head` a whole
head on a sentence; `heard` is what three witnesses say of a gradient; `temperature` finds the one that comes closest to
published weights. `show` says what is shown of them, and `blocks` writes it as text or HTML.
"""

from tinyattn.study.checked import Checked, Finding
from tinyattn.study.checking import check
from tinyattn.study.compare import side_by_side
from tinyattn.study.comparison import Comparison
from tinyattn.study.exercises import Exercise, exercise
from tinyattn.study.faults import Fault, fault

__all__ = ["Checked", "Comparison", "Exercise", "Fault", "Finding", "check", "exercise", "fault", "side_by_side"]
