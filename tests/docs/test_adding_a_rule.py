"""The rules that docs/adding-a-rule.md shows are ones that the checks would take."""

import doctest
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tinyattn.gallery import SAMPLES, clear_of_zero
from tinyattn.gallery.samples import Rng, Sample
from tinyattn.gradcheck import check_rule
from tinyattn.rules.registry import Array, Gradients, Result

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-rule.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def names():
    """What the page's programs define; nothing is put into the tables."""
    kept = {}

    def samples_of(*rules):
        return lambda sampler: kept.update(dict.fromkeys(rules, sampler)) or sampler

    there = {"np": np, "rule": lambda function: function, "samples_of": samples_of, "clear_of_zero": clear_of_zero}
    there |= {"Array": Array, "Gradients": Gradients, "Result": Result}
    there |= {"Rng": Rng, "Iterable": Iterable, "Sample": Sample, "kept": kept}
    programs = [block for block in BLOCKS if not block.startswith(">>>")]
    assert len(programs) == 3
    for program in programs:
        exec(program, there)
    return there


def run(test):
    failed, attempted = doctest.DocTestRunner().run(test)
    assert failed == 0
    return attempted


@pytest.mark.usefixtures("own_rules")
def test_one_of_your_own():
    examples = "\n".join(block for block in BLOCKS if block.startswith(">>>"))
    assert run(doctest.DocTestParser().get_doctest(examples, {}, PAGE.name, str(PAGE), 0)) >= 7


def test_the_docstring_of_the_example_holds(names):
    (test,) = doctest.DocTestFinder().find(names["softsign"], "softsign", globs=names)
    assert run(test) == 1


def test_the_gradients_of_the_example_agree(names):
    softsign = names["softsign"]
    for sampler in (names["kept"]["softsign"], SAMPLES["relu"]):
        check = check_rule(softsign, sampler(np.random.default_rng(0)))
        assert check.ok, check
        assert check.error_complex < 1e-12
        assert check.error_tape < 1e-12


def test_its_own_test_passes_and_would_fail(names):
    names["test_softsign_by_head"]()
    right = names["softsign"]
    names["softsign"] = lambda x: (right(x)[0], lambda d_output: (d_output / (1 + abs(x)),))
    with pytest.raises(AssertionError):
        names["test_softsign_by_head"]()
