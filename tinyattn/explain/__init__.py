"""Floor 2: why a gradient is None, zero or NaN, with the operation and the line that decided it.

`search` asks and answers. `way` walks back and finds the operations; `causes` and `weights` say what it was in each, in
`words`; `cuts` says why there is no way; `explanation` is what comes out.
"""

from tinyattn.explain.explanation import Explanation, Reason
from tinyattn.explain.search import explain_gradient

__all__ = ["Explanation", "Reason", "explain_gradient"]
