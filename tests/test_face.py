"""The face: what `import tinyattn as ta` gives, and what it costs."""

import subprocess
import sys

import numpy as np
import pytest

import tinyattn as ta

NAMES = """Tensor tensor exp log matmul where softmax log_softmax logsumexp cross_entropy layer_norm rms_norm gelu relu
    silu embedding attention grad value_and_grad vjp jvp hvp jacobian hessian rule no_grad gradcheck GradientError nn
    optim""".split()


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    assert name in ta.__all__
    assert hasattr(ta, name)


def test_all_is_true_and_sorted():
    assert all(hasattr(ta, name) for name in ta.__all__)
    assert len(set(ta.__all__)) == len(ta.__all__)


def test_the_checker_is_a_function_and_a_module():
    from tinyattn.gradcheck import check_all, gradcheck

    assert ta.gradcheck is gradcheck
    assert callable(check_all)


def test_importing_brings_no_other_project_than_numpy():
    program = """if True:
        import sys, numpy
        before = set(sys.modules)
        import tinyattn
        print(*{name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert set(found.split()) <= {"tinyattn", "numpy"}


def test_the_first_lines_of_a_notebook():
    x = ta.tensor(np.eye(3), requires_grad=True, name="x")
    output, weights = ta.attention(x, x, x, causal=True, return_weights=True)
    loss = (output * output).sum()
    loss.backward()
    assert x.grad.shape == (3, 3)
    assert weights.numpy()[0].tolist() == [1.0, 0.0, 0.0]
