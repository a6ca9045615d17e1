"""Floor 1: what NumPy keeps in `numpy.linalg`, as far as it has a rule. `np.linalg.norm(tensor)` is the same call."""

from tinyattn.engine import lift
from tinyattn.rules import reductions

norm = lift(reductions.norm)
