import json
import math

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.study import head as heads
from tinyattn.study.blocks import to_html, to_text, width
from tinyattn.study.head import head_study, words
from tinyattn.study.show import head_dict, head_page

SENTENCE = "The animal didn't cross the street because it was tired."
NAMES = ["d_value", "d_weights", "d_scores", "d_query", "d_key"]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("n_heads", [1, 2, 8])
def test_forward_and_backward_are_those_of_attention(causal, scaled, n_heads):
    found = head_study(SENTENCE, query="it", n_heads=n_heads, head=n_heads, causal=causal, scaled=scaled, seed=5)
    mask = (np.arange(11) <= 7)[None] if causal else None
    query, key, value = (ta.tensor(x, requires_grad=True) for x in (found.query[None], found.key, found.value))
    scale = 1 / math.sqrt(8 // n_heads) if scaled else 1.0
    output = ta.attention(query, key, value, mask=mask, scale=scale)
    np.testing.assert_allclose(found.mix, output.numpy()[0])
    output.backward(found.d_output[None])
    for name, x in (("d_query", query), ("d_key", key), ("d_value", value)):
        gradient = x.grad.numpy()
        np.testing.assert_allclose(
            found.gradient(name).hand, gradient[0] if name == "d_query" else gradient, atol=1e-14
        )
    assert [heard.name for heard in found.gradients] == NAMES
    assert all(heard.agree for heard in found.gradients)
    assert max(max(heard.apart) for heard in found.gradients) < 1e-10


def test_the_scores_and_their_gradient():
    found = head_study(SENTENCE, query="it", causal=True)
    dots = np.array([sum(a * b for a, b in zip(found.query, key, strict=True)) for key in found.key])
    np.testing.assert_allclose(found.dots, dots)
    exponentials = np.exp(dots[:8] / 2)
    np.testing.assert_allclose(found.weights[:8], exponentials / exponentials.sum())
    assert not found.weights[8:].any()
    d_weights = found.value @ found.d_output
    expected = found.jacobian @ d_weights
    np.testing.assert_allclose(found.gradient("d_scores").hand, expected, atol=1e-15)
    assert not found.gradient("d_key").hand[8:].any()


@pytest.mark.parametrize("fault", ["by_hand", "by_tape", "by_differences"])
def test_the_witnesses_are_three(monkeypatch, fault):
    right = getattr(heads, fault)

    def wrong(*arguments):
        made = right(*arguments)
        return {name: x * 1.001 for name, x in made.items()} if fault == "by_hand" else made * 1.001

    monkeypatch.setattr(heads, fault, wrong)
    assert [heard.agree for heard in head_study(SENTENCE).gradients] == [False] * 5


def test_without_and_with_the_scale():
    plain, scaled = head_study(SENTENCE, query="it").ways
    np.testing.assert_allclose(scaled.weights, head_study(SENTENCE, query="it").weights)
    np.testing.assert_allclose(plain.weights, head_study(SENTENCE, query="it", scaled=False).weights)
    assert plain.entropy < scaled.entropy


def test_equal_words_have_equal_weights():
    found = head_study("the cat saw the dog", query="dog")
    assert found.weights[0] == found.weights[3]
    assert "A word that stands twice" in to_text(head_page(found))


def test_a_seed_is_a_seed_and_every_head_another():
    first, again, other = (head_study(SENTENCE, seed=seed) for seed in (1, 1, 2))
    assert (first.weights == again.weights).all()
    assert (first.weights != other.weights).all()
    second = head_study(SENTENCE, seed=1, head=2)
    np.testing.assert_allclose(first.all_weights, second.all_weights)
    np.testing.assert_allclose(second.all_weights[1], second.weights)
    assert (first.weights != second.weights).all()


def test_of_large_arrays_some_numbers_are_differenced():
    found = head_study(" ".join(f"w{i}" for i in range(60)), n_heads=1, d_model=20)
    key = found.gradient("d_key")
    assert np.isnan(key.differences).sum() == 60 * 20 - heads.MOST
    assert key.agree
    made = to_text(head_page(found))
    assert "not taken" in made
    assert "nan" not in made


def test_words():
    assert words("  It's a cat, isn't it?!\tYes…") == ("It's", "a", "cat", ",", "isn't", "it", "?!", "Yes", "…")
    assert words("3.14 नमस्ते ...") == ("3.14", "नमस्ते", "...")
    assert words(" \n") == ()


def test_the_query_is_a_word_or_a_position():
    assert head_study(SENTENCE).position == 10
    assert head_study(SENTENCE, query="The").position == 0
    assert head_study(SENTENCE, query="5").position == 4
    assert head_study("1 2 3 1", query="3").position == 2  # a word comes first
    assert head_study("alone").weights.tolist() == [1.0]


@pytest.mark.parametrize(
    ("sentence", "options", "told"),
    [
        ("", {}, "needs a sentence of 1 to 200 words; got 0"),
        ("a " * 201, {}, "got 201"),
        (SENTENCE, {"query": "Street"}, "there is no word 'Street' in the sentence; did you mean 'street'"),
        (SENTENCE, {"query": "zzz"}, "give one of its words, or 1 to 11"),
        (SENTENCE, {"query": "12"}, "there is no word '12'"),
        ("the cat the", {"query": "the"}, "'the' stands at 1 and 3 of the sentence; say which by its position, as in"),
        (SENTENCE, {"n_heads": 3}, "the heads share d_model equally; 8 columns can't be had by 3"),
        (SENTENCE, {"head": 3}, "the heads are numbered from 1 to 2; got 3"),
        (SENTENCE, {"d_model": 10**6}, "d_model must be from 1 to 1024; got 1000000"),
    ],
)
def test_mistakes(sentence, options, told):
    with pytest.raises(ValueError, match="attention: ") as raised:
        head_study(sentence, **options)
    assert told in str(raised.value)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"scaled": False}, {"d_model": 64}, {"n_heads": 8}])
def test_pages_and_json(options):
    found = head_study(SENTENCE + " 猫猫猫猫猫猫猫猫 \x1b[1m", query="it", **options)
    made = to_text(head_page(found))
    assert max(map(width, made.splitlines())) <= 80
    assert made.replace("\n", "").isprintable()
    assert "The three agree." in made
    assert "are random (seed 0)" in made
    assert "<html" in to_html(head_page(found))
    told = json.loads(json.dumps(head_dict(found), allow_nan=False))
    assert (told["study"], told["word"], told["position"]) == ("attention", "it", 8)
    assert list(told["gradients"]) == NAMES
