"""Floor 2: optimisers, the clipping of gradients, and schedules of the rate.

An optimiser lays the gradients of all its parameters end to end, and keeps its own state the same way: a step is a few
passes over long arrays, and not many passes over short ones.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from tinyattn.nodes import GradientError, gradient_of, numbers, rewrite
from tinyattn.tensor import Tensor

Vector: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Schedule: TypeAlias = Callable[[int], float]

AT_ONCE = 1 << 15  # numbers that are gone over several times while they are in the processor's cache


class Optimizer(ABC):
    """What optimisers share: the parameters, the step, and a state that can be saved.

    Parameters that don't require a gradient are left alone. One that has none at a step counts as having gradient
    zero, so that momentum and decay go on (PyTorch skips it).
    Raises `TypeError` for parameters that aren't Tensors of one dtype, `ValueError` for one given twice, or made by a
    rule, and for rates and the like out of their range.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, state: tuple[str, ...]) -> None:
        name = type(self).__name__
        self.parameters = [parameter for parameter in _checked(name, parameters) if parameter.requires_grad]
        self.lr = _in_range(name, "lr", lr)
        self.steps = 0
        if not self.parameters:
            raise ValueError(f"{name}: there is no parameter that requires a gradient")
        dtype = self.parameters[0].dtype
        others = {str(parameter.dtype) for parameter in self.parameters} - {str(dtype)}
        if others:
            raise TypeError(f"{name}: parameters must share one dtype; got {dtype} and {', '.join(sorted(others))}")
        stops = np.cumsum([parameter.size for parameter in self.parameters]).tolist()
        size = stops[-1]
        self._gradient, self._change = np.zeros(size, dtype), np.zeros(size, dtype)
        self._state = {key: np.zeros(size, dtype) for key in state}
        self._changes = [
            self._change[stop - parameter.size : stop].reshape(parameter.shape)
            for parameter, stop in zip(self.parameters, stops, strict=True)
        ]
        self._pieces = [slice(start, min(start + AT_ONCE, size)) for start in range(0, size, AT_ONCE)]

    def step(
        self,
        lr: float | None = None,
        *,
        max_norm: float | None = None,
        shared: Callable[[Vector], None] | None = None,
    ) -> float | None:
        """Move every parameter against its gradient, at the rate `lr` if given, else at the optimiser's own.

        With `max_norm` the gradients are scaled down first, as `clip_grad_norm` does it, and their norm before that is
        returned; what stands in `.grad` stays as it is. `shared`, for training on several machines, is called before
        that with all gradients end to end, and puts their sum over the machines in their place. Raises `GradientError`
        where no parameter has a gradient.
        """
        rate = self.lr if lr is None else _in_range("step", "lr", lr)
        if max_norm is not None:
            _in_range("step", "max_norm", max_norm, below=math.inf, or_at=True)
        self._gather()
        if shared is not None:
            shared(self._gradient)
        norm = None if max_norm is None else math.sqrt(float(np.vdot(self._gradient, self._gradient)))
        if norm is not None and max_norm is not None and not norm <= max_norm:
            self._gradient *= max_norm / norm  # (clip_grad_norm.1)
        self.steps += 1
        for piece in self._pieces:
            self._compute(piece, rate)
        for i, (parameter, change) in enumerate(zip(self.parameters, self._changes, strict=True)):
            self._move(i, rewrite(parameter), change, rate)
        return norm

    def zero_grad(self) -> None:
        """Forget the gradients of the parameters."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Vector]:
        """A copy of what the next step depends on, besides parameters and gradients: arrays, by name."""
        return {"steps": np.array(self.steps), **{key: value.copy() for key, value in self._state.items()}}

    def load_state_dict(self, state: Mapping[str, Vector]) -> None:
        """Go on from a saved state, to the bit. Raises `ValueError` for one that doesn't fit, and writes nothing."""
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: state must be a dict of arrays, by name; got {type(state).__name__}")
        for key, value in state.items():
            if numbers(value, f"load_state_dict: {key}").dtype.kind not in "fiu":
                raise TypeError(f"load_state_dict: {key} needs real numbers; got {np.asarray(value).dtype}")
        expected = {"steps": np.array(self.steps), **self._state}
        shapes = {key: value.shape for key, value in expected.items()}
        given = {key: np.shape(value) for key, value in state.items()}
        if given != shapes:
            raise ValueError(f"load_state_dict: {type(self).__name__} needs {shapes}; got {given}")
        self.steps = int(state["steps"])
        for key, value in self._state.items():
            value[...] = state[key]

    def _gather(self) -> None:
        """Lay the gradients end to end."""
        gradients = [gradient_of(parameter) for parameter in self.parameters]
        if all(gradient is None for gradient in gradients):
            raise GradientError("step: no parameter has a gradient; call backward() on the loss first")
        flat = [
            np.zeros(parameter.size) if gradient is None else gradient
            for parameter, gradient in zip(self.parameters, gradients, strict=True)
        ]
        np.concatenate(flat, axis=None, out=self._gradient)

    @abstractmethod
    def _compute(self, piece: slice, rate: float) -> None:
        """Compute what is to be taken off the parameters, from a piece of `_gradient` into that of `_change`."""

    def _move(self, i: int, numbers: Vector, change: Vector, rate: float) -> None:
        """Take the change off the numbers of the i-th parameter."""
        numbers -= change


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted.

    u ← m u + g,   p ← p − lr u                                      (sgd.1)

    >>> p = Tensor([1.0], requires_grad=True)
    >>> (p * p).sum().backward()
    >>> SGD([p], lr=0.25).step()
    >>> p.data  # 1 − 0.25 · 2
    array([0.5])
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, *, momentum: float = 0.0) -> None:
        super().__init__(parameters, lr, ("momentum",) if momentum else ())
        self.momentum = _in_range("SGD", "momentum", momentum)

    def _compute(self, piece: slice, rate: float) -> None:
        direction = self._gradient[piece]
        if self.momentum:
            direction = self._state["momentum"][piece]
            direction *= self.momentum
            direction += self._gradient[piece]
        np.multiply(direction, rate, out=self._change[piece])


