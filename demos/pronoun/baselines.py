"""What the toy is compared with: other ways to read the same sentences, trained the same way, counted the same way."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from rich.console import Console

import tinyattn as ta
from demos.pronoun.corpus import KIND_OF
from demos.pronoun.evaluation import Findings, Reader, from_pronoun
from demos.pronoun.model import PronounModel
from demos.pronoun.text import Vocabulary
from demos.pronoun.training import MODEL_STREAM, Data, Settings, schedule
from tinyattn.by_hand.pronoun import PADDING, Sizes


class MeanPooling(ta.nn.Module):
    """Stands where attention stands: every word counts the same, whoever asks."""

    def __init__(self, d_model: int, rng: np.random.Generator, dtype: np.dtype):
        self.value = ta.nn.Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)
        self.output = ta.nn.Linear(d_model, d_model, bias=False, rng=rng, dtype=dtype)

    def forward(self, asked, keys, values, *, mask, return_weights=False):
        weights = (mask / mask.sum(axis=-1, keepdims=True)).astype(values.dtype)  # (batch, 1, 1, n)
        update = self.output(weights[:, 0] @ self.value(values))  # (batch, 1, d_model): the same for all of `asked`
        return (update, ta.tensor(weights)) if return_weights else update


class BagOfWords(ta.nn.Module):
    """The mean of the words, without places, and a wide MLP in place of all attention."""

    def __init__(self, sizes: Sizes, rng: np.random.Generator, dtype: np.dtype):
        d, d_ff = sizes.d_model, 4 * sizes.d_ff
        self.words = ta.nn.Embedding(sizes.vocab_size, d, rng=rng, dtype=dtype)
        self.words.weight.data *= 0.3
        self.norm_1 = ta.nn.LayerNorm(d, dtype=dtype)
        self.expand = ta.nn.Linear(d, d_ff, rng=rng, dtype=dtype)
        self.contract = ta.nn.Linear(d_ff, d, rng=rng, dtype=dtype)
        self.norm = ta.nn.LayerNorm(d, dtype=dtype)

    def forward(self, tokens, pronoun, looks=None):
        said = (tokens != PADDING).astype(self.words.weight.dtype)[:, None]  # (batch, 1, n)
        bag = (said / said.sum(axis=-1, keepdims=True) @ self.words(tokens))[:, 0]
        bag = bag + self.contract(ta.relu(self.expand(self.norm_1(bag))))
        return self.norm(bag) @ self.words.weight.T


class LSTM(ta.nn.Module):
    """Reads the sentence from both ends (Hochreiter and Schmidhuber, 1997) and answers from the pronoun's place."""

    def __init__(self, sizes: Sizes, rng: np.random.Generator, dtype: np.dtype):
        d = sizes.d_model
        self.words = ta.nn.Embedding(sizes.vocab_size, d, rng=rng, dtype=dtype)
        self.words.weight.data *= 0.3
        self.w_input = _normal(rng, (2, 1, d, 4 * d), dtype)
        self.w_state = _normal(rng, (2, d, 4 * d), dtype)
        bias = np.zeros((2, 1, 4 * d), dtype)
        bias[..., d : 2 * d] = 1  # remember, to begin with
        self.bias = ta.tensor(bias, requires_grad=True)
        self.merge = ta.nn.Linear(2 * d, d, rng=rng, dtype=dtype)
        self.norm = ta.nn.LayerNorm(d, dtype=dtype)

    def forward(self, tokens, pronoun, looks=None):
        both = np.stack([tokens.T, tokens.T[::-1]])  # (2, n, batch): forwards and backwards
        gates = self.words(both) @ self.w_input  # (2, n, batch, 4 d)
        d = self.w_state.shape[1]
        state = cell = np.zeros((2, len(tokens), d), self.bias.dtype)
        states = []
        for place in range(tokens.shape[1]):
            z = gates[:, place] + state @ self.w_state + self.bias
            keep_in, forget, out = (ta.sigmoid(z[..., i * d : (i + 1) * d]) for i in range(3))
            cell_now = forget * cell + keep_in * ta.tanh(z[..., 3 * d :])
            said = (both[:, place] != PADDING)[..., None]
            cell = ta.where(said, cell_now, cell)
            state = ta.where(said, out * ta.tanh(cell_now), state)
            states.append(state)
        states = ta.stack(states)  # (n, 2, batch, d)
        rows, last = np.arange(len(tokens)), tokens.shape[1] - 1
        read = ta.concatenate([states[pronoun, 0, rows], states[last - pronoun, 1, rows]], axis=-1)
        return self.norm(self.merge(read)) @ self.words.weight.T


