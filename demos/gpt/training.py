"""Training a character GPT, step by step, to be killed and resumed at any moment."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinyattn as ta
from demos.files import FileError, load_arrays, save_arrays, write_whole
from demos.gpt.parallel import Alone, Ranks
from demos.gpt.text import Corpus

MODEL_STREAM = 3  # random numbers of one seed, kept apart (the text has 1 and 2)
CHECKPOINT_EVERY = 100
VALIDATION_BATCHES = 20


@dataclass(frozen=True)
class Settings:
    """What decides every number of a run, beside the text."""

    seed: int = 0
    steps: int = 3000
    layers: int = 2
    heads: int = 4
    d_model: int = 64
    length: int = 64
    batch: int = 12
    rate: float = 2e-3
    floor: float = 2e-4
    warmup: int = 100
    beta2: float = 0.99
    decay: float = 0.1
    clip: float = 1.0
    dropout: float = 0.0
    bias: bool = False
    evaluate: int = 500
    dtype: str = "float32"

    def __post_init__(self) -> None:
        whole = ("seed", "steps", "layers", "heads", "d_model", "length", "batch", "warmup", "evaluate")
        for name in whole:
            value, least = getattr(self, name), {"seed": 0, "warmup": 0, "length": 2}.get(name, 1)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be a whole number from {least} on; got {value!r}")
        for name, most in (("rate", math.inf), ("floor", math.inf), ("beta2", 1), ("decay", math.inf), ("dropout", 1)):
            value = getattr(self, name)
            if type(value) is not float or not 0 <= value < most:
                raise ValueError(f"{name} must be a number of 0 or more, and less than {most}; got {value!r}")
        if not self.rate > 0 or not self.clip > 0:
            raise ValueError(f"rate and clip must be greater than 0; got {self.rate!r} and {self.clip!r}")
        if self.d_model % self.heads:
            raise ValueError(f"heads must divide d_model; got {self.heads} heads of {self.d_model}")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be float32 or float64; got {self.dtype!r}")


PRESETS = {
    "small": Settings(),
    # https://github.com/karpathy/nanoGPT, README, "i only have a macbook", with the rates of its config
    "nano-cpu": Settings(
        steps=2000, layers=4, heads=4, d_model=128, length=64, batch=12, rate=1e-3, floor=1e-4, warmup=100, beta2=0.99,
        decay=0.1, clip=1.0, dropout=0.0, bias=False, evaluate=250,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class LogRow:
    """One line of log.csv."""

    step: int
    loss: float
    validation: float
    rate: float
    seconds: float


class TrainingError(Exception):
    """Training can't go on; the message says why."""


def make_model(settings: Settings, vocab_size: int, dropout_rng: np.random.Generator | None = None) -> ta.nn.GPT:
    """The model of these settings, as it starts."""
    return ta.nn.GPT(
        vocab_size,
        settings.length,
        settings.d_model,
        settings.layers,
        settings.heads,
        bias=settings.bias,
        dropout=settings.dropout,
        rng=np.random.default_rng([settings.seed, MODEL_STREAM]) if dropout_rng is None else dropout_rng,
        dtype=np.dtype(settings.dtype),
    )