class Adam(Optimizer):
    """Steps of about the size `lr`, whatever the scale of the gradients.

    m ← m + (1 − β₁) (g − m),   v ← v + (1 − β₂) (g² − v)            (adam.1)
    p ← p − lr m̂ / (√v̂ + ε),   m̂ = m / (1 − β₁ᵗ),   v̂ = v / (1 − β₂ᵗ)      (adam.2)

    Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.

    >>> p = Tensor([1.0], requires_grad=True)
    >>> (p * p).sum().backward()
    >>> Adam([p], lr=0.25).step()
    >>> p.data.round(6)  # the first step is lr, whatever the gradient
    array([0.75])
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, lr, ("mean", "square"))
        name = type(self).__name__
        if not isinstance(betas, list | tuple) or len(betas) != 2:
            raise TypeError(f"{name}: betas must be two numbers; got {betas!r}")
        beta1, beta2 = betas
        self.betas = _in_range(name, "betas", beta1, below=1.0), _in_range(name, "betas", beta2, below=1.0)
        self.eps = _in_range(name, "eps", eps)

    def _compute(self, piece: slice, rate: float) -> None:
        (beta1, beta2), g, change = self.betas, self._gradient[piece], self._change[piece]
        m, v = self._state["mean"][piece], self._state["square"][piece]
        np.subtract(g, m, out=change)  # (adam.1)
        change *= 1 - beta1
        m += change
        np.multiply(g, g, out=change)
        change -= v
        change *= 1 - beta2
        v += change
        np.sqrt(v, out=g)  # (adam.2); the gathered gradient has been used, and lends its memory
        g *= 1 / math.sqrt(1 - beta2**self.steps)
        g += self.eps
        np.divide(m, g, out=change)
        change *= rate / (1 - beta1**self.steps)


class AdamW(Adam):
    """Adam, with every parameter shrunk a little at each step, apart from its gradient.

    p ← (1 − lr λ) p, then as Adam                                   (adamw.1)

    Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2, with PyTorch's convention that λ is multiplied by lr.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        decayed: Callable[[Tensor], bool] = lambda parameter: True,
    ) -> None:
        """`decayed` says which parameters are shrunk: with GPT-2 the matrices alone, `lambda p: p.ndim > 1`."""
        super().__init__(parameters, lr, betas=betas, eps=eps)
        self.weight_decay = _in_range("AdamW", "weight_decay", weight_decay)
        if not callable(decayed):
            raise TypeError(f"AdamW: decayed must be a function of a parameter; got {type(decayed).__name__}")
        self._decayed = [bool(decayed(parameter)) for parameter in self.parameters]

    def _move(self, i: int, numbers: Vector, change: Vector, rate: float) -> None:
        if self._decayed[i]:
            numbers *= 1 - rate * self.weight_decay  # (adamw.1)
        numbers -= change


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients down together, so that their common norm is `max_norm` at most. Gives the norm before.

    ‖g‖ = √Σ g²,   g ← g min(1, max_norm / ‖g‖)                      (clip_grad_norm.1)

    Where the norm is NaN, so is everything after: it's seen at once. (PyTorch divides by ‖g‖ + 1e-6.)
    Raises what optimisers raise for parameters that aren't fine, `ValueError` for a `max_norm` below 0.

    >>> p = Tensor([3.0, 4.0], requires_grad=True)
    >>> p.grad = Tensor([3.0, 4.0])
    >>> clip_grad_norm([p], 1.0)
    5.0
    >>> p.grad
    tensor([0.6, 0.8])
    """
    _in_range("clip_grad_norm", "max_norm", max_norm, below=math.inf, or_at=True)
    checked = _checked("clip_grad_norm", parameters)
    found = [(parameter, parameter.grad) for parameter in checked if parameter.grad is not None]
    norm = math.sqrt(sum(float(np.vdot(gradient.numpy(), gradient.numpy())) for _, gradient in found))
    if not norm <= max_norm:
        for parameter, gradient in found:
            parameter.grad = gradient * (max_norm / norm)
    return norm


def _checked(name: str, parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters, once it's known that they are Tensors, leaves, and each there once."""
    if isinstance(parameters, Tensor):
        raise TypeError(f"{name}: parameters must be a list of Tensors; got one Tensor. Are [ ] missing?")
    if not isinstance(parameters, Iterable):
        hint = " Did you mean its .parameters()?" if hasattr(parameters, "parameters") else ""
        raise TypeError(f"{name}: parameters must be a list of Tensors; got {type(parameters).__name__}.{hint}")
    listed = list(parameters)
    for i, parameter in enumerate(listed):
        if not isinstance(parameter, Tensor):
            raise TypeError(f"{name}: parameters must be Tensors; got {type(parameter).__name__} at place {i}")
        if parameter._rule is not None:
            made = parameter._rule.__name__
            raise ValueError(f"{name}: parameters must be leaves; the one at place {i} was made by {made}")
    if len(set(listed)) < len(listed):
        i = next(i for i, parameter in enumerate(listed) if any(parameter is other for other in listed[:i]))
        raise ValueError(f"{name}: each parameter may be given once; the one at place {i} came before")
    return listed


