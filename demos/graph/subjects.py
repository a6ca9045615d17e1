"""What is drawn: functions that compute something small, and give the tensor that its graph is behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import tinyattn as ta
from demos.pronoun.corpus import vocabulary
from demos.pronoun.model import PronounModel
from demos.pronoun.text import Vocabulary, split_words
from tinyattn.by_hand.pronoun import Sizes

SENTENCE, ANSWER = "the animal did not cross the street because it was tired", "animal"


class Subject(NamedTuple):
    """A graph to draw."""

    name: str  # of the files
    title: str
    compute: Callable[[], ta.Tensor]
    inside: tuple[str, ...] = ()  # rules whose steps are shown
    depth: int | None = None  # of the picture; the page has all


def parameter(rng: np.random.Generator, name: str, *shape: int) -> ta.Tensor:
    return ta.tensor(rng.normal(size=shape).round(1), requires_grad=True, name=name)


def softmax() -> ta.Tensor:
    """Weights of three scores, the loss being how little the second one has: its steps, and its gradient."""
    scores = ta.tensor([1.0, 2.0, 0.5], requires_grad=True, name="scores")
    weights = ta.softmax(scores)
    weights.name = "weights"
    loss = -ta.log(weights[1])
    loss.name = "loss"
    return loss


def head() -> ta.Tensor:
    """One head of attention over three words, written out: scores, weights, mix."""
    rng = np.random.default_rng(0)
    x = ta.tensor(rng.normal(size=(3, 4)).round(1), name="words")
    query, key, value = (x @ parameter(rng, f"w_{name}", 4, 2) for name in ("query", "key", "value"))
    scores = query @ key.T * 2**-0.5
    scores.name = "scores"
    weights = ta.softmax(scores)
    weights.name = "weights"
    output = weights @ value
    output.name = "output"
    return (output**2).sum()


def multi_head() -> ta.Tensor:
    """A layer with two heads, in the boxes of its parts, down to the exponentials."""
    rng = np.random.default_rng(0)
    layer = ta.nn.MultiHeadAttention(8, 2, bias=False, rng=0)
    x = ta.tensor(rng.normal(size=(5, 8)), dtype=np.float32, name="words")
    return (layer(x, causal=True) ** 2).mean()


def toy() -> ta.Tensor:
    """The loss of one sentence in the pronoun toy, before it has learned anything."""
    known = Vocabulary(vocabulary())
    model = PronounModel(Sizes(vocab_size=len(known)), np.random.default_rng(0))
    words = split_words(SENTENCE)
    scores = model(known.encode([words]), np.array([words.index("it")]))
    loss = ta.cross_entropy(scores, np.array([known.numbers[ANSWER]]))
    loss.name = "loss"
    return loss


SUBJECTS = (
    Subject("softmax", "softmax and its gradient", softmax, inside=("softmax",)),
    Subject("head", "one head of attention", head),
    Subject("multi-head", "multi-head attention", multi_head, inside=("multi_head_attention", "attention"), depth=2),
    Subject("toy", "the pronoun toy's loss", toy, inside=("multi_head_attention", "attention"), depth=1),
)
