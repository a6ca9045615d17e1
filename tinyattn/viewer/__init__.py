"""Floor 3: the attention viewer. It takes plain arrays, and gives one page on which one sees who looks at whom.

`layers` checks what was given, `pack` makes it small, `page` puts it on a page, `widget` into a notebook that stays
connected; `assets/viewer.js` is what draws, one module without dependencies. Python only hands it data.
"""

from tinyattn.viewer.view import View, view

__all__ = ["View", "view"]
