"""The toy's backward pass, number by number against central differences, and planted faults to test the test."""

import re
from pathlib import Path

import numpy as np
import pytest

from tinyattn.by_hand import pronoun as by_hand

SIZES = by_hand.Sizes(vocab_size=17, max_length=11, d_model=6, n_heads=3, d_ff=13)


@pytest.fixture
def parameters():
    rng = np.random.default_rng(7)
    fresh = by_hand.initialize(SIZES, rng, np.float64)
    return {name: array + 0.1 * rng.standard_normal(array.shape) for name, array in fresh.items()}


@pytest.fixture
def batch():
    """Five sentences of 7, 5, 3, 7 and 1 words; pronouns first, last, and between."""
    rng = np.random.default_rng(8)
    tokens = rng.integers(1, SIZES.vocab_size, (5, 7))
    for row, length in enumerate((7, 5, 3, 7, 1)):
        tokens[row, length:] = by_hand.PADDING
    return tokens, np.array([6, 0, 1, 3, 0]), rng.integers(1, SIZES.vocab_size, 5)


def largest_error(parameters, batch, loss_and_gradients=by_hand.loss_and_gradients):
    """The largest difference of any number's gradient from (L(θ + h) − L(θ − h)) / 2h; NaN counts as infinite."""
    _, gradients = loss_and_gradients(parameters, *batch, SIZES.n_heads)
    assert gradients.keys() == parameters.keys()
    worst, h = 0.0, 1e-5
    for name, array in parameters.items():
        numeric = np.empty_like(array)
        for i in np.ndindex(array.shape):
            kept = array[i]
            array[i] = kept + h
            above = loss(parameters, batch)
            array[i] = kept - h
            below = loss(parameters, batch)
            array[i] = kept
            numeric[i] = (above - below) / (2 * h)
        error = np.abs(gradients[name] - numeric).max()
        worst = max(worst, np.inf if np.isnan(error) else error)
    return worst


def loss(parameters, batch):
    tokens, pronoun, answer = batch
    scores, _, _ = by_hand.forward(parameters, tokens, pronoun, SIZES.n_heads)
    return by_hand.cross_entropy(scores, answer)[0]


def test_every_number_of_every_gradient_agrees_with_central_differences(parameters, batch):
    assert largest_error(parameters, batch) < 1e-8


FAULTS = {
    "softmax without the row sum": ("softmax_backward", lambda d_weights, weights: weights * d_weights),
    "softmax summed along the wrong axis": (
        "softmax_backward",
        lambda d_weights, weights: weights * (d_weights - (weights * d_weights).sum(axis=-2, keepdims=True)),
    ),
    "heads merged without exchanging the axes": (
        "merge_heads",
        lambda x: x.reshape(x.shape[0], x.shape[2], -1),
    ),
    "norm without the mean's share": (
        "norm_backward",
        lambda d_output, saved, p, name, d_p: (
            d_p.update({f"{name}.bias": by_hand.sum_places(d_output)}),
            d_p.update({f"{name}.weight": by_hand.sum_places(d_output * saved[1])}),
            d_output * p[f"{name}.weight"] / saved[0],
        )[-1],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, parameters, batch, monkeypatch):
    name, wrong = FAULTS[fault]
    right = getattr(by_hand, name)

    def loss_and_gradients(p, tokens, pronoun, answer, n_heads):
        scores, _, saved = by_hand.forward(p, tokens, pronoun, n_heads)
        value, d_scores = by_hand.cross_entropy(scores, answer)
        monkeypatch.setattr(by_hand, name, wrong)  # wrong on the way back only
        gradients = by_hand.backward(p, d_scores, saved, n_heads)
        monkeypatch.setattr(by_hand, name, right)
        return value, gradients

    assert largest_error(parameters, batch, loss_and_gradients) > 1e-4


def test_weights_are_positive_sum_to_one_and_leave_padding_out(parameters, batch):
    tokens, pronoun, _ = batch
    _, (block_1, block_2), _ = by_hand.forward(parameters, tokens, pronoun, SIZES.n_heads)
    assert block_1.shape == (5, 3, 7, 7)
    assert block_2.shape == (5, 3, 1, 7)
    for weights in (block_1, block_2):
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-12)
        padded = np.broadcast_to((tokens == by_hand.PADDING)[:, None, None, :], weights.shape)
        assert (weights[padded] == 0).all()
        assert (weights[~padded] > 0).all()


