"""Floor 2: why a gradient is None, zero or NaN, with the operation and the line that decided it.

`search` walks the graph and finds the operations; `causes` says what it was in each; `explanation` is what comes out.
"""

from tinyattn.explain.explanation import Explanation, Reason
from tinyattn.explain.search import explain_gradient

__all__ = ["Explanation", "Reason", "explain_gradient"]
