"""Training the toy: by hand or by tape, step by step, to be interrupted and resumed at any moment."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinyattn as ta
from demos.files import FileError, load_arrays, save_arrays, write_whole
from demos.pronoun.corpus import Corpus, vocabulary
from demos.pronoun.evaluation import Exam, Reader, from_pronoun
from demos.pronoun.model import PronounModel
from demos.pronoun.text import Batch, Vocabulary
from tinyattn.by_hand import pronoun as by_hand

MODEL_STREAM, BATCH_STREAM, CHECK_STREAM = 2, 3, 4  # random numbers of one seed, kept apart (the corpus has 1)
POOL = 16  # so many batches are drawn at once and sorted by length: less padding
CHECKPOINT_EVERY = 250
LOG_EVERY = 100
N_MOMENTS = 24


@dataclass(frozen=True)
class Settings:
    """What decides every number of a run."""

    seed: int = 0
    steps: int = 3500
    backprop: str = "hand"
    dtype: str = "float32"
    batch: int = 64
    rate: float = 1e-2

    def __post_init__(self) -> None:
        whole = {"seed": (self.seed, 0), "steps": (self.steps, 1), "batch": (self.batch, 1)}
        for name, (value, least) in whole.items():
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be a whole number from {least} on; got {value!r}")
        if self.backprop not in ("hand", "tape") or self.dtype not in ("float32", "float64"):
            raise ValueError(f"there is no backprop {self.backprop!r} with dtype {self.dtype!r}")
        if type(self.rate) is not float or not 0 < self.rate < math.inf:
            raise ValueError(f"rate must be a positive number; got {self.rate!r}")


@dataclass(frozen=True)
class LogRow:
    """One line of log.csv."""

    step: int
    loss: float
    heldout_accuracy: float
    rate: float
    seconds: float


class Moment(NamedTuple):
    """The parameters at a step, in a quarter of their bytes: for each, whole numbers and a scale for each row."""

    step: int
    small: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, step: int, arrays: dict[str, np.ndarray]) -> Moment:
        """x ≈ scale · n with n from −127 to 127, which errs by half a scale at most."""
        small = {}
        for name, array in arrays.items():
            largest = np.abs(array).max(axis=-1, keepdims=True)
            scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
            small[name] = np.rint(np.nan_to_num(array / scales)).astype(np.int8), scales
        return cls(step, small)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: numbers * scales for name, (numbers, scales) in self.small.items()}


def moments_of(steps: int) -> frozenset[int]:
    """The steps before which the parameters are kept, for a look back: more of them where more is learned."""
    return frozenset(round(steps * (i / N_MOMENTS) ** 1.5) for i in range(N_MOMENTS))


class TrainingError(Exception):
    """Training can't go on; the message says why."""


