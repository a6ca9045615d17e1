"""PyTorch's names for the parameters of attention and encoder layers, there and back.

    theirs                                   ours
    in_proj_weight, in_proj_bias             w_query, w_key, w_value, b_query, b_key, b_value
    q_proj_weight, k_proj_weight, v_…        w_query, w_key, w_value, where widths differ
    out_proj.weight, out_proj.bias           w_output, b_output
    self_attn.…                              attention.…
    linear1.…, linear2.…                     mlp.expand.…, mlp.contract.…
    norm1.…, norm2.…                         norm_attention.…, norm_mlp.…

Matrices are transposed: ours multiply from the right. What stands before these names is kept.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinyattn.nn.module import State
from tinyattn.nodes import numbers

PARTS = ("query", "key", "value")
LAYERS = {
    "self_attn.": "attention.",
    "linear1.": "mlp.expand.",
    "linear2.": "mlp.contract.",
    "norm1.": "norm_attention.",
    "norm2.": "norm_mlp.",
}


def from_torch(state: Mapping[str, Any]) -> State:
    """The state dict of a PyTorch `nn.MultiheadAttention` or `nn.TransformerEncoderLayer`, under our names.

    It fits `MultiHeadAttention(d_model, n_heads)`, with `d_source=` PyTorch's `kdim`, or `TransformerBlock(d_model,
    n_heads, d_ff, norm_first=False, activation=tinyattn.relu)`; PyTorch's layers with `batch_first=True`, and its other
    defaults, then give the same outputs and gradients. Options that change the numbers and aren't in the state dict
    have to agree: `add_zero_attn` isn't there, the ε of the norms is 1e-5. The arrays are copies.

    Raises `ValueError` for a name that isn't known, `bias_k` and `bias_v` among them, and for a `kdim` and a `vdim`
    that differ, which `MultiHeadAttention` hasn't; `TypeError` for what NumPy can't hold, as bfloat16.

    >>> state = {"in_proj_weight": np.ones((6, 2)), "out_proj.weight": np.eye(2)}
    >>> {name: x.shape for name, x in from_torch(state).items()}
    {'w_query': (2, 2), 'w_key': (2, 2), 'w_value': (2, 2), 'w_output': (2, 2)}
    """
    found: State = {}
    for name, x in _checked("from_torch", state).items():
        prefix, last = _renamed(name, LAYERS)
        if last in ("in_proj_weight", "in_proj_bias"):
            kind = "w" if last == "in_proj_weight" else "b"
            if x.ndim == 0 or len(x) % 3:
                raise ValueError(f"from_torch: {name} must hold three blocks of rows; got shape {x.shape}")
            for part, block in zip(PARTS, np.split(x, 3), strict=True):
                found[f"{prefix}{kind}_{part}"] = block.T.copy()
        elif last in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            other = state.get(f"{name[: -len(last)]}k_proj_weight")
            if last[0] == "v" and other is not None and np.shape(other)[-1] != x.shape[-1]:
                raise ValueError(
                    f"from_torch: MultiHeadAttention makes keys and values of the same width; got {other.shape[-1]} and"
                    f" {x.shape[-1]}"
                )
            found[prefix + "w_" + next(part for part in PARTS if part[0] == last[0])] = x.T.copy()
        elif last in ("out_proj.weight", "out_proj.bias"):
            found[f"{prefix}{'w' if last.endswith('weight') else 'b'}_output"] = x.T.copy()
        elif last in ("weight", "bias") and prefix.endswith(tuple(LAYERS.values())):
            found[prefix + last] = x.T.copy()
        else:
            raise ValueError(f"from_torch: {name} is no parameter of MultiheadAttention or TransformerEncoderLayer")
    return found


def to_torch(state: Mapping[str, Any]) -> State:
    """The state dict of a `MultiHeadAttention` or a `TransformerBlock` under PyTorch's names, as arrays.

    PyTorch's layers give the same with `batch_first=True`. What isn't in the state dict doesn't go over: `rope`,
    `window`, `softcap`, `scale`. Raises `ValueError` for what PyTorch's layers don't have: heads that share keys, heads
    whose widths don't add up to d_model, sinks, norms of queries and keys, norms without a bias beside layers with one.

    >>> from tinyattn.nn import MultiHeadAttention
    >>> {name: x.shape for name, x in to_torch(MultiHeadAttention(2, 1, rng=0).state_dict()).items()}
    {'in_proj_weight': (6, 2), 'out_proj.weight': (2, 2), 'in_proj_bias': (6,), 'out_proj.bias': (2,)}
    """
    found: State = {}
    state = _checked("to_torch", state)
    theirs = {ours: name for name, ours in LAYERS.items()}
    for name, x in state.items():
        prefix, last = _renamed(name, theirs)
        own = name[: len(name) - len(last)]
        if last in ("w_query", "b_query"):
            kind, what = last[0], "weight" if last[0] == "w" else "bias"
            blocks = [state.get(f"{own}{kind}_{part}") for part in PARTS]
            if any(block is None for block in blocks):
                raise ValueError(f"to_torch: {own}{kind}_key or {own}{kind}_value is missing")
            widths = {block.shape for block in blocks if block is not None}
            if len({shape[-1] for shape in widths}) > 1 or (kind == "w" and x.shape[0] != x.shape[1]):
                given = ", ".join(f"{part} {state[f'{own}{kind}_{part}'].shape}" for part in PARTS)
                raise ValueError(
                    "to_torch: PyTorch's MultiheadAttention has no heads that share keys, and none whose widths don't"
                    f" add up to d_model; got {own}{kind}_… of {given}"
                )
            if len(widths) == 1:
                found[f"{prefix}in_proj_{what}"] = np.concatenate([block.T for block in blocks if block is not None])
            else:
                for part, block in zip(PARTS, blocks, strict=True):
                    found[f"{prefix}{part[0]}_proj_weight"] = np.asarray(block).T.copy()
        elif last in ("w_output", "b_output"):
            found[f"{prefix}out_proj.{'weight' if last == 'w_output' else 'bias'}"] = x.T.copy()
        elif last in ("weight", "bias") and prefix.endswith(tuple(LAYERS)):
            found[prefix + last] = x.T.copy()
        elif last not in ("w_key", "w_value", "b_key", "b_value"):
            raise ValueError(f"to_torch: PyTorch's layers have nothing like {name}")
        elif f"{own}{last[0]}_query" not in state:
            raise ValueError(f"to_torch: {own}{last[0]}_query is missing")
    for name in found:
        if name.endswith("linear1.bias") and f"{name[:-12]}norm1.bias" not in found:
            raise ValueError("to_torch: PyTorch's norms have a bias where the layers have one; got none")
    return found


def _renamed(name: str, layers: Mapping[str, str]) -> tuple[str, str]:
    """What stands before the last part of a name, with layers under their other names, and that part."""
    for tail in ("out_proj.weight", "out_proj.bias"):
        if name == tail or name.endswith(f".{tail}"):
            prefix, last = name[: len(name) - len(tail)], tail
            break
    else:
        prefix, dot, last = name.rpartition(".")
        prefix += dot
    for one, other in layers.items():
        if prefix == one or prefix.endswith(f".{one}"):
            return prefix[: len(prefix) - len(one)] + other, last
    return prefix, last


def _checked(name: str, state: Mapping[str, Any]) -> State:
    if not isinstance(state, Mapping):
        raise TypeError(f"{name}: state must be a dict of arrays, by name; got {type(state).__name__}")
    for key in state:
        if not isinstance(key, str):
            raise TypeError(f"{name}: state must be a dict of arrays, by name; got the name {key!r}")
    return {key: np.asarray(numbers(_as_numpy(x, f"{name}: {key}"), f"{name}: {key}")) for key, x in state.items()}


def _as_numpy(x: Any, called: str) -> Any:
    """A tensor's numbers, PyTorch's or ours."""
    if not hasattr(x, "detach"):
        return x
    try:
        return x.detach().numpy()
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"{called}: NumPy can't hold these numbers ({error}). Is .float() or .cpu() missing?") from None
