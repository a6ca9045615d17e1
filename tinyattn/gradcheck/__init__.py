"""Floor 2: the witnesses. A gradient is believed when ways of computing it that share no formula agree on it.

| witness | where the gradient comes from | its own error |
|---|---|---|
| backward | the derivative worked out by hand | round-off |
| tape | the same rule on Tensors: the backwards of the smaller rules that it is composed of | round-off |
| differences | central differences, extrapolated from two steps | about 1e-11 |
| complex step | Im f(x + ih) / h with h = 1e-30, where f is analytic | round-off |

Each computes the gradient of Σ c · f(x) for random cotangents c, and every two of them are compared. (With a
cotangent of ones most wrong backwards of a softmax pass, zero among them.)

    gradcheck(f, inputs)      a function of Tensors, one's own        → Report
    check_rule("softmax")     a rule, on its samples in the gallery   → RuleCheck
    check_all()               all rules, or those named               → a list of RuleChecks
    step_sweep(f, inputs)     how the error depends on the step       → Sweep
    sweep_rule("softmax")     the same for a rule                     → Sweep

A `Report` is true where the witnesses agree, and prints as a table; where they don't, it says what the mistake looks
like (`guesses`) and which operation inside a composed function is wrong (`locate`). A `RuleCheck` has `rule`,
`samples` (how many), `ok`, `reports` (one for each sample), and the largest relative error of the backward against each
of the others: `error_numeric`, `error_complex`, `error_tape`; None for a witness that none of the samples could call.
"""

from tinyattn.gradcheck.checks import check_all, check_rule, gradcheck
from tinyattn.gradcheck.guesses import Guess
from tinyattn.gradcheck.report import BACKWARD, COMPLEX, DIFFERENCES, TAPE, Finding, Place, Report, RuleCheck
from tinyattn.gradcheck.sweep import Sweep, step_sweep, sweep_rule

__all__ = [
    "BACKWARD",
    "COMPLEX",
    "DIFFERENCES",
    "TAPE",
    "Finding",
    "Guess",
    "Place",
    "Report",
    "RuleCheck",
    "Sweep",
    "check_all",
    "check_rule",
    "gradcheck",
    "step_sweep",
    "sweep_rule",
]