def schedule(settings: Settings) -> Callable[[int], float]:
    """One cycle of the learning rate: up in a tenth of the steps, down to nothing along half a cosine."""
    return ta.optim.cosine(settings.rate, settings.steps, warmup=settings.steps // 10)


class Data:
    """The corpus of a seed as arrays, and its batches: the same for the model and for every baseline."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.vocabulary = Vocabulary(vocabulary())
        self.corpus = Corpus(settings.seed)
        self.train = self.vocabulary.batch(self.corpus.train)
        self.exam = Exam(self.corpus, self.vocabulary)
        self._lengths = (self.train.tokens != by_hand.PADDING).sum(axis=1)
        self._pool: tuple[int, np.ndarray] | None = None

    def batch(self, step: int) -> Batch:
        """The batch of a step: it depends on the seed and the step alone, so a resumed run sees the same."""
        number, place = divmod(step, POOL)
        if self._pool is None or self._pool[0] != number:
            rng = np.random.default_rng([self.settings.seed, BATCH_STREAM, number])
            rows = rng.integers(0, len(self._lengths), POOL * self.settings.batch)
            rows = rows[np.argsort(self._lengths[rows], kind="stable")].reshape(POOL, -1)
            self._pool = (number, rng.permutation(rows))
        return self.train.take(self._pool[1][place])


class Run:
    """A model in training: its parameters, the optimiser's state, the step reached and the log."""

    def __init__(self, settings: Settings, data: Data):
        self.settings, self.data = settings, data
        self.sizes = by_hand.Sizes(vocab_size=len(data.vocabulary))
        self.model = PronounModel(self.sizes, np.random.default_rng([settings.seed, MODEL_STREAM]), settings.dtype)
        self.parameters = dict(self.model.named_parameters())
        self.optimizer = ta.optim.Adam(list(self.parameters.values()), betas=(0.9, 0.99))
        self.rate_at = schedule(settings)
        self.step, self.seconds = 0, 0.0
        self.log: list[LogRow] = []
        self.moments: list[Moment] = []

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters as plain arrays, not copied."""
        return {name: parameter.numpy() for name, parameter in self.parameters.items()}

    @property
    def n_parameters(self) -> int:
        return sum(array.size for array in self.arrays.values())

    def is_finite(self) -> bool:
        """Whether no parameter is infinite or NaN."""
        return all(np.isfinite(array).all() for array in self.arrays.values())

    @property
    def read(self) -> Reader:
        return reader(self.arrays, self.sizes.n_heads)

    def train(self, report: Callable[[Run, float], None], checkpoint: Path) -> None:
        """Take the steps that are left; write `checkpoint` from time to time; call `report` after each step."""
        self.save(checkpoint)
        started = time.perf_counter() - self.seconds
        looked_back_at = moments_of(self.settings.steps)
        while self.step < self.settings.steps:
            if self.step in looked_back_at and not any(moment.step == self.step for moment in self.moments):
                self.moments.append(Moment.of(self.step, self.arrays))
            with np.errstate(over="ignore", invalid="ignore"):  # looked at next
                loss, rate = self.take_step()
            if not (math.isfinite(loss) and self.is_finite()):
                raise TrainingError(f"step {self.step} led to numbers that are not finite: try a smaller --rate")
            if self.step % LOG_EVERY == 0 or self.step == self.settings.steps:
                accuracy = self.data.exam.accuracy(self.read, 300)
                self.log.append(LogRow(self.step, loss, accuracy, rate, round(time.perf_counter() - started, 3)))
            report(self, loss)
            self.seconds = time.perf_counter() - started
            if self.step % CHECKPOINT_EVERY == 0 or self.step == self.settings.steps:
                self.save(checkpoint)

    def take_step(self) -> tuple[float, float]:
        """One batch forward and backward, by hand or by tape, and one step of Adam: the loss, and the rate."""
        batch = self.data.batch(self.step)
        rate = self.rate_at(self.step)
        loss, gradients = GRADIENTS[self.settings.backprop](self, batch)
        for name, parameter in self.parameters.items():
            parameter.grad = ta.tensor(gradients[name])
        self.optimizer.step(lr=rate)
        self.step += 1
        return loss, rate

    def save(self, path: Path) -> None:
        """Everything that the rest of the run depends on."""
        arrays = {f"model.{name}": array for name, array in self.arrays.items()}
        arrays |= {f"optimizer.{name}": array for name, array in self.optimizer.state_dict().items()}
        for moment in self.moments:
            for name, (numbers, scales) in moment.small.items():
                arrays[f"moment.{moment.step}.numbers.{name}"] = numbers
                arrays[f"moment.{moment.step}.scales.{name}"] = scales
        log = [asdict(row) for row in self.log]
        state = {"settings": asdict(self.settings), "step": self.step, "seconds": self.seconds, "log": log}
        save_arrays(path, "checkpoint", arrays, state)

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        """Go on where `save` left off."""
        parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}, "moment": {}}
        for name, array in arrays.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = array
        self.model.load_state_dict(parts["model"])
        self.optimizer.load_state_dict(parts["optimizer"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.log = [LogRow(**row) for row in state["log"]]
        self.moments = _moments(parts["moment"])
        if not (0 <= self.step <= self.settings.steps and self.is_finite()):
            raise ValueError("a step that the run doesn't have, or numbers that are not finite")


def _moments(arrays: dict[str, np.ndarray]) -> list[Moment]:
    """What `save` has kept, named `STEP.numbers.NAME` and `STEP.scales.NAME`."""
    found: dict[int, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for key, numbers in arrays.items():
        step, part, name = key.split(".", 2)
        if part == "numbers":
            found.setdefault(int(step), {})[name] = numbers, arrays[f"{step}.scales.{name}"]
    return [Moment(step, found[step]) for step in sorted(found)]


def gradients_by_hand(run: Run, batch: Batch) -> tuple[float, dict[str, np.ndarray]]:
    """The loss and its gradients from the backward pass written out in `tinyattn.by_hand`."""
    return by_hand.loss_and_gradients(run.arrays, batch.tokens, batch.pronoun, batch.answer, run.sizes.n_heads)


def gradients_by_tape(run: Run, batch: Batch) -> tuple[float, dict[str, np.ndarray]]:
    """The loss and its gradients from the tape: `loss.backward()`."""
    run.model.zero_grad()
    loss = ta.cross_entropy(run.model(batch.tokens, batch.pronoun), targets=batch.answer)
    loss.backward()
    return loss.item(), {name: parameter.grad.numpy() for name, parameter in run.parameters.items()}


GRADIENTS = {"hand": gradients_by_hand, "tape": gradients_by_tape}


def reader(arrays: dict[str, np.ndarray], n_heads: int) -> Reader:
    """The model as evaluation and `resolve` see it: scores, and each layer's weights from the pronoun's place."""

    def read(tokens: np.ndarray, pronoun: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        scores, layers, _ = by_hand.forward(arrays, tokens, pronoun, n_heads)
        return scores, [from_pronoun(weights, pronoun) for weights in layers]

    return read


@dataclass(frozen=True)
class GradientErrors:
    """The largest relative difference of the gradients by hand from those by tape and by central differences."""

    tape: float
    numeric: float
    tape_at: str
    numeric_at: str
    n_sampled: int

    @property
    def ok(self) -> bool:
        """Whether the differences are no more than round-off, and the truncation of the central differences."""
        return self.tape < 1e-9 and self.numeric < 1e-5


def check_gradients(settings: Settings, data: Data, n_samples: int = 6) -> GradientErrors:
    """Three witnesses in float64 on eight sentences: by hand, by tape, and numerically at a sample of each parameter.

    An error is relative to the largest gradient of the same parameter; what isn't finite counts as infinitely wrong.
    """
    run = Run(Settings(seed=settings.seed, dtype="float64"), data)
    batch = data.train.take(np.arange(8))
    rng = np.random.default_rng([settings.seed, CHECK_STREAM])
    _, hand = gradients_by_hand(run, batch)
    _, tape = gradients_by_tape(run, batch)
    tape_errors, numeric_errors = {}, {}
    for name in run.arrays:
        scale = max(np.abs(hand[name]).max(), np.abs(tape[name]).max())
        tape_errors[name] = _largest(hand[name] - tape[name], scale)
        touched = np.flatnonzero(hand[name] + tape[name])  # words that are not said have no gradient to compare
        sample = rng.choice(touched, min(n_samples, len(touched)), replace=False)
        numeric = np.array([_central_difference(run, batch, name, i) for i in sample])
        numeric_errors[name] = _largest(hand[name].flat[sample] - numeric, scale)
    worst_tape, worst_numeric = (max(e, key=e.__getitem__) for e in (tape_errors, numeric_errors))
    return GradientErrors(tape_errors[worst_tape], numeric_errors[worst_numeric], worst_tape, worst_numeric, n_samples)


def _largest(differences: np.ndarray, scale: float) -> float:
    if not (scale > 0 and np.isfinite(differences).all()):
        return math.inf
    return float(np.abs(differences).max() / scale)


def _central_difference(run: Run, batch: Batch, name: str, i: int, step: float = 1e-5) -> float:
    """(L(θ + h) − L(θ − h)) / 2h in one number of one parameter."""
    losses = []
    for move in (step, -step):
        moved = run.arrays[name].copy()
        moved.flat[i] += move
        arrays = run.arrays | {name: moved}
        scores, _, _ = by_hand.forward(arrays, batch.tokens, batch.pronoun, run.sizes.n_heads)
        losses.append(by_hand.cross_entropy(scores, batch.answer)[0])
    return (losses[0] - losses[1]) / (2 * step)


def load_checkpoint(path: Path) -> tuple[Settings, dict[str, np.ndarray], dict[str, Any]]:
    """The settings of an interrupted run and its state; `FileError` where there is none."""
    arrays, state = load_arrays(path, "checkpoint")
    try:
        return Settings(**state["settings"]), arrays, state
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path}: a checkpoint of another version of this demo ({error})") from error


def save_model(path: Path, run: Run) -> None:
    """The trained parameters, with vocabulary and sizes in the metadata: all that `resolve` needs."""
    metadata = {
        "vocabulary": list(run.data.vocabulary.words),
        "config": run.sizes._asdict(),
        "settings": asdict(run.settings),
    }
    save_arrays(path, "model", run.arrays, metadata)


def save_log(path: Path, log: list[LogRow]) -> None:
    """The log as a table that any other program reads."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(LogRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in log)
    write_whole(path, text.getvalue().encode())
