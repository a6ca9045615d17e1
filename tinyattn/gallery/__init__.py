"""Floor 2: what the checker looks at. Samples of every rule, and wrong backwards that it has to catch.

    SAMPLES["softmax"](rng)     → Samples: arrays and options on which the witnesses have to agree
    FAULTS["softmax_without_row_sum"]   → a Fault: the rule that it should be, the mistake, the function, an exercise

The faults are imported when they are asked for.
"""

from typing import TYPE_CHECKING, Any

from tinyattn.gallery.samples import SAMPLES, Sample, all_different, clear_of_zero

if TYPE_CHECKING:
    from tinyattn.gallery.faults import FAULTS, Fault, Faults

__all__ = ["FAULTS", "SAMPLES", "Fault", "Faults", "Sample", "all_different", "clear_of_zero"]


def __getattr__(name: str) -> Any:
    if name not in ("FAULTS", "Fault", "Faults"):
        raise AttributeError(f"module 'tinyattn.gallery' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("tinyattn.gallery.faults"), name)
