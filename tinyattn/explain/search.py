"""The question, and its answer: what the gradient is, and if something is wrong with it, who did it.

`way` walks back and finds the operations, `causes` and `weights` say what it was in them, `cuts` why there is no way.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tinyattn.engine import GradientError, youngest_last
from tinyattn.explain.causes import cause
from tinyattn.explain.cuts import cuts, note_on, off_the_graph, reached, roots_of, without_root
from tinyattn.explain.explanation import Explanation, Reason
from tinyattn.explain.way import Edge, Meeting, Way, culprits, is_zero, not_finite, plain, shrinking, walk
from tinyattn.explain.weights import CONSTANT
from tinyattn.explain.words import round_off
from tinyattn.nodes import Node, place
from tinyattn.rules.registry import argument
from tinyattn.tensor import Tensor

TINY = 1e-8  # of the root's own gradient
MOST = 8  # reasons


def explain_gradient(tensor: Tensor, root: Tensor | None = None) -> Explanation:
    """Say why the gradient of `root` in `tensor` is None, zero, tiny, NaN or infinite, and where that was decided.

    The reasons, eight at most, name the operation and the line of one's own source that asked for it:

    | kind | what it means |
    |---|---|
    | detached, no_grad, constant | the way from root to tensor is cut there |
    | severed | no operation leads from one to the other |
    | dead relu, saturated, clipped, flat | the slope is 0 |
    | saturated softmax | one weight takes all; with 1 − max p |
    | constant direction | the gradient pushes where the output can't move |
    | masked, not selected, not the winner, dropped, times zero | the number doesn't count |
    | cancels | several ways back, whose sum is 0 |
    | small slope, vanishing | one operation shrinks the gradient; many do, each a little |
    | 0·inf, infinite slope, overflow | the operation on whose way back NaN or an infinity begins |
    | forward | the operation in which NaN or an infinity begins |
    | released, written, no root | the graph is no longer there, or has no single number at its end |
    | hook | hooks may change the gradient: they aren't called here |

    Zeros, NaN and infinities are followed from the tensor to where they began. `root` is a single number, a loss; if it
    isn't given, it is looked for among what is alive and uses the tensor. The graph must be there still: ask before
    `backward()`, or after `backward(retain_graph=True)`. No gradient and no graph is changed.

    Raises `TypeError` for what isn't a Tensor, `GradientError` for a root of more than one number.

    >>> import tinyattn as ta
    >>> x = ta.tensor([-1.0, -2.0], requires_grad=True, name="x")
    >>> loss = ta.relu(x).sum()
    >>> print(explain_gradient(x, loss))  # doctest: +ELLIPSIS
    the gradient of x, of shape (2,): it is zero
      dead relu: relu (...): all 2 inputs are 0 or below, where a relu is flat
    """
    for name, given in (("tensor", tensor), ("root", root)):
        if not isinstance(given, Tensor) and not (name == "root" and given is None):
            raise TypeError(f"explain_gradient: {name} must be a Tensor; got {type(given).__name__}")
    subject = f"{tensor.name or 'the tensor'}, of shape {tensor.shape}"
    if not tensor._requires_grad:
        return Explanation(subject, "none", None, (off_the_graph(tensor),))
    note = ""
    if root is None:
        roots, ends = roots_of(tensor)
        if not roots:
            state = "none" if tensor.grad is None and not ends else "unknown"
            return Explanation(subject, state, None, without_root(tensor, ends))
        root, note = roots[0], note_on(roots)
    if root.size != 1:
        raise GradientError(f"explain_gradient: root must be a single number, a loss; got shape {root.shape}")
    try:
        state, gradient, reasons = _explain(tensor, root)
    except GradientError as error:
        kind = "released" if "released" in str(error) else "written"
        hint = " Ask before backward(), or give that backward retain_graph=True." if kind == "released" else ""
        reason = Reason(kind, str(error).removeprefix("backward: ") + "." + hint)
        return Explanation(subject, "unknown", None, (reason,), note)
    return Explanation(subject, state, gradient, tuple(reasons), note)


def _explain(tensor: Tensor, root: Tensor) -> tuple[str, Any, list[Reason]]:
    order = youngest_last(root, -1) if root._requires_grad else []
    if tensor not in set(order):
        return "none", None, list(cuts(tensor, root))
    way = walk(tensor, root, order)
    if tensor not in way.sums:
        return "none", None, list(_given_none(tensor, order))
    gradient = way.sums[tensor]
    state = _state(gradient, way)
    with np.errstate(all="ignore"):
        if state in ("nan", "infinite"):
            reasons = _not_finite(way, tensor)
        elif state in ("zero", "partly zero"):
            reasons = map(_lost, culprits(way, tensor, is_zero))
        elif state == "tiny":
            reasons = _shrunk(way)
        else:
            reasons = iter(())
        return state, gradient, [*_once(reasons), *_once(_hooks(order))]


def _state(gradient: Any, way: Way) -> str:
    if np.isnan(gradient).any():
        return "nan"
    if np.isinf(gradient).any():
        return "infinite"
    if not gradient.size:
        return "fine"
    if not gradient.any():
        return "zero"
    largest = np.abs(gradient).max()
    if largest < TINY:
        return "tiny"
    if largest < round_off(gradient) and any(_is_round_off(*found, gradient) for found in shrinking(way)):
        return "tiny"
    return "fine" if gradient.all() else "partly zero"


def _given_none(tensor: Tensor, order: list[Node]) -> Iterator[Reason]:
    for user in order:
        for i, x in enumerate(user._parents or ()):
            if x is tensor and user._rule is not None:
                text = f"the rule has no gradient for {argument(user._rule, i)}"
                yield Reason("constant", text, user._rule.__name__, place(user))


def _once(reasons: Iterable[Reason]) -> list[Reason]:
    """Each once, for what is in a loop says the same again; not too many."""
    told: dict[Reason, None] = {}
    for reason in reasons:
        told[reason] = None
        if len(told) == MOST:
            break
    return list(told)


def _hooks(order: list[Node]) -> Iterator[Reason]:
    for node in order:
        if node._hooks:
            rule = node._rule.__name__ if node._rule is not None else "a leaf"
            text = "it has hooks, which may change the gradient, and weren't called here"
            yield Reason("hook", text, rule, place(node))


# ------------------------------------------------------------------------------------------------ zero, and nearly so


def _lost(found: Edge | Meeting) -> Reason:
    if isinstance(found, Edge):
        kind, text = cause(found)
        return Reason(kind, text, found.rule, place(found.node))
    return Reason("cancels", f"the gradients that come back from {_several(found)} sum to 0")


def _several(meeting: Meeting) -> str:
    return ", ".join(f"{edge.rule}{_at(edge.node)}" for edge in meeting.edges[:MOST])


def _is_round_off(ratio: float, found: Edge | Meeting, gradient: Any) -> bool:
    """Whether what goes out is all that is left of a sum that is 0."""
    return 0 < ratio < round_off(gradient) and (isinstance(found, Meeting) or cause(found)[0] in (CONSTANT, "cancels"))


def _shrunk(way: Way) -> Iterator[Reason]:
    """Those who shrink the gradient most: as many as it takes to make it tiny, and all who do so alone."""
    ranked = sorted(filter(lambda entry: 0 < entry[0] < 1, shrinking(way)), key=lambda entry: entry[0])
    together = 1.0
    for n, (ratio, found) in enumerate(ranked):
        if together <= TINY < ratio or n == MOST:
            break
        together *= ratio
        reason = _lost(found)
        if ratio > 1e-3 and reason.kind in ("small slope", "saturated"):
            text = f"it passes on {ratio:.3g} of the gradient, one of {len(ranked)} operations that shrink it"
            reason = reason._replace(kind="vanishing", text=text)
        yield reason


# ------------------------------------------------------------------------------------------------ NaN and infinity


def _not_finite(way: Way, tensor: Tensor) -> Iterator[Reason]:
    for found in culprits(way, tensor, not_finite):
        if isinstance(found, Meeting):
            yield Reason("overflow", f"the gradients that come back from {_several(found)} are finite; their sum isn't")
        else:
            yield from _exploded(found)


def _exploded(edge: Edge) -> Iterator[Reason]:
    """Where zero meets a slope that isn't finite; else where that begins going forward; else the slope alone."""
    where, begun = place(edge.node), list(_begun(edge.node))
    same_shape = edge.d_output.shape == edge.lost.shape
    by_zero = edge.lost & (edge.d_output == 0 if same_shape else not edge.d_output.any())
    if by_zero.any():
        text = (
            f"the gradient that comes back is 0 where the slope of {edge.rule} isn't finite. If a `where` or a mask"
            " after it is to hide that, put one before it: the value must be fine, too"
        )
        yield Reason("0·inf", text, edge.rule, where)
    yield from begun
    if not begun and (edge.lost & ~by_zero).any():
        what = "a NaN" if np.isnan(edge.d_input[edge.lost]).any() else "an infinity"
        text = f"a finite gradient came back, and {what} went on to {edge.argument}"
        yield Reason("infinite slope", text, edge.rule, where)


