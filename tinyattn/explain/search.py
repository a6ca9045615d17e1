"""The search for what happened to a gradient on its way back.

The graph is walked as `engine.walk` does it, but nothing is released, no `.grad` is written; each edge is looked at.
"""

import gc
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tinyattn.engine import GradientError, seed, youngest_last
from tinyattn.engine import fit as fitted
from tinyattn.explain.causes import Edge, cause
from tinyattn.explain.explanation import Explanation, Reason
from tinyattn.nodes import Node, place, recording
from tinyattn.rules.registry import argument
from tinyattn.tensor import Tensor

TINY = 1e-8  # of the root's own gradient
SHRINKS = 1e-3  # an edge that passes on less than this is told of where a gradient is tiny
MOST = 5  # reasons of one kind


def explain_gradient(tensor: Tensor, root: Tensor | None = None) -> Explanation:
    """Say why the gradient of `root` in `tensor` is None, zero, tiny, NaN or infinite, and where that was decided.

    The reasons name the operation, and the line of one's own source that asked for it:

    | kind | what it means |
    |---|---|
    | detached, no_grad, constant | the way from root to tensor is cut there |
    | severed | no operation leads from one to the other |
    | dead relu, saturated, clipped, flat | the slope is 0 |
    | saturated softmax | one weight takes all; with 1 − max p |
    | constant direction | the gradient pushes where the output can't move |
    | masked, not selected, not the winner, dropped, times zero | the number doesn't count |
    | cancels | several ways back, whose sum is 0 |
    | 0·inf, infinite slope | the operation on whose way back NaN or an infinity begins |
    | forward | the operation in which NaN or an infinity begins |
    | released, written | the graph is no longer there |

    `root` is a single number, a loss; if it isn't given, it is looked for among what is alive and uses the tensor. The
    graph must be there still: ask before `backward()`, or after `backward(retain_graph=True)`. Nothing is changed, and
    hooks aren't called.

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
        return Explanation(subject, "none", None, (_off_the_graph(tensor),))
    if root is None:
        found = _root_of(tensor)
        if found is None:
            return _without_root(tensor, subject)
        root = found
    if root.size != 1:
        raise GradientError(f"explain_gradient: root must be a single number, a loss; got shape {root.shape}")
    try:
        return _explain(tensor, root, subject)
    except GradientError as error:
        kind = "released" if "released" in str(error) else "written"
        hint = " Ask before backward(), or give that backward retain_graph=True." if kind == "released" else ""
        reason = Reason(kind, str(error).removeprefix("backward: ") + "." + hint)
        return Explanation(subject, "unknown", None, (reason,))


def _explain(tensor: Tensor, root: Tensor, subject: str) -> Explanation:
    order = youngest_last(root, -1) if root._requires_grad else []
    if tensor not in set(order):
        return Explanation(subject, "none", None, tuple(_cuts(tensor, root)))
    edges, gradient = _walk(tensor, root, order)
    if gradient is None:
        return Explanation(subject, "none", None, tuple(_given_none(tensor, order)))
    state = _state(gradient)
    reasons = {
        "nan": lambda: _not_finite(order, edges, np.isnan),
        "infinite": lambda: _not_finite(order, edges, np.isinf),
        "zero": lambda: _zero(tensor, edges),
        "partly zero": lambda: _lost(edge for edge in edges if _loses_some(edge)),
        "tiny": lambda: _lost(sorted(filter(_shrinks, edges), key=_passed_on)),
    }.get(state, list)()
    return Explanation(subject, state, gradient, (*reasons, *_hooks(order)))


def _given_none(tensor: Tensor, order: list[Node]) -> Iterator[Reason]:
    for user in order:
        for i, x in enumerate(user._parents or ()):
            if x is tensor and user._rule is not None:
                text = f"the rule has no gradient for {argument(user._rule, i)}"
                yield Reason("constant", text, user._rule.__name__, place(user))


def _state(gradient: Any) -> str:
    if np.isnan(gradient).any():
        return "nan"
    if np.isinf(gradient).any():
        return "infinite"
    if not gradient.any():
        return "zero"
    if np.abs(gradient).max() < TINY:
        return "tiny"
    return "fine" if gradient.all() else "partly zero"


# ------------------------------------------------------------------------------------------------ the way back


def _walk(tensor: Tensor, root: Tensor, order: list[Node]) -> tuple[list[Edge], Any]:
    """Every edge that may lead to the tensor, root first, with the gradients on it; and the gradient in the tensor."""
    leads = _leading_to(tensor, order)
    order = list(order)
    sums: dict[Node, Any] = {root: seed(root, None)}
    edges: list[Edge] = []
    with recording(False), np.errstate(all="ignore"):
        while order:
            node = order.pop()
            d_output = sums.get(node)
            if d_output is None or node._rule is None or node is tensor:
                continue
            gradients = node._backward(d_output)
            if isinstance(gradients, Node):  # a checkpoint, computed again
                again = youngest_last(gradients, node._age + 1)
                leads |= _leading_to(tensor, again, leads)
                order += again
                sums[gradients] = d_output
                continue
            for i, (x, gradient) in enumerate(zip(node._parents or (), gradients, strict=True)):
                if x is None or gradient is None or not x._requires_grad or x not in leads:
                    continue
                gradient = fitted(gradient, x, node)
                edges.append(Edge(node, i, np.asarray(d_output), np.asarray(gradient)))
                sums[x] = sums[x] + gradient if x in sums else gradient
    found = sums.get(tensor)
    return edges, None if found is None else np.asarray(found)


def _leading_to(tensor: Node, order: list[Node], known: "set[Node] | None" = None) -> set[Node]:
    """The nodes of `order`, which is oldest first, from which the tensor can be reached."""
    leads = {tensor} | (known or set())
    for node in order:
        if any(x in leads for x in node._parents or () if x is not None and x._requires_grad):
            leads.add(node)
    return leads


def _zero(tensor: Tensor, edges: list[Edge]) -> list[Reason]:
    """Who turned a gradient into zeros; failing that, those who did so in part, or whose sum it is."""
    lost = [edge for edge in edges if edge.d_output.any() and not edge.d_input.any()]
    if lost:
        return _lost(lost)
    arriving = [edge for edge in edges if (edge.node._parents or ())[edge.place] is tensor and edge.d_input.any()]
    if len(arriving) > 1:
        told = ", ".join(f"{edge.rule}{_at(edge.node)}" for edge in arriving[:MOST])
        return [Reason("cancels", f"the gradients that come back from {told} sum to 0")]
    return _lost(edge for edge in edges if _loses_some(edge))


def _lost(edges: Iterable[Edge]) -> list[Reason]:
    """A reason for each edge, each said once."""
    reasons: dict[Reason, None] = {}
    for edge in edges:
        kind, text = cause(edge)
        reasons[Reason(kind, text, edge.rule, place(edge.node))] = None
        if len(reasons) == MOST:
            break
    return list(reasons)


def _loses_some(edge: Edge) -> bool:
    """Whether there are zeros in what goes out that weren't in what came in."""
    if edge.d_input.shape == edge.d_output.shape:
        return bool(((edge.d_input == 0) & (edge.d_output != 0)).any())
    return bool(edge.d_output.any() and (edge.d_input == 0).any())


