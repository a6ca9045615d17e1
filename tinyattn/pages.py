"""Floor 2: what the pages that tinyattn writes have in common. Each is one file that opens without a network.

Text of users travels as JSON and is put on the page as text, never as markup.
"""

import html
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def to_json(data: Any) -> str:
    """JSON to stand in a script of a page. Raises `ValueError` for numbers that JSON doesn't have.

    >>> to_json({"word": "</script>"})
    '{"word":"\\\\u003c/script>"}'
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    # JSON has no "<" outside strings: escaped, nothing in it ends the script that holds it.
    return text.replace("<", r"\u003c")


def fill(template: str, title: str, parts: Mapping[str, str]) -> str:
    """The page: in place of each `<!--name-->` the part of that name, and the title as text.

    >>> fill("<h1><!--title--></h1><!--body-->", "a < b", {"body": "<p>"})
    '<h1>a &lt; b</h1><p>'
    """
    whole = {"title": html.escape(as_text(title)), **parts}
    for name, text in whole.items():
        template = template.replace(f"<!--{name}-->", text, 1)
    return template


def as_text(text: str) -> str:
    """Text that can be written: what isn't a character is a question mark."""
    return text.encode(errors="replace").decode()


def write_whole(path: Path, content: bytes) -> None:
    """The whole file or none of it. A link stays one: what it leads to is written; and so do a pipe and a device."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    beside = path.with_name(f".tinyattn-{secrets.token_hex(8)}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