def _normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> ta.Tensor:
    return ta.tensor((rng.standard_normal(shape) / np.sqrt(shape[-2])).astype(dtype), requires_grad=True)


def nearest_noun(vocabulary: Vocabulary) -> Reader:
    """The noun said last before the pronoun: nothing to learn."""
    is_noun = np.array([word in KIND_OF for word in vocabulary.words])

    def read(tokens, pronoun):
        places = np.arange(tokens.shape[1])
        before = is_noun[tokens] & (places < pronoun[:, None])
        nearest = np.where(before, places, -1).max(axis=1)
        scores = np.zeros((len(tokens), len(vocabulary)))
        rows = np.arange(len(tokens))
        scores[rows, tokens[rows, nearest]] = 1
        return scores, []

    return read


def _mean_pooling(sizes, rng, dtype):
    model = PronounModel(sizes, rng, dtype)
    for block in (model.block_1, model.block_2):
        block.attention = MeanPooling(sizes.d_model, rng, dtype)
    return model


def _no_scaling(sizes, rng, dtype):
    model = PronounModel(sizes, rng, dtype)
    for block in (model.block_1, model.block_2):
        block.attention.scale = 1.0
    return model


MODELS: dict[str, Callable[[Sizes, np.random.Generator, np.dtype], ta.nn.Module]] = {
    "values from the stream": lambda sizes, rng, dtype: PronounModel(sizes, rng, dtype, values="stream"),
    "no scaling": _no_scaling,
    "one head": lambda sizes, rng, dtype: PronounModel(sizes._replace(n_heads=1), rng, dtype),
    "one layer": lambda sizes, rng, dtype: PronounModel(sizes, rng, dtype, skip_block_1=True),
    "LSTM": LSTM,
    "mean pooling": _mean_pooling,
    "bag of words": BagOfWords,
}


def train_baseline(name: str, settings: Settings, data: Data) -> Reader:
    """Train one of `MODELS` on the model's own batches, with its optimiser, its learning rates and its steps."""
    dtype = np.dtype(settings.dtype)
    rng = np.random.default_rng([settings.seed, MODEL_STREAM])
    model = MODELS[name](Sizes(vocab_size=len(data.vocabulary)), rng, dtype)
    optimizer = ta.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    rate_at = schedule(settings)
    for step in range(settings.steps):
        batch = data.batch(step)
        model.zero_grad()
        ta.cross_entropy(model(batch.tokens, batch.pronoun), targets=batch.answer).backward()
        optimizer.step(lr=rate_at(step))

    def read(tokens, pronoun):
        looks: list[np.ndarray] = []
        with ta.no_grad():
            scores = model(tokens, pronoun, looks)
        return scores.numpy(), [from_pronoun(weights, pronoun) for weights in looks]

    return read


def trained_baselines(settings: Settings, data: Data, console: Console) -> list[tuple[str, Findings]]:
    """A row of the table for each baseline."""
    rows = []
    for name in MODELS:
        started = time.perf_counter()
        with console.status(f"training: {name}"):
            rows.append((name, data.exam.findings(train_baseline(name, settings, data))))
        console.print(f"{name}: trained and counted in {time.perf_counter() - started:.0f} s")
    return [*rows, ("nearest noun", data.exam.findings(nearest_noun(data.vocabulary)))]
