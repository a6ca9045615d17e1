"""The viewer's page of a trained toy: it carries the parameters, and those on the way there, and runs them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

import tinyattn as ta
from demos.files import write_whole
from demos.pronoun import display
from demos.pronoun.corpus import KIND_OF, PRONOUNS
from demos.pronoun.text import split_words
from demos.pronoun.training import Moment, Run
from tinyattn.by_hand import pronoun as by_hand

N_SENTENCES = 300  # of the exam, for the loss and the accuracy of each moment
EXAMPLES = (
    display.SENTENCE,
    display.TWIN,
    "The queen thanked the nurse because she was kind.",
    "The trophy did not fit in the suitcase because it was too small.",
    "The dog chased the cat because it was hungry.",
    "The truck overtook the bus because it was fast.",
)


def save_page(path: Path, run: Run) -> None:
    """The page, whole or not at all."""
    write_whole(path, view_of(run, display.SENTENCE).to_html().encode())


def view_of(run: Run, sentence: str) -> ta.View:
    """The sentence as the trained model reads it, with the model itself."""
    words = split_words(sentence)
    place = words.index("it")
    tokens = run.data.vocabulary.encode([words])
    _, layers, _ = by_hand.forward(run.arrays, tokens, np.array([place]), run.sizes.n_heads)
    script = (files("demos.pronoun") / "assets" / "model.js").read_text(encoding="utf-8")
    shown = ta.view(
        words,
        layers,
        asking=[None, [place]],
        names=["block 1", "block 2"],
        title=f"What does “{words[place]}” stand for?",
    )
    return shown.with_model(script, "pronounModel", given(run))


def given(run: Run) -> dict[str, Any]:
    """What `pronounModel` needs: words, sizes, and the parameters at some moments, the last being the trained ones."""
    moments = [_moment(run, moment) for moment in run.moments if moment.step < run.step]
    loss, accuracy = _exam(run, run.arrays)
    trained = {name: _exact(array) for name, array in run.arrays.items()}
    moments.append({"step": run.step, "loss": loss, "accuracy": accuracy, "parameters": trained})
    return {
        "vocabulary": list(run.data.vocabulary.words),
        "nHeads": run.sizes.n_heads,
        "maxLength": run.sizes.max_length,
        "nouns": sorted(KIND_OF),
        "pronouns": list(PRONOUNS),
        "examples": list(EXAMPLES),
        "snapshots": moments,
    }


def _moment(run: Run, moment: Moment) -> dict[str, Any]:
    loss, accuracy = _exam(run, moment.arrays())
    packed = {name: _small(*whole) for name, whole in moment.small.items()}
    return {"step": moment.step, "loss": loss, "accuracy": accuracy, "parameters": packed}


def _exam(run: Run, arrays: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """The loss and the share of right answers on held-out sentences."""
    batch = run.data.exam.heldout.take(np.arange(N_SENTENCES))
    scores, _, _ = by_hand.forward(dict(arrays), batch.tokens, batch.pronoun, run.sizes.n_heads)
    loss, _ = by_hand.cross_entropy(scores, batch.answer)
    return round(loss, 4), round(float((scores.argmax(axis=-1) == batch.answer).mean()), 4)


def _exact(array: np.ndarray) -> dict[str, Any]:
    return {"shape": list(array.shape), "data": _text(array.astype("<f4"))}


def _small(numbers: np.ndarray, scales: np.ndarray) -> dict[str, Any]:
    return {"shape": list(numbers.shape), "data": _text(numbers), "scales": _text(scales.astype("<f4"))}


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
