"""Where there is no way back: what cut it. And which root somebody may have meant who named none."""

import gc
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from tinyattn.engine import GradientError
from tinyattn.explain.explanation import Reason
from tinyattn.nodes import Node, place
from tinyattn.tensor import Tensor

Further: TypeAlias = Callable[[Node], Iterable[Node]]

CUT = {
    "detach": ("detached", "detach() cuts the result off from what it was made of"),
    "no_grad": ("no_grad", "it was computed where nothing is recorded"),
    "constant": ("constant", "its result has no gradient, being no float32 or float64"),
}


def off_the_graph(tensor: Node) -> Reason:
    """Why a leaf has no gradient."""
    if tensor._origin is not None:
        kind, text = CUT[tensor._origin.reason]
        return Reason(kind, text, tensor._origin.rule, place(tensor))
    if tensor._data.dtype.kind not in "f":
        return Reason("constant", f"it holds {tensor._data.dtype}; gradients need float32 or float64")
    return Reason("constant", "its requires_grad is False: it was made without requires_grad=True")


def cuts(tensor: Tensor, root: Tensor) -> Iterator[Reason]:
    """Every place where the way from the root to the tensor is cut."""
    found = reached([root], _made_of)
    if any(node._parents is None for node in found):
        raise GradientError("the graph was released by an earlier backward")
    leads: set[Node] = {tensor}
    for node in sorted(found, key=lambda node: node._age):
        if node is not tensor and any(x in leads for x in _made_of(node)):
            leads.add(node)
    cut_off = [node for node in found if node._rule is None and node._origin is not None]
    certain = [node for node in cut_off if node in leads]
    yield from dict.fromkeys(map(off_the_graph, certain))
    if certain:
        return
    possible = [node for node in cut_off if node._origin and any(source() is None for source in node._origin.sources)]
    for reason in dict.fromkeys(map(off_the_graph, possible)):
        yield reason._replace(text=reason.text + ". (That is gone; if it was made of the tensor, it was cut off here)")
    if not possible:
        yield Reason(
            "severed",
            "root wasn't computed from it, by anything that is recorded. (float(t), t.item(), t.numpy() and NumPy on"
            " what they give cut off without a word)",
        )


def roots_of(tensor: Tensor) -> tuple[list[Tensor], list[Node]]:
    """The single numbers alive that were made of the tensor and that nothing recorded was made of, youngest first; and
    what else ends there.

    The ways that are cut count only where no other leads to a number.
    """
    alive = [node for node in gc.get_objects() if isinstance(node, Node)]
    ends = _ends(tensor, alive, _parents_of)
    roots = _single(ends) or _single(_ends(tensor, alive, _made_of))
    return roots, ends


def without_root(tensor: Tensor, ends: list[Node]) -> tuple[Reason, ...]:
    """What can be said where no single number that is alive leads back to the tensor."""
    if ends:
        told = "; ".join(f"{_called(node)}, of shape {node._data.shape}" for node in ends[:3])
        text = f"what was made of it ends in {told}. A root is a single number: sum it up, and name that"
        return (Reason("no root", text),)
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
    told_once = dict.fromkeys(map(off_the_graph, sorted(cut, key=lambda node: node._age)))
    return (*told_once, Reason("released", text))


def note_on(roots: list[Tensor]) -> str:
    """Which root was taken, where none was named."""
    others = f", the youngest of {len(roots)} numbers made of it" if len(roots) > 1 else ""
    return f"(the root: {_called(roots[0])}{others})"


def _called(node: Node) -> str:
    assert node._rule is not None
    where = place(node)
    return " ".join(filter(None, (node.name, node._rule.__name__, f"({where})" if where else "")))


def _ends(tensor: Tensor, alive: list[Node], made_of: Further) -> list[Node]:
    """What was made of the tensor and is recorded, and that nothing recorded was made of; youngest first."""
    users: dict[Node, list[Node]] = {}
    for node in alive:
        for x in made_of(node):
            users.setdefault(x, []).append(node)
    found = reached([tensor], lambda node: users.get(node, ()))
    recorded = [node for node in found if node._requires_grad]
    ends = [node for node in recorded if not any(user._requires_grad for user in users.get(node, ()))]
    return sorted((node for node in ends if node._rule is not None), key=lambda node: -node._age)


def _single(ends: list[Node]) -> list[Tensor]:
    return [node for node in ends if isinstance(node, Tensor) and node.size == 1]


def reached(start: list[Node], further: Further) -> list[Node]:
    """What can be reached, step by step, the start included."""
    seen, found = set(start), list(start)
    for node in found:
        for x in further(node):
            if x not in seen:
                seen.add(x)
                found.append(x)
    return found


def _parents_of(node: Node) -> list[Node]:
    return [x for x in node._parents or () if x is not None]


def _made_of(node: Node) -> list[Node]:
    """What a node was made of, also where it was cut off."""
    known = _parents_of(node)
    if node._rule is None and node._origin is not None:
        known += [x for x in (source() for source in node._origin.sources) if x is not None]
    return known
