"""The pronoun model on layers: the same model, parameter names and numbers as `tinyattn.by_hand.pronoun`, on the tape.

Compare the two: what stands there in under 300 lines, forward and backward, is here the forward pass alone.
"""

from __future__ import annotations

import numpy as np

import tinyattn as ta
from tinyattn.by_hand.pronoun import PADDING, Sizes, initialize


class Block(ta.nn.Module):
    """Attention and an MLP with their norms; the model decides who asks, who is looked at, and what is said back."""

    def __init__(self, sizes: Sizes, dtype: np.dtype):
        d, d_ff = sizes.d_model, sizes.d_ff
        self.norm_1 = ta.nn.LayerNorm(d, dtype=dtype)
        self.attention = ta.nn.MultiHeadAttention(d, sizes.n_heads, bias=False, rng=0, dtype=dtype)
        self.norm_2 = ta.nn.LayerNorm(d, dtype=dtype)
        self.expand = ta.nn.Linear(d, d_ff, rng=0, dtype=dtype)
        self.contract = ta.nn.Linear(d_ff, d, rng=0, dtype=dtype)

    def attend(self, asked, keys, values, allowed, looks: list[np.ndarray] | None) -> ta.Tensor:
        if looks is None:
            return self.attention(asked, keys, values, mask=allowed)
        update, weights = self.attention(asked, keys, values, mask=allowed, return_weights=True)
        looks.append(weights.numpy())
        return update

    def mlp(self, x: ta.Tensor) -> ta.Tensor:
        return self.contract(ta.relu(self.expand(self.norm_2(x))))


class PronounModel(ta.nn.Module):
    """Scores for the word that the pronoun stands for, from the sentence and the pronoun's place.

    Two variations show what matters: `values="stream"` answers the pronoun with what block 1 made of the words, and
    not with the words themselves; `skip_block_1` leaves only the block in which the pronoun asks.
    """

    def __init__(self, sizes: Sizes, rng: np.random.Generator, dtype="float32", *, values="words", skip_block_1=False):
        dtype = np.dtype(dtype)
        self.values, self.skip_block_1 = values, skip_block_1
        self.words = ta.nn.Embedding(sizes.vocab_size, sizes.d_model, rng=0, dtype=dtype)
        self.positions = ta.nn.Embedding(sizes.max_length, sizes.d_model, rng=0, dtype=dtype)
        self.block_1 = Block(sizes, dtype)
        self.block_2 = Block(sizes, dtype)
        self.norm = ta.nn.LayerNorm(sizes.d_model, dtype=dtype)
        self.load_state_dict(initialize(sizes, rng, dtype))  # in place of what the layers start with

    def forward(self, tokens: np.ndarray, pronoun: np.ndarray, looks: list[np.ndarray] | None = None) -> ta.Tensor:
        """Scores (batch, vocab_size) for the word meant. To a list `looks`, each layer adds its attention weights."""
        at_pronoun = (np.arange(len(tokens)), pronoun)
        allowed = (tokens != PADDING)[:, None, None, :]
        words = self.words(tokens)
        stream = words + self.positions.weight[: tokens.shape[1]]

        if not self.skip_block_1:
            seen = self.block_1.norm_1(stream)
            stream = stream + self.block_1.attend(seen, seen, seen, allowed, looks)
            stream = stream + self.block_1.mlp(stream)

        seen = self.block_2.norm_1(stream)
        values = words if self.values == "words" else seen
        reader = stream[at_pronoun] + self.block_2.attend(seen[at_pronoun][:, None], seen, values, allowed, looks)[:, 0]
        reader = reader + self.block_2.mlp(reader)
        return self.norm(reader) @ self.words.weight.T
