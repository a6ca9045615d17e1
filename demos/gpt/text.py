"""The text that is learned: files, their characters as numbers, and batches of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

HELD_OUT = 0.1  # of the text, its end
BATCHES, VALIDATION = 1, 2  # random numbers of one seed, kept apart
ROOT = Path(__file__).parent.parent.parent


class TextError(Exception):
    """A text that can't be learned from, or gone on with; the message says why."""


def own_files() -> list[Path]:
    """This project's own sources and pages: the text where none is named."""
    folders = ("tinyattn", "demos", "benchmarks", "docs")
    found = [ROOT / "README.md"]
    for folder in folders:
        found += sorted(path for kind in ("*.py", "*.md") for path in (ROOT / folder).rglob(kind))
    return [path for path in found if path.is_file()]


def read(paths: Sequence[Path]) -> str:
    """The text of all files, one after the other. Raises `TextError` for one that is missing, empty, or no text."""
    return "\n".join(_read(path) for path in paths)


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TextError(f"{path}: it can't be read ({error.strerror})") from error
    if not content:
        raise TextError(f"{path}: the file is empty")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise TextError(f"{path}: no text in UTF-8 (byte {error.start} is {content[error.start]:#04x})") from None
    if "\0" in text:
        raise TextError(f"{path}: no text: it has zero bytes in it")
    return text


class Vocabulary:
    """The characters of a text, in the order of their code points; a character's id is its place.

    >>> Vocabulary("abba").ids("ab")
    array([0, 1])
    """

    def __init__(self, text: str) -> None:
        self.characters = "".join(sorted(set(text)))
        self._places = {character: i for i, character in enumerate(self.characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def ids(self, text: str) -> np.ndarray:
        """A number for each character. Raises `TextError` for one that isn't known."""
        unknown = sorted(set(text) - self._places.keys())
        if unknown:
            shown = " ".join(map(repr, unknown[:8])) + (" ..." if len(unknown) > 8 else "")
            raise TextError(f"the model has never seen {shown}: its text had {len(self)} other characters")
        return np.array([self._places[character] for character in text], dtype=np.int64)

    def text(self, ids: np.ndarray) -> str:
        """The characters of these ids."""
        return "".join(self.characters[i] for i in ids)


class Corpus:
    """A text as numbers: what is learned, and the end of it, which is held out."""

    def __init__(self, text: str, length: int) -> None:
        """Raises `TextError` where the parts are shorter than one sequence and its next character."""
        self.vocabulary = Vocabulary(text)
        self.beginning = (text.split() or ["?"])[0][:20]
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        ids = self.vocabulary.ids(text)
        cut = int(len(ids) * (1 - HELD_OUT))
        self.train, self.heldout = ids[:cut], ids[cut:]
        if len(self.heldout) <= length:
            least = int(np.ceil((length + 1) / HELD_OUT))
            raise TextError(
                f"the text has {len(text):,} characters; sequences of {length} need {least:,}, a tenth of them held out"
            )

    def batch(self, seed: int, step: int, n: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """What is read at a step, and what comes next: each (n, length). Seed and step alone decide."""
        return self._cut(self.train, np.random.default_rng([seed, BATCHES, step]), n, length)

    def validation(self, seed: int, n_batches: int, n: int, length: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Batches of what is held out, the same whenever they're asked for."""
        rng = np.random.default_rng([seed, VALIDATION])
        return [self._cut(self.heldout, rng, n, length) for _ in range(n_batches)]

    def _cut(self, ids: np.ndarray, rng: np.random.Generator, n: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        starts = rng.integers(0, len(ids) - length, n)
        windows = ids[starts[:, None] + np.arange(length + 1)]
        return windows[:, :-1], windows[:, 1:]
