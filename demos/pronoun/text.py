"""From a sentence as people type it to word numbers, and back to clear errors about words the model never saw."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from demos.pronoun.corpus import Sentence
from tinyattn.by_hand.pronoun import PADDING

APOSTROPHE = re.compile("[\u2019\u2018\u02bc\u00b4`]")
CONTRACTION = re.compile(r"n't\b|(?<=\bdid|\bwas)nt\b|(?<=\bwere)nt\b|(?<=\bcould)nt\b")  # didn't, didnt
IRREGULAR = {"won't": "will not", "can't": "can not", "cannot": "can not", "they're": "they were"}
IRREGULAR |= {f"{pronoun}'s": f"{pronoun} was" for pronoun in ("it", "he", "she", "that")}  # the grammar's tense
WORD = re.compile(r"\w+(?:['-]\w+)*")


class Batch(NamedTuple):
    """Sentences as arrays. Places are counted from 0; `tokens` is filled up with PADDING behind each sentence's end.

    tokens (batch, n), pronoun (batch,): its place, answer (batch,): the number of the word meant,
    antecedent and rival (batch,): the places of that word and of the noun that it could have been.
    """

    tokens: np.ndarray
    pronoun: np.ndarray
    answer: np.ndarray
    antecedent: np.ndarray
    rival: np.ndarray

    def take(self, rows: np.ndarray) -> Batch:
        """Some of the sentences, with no more padding than the longest of them needs."""
        length = int((self.tokens[rows] != PADDING).sum(axis=1).max())
        return Batch(self.tokens[rows, :length], *(field[rows] for field in self[1:]))


def split_words(sentence: str) -> list[str]:
    """Lower-case words without punctuation; n't is said as not, it's as it was.

    >>> split_words("The animal didn\u2019t cross.")
    ['the', 'animal', 'did', 'not', 'cross']
    """
    text = APOSTROPHE.sub("'", sentence.lower())
    for short, long in IRREGULAR.items():
        text = re.sub(rf"\b{short}\b", long, text)
    return WORD.findall(CONTRACTION.sub(" not", text))


class Vocabulary:
    """The words that a model knows, each with its number; number 0 is padding.

    >>> vocabulary = Vocabulary(["<padding>", "cat", "sat", "the"])
    >>> vocabulary.encode([["the", "cat"], ["cat"]])
    array([[3, 1],
           [1, 0]])
    """

    def __init__(self, words: Sequence[str]):
        self.words = tuple(words)
        self.numbers = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        tokens = np.full((len(sentences), max(map(len, sentences))), PADDING)
        for row, words in zip(tokens, sentences, strict=True):
            row[: len(words)] = [self.numbers[word] for word in words]
        return tokens

    def batch(self, sentences: Sequence[Sentence]) -> Batch:
        answers = [self.numbers[s.answer] for s in sentences]
        places = [(s.pronoun, answer, s.antecedent, s.rival) for s, answer in zip(sentences, answers, strict=True)]
        return Batch(self.encode([s.words for s in sentences]), *np.array(places).T)

    def nearest(self, word: str, n: int = 3) -> list[str]:
        """The known words that look most like `word`: for error messages."""
        known = self.words[1:]
        return difflib.get_close_matches(word, known, n) or difflib.get_close_matches(word, known, n=1, cutoff=0.0)
