"""The picture of a training: its losses, step by step."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from demos.files import write_whole
from demos.gpt.training import Run


def loss_curve(run: Run) -> Figure:
    """Losses of what is learned and of what is held out, against steps."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps = [row.step for row in run.log]
    axes.plot(range(1, run.step + 1), run.losses, color="tab:blue", linewidth=0.8, alpha=0.6, label="batch")
    axes.plot(steps, [row.validation for row in run.log], "o-", color="tab:orange", markersize=4, label="held out")
    axes.annotate(f"{run.log[-1].validation:.3f}", (steps[-1], run.log[-1].validation), (0, 8), ha="right",
                  textcoords="offset points")  # fmt: skip
    axes.set(xlabel="step", ylabel="loss, nats a character")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def save_curve(path: Path, run: Run) -> None:
    """Draw `loss_curve` to a PNG file."""
    content = io.BytesIO()
    with mpl.rc_context(mpl.rcParamsDefault):  # the same picture, whatever the user's settings
        loss_curve(run).savefig(content, format="png", dpi=130)
    write_whole(path, content.getvalue())
