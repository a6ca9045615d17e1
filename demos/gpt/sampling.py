"""Writing on from a prompt, character by character."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten

import numpy as np

import tinyattn as ta
from demos.files import FileError, load_arrays
from demos.gpt.text import TextError, Vocabulary
from demos.gpt.training import Settings, make_model


class Writer:
    """A trained model, and the characters that its numbers stand for."""

    def __init__(self, model: ta.nn.GPT, vocabulary: Vocabulary) -> None:
        self.model, self.vocabulary = model, vocabulary

    @staticmethod
    def load(path: Path) -> Writer:
        """The model that a training left at `path`. Raises `FileError` for anything else."""
        arrays, metadata = load_arrays(path, "GPT model")
        try:
            vocabulary = Vocabulary(metadata["characters"])
            model = make_model(Settings(**metadata["settings"]), len(vocabulary))
            model.load_state_dict(arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{path}: a model of another shape or version ({error})") from error
        return Writer(model, vocabulary)

    def view(self, text: str) -> ta.View:
        """Where each character of the text looks, in all heads of all blocks: for a page.

        Raises `TextError` for an empty text, one with characters that the model has never seen, or one that is longer
        than it sees.
        """
        ids = self.vocabulary.ids(text)
        most = self.model.max_length
        if not 0 < len(ids) <= most:
            raise TextError(f"the text has {len(ids)} characters, and the model sees 1 to {most}")
        self.model.eval()
        with ta.no_grad():
            _, weights = self.model(ids[None], return_weights=True)
        causal = np.tril(np.ones((len(ids), len(ids)), bool))
        names = [f"block {i + 1}" for i in range(len(weights))]
        return ta.view(list(text), weights, mask=causal, names=names, title=f"Where a GPT looks: {shorten(text, 60)}")

    def write(
        self, prompt: str, n: int, *, temperature: float = 0.8, top_k: int | None = None, seed: int = 0
    ) -> Iterator[str]:
        """The n characters that come after the prompt, one by one.

        Raises `TextError` for a prompt with characters that the model has never seen. Where its positions are used up,
        it goes on from the last half of what it sees: keys and values of the rest are computed again.
        """
        ids = self.vocabulary.ids(prompt)
        return self._write(ids, n, temperature, top_k, np.random.default_rng(seed))

    def _write(
        self, ids: np.ndarray, n: int, temperature: float, top_k: int | None, rng: np.random.Generator
    ) -> Iterator[str]:
        most = self.model.max_length
        while n > 0:
            ids = ids if len(ids) < most else ids[-(most // 2) :]
            fit = min(n, most - len(ids))
            n -= fit
            for new in self.model.stream(ids, fit, temperature=temperature, top_k=top_k, rng=rng):
                ids = np.append(ids, new)
                yield self.vocabulary.text(new[None])
