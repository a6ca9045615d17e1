"""Models with their whole backward pass written out by hand, to be read beside the derivation."""

from tinyattn.by_hand import pronoun

__all__ = ["pronoun"]
