"""Attention, a block, and a model, with their whole backward passes written out by hand, beside the derivation."""

from tinyattn.by_hand import attention, block, pronoun

__all__ = ["attention", "block", "pronoun"]
