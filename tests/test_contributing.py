"""The rule that CONTRIBUTING.md shows is one that the checks would take."""

import doctest
import re
import textwrap
from pathlib import Path

import numpy as np

from tinyattn.gallery import SAMPLES
from tinyattn.gradcheck import check_rule
from tinyattn.rules.registry import Array, Gradients, Result

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"


def test_the_example_is_a_rule_whose_gradients_agree():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    names = {"np": np, "rule": lambda function: function, "Array": Array, "Gradients": Gradients, "Result": Result}
    exec(textwrap.dedent(block), names)
    softsign = names["softsign"]

    check = check_rule(softsign, SAMPLES["relu"](np.random.default_rng(0)))
    assert check.ok, check
    assert check.error_complex < 1e-12
    assert check.error_tape < 1e-12
    output, _ = softsign(np.array([-3, 0, 1e30], np.float32))
    assert output.dtype == np.float32
    assert output.tolist() == [-0.75, 0, 1]

    (test,) = doctest.DocTestFinder().find(softsign, "softsign", globs=names)
    assert doctest.DocTestRunner().run(test) == doctest.TestResults(failed=0, attempted=1)
