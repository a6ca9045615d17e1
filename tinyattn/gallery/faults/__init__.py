"""Planted faults: rules whose forward is right and whose backward is wrong, as people really write them.

Every one must be caught by the checker. Each stands here as a wrong backward, under the forward that it belongs to; its
docstring tells the mistake.

    FAULTS["softmax_without_row_sum"]      → a Fault: the rule that it should be, the mistake, the function
    print(FAULTS)                          lists them
    print(FAULTS.random(rng).exercise())   hands one out
"""

from tinyattn.gallery.faults.exhibit import FAULTS, Fault, Faults

__all__ = ["FAULTS", "Fault", "Faults"]