class Run:
    """A model in training: its parameters, the optimiser's state, the step reached and the log."""

    def __init__(self, settings: Settings, corpus: Corpus, ranks: Ranks | None = None) -> None:
        self.settings, self.corpus, self.ranks = settings, corpus, ranks or Alone()
        if settings.batch < self.ranks.n:
            raise TrainingError(f"a batch of {settings.batch} can't be shared by {self.ranks.n} processes")
        self.rng = np.random.default_rng(
            [settings.seed, MODEL_STREAM]
        )  # of the parameters, and then of what is dropped
        self.model = make_model(settings, len(corpus.vocabulary), self.rng)
        self.parameters = dict(self.model.named_parameters())
        self.optimizer = ta.optim.AdamW(
            self.model.parameters(),
            betas=(0.9, settings.beta2),
            weight_decay=settings.decay,
            decayed=lambda parameter: parameter.ndim > 1,
        )
        self.rate_at = ta.optim.cosine(settings.rate, settings.steps, warmup=settings.warmup, floor=settings.floor)
        self._validation = corpus.validation(settings.seed, VALIDATION_BATCHES, settings.batch, settings.length)
        self.step, self.seconds = 0, 0.0
        self.log: list[LogRow] = []
        self.losses: list[float] = []  # of each step

    @property
    def n_parameters(self) -> int:
        return sum(parameter.size for parameter in self.parameters.values())

    def train(self, report: Callable[[Run, float], None], checkpoint: Path) -> None:
        """Take the steps that are left; write `checkpoint` from time to time; call `report` after each step."""
        settings = self.settings
        self._keep(checkpoint)
        started = time.perf_counter() - self.seconds
        while self.step < settings.steps:
            with np.errstate(over="ignore", invalid="ignore"):  # looked at next
                loss, norm, rate = self.take_step()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise TrainingError(f"step {self.step} led to numbers that are not finite: try a smaller --rate")
            self.losses.append(loss)
            self.seconds = time.perf_counter() - started
            if self.step % settings.evaluate == 0 or self.step == settings.steps:
                row = LogRow(self.step, loss, self.validation_loss(), rate, round(self.seconds, 3))
                self.log.append(row)
            report(self, loss)
            if self.step % CHECKPOINT_EVERY == 0 or self.step == settings.steps:
                self._keep(checkpoint)

    def take_step(self) -> tuple[float, float, float]:
        """One batch forward and backward, and one step of AdamW: the loss, the norm of the gradient, the rate."""
        settings, ranks = self.settings, self.ranks
        ids, following = self.corpus.batch(settings.seed, self.step, settings.batch, settings.length)
        own = ranks.share(settings.batch)
        rate = self.rate_at(self.step)
        scores = self.model(ids[own])
        loss = ta.cross_entropy(scores, following[own]) * np.float32(ranks.weight(settings.batch))
        self.optimizer.zero_grad()
        loss.backward()
        norm = self.optimizer.step(rate, max_norm=settings.clip, shared=ranks.add_up)
        assert norm is not None
        self.step += 1
        return ranks.sum(loss.item()), norm, rate

    def validation_loss(self) -> float:
        """The mean loss over the batches that are held out."""
        self.model.eval()
        try:
            with ta.no_grad():
                losses = [ta.cross_entropy(self.model(ids), following).item() for ids, following in self._validation]
        finally:
            self.model.train()
        return float(np.mean(losses))

    def _keep(self, checkpoint: Path) -> None:
        if self.ranks.is_first:
            self.save(checkpoint)

    def save(self, path: Path) -> None:
        """All that is needed to go on as if nothing had happened."""
        arrays = {f"model.{name}": parameter.numpy() for name, parameter in self.parameters.items()}
        arrays["losses"] = np.array(self.losses)
        arrays |= {f"optimizer.{name}": array for name, array in self.optimizer.state_dict().items()}
        state = {
            "settings": asdict(self.settings),
            "characters": self.corpus.vocabulary.characters,
            "text": self.corpus.fingerprint,
            "step": self.step,
            "seconds": self.seconds,
            "log": [asdict(row) for row in self.log],
            "rng": self.rng.bit_generator.state,
        }
        save_arrays(path, "GPT checkpoint", arrays, state)

    def restore(self, path: Path, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        """Go on from a checkpoint. Raises `FileError` where it doesn't fit the text or the model."""
        if state.get("text") != self.corpus.fingerprint:
            raise FileError(f"{path}: its run learned another text; name the same files, with the same content")
        parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}, "losses": {}}
        try:
            for name, array in arrays.items():
                part, _, rest = name.partition(".")
                parts[part][rest] = array
            log = [LogRow(**row) for row in state["log"]]
            step, seconds = int(state["step"]), float(state["seconds"])
            self.rng.bit_generator.state = state["rng"]
            self.model.load_state_dict(parts["model"])
            self.optimizer.load_state_dict(parts["optimizer"])
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{path}: a checkpoint of another shape or version ({error})") from error
        self.step, self.seconds, self.log, self.losses = step, seconds, log, parts["losses"][""].tolist()


def load_checkpoint(path: Path) -> tuple[Settings, dict[str, np.ndarray], dict[str, Any]]:
    """The settings of an interrupted run and its state; `FileError` where there is none."""
    arrays, state = load_arrays(path, "GPT checkpoint")
    try:
        return Settings(**state["settings"]), arrays, state
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path}: a checkpoint of another version of this demo ({error})") from error


def save_model(path: Path, run: Run) -> None:
    """The trained parameters, with characters and settings: all that `sample` needs."""
    arrays = {name: parameter.numpy() for name, parameter in run.parameters.items()}
    metadata = {"characters": run.corpus.vocabulary.characters, "settings": asdict(run.settings)}
    save_arrays(path, "GPT model", arrays, metadata)


def save_log(path: Path, log: list[LogRow]) -> None:
    """The log as a table that any other program reads."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(LogRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in log)
    write_whole(path, text.getvalue().encode())
