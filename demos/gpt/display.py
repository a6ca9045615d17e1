"""What a person sees while the model learns: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from demos.gpt.training import Run


class Watcher:
    """Shows step, loss, characters a second and the time left."""

    def __init__(self, console: Console, run: Run) -> None:
        self.console = console
        self.started, self.first_step, self.told = time.perf_counter(), run.step, len(run.log)
        self.bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("loss {task.fields[loss]}  held out {task.fields[validation]}  {task.fields[speed]}  left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.live = console.is_interactive and not console.quiet
        self.task = self.bar.add_task(
            "train", total=run.settings.steps, completed=run.step, loss="-", validation="-", speed=""
        )

    def __enter__(self) -> Watcher:
        if self.live:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bar.stop()

    def __call__(self, run: Run, loss: float) -> None:
        last = run.step == run.settings.steps
        validation = f"{run.log[-1].validation:.3f}" if run.log else "-"
        if self.live and (run.step % 10 == 0 or last):
            speed = f"{self._speed(run):,.0f} characters/s"
            self.bar.update(self.task, completed=run.step, loss=f"{loss:.3f}", validation=validation, speed=speed)
        elif not self.live and len(run.log) > self.told:
            self.told = len(run.log)
            left = (run.settings.steps - run.step) * self._seconds(run)
            self.console.print(
                f"step {run.step:>5}/{run.settings.steps}  loss {loss:.3f}  held out {validation}  "
                f"{self._speed(run):,.0f} characters/s  {left:.0f} s left"
            )

    def _seconds(self, run: Run) -> float:
        """What a step takes."""
        return (time.perf_counter() - self.started) / max(run.step - self.first_step, 1)

    def _speed(self, run: Run) -> float:
        return run.settings.batch * run.settings.length / self._seconds(run)
