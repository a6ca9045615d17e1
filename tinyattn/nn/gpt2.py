"""GPT-2's names for the parameters of a GPT, and the file format in which its checkpoints come.

    theirs (Hugging Face)                    ours
    wte.weight, wpe.weight                   words.weight, positions.weight
    h.0.ln_1.…, h.0.ln_2.…                   blocks.blocks.0.norm_attention.…, norm_mlp.…
    h.0.attn.c_attn.weight, bias             blocks.blocks.0.attention.w_query, w_key, w_value, b_query, …
    h.0.attn.c_proj.…                        blocks.blocks.0.attention.w_output, b_output
    h.0.mlp.c_fc.…, h.0.mlp.c_proj.…         blocks.blocks.0.mlp.expand.…, mlp.contract.…
    ln_f.…                                   blocks.norm.…

Their `Conv1D` keeps matrices as they are multiplied, as we do: nothing is transposed. The causal masks that old
checkpoints hold are left out, and so is the head where it's the table of words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tinyattn.nn.module import State

LAYERS = {
    "ln_1": "norm_attention",
    "ln_2": "norm_mlp",
    "mlp.c_fc": "mlp.expand",
    "mlp.c_proj": "mlp.contract",
}
BLOCK = re.compile(r"h\.(\d+)\.(.+)\.(weight|bias)")
MASKS = re.compile(r"h\.\d+\.attn\.(masked_)?bias")
EPS = 1e-5  # of GPT-2's norms, and of ours
BENDS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}


def read_safetensors(path: str | PathLike[str]) -> State:
    """The arrays of a safetensors file. Raises `ImportError` where the library isn't installed, `ValueError`."""
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise ImportError("from_safetensors: safetensors is missing; pip install 'tinyattn[demos]' brings it") from None
    if not Path(path).is_file():
        raise FileNotFoundError(f"from_safetensors: there is no file {path}")
    try:
        return dict(load_file(path))
    except (SafetensorError, KeyError, TypeError, AttributeError) as error:  # the others for dtypes NumPy hasn't
        raise ValueError(f"from_safetensors: {path} is no whole safetensors file of NumPy's dtypes ({error})") from None


def read_config(path: str | PathLike[str]) -> dict[str, Any]:
    """What stands in config.json beside a checkpoint; nothing where there is none."""
    beside = Path(path).with_name("config.json")
    if not beside.is_file():
        return {}
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"from_safetensors: {beside} is no JSON ({error})") from None
    return found if isinstance(found, dict) else {}


def from_gpt2(state: Mapping[str, Any]) -> State:
    """A GPT-2's arrays under our names. Raises `ValueError` for a name that isn't one of GPT-2's, or a wrong shape."""
    found: State = {}
    plain = {name.removeprefix("transformer."): np.asarray(x) for name, x in state.items()}
    for name, x in plain.items():
        block = BLOCK.fullmatch(name)
        if name in ("wte.weight", "wpe.weight"):
            found["words.weight" if name[1] == "t" else "positions.weight"] = x
        elif name in ("ln_f.weight", "ln_f.bias"):
            found[f"blocks.norm.{name[5:]}"] = x
        elif name == "lm_head.weight":
            if not np.array_equal(x, plain.get("wte.weight", x)):
                raise ValueError("from_safetensors: lm_head.weight isn't wte.weight; a GPT-2 has one table for both")
        elif MASKS.fullmatch(name):
            continue
        elif block is not None:
            found |= _of_block(f"blocks.blocks.{block[1]}.", block[2], block[3], name, x)
        else:
            raise ValueError(f"from_safetensors: {name} is no parameter of a GPT-2")
    return found


def _of_block(own: str, layer: str, kind: str, name: str, x: np.ndarray[Any, Any]) -> State:
    letter = "w" if kind == "weight" else "b"
    if layer == "attn.c_attn":
        if x.shape[-1] % 3:
            raise ValueError(f"from_safetensors: {name} must hold queries, keys and values; got shape {x.shape}")
        parts = np.split(x, 3, axis=-1)
        return {f"{own}attention.{letter}_{part}": y for part, y in zip(("query", "key", "value"), parts, strict=True)}
    if layer == "attn.c_proj":
        return {f"{own}attention.{letter}_output": x}
    if layer in LAYERS:
        return {f"{own}{LAYERS[layer]}.{kind}": x}
    raise ValueError(f"from_safetensors: {name} is no parameter of a GPT-2")