def _passed_on(edge: Edge) -> float:
    came = np.abs(edge.d_output).max(initial=0.0)
    return float(np.abs(edge.d_input).max(initial=0.0) / came) if came else 1.0


def _shrinks(edge: Edge) -> bool:
    return _passed_on(edge) < SHRINKS


def _hooks(order: list[Node]) -> Iterator[Reason]:
    for node in order:
        if node._hooks:
            rule = node._rule.__name__ if node._rule is not None else "a leaf"
            text = "it has hooks, which may change the gradient, and weren't called here"
            yield Reason("hook", text, rule, place(node))


# ------------------------------------------------------------------------------------------------ NaN and infinity


def _not_finite(order: list[Node], edges: list[Edge], bad: Any) -> list[Reason]:
    """Where it begins: going forward, else going back."""
    what = "a NaN" if bad is np.isnan else "an infinity"
    for node in order:
        if bad(node._data).any() and not any(bad(x).any() for x in _numbers_in(node)):
            if node._rule is None:
                return [Reason("forward", f"{node.name or 'a leaf'} holds {what} to begin with")]
            return [Reason("forward", f"it made {what} out of numbers without one", node._rule.__name__, place(node))]
    for edge in edges:
        if not np.isfinite(edge.d_output).all() or np.isfinite(edge.d_input).all():
            continue
        if edge.d_input.shape == edge.d_output.shape and not edge.d_output[~np.isfinite(edge.d_input)].any():
            text = (
                f"the gradient that comes back is 0 where the slope of {edge.rule} is infinite. If a `where` or a mask"
                " after it is to hide that, put one before it: the value must be fine, too"
            )
            return [Reason("0·inf", text, edge.rule, place(edge.node))]
        text = f"a finite gradient came back, and {what} went on to {edge.argument}"
        return [Reason("infinite slope", text, edge.rule, place(edge.node))]
    return []