def test_more_padding_changes_nothing(parameters, batch):
    tokens, pronoun, answer = batch
    longer = np.pad(tokens, ((0, 0), (0, 4)))
    loss_short, short = by_hand.loss_and_gradients(parameters, tokens, pronoun, answer, SIZES.n_heads)
    loss_long, long = by_hand.loss_and_gradients(parameters, longer, pronoun, answer, SIZES.n_heads)
    assert loss_long == pytest.approx(loss_short, rel=1e-12)
    for name in parameters:
        np.testing.assert_allclose(long[name], short[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_scores_of_ten_thousand_give_finite_loss_and_gradients():
    scores = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]])
    value, d_scores = by_hand.cross_entropy(scores, np.array([1, 2]))
    assert value == pytest.approx((2e4 + np.log(2)) / 2)
    np.testing.assert_allclose(d_scores, [[0.5, -0.5, 0], [0, 0.25, -0.25]], atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_parameters_type_is_kept(dtype, batch):
    parameters = by_hand.initialize(SIZES, np.random.default_rng(0), dtype)
    _, gradients = by_hand.loss_and_gradients(parameters, *batch, SIZES.n_heads)
    assert {array.dtype for array in parameters.values()} == {np.dtype(dtype)}
    assert {array.dtype for array in gradients.values()} == {np.dtype(dtype)}


def test_it_stands_on_numpy_alone_and_is_read_in_one_sitting():
    source = Path(by_hand.__file__).read_text(encoding="utf-8")
    imports = set(re.findall(r"^(?:from|import) ([\w.]+)", source, flags=re.MULTILINE))
    assert imports <= {"__future__", "math", "typing", "numpy", "numpy.typing"}
    assert len(source.splitlines()) <= 300


LABEL = re.compile(r"(?:\(|tag\{)((model|attend|softmax|mlp|norm|product)\.(\d+)('?))(?:\)|\})")


def labels(text):
    """Each label where it first stands, in order: `attend.4'`, its family, its number, whether it is primed."""
    return list(dict.fromkeys(match.groups() for match in LABEL.finditer(text)))


def code_and_page():
    code = Path(by_hand.__file__).read_text(encoding="utf-8")
    page = Path(__file__).parents[2] / "docs" / "derivations" / "pronoun.md"
    return code[code.index("def forward") :], page.read_text(encoding="utf-8")


def test_code_and_derivation_carry_the_same_labels():
    in_code, on_page = (set(labels(text)) for text in code_and_page())
    assert in_code == on_page
    steps = {label for label, _, _, primed in in_code if not primed}
    assert {f"{step}'" for step in steps} == {label for label, _, _, primed in in_code if primed}, "a step not undone"


@pytest.mark.parametrize(
    ("family", "heading"),
    [("model", "The model"), ("attend", "Attention"), ("mlp", "The rectifier"), ("norm", "Layer norm")],
)
def test_the_backward_undoes_the_steps_in_reverse_order(family, heading):
    code, page = code_and_page()
    page = page[page.index(f"## {heading}") :]
    for text in (code, page):
        forwards = [int(number) for _, of, number, primed in labels(text) if of == family and not primed]
        backwards = [int(number) for _, of, number, primed in labels(text) if of == family and primed]
        assert forwards == sorted(forwards)
        if family == "model" and text is code:  # the loss has a function of its own, behind
            backwards = [9, *(number for number in backwards if number != 9)]
        assert backwards == forwards[::-1]
