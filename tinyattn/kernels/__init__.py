"""Floor 1: kernels, the fast twins of those rules that need one.

A kernel has the name, the arguments and the results of its rule, which stays the specification: `kernels/attention.py`
is to `rules/attention.py` what a fast sort is to the definition of being sorted. Kernels take NumPy's arrays alone and
write into arrays of their own; where Tensors or complex numbers flow, the rule is called instead.

A kernel is told which gradients are wanted (`wanted`, one for each array), and gives None for the others.
"""