def _numbers_in(node: Node) -> list[Any]:
    arrays = [np.asarray(x._data if isinstance(x, Node) else x) for x in node._inputs or () if x is not None]
    return [array for array in arrays if array.dtype.kind in "fc"]


# ------------------------------------------------------------------------------------------------ no way back


CUT = {
    "detach": ("detached", "detach() cuts the result off from what it was made of"),
    "no_grad": ("no_grad", "it was computed where nothing is recorded"),
    "constant": ("constant", "its result has no gradient, being no float32 or float64"),
}


def _off_the_graph(tensor: Node) -> Reason:
    if tensor._origin is not None:
        kind, text = CUT[tensor._origin.reason]
        return Reason(kind, text, tensor._origin.rule, place(tensor))
    if tensor._data.dtype.kind not in "f":
        return Reason("constant", f"it holds {tensor._data.dtype}; gradients need float32 or float64")
    return Reason("constant", "its requires_grad is False: it was made without requires_grad=True")


def _cuts(tensor: Tensor, root: Tensor) -> Iterator[Reason]:
    """Every place where the way from the root to the tensor is cut."""
    seen: set[Node] = {root}
    found: list[Node] = [root]
    for node in found:
        if node._parents is None:
            raise GradientError("the graph was released by an earlier backward")
        for x in _made_of(node):
            if x not in seen:
                seen.add(x)
                found.append(x)
    leads: set[Node] = {tensor}
    for node in sorted(found, key=lambda node: node._age):
        if node is not tensor and any(x in leads for x in _made_of(node)):
            leads.add(node)
    cut_off = [node for node in found if node._rule is None and node._origin is not None]
    certain = [node for node in cut_off if node in leads]
    yield from dict.fromkeys(map(_off_the_graph, certain))
    if certain:
        return
    possible = [node for node in cut_off if node._origin and any(source() is None for source in node._origin.sources)]
    for reason in dict.fromkeys(map(_off_the_graph, possible)):
        yield reason._replace(text=reason.text + ". (That is gone; if it was made of the tensor, it was cut off here)")
    if not possible:
        yield Reason(
            "severed",
            "root wasn't computed from it, by anything that is recorded. (float(t), t.item(), t.numpy() and NumPy on"
            " what they give cut off without a word)",
        )


def _made_of(node: Node) -> list[Node]:
    """What a node was made of, also where it was cut off."""
    known = [x for x in node._parents or () if x is not None]
    if node._rule is None and node._origin is not None:
        known += [x for x in (source() for source in node._origin.sources) if x is not None]
    return known


def _root_of(tensor: Tensor) -> Tensor | None:
    """The youngest single number alive that was made of the tensor, and that nothing was made of."""
    users: dict[Node, list[Node]] = {}
    for node in gc.get_objects():
        if isinstance(node, Node):
            for x in _made_of(node):
                users.setdefault(x, []).append(node)
    seen: set[Node] = {tensor}
    found: list[Node] = [tensor]
    for node in found:
        fresh = [user for user in users.get(node, ()) if user not in seen]
        seen.update(fresh)
        found += fresh
    ends = [node for node in found if node not in users and node is not tensor]
    single = [node for node in ends if isinstance(node, Tensor) and node.size == 1 and node._requires_grad]
    return max(single, key=lambda node: node._age, default=None)


def _without_root(tensor: Tensor, subject: str) -> Explanation:
    """What can be said where nothing that is alive leads back to the tensor."""
    cut = [
        node
        for node in gc.get_objects()
        if isinstance(node, Node) and node._rule is None and node._origin is not None
        if any(source() is tensor for source in node._origin.sources)
    ]
    text = (
        "nothing that can be walked back was made of it: backward() released what was, or it was never used. Ask before"
        " backward(), or give that backward retain_graph=True, or name the root"
    )
    told = dict.fromkeys(map(_off_the_graph, sorted(cut, key=lambda node: node._age)))
    reasons = (*told, Reason("released", text))
    return Explanation(subject, "none" if tensor.grad is None else "unknown", None, reasons)


def _at(node: Node) -> str:
    where = place(node)
    return f" ({where})" if where else ""
