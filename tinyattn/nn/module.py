"""The base of all layers: a tree of modules with Tensors as leaves."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinyattn.nodes import blame, give, next_age, numbers, rewrite
from tinyattn.rules.checks import check_flag
from tinyattn.tensor import Tensor

State = dict[str, "np.ndarray[Any, Any]"]


class Module:
    """A layer: parameters, and a `forward` that uses them.

    Every attribute that is a Tensor is a parameter; every attribute that is a Module, or a list, tuple or dict of them,
    is a part. Their names join with dots, as in `blocks.0.attention.w_query`. A parameter that stands in two places is
    one parameter, under the first of its names.

    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.factor = Tensor([2.0], requires_grad=True)
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Scale()([3.0])
    tensor([6.], rule=multiply)
    >>> Scale().state_dict()
    {'factor': array([2.])}
    """

    training: bool = True

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the layer computes. To be written by every layer."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """The layer applied: the same as `forward`. What it gives knows who made it, for pictures."""
        start = next_age()
        try:
            output = self.forward(*inputs, **options)
        except Exception as error:
            blame(error, self, start)
            raise
        give(output, self, start)
        return output

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter with its name, in the order in which they were assigned."""
        seen: set[Tensor] = set()
        for name, value in _walk(self, ""):
            if isinstance(value, Tensor) and value not in seen:
                seen.add(value)
                yield name, value

    def parameters(self) -> list[Tensor]:
        """Every parameter."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """This module, named "", and all its parts."""
        yield "", self
        yield from ((name, value) for name, value in _walk(self, "") if isinstance(value, Module))

    def modules(self) -> Iterator["Module"]:
        """This module and all its parts."""
        yield from (module for _, module in self.named_modules())

    def state_dict(self) -> State:
        """A copy of every parameter's numbers, by name."""
        return {name: parameter.numpy().copy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, "np.ndarray[Any, Any]"]) -> None:
        """Write numbers into the parameters, by name; all of them, or none.

        Raises `ValueError` for a name missing or unknown, or a wrong shape, before anything is written.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: state must be a dict of arrays, by name; got {type(state).__name__}")
        own = dict(self.named_parameters())
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unknown:
            told = [f"{what} {', '.join(names)}" for what, names in (("misses", missing), ("has no", unknown)) if names]
            raise ValueError(f"load_state_dict: the state doesn't fit {type(self).__name__}: {'; '.join(told)}")
        arrays = {name: _real(name, state[name]) for name in own}
        for name, parameter in own.items():
            if arrays[name].shape != parameter.shape:
                raise ValueError(f"load_state_dict: {name} has shape {parameter.shape}; got {arrays[name].shape}")
        for name, parameter in own.items():
            rewrite(parameter)[...] = arrays[name]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> "Module":
        """Switch the module and its parts to training, or with False to evaluation. Returns the module."""
        check_flag("train", "mode", mode)
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> "Module":
        """Switch the module and its parts to evaluation. Returns the module."""
        return self.train(False)

    def __repr__(self) -> str:
        below = list(_walk(self, ""))
        deeper = tuple(f"{name}." for name, value in below if isinstance(value, Module))
        own = [(name, value) for name, value in below if not name.startswith(deeper)]
        parameters = ", ".join(f"{name} {value.shape}" for name, value in own if isinstance(value, Tensor))
        lines = [f"{type(self).__name__}({parameters})"]
        for name, value in own:
            if isinstance(value, Module):
                lines += f"{name}: {value!r}".splitlines()
        return "\n  ".join(lines)


def _real(name: str, x: Any) -> "np.ndarray[Any, Any]":
    array: np.ndarray[Any, Any] = numbers(x, f"load_state_dict: {name}")
    if array.dtype.kind == "c":
        raise TypeError(f"load_state_dict: {name} needs real numbers; got {array.dtype}")
    return array


def _walk(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Everything below a module: its attributes, and those of its parts, in order, with their dotted names."""
    below: Any = ()
    if isinstance(value, Module):
        below = vars(value).items()
    elif isinstance(value, list | tuple):
        below = enumerate(value)
    elif isinstance(value, dict):
        below = value.items()
    for key, part in below:
        inner = f"{name}.{key}" if name else str(key)
        yield inner, part
        yield from _walk(part, inner)
