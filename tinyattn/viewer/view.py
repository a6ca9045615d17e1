"""The viewer's face: who looks at whom, on a page, in a notebook, or as a widget."""

from __future__ import annotations

import html
import os
import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyattn.pages import as_text, to_json, write_whole
from tinyattn.viewer.layers import Layer, layers_of, notes_on
from tinyattn.viewer.pack import float_for, pack

HEIGHT = 640  # pixels of a notebook's cell


class Model(NamedTuple):
    """A model that runs in the page."""

    script: str  # JavaScript that defines the function
    function: str
    given: Mapping[str, Any]  # what the function is called with


class View:
    """Attention weights to be looked at; `tinyattn.view` makes it. It shows itself in notebooks; `save` writes a page.

    Later changes to the arrays don't change it.
    """

    def __init__(self, data: Mapping[str, Any], model: Model | None = None) -> None:
        """The data as they stand on the page, and a model that runs there, if there is one."""
        self.data, self._model = dict(data), model

    def __repr__(self) -> str:
        """How many of what, for logs."""
        heads = sum(layer["weights"]["shape"][0] for layer in self.data["layers"])
        counts = ((len(self.data["queries"]), "token"), (len(self.data["layers"]), "layer"), (heads, "head"))
        return f"<View: {', '.join(_count(n, word) for n, word in counts)}>"

    def with_model(self, script: str, function: str, given: Mapping[str, Any]) -> View:
        """The same, with a model that runs in the page, so that sentences can be edited, heads cut, training rewound.

        `script` is JavaScript that defines `function`, which is called with `given` and gives the functions that
        docs/viewer.md lists. It runs when the page is opened: pass your own code only.
        """
        if not re.search(rf"\b(function|const|let|var|class)\s+{re.escape(function)}\b", script):
            raise ValueError(f"view: the script doesn't define a function {function!r}")
        if re.search(r"<!--|</?script", script, re.IGNORECASE):
            raise ValueError("view: a script may hold neither '<!--' nor '<script': they would end it, or hide its end")
        try:
            to_json(given)
        except (TypeError, ValueError) as error:
            raise TypeError(f"view: what the model is given must be JSON: {error}") from None
        return View(self.data, Model(script, function, given))

    def to_html(self) -> str:
        """The page: one file with all that it needs, which opens without a network."""
        from tinyattn.viewer.page import to_html

        return to_html(self.data, self._model)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file whose name ends with .html; the whole file or none of it. Returns the path."""
        path = Path(path)
        if path.is_dir():
            raise IsADirectoryError(f"view: {str(path)!r} is a folder; name a file in it")
        if path.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"view: the file's name must end with .html; got {path.name!r}")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"view: there is no folder {str(path.parent)!r} to write {path.name!r} into")
        write_whole(path, self.to_html().encode())
        return path

    def _repr_html_(self) -> str:
        """A frame that can reach neither the notebook around it nor a network."""
        page = html.escape(self.to_html())
        title = html.escape(as_text(self.data["title"]))
        return (
            f'<iframe title="{title}" sandbox="allow-scripts allow-downloads" srcdoc="{page}"'
            f' style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
        )

    def widget(self) -> Any:
        """The view as an anywidget, which stays connected with the notebook: set its `data` to show something else.

        A model that runs in the page stays behind: `ValueError` says so.
        Needs the package anywidget (`pip install 'tinyattn[widget]'`); `ImportError` says so where it's missing.
        """
        from tinyattn.viewer.widget import widget

        if self._model is not None:
            raise ValueError("view: a widget has no model that runs in the page; save() and a notebook's display do")
        return widget(self.data)


def view(
    tokens: Sequence[str],
    weights: Any,
    *,
    key_tokens: Sequence[str] | None = None,
    mask: Any = None,
    scores: Any = None,
    query: Any = None,
    key: Any = None,
    value: Any = None,
    scale: float | None = None,
    d_weights: Any = None,
    asking: Iterable[Iterable[int] | None] | None = None,
    names: Iterable[str] | None = None,
    title: str = "Attention",
) -> View:
    """Attention weights on a page: click a word, see where it looks, and why.

    weights (n_layers, n_heads, n_queries, n_keys), or fewer of the first axes; a list of layers may have (n_heads,
    n_queries, n_keys) of different sizes each, or with a batch axis of 1 before. Arrays, Tensors, and what NumPy can
    read. `key_tokens` are what is looked at where that isn't the same text. `mask` is boolean, True = may attend, and
    broadcasts to the weights, as do `scores`, from before the softmax, and `d_weights`, the gradient of a loss in the
    weights. With query (n_layers, n_heads, n_queries, d_k) and key, value (n_layers, n_heads, n_keys, d_k) the page
    shows how each score is made; `scale` is 1/√d_k unless given. Where only some tokens ask, `asking` has a list of
    their places for each layer, or None. Everything but `weights` may be left out; the page shows what it can.

    Up to 2,000,000 numbers travel in single precision, more of them in half. Weights that are negative, don't sum to 1,
    aren't finite, aren't the softmax of the scores, or aren't 0 where they are masked, are shown as they are, with a
    warning here and on the page. Raises `TypeError` for what isn't an
    array of real numbers or a list of strings, `ValueError` for shapes that don't fit.

    After BertViz (Vig 2019, arXiv:1906.05714), whose head view has lines from word to word.

    >>> import numpy as np
    >>> view(["it", "was"], np.array([[0.75, 0.25], [0.5, 0.5]]))
    <View: 2 tokens, 1 layer, 1 head>
    """
    queries = _tokens("tokens", tokens)
    keys = None if key_tokens is None else _tokens("key_tokens", key_tokens)
    if not isinstance(title, str):
        raise TypeError(f"view: title must be a string; got {type(title).__name__}")
    given = {
        "mask": mask, "scores": scores, "query": query, "key": key, "value": value, "d_weights": d_weights
    }  # fmt: skip
    layers = layers_of(len(queries), len(queries if keys is None else keys), weights, asking, scale, names, given)
    notes = notes_on(layers)
    for note in notes:
        warnings.warn(f"view: {note}", stacklevel=2)
    n_numbers = sum(x.size for layer in layers for x in layer if isinstance(x, np.ndarray))
    packed = [_packed(layer, n_numbers) for layer in layers]
    shown = [None if tokens is None else [_shown(token) for token in tokens] for tokens in (queries, keys)]
    return View({"title": title, "queries": shown[0], "keys": shown[1], "layers": packed, "notes": notes})


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _tokens(name: str, tokens: Any) -> list[str]:
    if isinstance(tokens, str):
        raise TypeError(f"view: {name} must be a list of strings, one for each token; got one string. {name}.split()?")
    try:
        found = list(tokens)
    except TypeError:
        raise TypeError(f"view: {name} must be a list of strings; got {type(tokens).__name__}") from None
    for token in found:
        if not isinstance(token, str):
            raise TypeError(f"view: {name} must be strings; got {token!r}. Decode numbers of tokens first")
    return [str(token) for token in found]


def _shown(token: str) -> str:
    r"""A word as the page has it: what would be blank, turns text round, or is no character, has a sign.

    >>> [_shown(token) for token in (" a", "\n", "", "\a")]
    ['␣a', '⏎', '∅', '␇']
    """
    whole = token.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    whole = re.sub(r"^[^\S\t\n]+|[^\S\t\n]+\Z", lambda blanks: "␣" * len(blanks[0]), whole).translate(_SIGNS)
    unseen = all(unicodedata.category(character) in ("Cf", "Zs", "Zl", "Zp") for character in whole)
    return "␣" * max(len(whole), 1) if whole and unseen else whole or "∅"


def _packed(layer: Layer, n_numbers: int) -> dict[str, Any]:
    given = {name: x for name, x in layer._asdict().items() if name in _FLOATS}
    arrays = {name: None if x is None else pack(x, float_for(x, n_numbers)) for name, x in given.items()}
    mask = layer.mask
    if mask is not None:
        mask = mask[:1] if (mask == mask[:1]).all() else mask  # mostly the same for all heads
    return {
        "name": _shown(layer.name),
        "asking": layer.asking,
        "mask": None if mask is None else pack(mask, np.uint8),
        "scale": layer.scale,
        "scoring": layer.scoring,
        **arrays,
    }


_SIGNS = {code: chr(0x2400 + code) for code in range(32)} | {ord("\n"): "⏎", ord("\t"): "⇥"}
_TURN = (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SIGNS |= dict.fromkeys((0x7F, 0xFFFE, 0xFFFF, *_TURN), "\ufffd")
_FLOATS = ("weights", "scores", "query", "key", "value", "d_weights")
