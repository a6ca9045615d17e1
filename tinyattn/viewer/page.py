"""The viewer as a page of its own: data, style, module and a call of `render`, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tinyattn.pages import fill, to_json

if TYPE_CHECKING:
    from tinyattn.viewer.view import Model

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title><!--title--></title>
<style>
body { margin: 0; }
<!--style--></style>
</head>
<body>
<main></main>
<script type="application/json" id="data"><!--data--></script>
<script type="module">
<!--model-->
<!--viewer-->
const read = (text) => JSON.parse(text);
const given = new Map([["data", read(document.getElementById("data").textContent)], ["engine", <!--engine-->]]);
render({ model: { get: (name) => given.get(name) }, el: document.querySelector("main") });
</script>
</body>
</html>
"""


def to_html(data: Mapping[str, Any], model: Model | None) -> str:
    """The page."""
    parts = {"style": asset("viewer.css"), "viewer": asset("viewer.js"), "data": to_json(data)}
    if model is None:
        return fill(PAGE, data["title"], {**parts, "model": "", "engine": "undefined"})
    return fill(
        PAGE, data["title"], {**parts, "model": model.script, "engine": f"{model.function}({to_json(model.given)})"}
    )


@cache
def asset(name: str) -> str:
    """A file of the viewer."""
    return (files("tinyattn.viewer") / "assets" / name).read_text(encoding="utf-8")
