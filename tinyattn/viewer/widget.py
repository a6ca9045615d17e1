"""The viewer as an anywidget, which JupyterLab, VS Code, Colab and marimo know how to show."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tinyattn.viewer.page import asset


def widget(data: Mapping[str, Any]) -> Any:
    """A widget that shows the data, and shows others when its `data` is set."""
    return _kind()(data=dict(data))


@cache
def _kind() -> Any:
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError(
            f"view: a widget needs the package anywidget ({error}): pip install 'tinyattn[widget]'. save() and the"
            " display of a notebook need nothing"
        ) from None

    class AttentionWidget(anywidget.AnyWidget):
        _esm = asset("viewer.js")
        _css = asset("viewer.css")
        data = traitlets.Dict().tag(sync=True)

    return AttentionWidget
