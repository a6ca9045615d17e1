"""What a person sees while the toy trains and when it is done: progress, tables, words shaded by weight."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from demos.pronoun.evaluation import Findings, Looks
from demos.pronoun.text import split_words
from demos.pronoun.training import GradientErrors, Run

SENTENCE = "The animal didn't cross the street because it was tired."
TWIN = "The animal didn't cross the street because it was wide."
BAR = "▏▎▍▌▋▊▉█"


class Watcher:
    """Shows training as it goes: a bar and a live line on a terminal, a plain line now and then elsewhere."""

    def __init__(self, console: Console, run: Run):
        self.console, self.words = console, split_words(SENTENCE)
        self.tokens = run.data.vocabulary.encode([self.words])
        self.place = np.array([self.words.index("it")])
        self.started, self.first_step = time.perf_counter(), run.step
        self.bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("loss {task.fields[loss]}  held-out {task.fields[accuracy]}  left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task("train", total=run.settings.steps, completed=run.step, loss="-", accuracy="-")
        self.live = Live(self.bar, console=console, refresh_per_second=8) if console.is_interactive else None

    def __enter__(self) -> Watcher:
        if self.live:
            self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.__exit__(kind, error, trace)

    def __call__(self, run: Run, loss: float) -> None:
        if self.live and (run.step % 20 == 0 or run.step == run.settings.steps):
            self.bar.update(self.task, completed=run.step, loss=f"{loss:.3f}", accuracy=self._accuracy(run))
            self.live.update(Group(self.bar, shaded(self.words, self._weights(run)), Text(f" {self._most(run)}")))
        elif not self.live and (run.step % 500 == 0 or run.step == run.settings.steps):
            rate = (run.step - self.first_step) / (time.perf_counter() - self.started)
            left = (run.settings.steps - run.step) / rate
            self.console.print(
                f"step {run.step:>5}/{run.settings.steps}  loss {loss:.3f}  held-out {self._accuracy(run)}  "
                f"{self._most(run)}  {left:3.0f} s left"
            )

    def _accuracy(self, run: Run) -> str:
        return f"{run.log[-1].heldout_accuracy:.3f}" if run.log else "-"

    def _weights(self, run: Run) -> np.ndarray:
        """From `it` to each word, in the last layer's head that is most decided."""
        heads = run.read(self.tokens, self.place)[1][-1][0]
        return heads[heads.max(axis=1).argmax()]

    def _most(self, run: Run) -> str:
        weights = self._weights(run)
        return f"it → {self.words[weights.argmax()]} {weights.max():.2f}"


def shaded(words: Sequence[str], weights: np.ndarray) -> Text:
    """The words in one line, each on a shade as dark as its weight; the heaviest is bold, so colour isn't needed."""
    line = Text()
    for word, weight in zip(words, weights, strict=True):
        blue = round(235 - 160 * float(weight))
        style = f"black on rgb({blue},{blue},255)" if weight > 0.02 else ""
        line.append(f" {word} ", style=f"bold {style}" if weight == weights.max() else style)
    return line


def bar(weight: float, width: int = 24) -> str:
    """A bar as long as its weight, in eighths of a character.

    >>> bar(0.5, width=4), bar(0.0, width=4)
    ('██', '')
    """
    eighths = round(float(weight) * width * 8)
    return BAR[-1] * (eighths // 8) + (BAR[eighths % 8 - 1] if eighths % 8 else "")


def weight_lines(words: Sequence[str], weights: np.ndarray) -> list[str]:
    """A line for each word: the word, its weight as a number and as a bar."""
    width = max(map(len, words))
    return [f"{word:<{width}}  {w:.3f} {bar(w)}".rstrip() for word, w in zip(words, weights, strict=True)]


def _table(first_column: str, *numbers: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first_column, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _titled(title: str, table: Table) -> Group:
    return Group(Text(title, style="bold"), table)


def gradient_table(errors: GradientErrors) -> Group:
    """What the three witnesses say of each other before the first step."""
    table = _table("witness", "largest relative error")
    table.add_column("in")
    table.add_row("the tape", f"{errors.tape:.1e}", errors.tape_at)
    table.add_row("central differences", f"{errors.numeric:.1e}", errors.numeric_at)
    title = f"Every gradient by hand, against two witnesses (differences: {errors.n_sampled} numbers of each)"
    return _titled(title, table)


def accuracy_table(rows: Sequence[tuple[str, Findings]]) -> Group:
    """Models beside each other, all counted on the same held-out sentences."""
    table = _table("model", "all", "same kind", "pairs", "swaps", "weight", "> rival")
    for name, found in rows:
        best = found.best_head
        looks = (f"{best.antecedent:.3f}", f"{best.over_rival:.3f}") if best else ("", "")
        accuracies = (found.heldout, found.same_kind, found.minimal_pairs, found.swaps)
        table.add_row(name, *(f"{value:.3f}" for value in accuracies), *looks)
    return _titled("Held-out sentences answered right; the best head's weight on the antecedent", table)


def looks_table(looks: Sequence[Looks]) -> Group:
    """Each head of each layer: how much of its weight goes from the pronoun to either noun."""
    table = _table("layer", "head", "on antecedent", "on rival", "> rival")
    for look in looks:
        numbers = (f"{value:.3f}" for value in (look.antecedent, look.rival, look.over_rival))
        table.add_row(str(look.layer), str(look.head), *numbers)
    return _titled("Where the pronoun looks, mean over held-out sentences", table)
