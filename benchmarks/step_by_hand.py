"""One training step without a tape: the model of `benchmarks/step.py`, its backward pass and Adam, written out by hand.

The formulas are those of the rules: (layer_norm.4), (attention.4) to (attention.7), (linear.2), (cross_entropy.2),
(embedding.2), (adam.1), (adam.2). All parameters lie in one array, and so do their gradients and both states of Adam.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Arrays = dict[str, np.ndarray]


class ByHand:
    """The model's parameters, and what a step needs."""

    def __init__(self, start: Arrays, n_heads: int, rate: float) -> None:
        self.n_heads, self.rate, self.steps = n_heads, rate, 0
        size = sum(x.size for x in start.values())
        self.flat, self.gradient, self.mean, self.square, self.change = np.zeros((5, size), np.float32)
        self.p, self.g, place = {}, {}, 0
        for name, x in start.items():
            self.p[name], self.g[name] = (
                flat[place : place + x.size].reshape(x.shape) for flat in (self.flat, self.gradient)
            )
            self.p[name][...] = x
            place += x.size
        self.rooms: Arrays = {}

    def room(self, name: str, *shape: int) -> np.ndarray:
        """Memory for a result, the same at every step."""
        found = self.rooms.get(name)
        if found is None or found.shape != shape:
            found = self.rooms[name] = np.empty(shape, np.float32)
        return found

    def step(self, ids: np.ndarray, targets: np.ndarray) -> float:
        """Forward, backward, and Adam; the loss before it."""
        loss = self.gradients(ids, targets)
        self.adam()
        return loss

    def gradients(self, ids: np.ndarray, targets: np.ndarray) -> float:
        """Forward and backward; the loss."""
        p, g, room = self.p, self.g, self.room
        (batch, n), (vocab_size, d) = ids.shape, p["words"].shape
        rows, heads, d_k = batch * n, self.n_heads, d // self.n_heads

        x = room("x", rows, d)  # forward
        np.take(p["words"], ids.reshape(-1), axis=0, out=x, mode="clip")
        x_of_batch = x.reshape(batch, n, d)
        x_of_batch += p["positions"]
        normed_1, through_1 = self.norm("1", x)
        weights_in = np.concatenate([p["w_query"], p["w_key"], p["w_value"]], axis=1)
        made = np.matmul(normed_1, weights_in, out=room("made", rows, 3 * d))
        q, k, v = made.reshape(batch, n, 3, heads, d_k).transpose(2, 0, 3, 1, 4)
        scaled = np.multiply(q, d_k**-0.5, out=room("scaled", batch, heads, n, d_k))
        w = np.matmul(scaled, k.swapaxes(-1, -2), out=room("w", batch, heads, n, n))
        w -= w.max()  # one top for all: scores are near 0 here
        np.exp(w, out=w)
        w /= (w.reshape(-1, n) @ np.ones(n, np.float32)).reshape(batch, heads, n, 1)
        mixed = room("mixed", rows, d)
        mixed.reshape(batch, n, heads, d_k)[...] = np.matmul(w, v).swapaxes(1, 2)
        h = np.matmul(mixed, p["w_output"], out=room("h", rows, d))
        h += x
        normed_2, through_2 = self.norm("2", h)
        active = np.matmul(normed_2, p["w_expand"], out=room("active", rows, len(p["b_expand"])))
        active += p["b_expand"]
        np.maximum(active, 0, out=active)
        y = np.matmul(active, p["w_contract"], out=room("y", rows, d))
        y += p["b_contract"]
        y += h
        last = y.reshape(batch, n, d)[:, -1]
        scores = last @ p["head"]
        scores -= scores.max()
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        right = np.arange(batch), targets
        loss = -float(np.log(scores[right]).mean())

        scores[right] -= 1  # backward
        scores /= batch
        np.matmul(last.T, scores, out=g["head"])
        d_y = room("d_y", rows, d)
        d_y[...] = 0
        d_y.reshape(batch, n, d)[:, -1] = scores @ p["head"].T
        np.matmul(active.T, d_y, out=g["w_contract"])
        d_y.sum(axis=0, out=g["b_contract"])
        d_active = np.matmul(d_y, p["w_contract"].T, out=room("d_active", *active.shape))
        d_active *= active > 0
        np.matmul(normed_2.T, d_active, out=g["w_expand"])
        d_active.sum(axis=0, out=g["b_expand"])
        d_h = through_2(d_active @ p["w_expand"].T)
        d_h += d_y
        np.matmul(mixed.T, d_h, out=g["w_output"])
        d_mixed = (d_h @ p["w_output"].T).reshape(batch, n, heads, d_k).swapaxes(1, 2)
        d_made = room("d_made", rows, 3 * d)
        d_q, d_k_, d_v = d_made.reshape(batch, n, 3, heads, d_k).transpose(2, 0, 3, 1, 4)
        d_v[...] = w.swapaxes(-1, -2) @ d_mixed
        d_w = np.matmul(d_mixed, v.swapaxes(-1, -2), out=room("d_w", batch, heads, n, n))
        d_w *= w
        d_w -= w * (d_w.reshape(-1, n) @ np.ones(n, np.float32)).reshape(batch, heads, n, 1)
        np.multiply(d_w @ k, d_k**-0.5, out=d_q)
        d_k_[...] = d_w.swapaxes(-1, -2) @ scaled
        d_in = normed_1.T @ d_made
        g["w_query"][...], g["w_key"][...], g["w_value"][...] = np.split(d_in, 3, axis=1)
        d_x = through_1(d_made @ weights_in.T)
        d_x += d_h
        d_x.reshape(batch, n, d).sum(axis=0, out=g["positions"])
        hits = (np.arange(vocab_size)[:, None] == ids.reshape(-1)).astype(np.float32)
        np.matmul(hits, d_x, out=g["words"])
        return loss

    def norm(self, which: str, x: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Layer norm, and back."""
        p, g, d = self.p, self.g, x.shape[1]
        share = np.full(d, 1 / d, np.float32)
        normed = np.subtract(x, (x @ share)[:, None], out=self.room(f"normed {which}", *x.shape))
        scale = 1 / np.sqrt(np.einsum("ij,ij->i", normed, normed) / d + np.float32(1e-5))[:, None]
        normed *= scale
        output = np.multiply(normed, p[f"gain_{which}"], out=self.room(f"norm {which}", *x.shape))
        output += p[f"shift_{which}"]

        def backward(d_output: np.ndarray) -> np.ndarray:
            d_output.sum(axis=0, out=g[f"shift_{which}"])
            np.einsum("ij,ij->j", d_output, normed, out=g[f"gain_{which}"])
            d_output *= p[f"gain_{which}"]
            along = np.einsum("ij,ij->i", d_output, normed) / d
            d_output -= (d_output @ share)[:, None]
            d_output -= normed * along[:, None]
            d_output *= scale
            return d_output

        return output, backward

    def adam(self) -> None:
        """(adam.1), (adam.2), over everything at once."""
        g, m, v, change = self.gradient, self.mean, self.square, self.change
        self.steps += 1
        m *= 0.9
        m += np.multiply(g, 0.1, out=change)
        v *= 0.999
        np.multiply(g, g, out=change)
        change *= 0.001
        v += change
        np.sqrt(v, out=change)
        change *= 1 / math.sqrt(1 - 0.999**self.steps)
        change += 1e-8
        np.divide(m, change, out=change)
        change *= self.rate / (1 - 0.9**self.steps)
        self.flat -= change
