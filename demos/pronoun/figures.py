"""Pictures of a trained model: every head as a heat map, and one sentence's computation graph."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure, SubFigure

import tinyattn as ta
from demos.files import write_whole
from demos.pronoun.text import split_words
from demos.pronoun.training import Run
from tinyattn.by_hand import pronoun as by_hand


def attention_figure(run: Run, sentences: tuple[str, ...]) -> Figure:
    """For each sentence two rows of heat maps, one a layer, with a column for each head."""
    figure = Figure(figsize=(3.4 * run.sizes.n_heads, 5.2 * len(sentences)), layout="constrained")
    parts = np.atleast_1d(figure.subfigures(len(sentences), 1, hspace=0.04))
    for part, sentence in zip(parts, sentences, strict=True):
        _draw_sentence(part, run, sentence)
    return figure


def _draw_sentence(figure: SubFigure, run: Run, sentence: str) -> None:
    """Layer 1, where every word asks (the pronoun's row is framed), above layer 2, where only the pronoun does."""
    words = split_words(sentence)
    place = words.index("it")
    n, n_heads = len(words), run.sizes.n_heads
    tokens = run.data.vocabulary.encode([words])
    _, (block_1, block_2), _ = by_hand.forward(run.arrays, tokens, np.array([place]), n_heads)
    axes = figure.subplots(2, n_heads, squeeze=False, height_ratios=[n, 1.4])
    for head, (upper, lower) in enumerate(axes.T):
        image = upper.imshow(block_1[0, head], vmin=0, vmax=1, cmap="Blues", aspect="auto")
        upper.axhspan(place - 0.5, place + 0.5, fill=False, edgecolor="tab:red", linewidth=1.2)
        upper.set_title(f"layer 1, head {head + 1}", fontsize=10)
        lower.imshow(block_2[0, head], vmin=0, vmax=1, cmap="Blues", aspect="auto")
        lower.set_title(f"layer 2, head {head + 1}", fontsize=10)
        for column in np.flatnonzero(block_2[0, head, 0] >= 0.1):
            weight = block_2[0, head, 0, column]
            colour = "white" if weight > 0.5 else "black"
            lower.text(column, 0, f"{weight:.2f}", ha="center", va="center", fontsize=6, color=colour)
        upper.set_xticks([])
        lower.set_xticks(range(n), words, rotation=90, fontsize=8)
        upper.set_yticks(range(n) if head == 0 else [], words if head == 0 else [], fontsize=8)
        lower.set_yticks([0] if head == 0 else [], ["it"] if head == 0 else [], fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.6, label="attention weight")
    figure.suptitle(f"{sentence}   Rows ask, columns are looked at.", fontsize=11)


def save_attention(path: Path, run: Run, sentences: tuple[str, ...]) -> None:
    """Draw `attention_figure` to a PNG file."""
    content = io.BytesIO()
    with mpl.rc_context(mpl.rcParamsDefault):  # the same picture, whatever the user's settings
        attention_figure(run, sentences).savefig(content, format="png", dpi=130)
    write_whole(path, content.getvalue())


def save_graph(path: Path, run: Run, sentence: str, answer: str) -> None:
    """The tape of one sentence's loss as a picture, with the parameters by their names.

    Raises `RuntimeError` where nothing is installed that could draw it; the graph then stands beside, as DOT.
    """
    words = split_words(sentence)
    tokens = run.data.vocabulary.encode([words])
    scores = run.model(tokens, np.array([words.index("it")]))
    targets = np.array([run.data.vocabulary.numbers[answer]])
    graph = ta.graph(ta.cross_entropy(scores, targets=targets), names=run.parameters)
    try:
        graph.save(path)
    except RuntimeError:
        graph.save(path.with_suffix(".dot"))
        raise
