"""Attention, and a model, with their whole backward passes written out by hand, to be read beside the derivation."""

from tinyattn.by_hand import attention, pronoun

__all__ = ["attention", "pronoun"]
