"""Counting what a model knows: accuracy on held-out sentences, on pairs of twins, and where the attention goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from demos.pronoun.corpus import Corpus, Sentence
from demos.pronoun.text import Batch, Vocabulary

CHUNK = 250

# tokens (batch, n), pronoun (batch,) -> scores (batch, vocabulary), and the weights from the pronoun to each word,
# a (batch, n_heads, n) for each layer
Reader = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, Sequence[np.ndarray]]]


class Looks(NamedTuple):
    """Where a head of a layer looks from the pronoun, over held-out sentences."""

    layer: int
    head: int
    antecedent: float  # mean weight on the word meant
    rival: float  # mean weight on the other noun
    over_rival: float  # share of sentences with more weight on the word meant than on the other


class Findings(NamedTuple):
    """What the tables and `metrics.json` say of a model."""

    heldout: float
    same_kind: float
    minimal_pairs: float
    swaps: float
    looks: list[Looks]

    @property
    def best_head(self) -> Looks | None:
        """The head of the last layer with the most weight on the antecedent."""
        last = max((look.layer for look in self.looks), default=0)
        return max((look for look in self.looks if look.layer == last), key=lambda look: look.antecedent, default=None)


class Exam:
    """The held-out questions of a corpus as arrays, to be put to any reader."""

    def __init__(self, corpus: Corpus, vocabulary: Vocabulary):
        def batches(pairs: Sequence[tuple[Sentence, Sentence]]) -> tuple[Batch, Batch]:
            first, second = zip(*pairs, strict=True)
            return vocabulary.batch(first), vocabulary.batch(second)

        self.heldout = vocabulary.batch(corpus.heldout)
        self.same_kind = np.array([sentence.same_kind for sentence in corpus.heldout])
        self.minimal_pairs = batches(corpus.minimal_pairs)
        self.swaps = batches(corpus.swaps)

    def accuracy(self, read: Reader, n_sentences: int) -> float:
        """The share of the first held-out sentences answered right, for a look during training."""
        return float(right_answers(read, self.heldout.take(np.arange(n_sentences))).mean())

    def findings(self, read: Reader) -> Findings:
        right = right_answers(read, self.heldout)
        return Findings(
            heldout=float(right.mean()),
            same_kind=float(right[self.same_kind].mean()),
            minimal_pairs=_both_right(read, self.minimal_pairs),
            swaps=_both_right(read, self.swaps),
            looks=_looks(read, self.heldout),
        )


def from_pronoun(weights: np.ndarray, pronoun: np.ndarray) -> np.ndarray:
    """Of a layer's weights, (batch, n_heads, n or 1, n), the rows in which the pronoun asks: (batch, n_heads, n)."""
    place = pronoun if weights.shape[2] > 1 else 0
    return weights[np.arange(len(weights)), :, place]


def right_answers(read: Reader, batch: Batch) -> np.ndarray:
    """For each sentence, whether the word with the highest score, of the whole vocabulary, is the one meant."""
    guesses = [read(part.tokens, part.pronoun)[0].argmax(axis=-1) for part in _parts(batch)]
    return np.concatenate(guesses) == batch.answer


def _both_right(read: Reader, pairs: tuple[Batch, Batch]) -> float:
    return float((right_answers(read, pairs[0]) & right_answers(read, pairs[1])).mean())


def _looks(read: Reader, batch: Batch) -> list[Looks]:
    on_antecedent, on_rival = [], []  # one (n_layers, n_heads, sentences) for each part
    for part in _parts(batch):
        rows = np.arange(len(part.tokens))
        layers = read(part.tokens, part.pronoun)[1]
        on_antecedent.append([weights[rows, :, part.antecedent].T for weights in layers])
        on_rival.append([weights[rows, :, part.rival].T for weights in layers])
    return [
        Looks(layer, head, float(own.mean()), float(other.mean()), float((own > other).mean()))
        for layer, heads in enumerate(zip(_joined(on_antecedent), _joined(on_rival), strict=True), start=1)
        for head, (own, other) in enumerate(zip(*heads, strict=True), start=1)
    ]


def _joined(parts: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.concatenate(layer, axis=-1) for layer in zip(*parts, strict=True)]


def _parts(batch: Batch) -> list[Batch]:
    return [batch.take(np.arange(i, min(i + CHUNK, len(batch.tokens)))) for i in range(0, len(batch.tokens), CHUNK)]