def _begun(node: Node) -> Iterator[Reason]:
    """Where, on the way forward, the numbers began not to be finite that a node has, or was given."""

    def spoiled(made: Node) -> list[Node]:
        return [x for x in made._parents or () if x is not None and not_finite(x._data).any()]

    trail = sorted(reached([node], spoiled), key=lambda made: made._age)
    begun = [
        found
        for made in trail
        for bad, excuse in ((np.isnan, np.isnan), (np.isinf, not_finite))
        for found in _begun_at(made, bad, excuse)
    ]
    certain = [reason for reason, on_purpose in begun if not on_purpose]
    yield from certain or (reason for reason, _ in begun)


def _begun_at(made: Node, bad: Any, excuse: Any) -> Iterator[tuple[Reason, bool]]:
    """Whether it began here; and whether that may be on purpose, as infinities that are given may, scores of −∞ say."""
    what, on_purpose = ("a NaN", False) if bad is np.isnan else ("an infinity", True)
    if made._rule is None:
        if bad(made._data).any():
            yield Reason("forward", f"{made.name or 'a leaf'} holds {what} to begin with"), on_purpose
        return
    rule, where, inputs = made._rule.__name__, place(made), made._inputs or ()
    for i, x in enumerate(inputs):
        if x is not None and not isinstance(x, Node) and bad(x).any():
            yield Reason("forward", f"it was given {what}, as {argument(made._rule, i)}", rule, where), on_purpose
    if bad(made._data).any() and not any(excuse(plain(x)).any() for x in inputs if x is not None):
        numbers = "numbers without one" if bad is np.isnan else "finite numbers"
        yield Reason("forward", f"it made {what} out of {numbers}", rule, where), False


def _at(node: Node) -> str:
    where = place(node)
    return f" ({where})" if where else ""
