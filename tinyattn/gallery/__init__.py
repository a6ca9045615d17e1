"""Floor 2: what the checker looks at. Samples of every rule, and wrong backwards that it has to catch.

    SAMPLES["softmax"](rng)     → Samples: arrays and options on which the witnesses have to agree
    FAULTS["softmax_without_row_sum"]   → a Fault: the rule that it should be, the mistake, the function, an exercise
"""

from tinyattn.gallery.faults import FAULTS, Fault, Faults
from tinyattn.gallery.samples import SAMPLES, Sample, all_different, clear_of_zero

__all__ = ["FAULTS", "SAMPLES", "Fault", "Faults", "Sample", "all_different", "clear_of_zero"]
