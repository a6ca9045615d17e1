"""Computation graphs worth looking at: softmax, a head of attention, all of them, and the pronoun toy's loss."""
