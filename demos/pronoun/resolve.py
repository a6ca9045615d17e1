"""Answering: what does the pronoun of a sentence stand for, and where did the model look?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demos.files import FileError, load_arrays
from demos.pronoun.corpus import KIND_OF, PRONOUNS
from demos.pronoun.display import weight_lines
from demos.pronoun.evaluation import Reader
from demos.pronoun.text import Vocabulary, split_words
from demos.pronoun.training import reader
from tinyattn.by_hand import pronoun as by_hand


class SentenceError(ValueError):
    """A sentence that can't be answered; the message says why and what would help."""


def candidates(words: Sequence[str]) -> list[int]:
    """The places of the nouns, each the first time it is said: what a pronoun could mean."""
    return [place for place, word in enumerate(words) if word in KIND_OF and words.index(word) == place]


class Resolver:
    """A trained model with its vocabulary."""

    def __init__(self, read: Reader, vocabulary: Vocabulary, max_length: int):
        self.read, self.vocabulary, self.max_length = read, vocabulary, max_length

    @classmethod
    def load(cls, path: Path) -> Resolver:
        """Read `model.safetensors`; `FileError` says what is wrong with the file."""
        arrays, metadata = load_arrays(path, "model")
        try:
            words, sizes = metadata["vocabulary"], by_hand.Sizes(**metadata["config"])
        except (KeyError, TypeError) as error:
            raise FileError(f"{path}: its header doesn't describe a model of this demo ({error})") from error
        if not (isinstance(words, list) and all(isinstance(w, str) for w in words) and len(set(words)) == len(words)):
            raise FileError(f"{path}: its vocabulary isn't a list of different words")
        if any(type(size) is not int or size < 1 for size in sizes) or sizes.d_model % sizes.n_heads:
            raise FileError(f"{path}: its header gives sizes that no model has, {sizes._asdict()}")
        shapes = {name: array.shape for name, array in arrays.items()}
        if len(words) != sizes.vocab_size or shapes != by_hand.shapes(sizes):
            raise FileError(f"{path}: its arrays don't have the shapes that its own header gives")
        if any(array.dtype not in (np.float32, np.float64) for array in arrays.values()):
            raise FileError(f"{path}: its arrays are not all float32 or float64")
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise FileError(f"{path}: it holds numbers that are not finite")
        return cls(reader(arrays, sizes.n_heads), Vocabulary(words), sizes.max_length)

    def words(self, sentence: str) -> list[str]:
        """The sentence as words that the model knows, or a `SentenceError`."""
        words = split_words(sentence)
        if not words:
            raise SentenceError('the sentence is empty; try "The cat sat on the mat because it was tired."')
        unknown = [word for word in words if word not in self.vocabulary.numbers]
        if unknown:
            told = [f"{word[:40]!r} (nearest: {', '.join(self.vocabulary.nearest(word[:40]))})" for word in unknown[:3]]
            more = f"; and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise SentenceError(f"the model never saw {'; '.join(told)}{more}")
        if len(words) > self.max_length:
            raise SentenceError(f"the sentence has {len(words)} words, and the model reads at most {self.max_length}")
        if not any(word in PRONOUNS for word in words):
            raise SentenceError(f"there is no pronoun in the sentence; the model knows {', '.join(PRONOUNS)}")
        if not candidates(words):
            raise SentenceError("there is no noun that the pronoun could mean; try cat, box or nurse")
        return words

    def resolve(self, sentence: str) -> dict[str, Any]:
        """An answer for each pronoun: the noun with the highest probability among those in the sentence.

        Probabilities are over the whole vocabulary, as in training; `weights` has a list for each layer and head.
        """
        words = self.words(sentence)
        places = [place for place, word in enumerate(words) if word in PRONOUNS]
        tokens = self.vocabulary.encode([words] * len(places))
        with np.errstate(over="ignore", invalid="ignore"):  # looked at next
            scores, layers = self.read(tokens, np.array(places))
        if not np.isfinite(scores).all():
            raise SentenceError("the model's scores are not finite: it is damaged, or its training went wrong")
        answers = []
        for row, place in enumerate(places):
            probabilities = by_hand.softmax(scores[row].astype(np.float64))
            ranked = sorted(candidates(words), key=lambda p: -probabilities[tokens[row, p]])
            best_head = max(range(layers[-1].shape[1]), key=lambda head: layers[-1][row, head, ranked[0]])
            answers.append(
                {
                    "pronoun": words[place],
                    "place": place,
                    "antecedent": words[ranked[0]],
                    "nouns": [
                        {"noun": words[p], "place": p, "probability": float(probabilities[tokens[row, p]])}
                        for p in ranked
                    ],
                    "best_head": best_head + 1,
                    "weights": [layer[row].tolist() for layer in layers],
                }
            )
        return {"sentence": sentence, "words": words, "answers": answers}


def as_text(result: dict[str, Any]) -> str:
    """First a line for each pronoun, then for each the weights and the runner-up."""
    answers = result["answers"]
    lines = [f"{answer['pronoun']} → {answer['antecedent']}" for answer in answers]
    for answer in answers:
        first, *others = answer["nouns"]
        runner_up = f"; runner-up {others[0]['noun']} {others[0]['probability']:.3f}" if others else ""
        lines += [
            "",
            f"{answer['pronoun']} (word {answer['place'] + 1}): {first['noun']} {first['probability']:.3f}{runner_up}",
            f"its weights in head {answer['best_head']} of the last layer, which looks there most:",
            *weight_lines(result["words"], np.array(answer["weights"][-1][answer["best_head"] - 1])),
        ]
    return "\n".join(lines)


def as_json(result: dict[str, Any]) -> str:
    """The same for machines."""
    return json.dumps(result, allow_nan=False)
