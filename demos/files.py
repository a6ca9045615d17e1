"""What a run leaves behind, written so that a reader never sees half a file: beside, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

FORMAT = "tinyattn-demo-1"


class FileError(Exception):
    """A file that is missing, damaged or not ours; the message names it and says what is wrong."""


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path`, or leave there what was there before. A pipe and a device stay what they are."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise FileError(f"{path}: it can't be written ({error.strerror})") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed have left beside their files."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


def save_arrays(path: Path, kind: str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """One safetensors file: the arrays, and `metadata` as JSON in its header. The same content gives the same bytes."""
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}  # safetensors takes that for granted
    header = {"format": FORMAT, "kind": kind, "sha256": _checksum(whole)}
    header |= {key: json.dumps(value) for key, value in metadata.items()}
    write_whole(path, _with_sorted_metadata(safetensors.numpy.save(whole, header)))


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """Changes with any name, shape, type or number."""
    whole = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        whole.update(f"{name} {array.dtype} {array.shape} ".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()


def _with_sorted_metadata(content: bytes) -> bytes:
    """The same file with its metadata in order; the library has them at random.

    A file begins with the length of its header in 8 bytes, and the header, JSON, filled up to 8 bytes.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def load_arrays(path: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and metadata that `save_arrays` wrote as the same `kind`; `FileError` for anything else."""
    if not path.is_file():
        problem = "this is no regular file" if path.exists() else "there is no such file"
        raise FileError(f"{path}: {problem}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise FileError(f"{path}: it can't be read ({error.strerror})") from error
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise FileError(f"{path}: not a whole safetensors file ({error})") from error
    if (header.pop("format", None), header.pop("kind", None)) != (FORMAT, kind):
        raise FileError(f"{path}: a safetensors file, but not a {kind} of this demo")
    if header.pop("sha256", None) != _checksum(arrays):
        raise FileError(f"{path}: its numbers are damaged (the checksum differs)")
    try:
        return arrays, {key: json.loads(value) for key, value in header.items()}
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: its header is damaged ({error})") from error
