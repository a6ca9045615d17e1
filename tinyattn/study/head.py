"""One head of attention on a sentence, seen from one word: every number from its query to its mix, and back.

    query = x_word W_q,  key = x W_k,  value = x W_v                 (multi_head.1)
    s_j = query · key_j / √d_k                                       (attention.1)
    w_j = exp(s_j) / Σ_k exp(s_k)        over the words it may see   (attention.2)
    mix = Σ_j w_j value_j                                            (attention.3)

The words' embeddings and the head's matrices are random: what is to be seen is how the numbers are made of each other.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyattn.study.heard import Heard
from tinyattn.study.softmax import Way, back, jacobian, way
from tinyattn.study.steps import STUDIES, Made, Study, inputs
from tinyattn.study.witnesses import STEP, Place, by_differences, by_tape

Vector: TypeAlias = "np.ndarray[Any, Any]"

MOST = 1000  # numbers of an array that are differenced; of a larger one as many, chosen at random
MOST_TOKENS = 200
MOST_D_MODEL = 1024
LABELS = {
    "value": "(attention.4)",
    "weights": "(attention.5)",
    "scores": "(softmax.3)",
    "query": "(attention.6)",
    "key": "(attention.7)",
}


class Head(NamedTuple):
    """The study of one head from one word. n tokens; arrays are float64."""

    tokens: tuple[str, ...]
    position: int  # of the word that asks
    d_model: int
    n_heads: int
    head: int  # which of them, from 0
    seed: int
    scale: float  # 1/√d_k, or 1
    causal: bool
    query: Vector  # (d_k,)
    key: Vector  # (n, d_k)
    value: Vector  # (n, d_k)
    dots: Vector  # (n,): query · key
    scaled: Vector  # (n,)
    scores: Vector  # (n,): the scaled ones, −∞ where hidden
    weights: Vector  # (n,)
    mix: Vector  # (d_k,)
    jacobian: Vector  # (n, n): ∂weights/∂scores
    d_output: Vector  # (d_k,): where the way back begins, random
    gradients: tuple[Heard, ...]  # d_value, d_weights, d_scores, d_query, d_key
    ways: tuple[Way, ...]  # weights and gradient of the dots: without the scale, then with it
    all_weights: Vector  # (n_heads, n): what the word looks at in every head

    @property
    def d_k(self) -> int:
        """The columns of a head."""
        return self.d_model // self.n_heads

    @property
    def word(self) -> str:
        """The word that asks."""
        return self.tokens[self.position]

    @property
    def hidden(self) -> Vector:
        """Which words the query may not see."""
        return np.isneginf(self.scores)

    def gradient(self, name: str) -> Heard:
        """What was said of one of them, by name."""
        return next(heard for heard in self.gradients if heard.name == name)


def head_study(
    sentence: str,
    *,
    query: str | None = None,
    n_heads: int = 2,
    head: int = 1,
    d_model: int = 8,
    causal: bool = False,
    scaled: bool = True,
    seed: int = 0,
) -> Head:
    """Everything between the query of one word and the gradient of its mix, in head number `head`, from 1 on.

    `query` is a word of the sentence, the last unless given, or a position, from 1 on. The same word has the same
    embedding wherever it stands: no positions are added.

    Raises `ValueError` for a sentence without words, a word that isn't in it, or more than once, and sizes that don't
    fit.

    >>> found = head_study("the cat sat", query="cat", causal=True)
    >>> found.tokens, float(found.weights[2]), found.gradient("d_scores").agree
    (('the', 'cat', 'sat'), 0.0, True)
    """
    tokens = words(sentence)
    if not 1 <= len(tokens) <= MOST_TOKENS:
        raise ValueError(f"attention: needs a sentence of 1 to {MOST_TOKENS} words; got {len(tokens)}")
    if not 1 <= d_model <= MOST_D_MODEL:
        raise ValueError(f"attention: d_model must be from 1 to {MOST_D_MODEL}; got {d_model}")
    if n_heads < 1 or d_model % n_heads:
        raise ValueError(f"attention: the heads share d_model equally; {d_model} columns can't be had by {n_heads}")
    if not 1 <= head <= n_heads:
        raise ValueError(f"attention: the heads are numbered from 1 to {n_heads}; got {head}")
    position = _position(query, tokens)
    rng = np.random.default_rng(seed)
    x = _embeddings(tokens, d_model, rng)
    matrices = rng.normal(size=(3, n_heads, d_model, d_model // n_heads)) / math.sqrt(d_model)
    mask = np.arange(len(tokens)) <= position if causal else np.ones(len(tokens), dtype=bool)
    made = [_made(x, matrices[:, h], position, mask, scaled) for h in range(n_heads)]
    return _studied(made, tokens, position, d_model, head - 1, seed, causal, rng)


def words(sentence: str) -> tuple[str, ...]:
    """The words, and the punctuation behind each.

    >>> words("The animal didn't, it was tired.")
    ('The', 'animal', "didn't", ',', 'it', 'was', 'tired', '.')
    """
    parts = (re.fullmatch(r"(.*?)([.,;:!?…。،؟]*)", word, re.DOTALL) for word in sentence.split())
    return tuple(part for match in parts if match for part in match.groups() if part)


def _position(query: str | None, tokens: tuple[str, ...]) -> int:
    """Where the word stands that asks."""
    if query is None:
        return len(tokens) - 1
    places = [i for i, token in enumerate(tokens) if token == query]
    if len(places) == 1:
        return places[0]
    if places:
        listed = " and ".join(str(i + 1) for i in places)
        raise ValueError(
            f"attention: {query!r} stands at {listed} of the sentence; say which by its position, as in --query"
            f" {places[0] + 1}"
        )
    if query.isascii() and query.isdecimal() and len(query) < 9 and 1 <= int(query) <= len(tokens):
        return int(query) - 1
    raise ValueError(f"attention: there is no word {query!r} in the sentence; {_hint(query, tokens)}")


def _hint(query: str, tokens: tuple[str, ...]) -> str:
    import difflib

    by_letters = {token.casefold(): token for token in tokens}
    near = difflib.get_close_matches(query.casefold(), by_letters, n=1)
    return f"did you mean {by_letters[near[0]]!r}?" if near else f"give one of its words, or 1 to {len(tokens)}"


def _embeddings(tokens: tuple[str, ...], d_model: int, rng: np.random.Generator) -> Vector:
    """A row for each token, (n, d_model); equal tokens have equal rows."""
    table = {token: rng.normal(size=d_model) for token in dict.fromkeys(tokens)}
    return np.stack([table[token] for token in tokens])


# ---------------------------------------------------------------------------------------------------- forward


def _made(x: Vector, matrices: Vector, position: int, mask: Vector, scaled: bool) -> Made:
    """What one head makes of one query: the steps of `tinyattn.side_by_side("attention")`."""
    w_query, w_key, w_value = matrices
    given = {"query": x[position : position + 1] @ w_query, "key": x @ w_key, "value": x @ w_value}
    scale = 1 / math.sqrt(w_query.shape[-1]) if scaled else 1.0
    return {"scale": scale, "mask": mask, **given}


def _studied(
    given: list[Made],
    tokens: tuple[str, ...],
    position: int,
    d_model: int,
    head: int,
    seed: int,
    causal: bool,
    rng: np.random.Generator,
) -> Head:
    made = given[head]
    query, key, value, mask, scale = (made[name] for name in ("query", "key", "value", "mask", "scale"))
    dots = key @ query[0]
    scores = np.where(mask, dots * scale, -np.inf)
    weights = way(scores, 1.0, np.zeros(len(scores))).weights
    d_output = np.round(rng.normal(size=value.shape[-1]), 2)
    return Head(
        tokens=tokens,
        position=position,
        d_model=d_model,
        n_heads=len(given),
        head=head,
        seed=seed,
        scale=scale,
        causal=causal,
        query=query[0],
        key=key,
        value=value,
        dots=dots,
        scaled=dots * scale,
        scores=scores,
        weights=weights,
        mix=weights @ value,
        jacobian=jacobian(weights),
        d_output=d_output,
        gradients=_gradients(made, weights, d_output, rng),
        ways=_ways(np.where(mask, dots, -np.inf), query.shape[-1], value @ d_output),
        all_weights=np.stack([_weights(each) for each in given]),
    )


def _weights(made: Made) -> Vector:
    dots = made["key"] @ made["query"][0] * made["scale"]
    return way(np.where(made["mask"], dots, -np.inf), 1.0, np.zeros(len(dots))).weights


def _ways(dots: Vector, d_k: int, d_weights: Vector) -> tuple[Way, ...]:
    return tuple(way(dots, divisor, d_weights) for divisor in (1.0, math.sqrt(d_k)))


# ---------------------------------------------------------------------------------------------------- back


def by_hand(made: Made, weights: Vector, d_output: Vector) -> dict[str, Vector]:
    """The gradients in what one query made and met, in the order in which they are found.

    >>> made = {"query": np.ones((1, 1)), "key": np.zeros((2, 1)), "value": np.array([[1.0], [3.0]]), "scale": 1.0}
    >>> by_hand(made, np.array([0.5, 0.5]), np.ones(1))["scores"]  # 0.5 (1 − 2) and 0.5 (3 − 2)
    array([-0.5,  0.5])
    """
    query, key, value, scale = made["query"][0], made["key"], made["value"], made["scale"]
    d_value = np.outer(weights, d_output)  # (attention.4)
    d_weights = value @ d_output  # (attention.5)
    d_scores = back(weights, d_weights)  # (softmax.3)
    d_query = d_scores @ key * scale  # (attention.6)
    d_key = np.outer(d_scores, query) * scale  # (attention.7)
    return {"value": d_value, "weights": d_weights, "scores": d_scores, "query": d_query, "key": d_key}


def _gradients(given: Made, weights: Vector, d_output: Vector, rng: np.random.Generator) -> tuple[Heard, ...]:
    """What the three say; the tape and the differences of what comes after each array."""
    study = STUDIES["attention"]
    made = study.make(inputs(study, given | {"mask": given["mask"][None]}, rng))
    cotangent = d_output[None]
    noise = 8 * float(np.finfo(np.float64).eps * np.sum(abs(cotangent * made["output"]))) / STEP
    return tuple(
        _heard(study, made, name, hand, cotangent, rng)._replace(noise=noise)
        for name, hand in by_hand(given, weights, d_output).items()
    )


def _heard(study: Study, made: Made, name: str, hand: Vector, cotangent: Vector, rng: np.random.Generator) -> Heard:
    places = _places(made[name].shape, rng)
    return Heard(
        name=f"d_{name}",
        hand=hand,
        tape=by_tape(study, made, name, cotangent).reshape(hand.shape),
        differences=by_differences(study, made, name, cotangent, places).reshape(hand.shape),
    )


def _places(shape: tuple[int, ...], rng: np.random.Generator) -> list[Place]:
    """Where differences are taken: everywhere, if there aren't too many places."""
    size = math.prod(shape)
    chosen = range(size) if size <= MOST else rng.choice(size, MOST, replace=False)
    return [tuple(int(i) for i in np.unravel_index(place, shape)) for place in chosen]
