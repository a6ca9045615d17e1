"""Pictures of a trained model: every head as a heat map, and one sentence's computation graph."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import tinyattn as ta
from demos.pronoun.files import write_whole
from demos.pronoun.text import split_words
from demos.pronoun.training import Run
from tinyattn.by_hand import pronoun as by_hand


def attention_figure(run: Run, sentences: tuple[str, ...]) -> Figure:
    """A row of heat maps for each sentence and layer, a column for each head; the pronoun's own row is framed."""
    n_heads = run.sizes.n_heads
    ratios = [8.0, 1.0] * len(sentences)
    figure = Figure(figsize=(3.4 * n_heads, 4.4 * len(sentences)), layout="constrained")
    axes = figure.subplots(len(ratios), n_heads, squeeze=False, height_ratios=ratios)
    for i, sentence in enumerate(sentences):
        words = split_words(sentence)
        place = words.index("it")
        tokens = run.data.vocabulary.encode([words])
        _, (block_1, block_2), _ = by_hand.forward(run.arrays, tokens, np.array([place]), n_heads)
        for head in range(n_heads):
            upper, lower = axes[2 * i, head], axes[2 * i + 1, head]
            image = upper.imshow(block_1[0, head], vmin=0, vmax=1, cmap="Blues")
            upper.set_title(f"layer 1, head {head + 1}", fontsize=10)
            upper.axhspan(place - 0.5, place + 0.5, fill=False, edgecolor="tab:red", linewidth=1.2)
            lower.imshow(block_2[0, head], vmin=0, vmax=1, cmap="Blues", aspect="auto")
            for n, weight in enumerate(block_2[0, head, 0]):
                if weight >= 0.1:
                    colour = "white" if weight > 0.5 else "black"
                    lower.text(n, 0, f"{weight:.2f}"[1:] if weight < 0.995 else "1", ha="center", va="center",
                               fontsize=6.5, color=colour)  # fmt: skip
            lower.set_title(f"layer 2, head {head + 1}", fontsize=10)
            upper.set_xticks([])
            lower.set_xticks(range(len(words)), words, rotation=90, fontsize=8)
            upper.set_yticks(range(len(words)) if head == 0 else [], words if head == 0 else [], fontsize=8)
            lower.set_yticks([0] if head == 0 else [], ["it"] if head == 0 else [], fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.4, label="attention weight")
    figure.suptitle("Who looks where: rows ask, columns are looked at. " + "  /  ".join(sentences), fontsize=10)
    return figure


def save_attention(path: Path, run: Run, sentences: tuple[str, ...]) -> None:
    content = io.BytesIO()
    with mpl.rc_context({"font.family": "DejaVu Sans"}):
        attention_figure(run, sentences).savefig(content, format="png", dpi=130)
    write_whole(path, content.getvalue())


def save_graph(path: Path, run: Run, sentence: str, answer: str) -> None:
    """The tape of one sentence's loss as a picture."""
    words = split_words(sentence)
    tokens = run.data.vocabulary.encode([words])
    scores = run.model(tokens, np.array([words.index("it")]))
    targets = np.array([run.data.vocabulary.numbers[answer]])
    ta.graph(ta.cross_entropy(scores, targets=targets)).save(path)