def _in_range(name: str, option: str, value: float, *, below: float = math.inf, or_at: bool = False) -> float:
    """The value, once it's known to be a number from 0 to `below`."""
    if not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: {option} must be a number; got {value!r}")
    if not (0 <= value < below or (or_at and value == below)):
        if below == math.inf:
            limits = "0 or more" + ("" if or_at else ", and finite")
        else:
            limits = f"0 or more, and {'at most' if or_at else 'below'} {below:g}"
        raise ValueError(f"{name}: {option} must be {limits}; got {value}")
    return value


# ---------------------------------------------------------------------------------------- schedules: step → rate


def constant(rate: float) -> Schedule:
    """The same rate at every step.

    >>> constant(0.1)(7)
    0.1
    """
    _in_range("constant", "rate", rate)
    return lambda step: rate


def cosine(rate: float, steps: int, *, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Up in a straight line for `warmup` steps, then down to `floor` along half a cosine, and there to stay.

    Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, without restarts.

    >>> schedule = cosine(1.0, 8, warmup=4)
    >>> [round(schedule(step), 2) for step in (0, 3, 4, 6, 8)]
    [0.25, 1.0, 1.0, 0.5, 0.0]
    """
    for option, value in {"rate": rate, "steps": steps, "warmup": warmup, "floor": floor}.items():
        _in_range("cosine", option, value)

    def schedule(step: int) -> float:
        if step < warmup:
            return rate * (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return floor + (rate - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return schedule


def one_cycle(rate: float, steps: int, *, rise: float = 0.3, start: float = 1 / 25, end: float = 4e-6) -> Schedule:
    """From `start` · rate up to the rate in the first `rise` of the steps, then down to `end` · rate; cosines both.

    Smith and Topin 2018, arXiv:1708.07120, with the shape and the defaults of PyTorch's `OneCycleLR` (whose
    `final_div_factor` counts from the starting rate).

    >>> schedule = one_cycle(1.0, 10, rise=0.5, start=0.0, end=0.0)
    >>> [round(schedule(step), 2) for step in (0, 2, 4, 9)]
    [0.0, 0.5, 1.0, 0.0]
    """
    for option, value in {"rate": rate, "steps": steps, "start": start, "end": end}.items():
        _in_range("one_cycle", option, value)
    _in_range("one_cycle", "rise", rise, below=1.0, or_at=True)
    peak = rise * steps - 1
    fall = max(steps - 1 - peak, 0.0)

    def schedule(step: int) -> float:
        if step < peak:
            low, done = start, step / peak
        else:
            low, done = end, 1 - min(1.0, (step - peak) / fall) if fall else float(step <= peak)
        return rate * (low + (1 - low) * 0.5 * (1 - math.cos(math.pi * done)))

    return schedule
