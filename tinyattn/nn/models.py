"""Whole models: a language model that goes on with a text, and one that looks at pictures."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

import math
from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np

from tinyattn.engine import no_grad
from tinyattn.functions import broadcast_to, concatenate, embedding, linear, matmul
from tinyattn.nn.attention import KeyValueCache, check_caches
from tinyattn.nn.dropout import Dropout
from tinyattn.nn.initial import Seed, check_dtype, check_sizes, generator, normal
from tinyattn.nn.linear import Embedding, Linear
from tinyattn.nn.module import Module
from tinyattn.nn.transformer import Encoder
from tinyattn.nodes import numbers, rewrite
from tinyattn.rules.checks import check_flag, check_number
from tinyattn.tensor import Tensor
from tinyattn.variants import sinusoidal_positions

POSITIONS = ("learned", "sinusoidal", "rotary")
STD = 0.02  # of embeddings, to begin with, as in GPT-2


class GPT(Module):
    """A language model: for each position of a text, scores for what comes next, from what came before.

    x_p = word(id_p) + position(p);   blocks, each seeing p and before;   scores = norm(x) Wᵀ

    ids (..., n) → scores (..., n, vocab_size). W is the table of words itself, unless `tied=False`. Matrices start
    normal with standard deviation 0.02, and 0.02 / √(2 n_layers) where they add to the path that goes straight through;
    biases start at 0. Radford et al. 2019 (GPT-2), section 2.3; tied weights: Press and Wolf 2016, arXiv:1608.05859.

    >>> model = GPT(vocab_size=11, max_length=8, d_model=6, n_layers=2, n_heads=2, rng=0)
    >>> model([[1, 2, 3]]).shape
    (1, 3, 11)
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        d_model: int,
        n_layers: int,
        n_heads: int,
        d_ff: int | None = None,
        *,
        positions: str = "learned",
        tied: bool = True,
        dropout: float = 0.0,
        rng: Seed = None,
        dtype: Any = np.float32,
        **options: Any,
    ) -> None:
        """`positions` are "learned", "sinusoidal" or "rotary"; other options go to each `TransformerBlock`."""
        check_sizes("GPT", vocab_size=vocab_size, max_length=max_length, d_model=d_model)
        check_flag("GPT", "tied", tied)
        if positions not in POSITIONS:
            raise ValueError(f"GPT: positions must be one of {', '.join(POSITIONS)}; got {positions!r}")
        rng = generator("GPT", rng)
        self.max_length = max_length
        self.words = Embedding(vocab_size, d_model, std=STD, rng=rng, dtype=dtype)
        learned = positions == "learned"
        self.positions = Embedding(max_length, d_model, std=STD, rng=rng, dtype=dtype) if learned else None
        self.waves = sinusoidal_positions(max_length, d_model, dtype=dtype) if positions == "sinusoidal" else None
        self.drop = Dropout(dropout, rng=rng)
        if positions == "rotary":
            options["rope"] = options.get("rope", True)
        self.blocks = Encoder(n_layers, d_model, n_heads, d_ff, dropout=dropout, rng=rng, dtype=dtype, **options)
        self.head = None if tied else Linear(d_model, vocab_size, bias=False, rng=rng, dtype=dtype)
        self._begin(rng, n_layers)

    def _begin(self, rng: np.random.Generator, n_layers: int) -> None:
        """As GPT-2 begins: matrices normal, those that add to the path the smaller the more there are; biases 0."""
        for name, parameter in self.named_parameters():
            part = name.rpartition(".")[2]
            if part.startswith("b_") or part == "bias":
                rewrite(parameter)[...] = 0
            elif parameter.ndim == 2:
                onto_the_path = part == "w_output" or name.endswith("contract.weight")
                std = STD / (2 * n_layers) ** 0.5 if onto_the_path else STD
                rewrite(parameter)[...] = rng.normal(0.0, std, parameter.shape)

    @classmethod
    def from_safetensors(
        cls,
        path: str | PathLike[str],
        *,
        n_heads: int | None = None,
        activation: str | None = None,
        dtype: Any = np.float32,
    ) -> GPT:
        """The model of a Hugging Face GPT-2 checkpoint: the same scores, and the same gradients.

        The sizes are read from the arrays, `n_heads` and `activation` from config.json beside the file, unless they are
        given; without either a head has 64 numbers, and the activation is "gelu_tanh" (their `gelu_new`), as in all
        published GPT-2s. Their names are explained in `tinyattn/nn/gpt2.py`. Needs safetensors, which
        `pip install 'tinyattn[demos]'` brings. Raises `FileNotFoundError`, and `ValueError` for a file that is damaged,
        or no GPT-2.
        """
        from tinyattn.nn.gpt2 import BENDS, EPS, from_gpt2, read_config, read_safetensors

        check_dtype("from_safetensors", dtype)
        state, config = from_gpt2(read_safetensors(path)), read_config(path)
        for name in ("words.weight", "positions.weight", "blocks.blocks.0.mlp.expand.weight"):
            if name not in state or state[name].ndim != 2:
                raise ValueError(f"from_safetensors: {path} is no GPT-2: it has nothing that would be {name}")
        (vocab_size, d_model), (max_length, _) = state["words.weight"].shape, state["positions.weight"].shape
        if config.get("layer_norm_epsilon", EPS) != EPS:
            raise ValueError(f"from_safetensors: norms have ε = {EPS}; config.json has {config['layer_norm_epsilon']}")
        n_layers = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("blocks.blocks."))
        if activation is None:
            theirs = config.get("activation_function", "gelu_new")
            if theirs not in BENDS:
                raise ValueError(f"from_safetensors: activation_function can be {', '.join(BENDS)}; got {theirs!r}")
            activation = BENDS[theirs]
        model = cls(
            vocab_size,
            max_length,
            d_model,
            n_layers,
            n_heads or int(config.get("n_head") or max(d_model // 64, 1)),
            state["blocks.blocks.0.mlp.expand.weight"].shape[1],
            activation=activation,
            rng=0,
            dtype=dtype,
        )
        model.load_state_dict(state)
        return model

    def forward(self, ids: Any, *, caches: list[KeyValueCache] | None = None, return_weights: bool = False) -> Any:
        """ids (..., n) → scores (..., n, vocab_size), or (scores, [weights of each block]).

        With `caches`, one for each block as `caches()` makes them, the ids go on where those of before ended.
        """
        ids = ids if isinstance(ids, Tensor) else numbers(ids, "GPT: ids")
        if ids.ndim < 1:
            raise ValueError(f"GPT: ids must be (..., length); got shape {ids.shape}")
        if caches is not None:
            check_caches("GPT", caches, len(self.blocks.blocks))
        start = caches[0].length if caches else 0
        stop = start + ids.shape[-1]
        if stop > self.max_length:
            raise ValueError(f"GPT: there are positions for {self.max_length} ids; got {stop}")
        x: Any = self.words(ids)
        if self.positions is not None:
            x = x + self.positions(np.arange(start, stop))
        if self.waves is not None:
            x = x + self.waves[start:stop]
        found = self.blocks(self.drop(x), causal=True, caches=caches, return_weights=return_weights)
        x, weights = found if return_weights else (found, None)
        scores = matmul(x, self.words.weight.T) if self.head is None else self.head(x)
        return (scores, weights) if return_weights else scores

    def caches(self) -> list[KeyValueCache]:
        """An empty cache for each block."""
        return self.blocks.caches()

    def generate(
        self, ids: Any, n: int, *, temperature: float = 1.0, top_k: int | None = None, rng: Seed = None
    ) -> np.ndarray[Any, Any]:
        """These ids (..., length), and n more, each drawn from what the model expects next: (..., length + n).

        Scores are divided by `temperature`: below 1 the likely becomes likelier, and 0 takes the likeliest. `top_k`
        draws from the k likeliest alone, of equals the first. Keys and values are kept, so that each step computes one
        position. Nothing is dropped, and nothing is recorded. Raises `TypeError` for ids that aren't integers,
        `ValueError` for those that aren't in the vocabulary, and where the model has no positions for so many.

        >>> model = GPT(vocab_size=11, max_length=8, d_model=6, n_layers=1, n_heads=2, rng=0)
        >>> model.generate([1, 2], 3, rng=0).shape
        (5,)
        """
        drawn = self.stream(ids, n, temperature=temperature, top_k=top_k, rng=rng)
        return np.concatenate([_whole(ids), *(new[..., None] for new in drawn)], axis=-1)

    def stream(
        self, ids: Any, n: int, *, temperature: float = 1.0, top_k: int | None = None, rng: Seed = None
    ) -> Iterator[np.ndarray[Any, Any]]:
        """What `generate` adds, one position (...) after the other, as soon as it's drawn.

        >>> model = GPT(vocab_size=11, max_length=8, d_model=6, n_layers=1, n_heads=2, rng=0)
        >>> len(list(model.stream([1, 2], 3, rng=0)))
        3
        """
        if not (isinstance(n, int) and n == 0):
            check_sizes("generate", n=n)
        check_sizes("generate", **({} if top_k is None else {"top_k": top_k}))
        check_number("generate", "temperature", temperature, 0)
        if temperature == math.inf:
            raise ValueError("generate: temperature must be finite; the larger, the more alike all words become")
        ids = _whole(ids)
        if ids.ndim < 1 or ids.shape[-1] < 1:
            raise ValueError(f"generate: ids must be (..., length), with one id at least; got shape {ids.shape}")
        if ids.shape[-1] + n > self.max_length:
            raise ValueError(
                f"generate: the model has positions for {self.max_length} ids; got {ids.shape[-1]}, and {n} more"
            )
        if ids.size:
            embedding(self.words.weight.numpy(), ids)  # raises for what is no id
        return self._stream(ids, n, temperature, top_k, generator("generate", rng))

    def _stream(
        self, step: Any, n: int, temperature: float, top_k: int | None, rng: np.random.Generator
    ) -> Iterator[np.ndarray[Any, Any]]:
        caches = self.caches()
        for _ in range(n):
            modes = [(module, module.training) for module in self.modules()]
            self.eval()
            try:
                with no_grad():
                    scores = self(step, caches=caches).numpy()[..., -1, :]
            finally:
                for module, training in modes:
                    module.training = training
            new = _drawn(scores, temperature, top_k, rng)
            step = new[..., None]
            yield new


def _whole(ids: Any) -> np.ndarray[Any, Any]:
    """ids as an array of whole numbers; what is none stays what it is."""
    array = np.asarray(ids.numpy() if isinstance(ids, Tensor) else numbers(ids, "generate: ids"))
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def _drawn(
    scores: np.ndarray[Any, Any], temperature: float, top_k: int | None, rng: np.random.Generator
) -> np.ndarray[Any, Any]:
    """A class for each row of scores. The largest of scores + Gumbel noise is a draw from their softmax."""
    scores = scores.astype(np.float64)
    if top_k is not None and top_k < scores.shape[-1]:
        likeliest = np.argsort(-scores, axis=-1, kind="stable")[..., :top_k]
        few = np.full_like(scores, -np.inf)
        np.put_along_axis(few, likeliest, np.take_along_axis(scores, likeliest, axis=-1), axis=-1)
        scores = few
    noise = rng.gumbel(size=scores.shape) if temperature > 0 else 0.0
    return np.asarray(np.argmax(scores + temperature * noise, axis=-1))


class ViT(Module):
    """A picture, cut into patches that are read like words: scores for what it shows.

    x_0 = a learned token,   x_i = W patch_i + b,   plus a learned position each;   blocks;   scores = V norm(x)_0 + c

    images (..., n_channels, height, width) → scores (..., n_classes). Dosovitskiy et al. 2020, arXiv:2010.11929,
    section 3.1.

    >>> model = ViT(8, 4, n_channels=3, n_classes=10, d_model=6, n_layers=1, n_heads=2, rng=0)
    >>> model(np.zeros((2, 3, 8, 8), np.float32)).shape
    (2, 10)
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        patch_size: int,
        *,
        n_channels: int,
        n_classes: int,
        d_model: int,
        n_layers: int,
        n_heads: int,
        d_ff: int | None = None,
        dropout: float = 0.0,
        rng: Seed = None,
        dtype: Any = np.float32,
        **options: Any,
    ) -> None:
        """`image_size` is (height, width), or one number for both; other options go to each `TransformerBlock`."""
        if isinstance(image_size, tuple) and len(image_size) != 2:
            raise ValueError(f"ViT: image_size must be (height, width), or one number for both; got {image_size}")
        height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
        check_sizes("ViT", height=height, width=width, patch_size=patch_size, n_channels=n_channels)
        check_sizes("ViT", n_classes=n_classes, d_model=d_model)
        if height % patch_size or width % patch_size:
            raise ValueError(f"ViT: patches of {patch_size} must fill the picture; got {height} × {width}")
        rng = generator("ViT", rng)
        self.image_shape, self.patch_size = (n_channels, height, width), patch_size
        n_patches = (height // patch_size) * (width // patch_size)
        self.patches = Linear(n_channels * patch_size**2, d_model, rng=rng, dtype=dtype)
        self.token = normal(rng, (1, d_model), STD, dtype)
        self.positions = normal(rng, (n_patches + 1, d_model), STD, dtype)
        self.drop = Dropout(dropout, rng=rng)
        self.blocks = Encoder(n_layers, d_model, n_heads, d_ff, dropout=dropout, rng=rng, dtype=dtype, **options)
        self.head = Linear(d_model, n_classes, rng=rng, dtype=dtype)

    def forward(self, images: Any, *, return_weights: bool = False) -> Any:
        """images (..., n_channels, height, width) → (..., n_classes), or (scores, [weights of each block])."""
        images = images if isinstance(images, Tensor) else numbers(images, "ViT: images")
        if images.shape[-3:] != self.image_shape:
            raise ValueError(f"ViT: images must be (..., {', '.join(map(str, self.image_shape))}); got {images.shape}")
        lead, p = images.shape[:-3], self.patch_size
        channels, height, width = self.image_shape
        cut = images.reshape(*lead, channels, height // p, p, width // p, p)
        axes = [len(lead) + i for i in (1, 3, 0, 2, 4)]  # row of patches, patch of the row, channel, row, column
        n_patches = (height // p) * (width // p)
        flat = cut.transpose(*range(len(lead)), *axes).reshape(*lead, n_patches, channels * p * p)
        x = linear(flat, self.patches.weight, self.patches.bias)
        token = broadcast_to(self.token, (*lead, *self.token.shape))
        x = concatenate([token, x], axis=-2) + self.positions
        found = self.blocks(self.drop(x), return_weights=return_weights)
        x, weights = found if return_weights else (found, None)
        scores = self.head(x[..., 0, :])
        return (scores, weights) if return_weights else scores
