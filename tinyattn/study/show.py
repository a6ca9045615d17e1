"""The studies of one row and of one head, as pages and as what JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from tinyattn.study.blocks import (
    NUMBERED,
    WORD,
    Block,
    Formulas,
    Map,
    Note,
    Page,
    Section,
    Table,
    clean,
    cut,
    number,
    numbers,
)
from tinyattn.study.head import LABELS, Head
from tinyattn.study.heard import APART, Heard, largest
from tinyattn.study.softmax import Row, Way
from tinyattn.study.temperature import Needs, Published

Vector: TypeAlias = "np.ndarray[Any, Any]"

MOST_IN_JSON = 64  # rows of a Jacobian that JSON holds
MOST_TERMS = 8  # of a mix of words
MOST_COLUMNS = 6  # of a matrix that a table shows
SIGNS = "No number of the diagonal is negative, and no other is positive"


# ---------------------------------------------------------------------------------------------------- one row


def softmax_page(row: Row) -> Page:
    """All that there is to see of one row."""
    n = len(row.scores)
    title = f"softmax of {_count(n, 'score')}" + ("" if row.d_k is None else f", divided by √{row.d_k}")
    sections = [Section("FORWARD", tuple(_row_forward(row))), Section("BACKWARD", tuple(_row_backward(row)))]
    if row.d_k is not None:
        sections.append(Section("WITHOUT AND WITH THE SCALE", tuple(_both_ways(row.tokens, row.scores, row.ways))))
    if row.published is not None:
        sections.append(Section("PUBLISHED WEIGHTS", tuple(_published(row, row.published))))
    return Page(title, tuple(_row_notes(row)), tuple(sections))


def _row_notes(row: Row) -> Iterator[str]:
    if row.problem:
        yield f"No weight is a number: {row.problem}."
    elif row.hidden.any():
        yield f"Hidden by −inf: {_named(row.tokens, row.hidden)}. Weight and gradient are exactly 0 there."
    vanished = (row.weights == 0) & ~row.hidden
    if vanished.any():
        yield f"So far below the largest that exp gives exactly 0: {_named(row.tokens, vanished)}."


def _row_forward(row: Row) -> Iterator[Block]:
    top = "" if row.problem else f"max = {number(float(row.scaled.max()))}, of {cut(row.tokens[row.scaled.argmax()])}"
    scaled, before = row.d_k is not None, "scores" if row.d_k is None else "scaled"
    scaling = [("scaled  = scores / √d_k", f"√{row.d_k} = {row.divisor:.6g}")] if scaled else []
    lines = [
        *scaling,
        (f"shifted = {before} − max {before}", top),
        ("exp     = exp(shifted)", ""),
        ("weights = exp(shifted) / Σ exp(shifted)", "(softmax.1)"),
    ]
    yield Formulas(tuple(lines))
    columns = {"scores": row.scores} | ({"scaled": row.scaled} if scaled else {})
    columns |= {"shifted": row.shifted, "exp": row.exponentials, "weights": row.weights}
    empty = ("",) * (len(columns) - 2)
    foot = ("sum", *empty, number(float(row.exponentials.sum())), number(float(row.weights.sum())))
    yield _columns(row.tokens, columns, foot=(foot,), bars=row.weights)
    yield Formulas((("mix = Σ weights values", "(attention.3)"),))
    if row.values is None and not row.problem:
        terms = [f"{number(row.weights[i])} {cut(row.tokens[i])}" for i in np.argsort(-row.weights, kind="stable")]
        more = " + …" if len(terms) > MOST_TERMS else ""
        yield Note(f"mix = {' + '.join(terms[:MOST_TERMS])}{more}, each word for its value; --values mixes numbers.")
    elif row.values is not None and row.mix is not None:
        product = row.weights * row.values
        mixing = {"weights": row.weights, "values": row.values, "weights values": product}
        yield _columns(row.tokens, mixing, foot=(("mix", "", "", number(row.mix)),))


def _row_backward(row: Row) -> Iterator[Block]:
    yield from _jacobian(row.tokens, row.jacobian, "scores" if row.d_k is None else "scaled")
    given = "given" if row.seed is None else f"random (seed {row.seed})"
    scaling = [("d_scores = d_scaled / √d_k", "")] if row.d_k is not None else []
    target = "d_scores" if row.d_k is None else "d_scaled"
    yield Formulas(
        (
            ("d_weights", given),
            ("mean     = Σ weights d_weights", number(row.mean)),
            (f"{target} = weights (d_weights − mean)", "(softmax.3)"),
            *scaling,
        )
    )
    yield Note("d_scores three times: by hand, by the tape, by central differences")
    said = row.d_scores
    columns = {"d_weights": row.d_weights} | ({"d_scaled": row.d_scaled} if row.d_k is not None else {})
    columns |= {"hand": said.hand, "tape": said.tape, "differences": said.differences}
    yield _columns(row.tokens, columns, digits=6)
    yield from _agreement([said])
    if row.moved_shifted:
        yield Note(
            "Beside the largest of these scores a small step is lost in rounding. So the differences moved the shifted"
            " ones, whose weights are the same."
        )


def _jacobian(tokens: Sequence[str], jacobian: Vector, of: str) -> Iterator[Block]:
    yield Formulas(((f"∂weights_i/∂{of}_j = w_i (δ_ij − w_j), diag(w) − w wᵀ", "(softmax.2)"),))
    yield Map(tuple(map(clean, tokens)), jacobian, SIGNS)
    if len(tokens) > NUMBERED:
        yield Note(f"The numbers of up to {NUMBERED} × {NUMBERED} are shown; these are {len(tokens)} × {len(tokens)}.")
    off = largest(jacobian.sum(axis=-1))
    told = "0" if off == 0 else "NaN" if math.isnan(off) else f"0, but for round-off of {off:.1e}"
    yield Note(f"Row sums: {told}. A shift of all scores at once changes no weight.")


def _agreement(heard: Sequence[Heard]) -> Iterator[Block]:
    """The largest differences, and whether that is round-off."""
    agree = [each.agree for each in heard]
    if None in agree:
        yield Note("Nothing can be compared: there are no finite numbers.")
        return
    rows = tuple((each.name, LABELS[each.name.removeprefix("d_")], *map(_error, each.apart)) for each in heard)
    yield Table(("largest difference", "", *(pair.replace("differences", "diff.") for pair in APART)), rows)
    yield Note("The three agree." if all(agree) else "They DIFFER by more than round-off.")


def _error(x: float) -> str:
    return "0" if x == 0 else f"{x:.1e}"


def _both_ways(tokens: Sequence[str], scores: Vector, ways: Sequence[Way]) -> Iterator[Block]:
    plain, scaled = ways
    by = f"÷ {number(scaled.divisor)}".removesuffix(".0000")
    columns = [scores, plain.weights, plain.d_scores, scores / scaled.divisor, scaled.weights, scaled.d_scores]
    rows = zip(map(cut, tokens), *map(numbers, columns), strict=True)
    foot = (
        ("entropy", "", number(plain.entropy), "", "", number(scaled.entropy), ""),
        ("largest", "", number(plain.largest), "", "", number(scaled.largest), ""),
        ("size", "", "", number(plain.size), "", "", number(scaled.size)),
    )
    yield Table(("token", "scores", "weights", "d_scores", by, "weights", "d_scores"), tuple(rows), foot)
    most = number(math.log(len(tokens)))
    yield Note(f"entropy = −Σ w ln w, in nats, {most} at most; size = √Σ d_scores².")


# ---------------------------------------------------------------------------------------------------- published


def _published(row: Row, published: Published) -> Iterator[Block]:
    yield Formulas((("weights = softmax(scores / T)", "(softmax.1)"), ("remaining = published − closest", "")))
    told = {f"T = {way.divisor:.6g}": way.weights for way in row.ways}
    columns = {"scores": row.scores, "published": published.weights} | told
    columns |= {"closest": published.closest, "remaining": published.remaining}
    off = [number(largest(published.weights - weights)) for weights in (*told.values(), published.closest)]
    yield _columns(row.tokens, columns, foot=(("largest off", "", "", *off, ""),))
    yield Note(_closest(published))
    total = float(published.weights.sum())
    if abs(total - 1) > len(row.tokens) * published.rounding:
        yield Note(f"The published weights sum to {number(total)}; KL takes them divided by that.")
    yield from _why(published)


def _closest(published: Published) -> str:
    if published.temperature is None:
        return "All scores that are seen are equal: every temperature gives the same weights."
    low, high = published.bracket
    least = f"KL(published, softmax) = {published.divergence:.4f} nats"
    if published.temperature == 0:
        return f"Closest is the limit T → 0, all weight on the largest: {least}."
    if math.isinf(published.temperature):
        return f"Closest is the limit T → ∞, all weights equal: {least}."
    return (
        f"Closest is T = {published.temperature:.6g}: {least}, and no temperature has less. KL is convex in 1/T, and"
        f" its slope changes sign between {low:.7g} and {high:.7g}."
    )


def _why(published: Published) -> Iterator[Block]:
    rounding = f"±{published.rounding:.1g}"
    if published.exact:
        yield Note(f"These are the published weights, within their rounding of {rounding}.")
        return
    if not published.against:
        yield Note(f"Those differ from the published weights by more than their rounding of {rounding}.")
        return
    why = "".join(f": {_both(needs)} {needs.why}" for needs in published.against if needs.why)
    yield Note(f"No temperature gives the published weights, not even rounded ({rounding}){why}.")
    if why:
        return
    yield Formulas((("w_i / w_j = exp((s_i − s_j) / T)", "so that T = (s_i − s_j) / ln(w_i / w_j)"),))
    rows = tuple((_both(needs), _temperature(needs.low), _temperature(needs.high)) for needs in published.against)
    yield Table(("", "need T from", "to"), rows)
    yield Note("There is no T in both ranges.")


def _both(needs: Needs) -> str:
    return " and ".join(map(cut, dict.fromkeys(needs.tokens) if "hidden" in needs.why else needs.tokens))


def _temperature(temperature: float) -> str:
    return "∞" if math.isinf(temperature) else f"{temperature:.4g}"


# ---------------------------------------------------------------------------------------------------- one head


def head_page(head: Head) -> Page:
    """All that there is to see of one head from one word."""
    title = f"attention from “{cut(head.word, 40)}”, word {head.position + 1} of {len(head.tokens)}"
    return Page(
        title,
        tuple(_head_notes(head)),
        (
            Section("FORWARD", tuple(_head_forward(head))),
            Section("BACKWARD", tuple(_head_backward(head))),
            Section("WITHOUT AND WITH THE SCALE", tuple(_head_ways(head))),
            *([Section("ALL HEADS", tuple(_all_heads(head)))] if head.n_heads > 1 else []),
        ),
    )


def _head_notes(head: Head) -> Iterator[str]:
    yield " ".join(map(clean, head.tokens))
    yield f"Head {head.head + 1} of {head.n_heads}, d_model = {head.d_model}, d_k = {head.d_k}."
    yield f"Embeddings, W_q, W_k, W_v and d_output are random (seed {head.seed}): nothing has been learned."
    if head.hidden.any():
        yield f"Causal: {_named(head.tokens, head.hidden)} can't be seen; weight and gradient are exactly 0 there."
    if len(set(head.tokens)) < len(head.tokens):
        yield "A word that stands twice has one embedding, and no position is added: its weights are equal."


def _head_forward(head: Head) -> Iterator[Block]:
    yield Formulas((("query = x_word W_q,   key = x W_k,   value = x W_v", "(multi_head.1)"),))
    yield _matrix("query", (head.word,), head.query[None])
    yield _matrix("key", head.tokens, head.key)
    yield _matrix("value", head.tokens, head.value)
    by = f"1/√{head.d_k} = {head.scale:.4g}" if head.scale != 1 or head.d_k == 1 else "not scaled: times 1"
    yield Formulas(
        (
            ("scores  = query · key", "(attention.1)"),
            ("scaled  = scores / √d_k" if by[0] == "1" else "scaled  = scores", by),
            ("masked  = −inf where a word can't be seen", f"{'causal' if head.causal else 'nothing is hidden'}"),
            ("weights = exp(masked) / Σ exp(masked)", "(attention.2)"),
        )
    )
    columns = {"scores": head.dots, "scaled": head.scaled, "masked": head.scores, "weights": head.weights}
    foot = (("sum", "", "", "", number(float(head.weights.sum()))),)
    yield _columns(head.tokens, columns, foot=foot, bars=head.weights)
    yield Formulas((("mix = Σ_j weights_j value_j", "(attention.3)"),))
    yield _matrix("mix", (head.word,), head.mix[None])


def _head_backward(head: Head) -> Iterator[Block]:
    yield from _jacobian(head.tokens, head.jacobian, "masked")
    yield Formulas((("d_output, the gradient of the mix", f"random (seed {head.seed})"),))
    yield _matrix("d_output", (head.word,), head.d_output[None])
    yield Formulas((("d_value_j   = weights_j d_output", "(attention.4)"),))
    yield from _said_of_matrix(head, "d_value")
    yield Formulas((("d_weights_j = d_output · value_j", "(attention.5)"),))
    yield _said(head.tokens, head.gradient("d_weights"))
    yield Formulas(
        (
            ("d_scores_j  = weights_j (d_weights_j − Σ weights d_weights)", "(softmax.3)"),
            ("              of the masked scores, which softmax takes", ""),
        )
    )
    yield _said(head.tokens, head.gradient("d_scores"))
    over = " / √d_k" if head.scale != 1 else ""
    yield Formulas(((f"d_query     = Σ_j d_scores_j key_j{over}", "(attention.6)"),))
    yield _said([str(i + 1) for i in range(head.d_k)], head.gradient("d_query"), "column")
    yield Formulas(((f"d_key_j     = d_scores_j query{over}", "(attention.7)"),))
    yield from _said_of_matrix(head, "d_key")
    yield from _agreement(head.gradients)


def _head_ways(head: Head) -> Iterator[Block]:
    scores = np.where(head.hidden, -np.inf, head.dots)
    yield from _both_ways(head.tokens, scores, head.ways)
    yield Note("Here d_scores are those of query · key, before they are scaled.")


def _all_heads(head: Head) -> Iterator[Block]:
    shown = head.all_weights[:MOST_COLUMNS]
    yield _columns(head.tokens, {f"head {h + 1}": weights for h, weights in enumerate(shown)})
    if len(shown) < head.n_heads:
        yield Note(f"The first {len(shown)} of {head.n_heads} heads.")


def _said(labels: Sequence[str], heard: Heard, title: str = "token") -> Block:
    columns = {f"{heard.name} by hand": heard.hand, "by tape": heard.tape, "by differences": heard.differences}
    return _columns(labels, columns, title=title, digits=6)


def _said_of_matrix(head: Head, name: str) -> Iterator[Block]:
    """Its numbers by hand, by the tape, and by differences, unless these were taken at some places only."""
    heard = head.gradient(name)
    yield _matrix(f"{name} by hand", head.tokens, heard.hand)
    yield _matrix("by tape", head.tokens, heard.tape)
    untaken = int(np.isnan(heard.differences).sum())
    if untaken and not np.isnan(heard.tape).any():
        yield Note(
            f"By differences {heard.tape.size - untaken} of {heard.tape.size} numbers; the others were not taken."
        )
    else:
        yield _matrix("by differences", head.tokens, heard.differences)


# ---------------------------------------------------------------------------------------------------- JSON


def softmax_dict(row: Row) -> dict[str, Any]:
    """All numbers for JSON: None for one that isn't finite, and for the Jacobian of more than 64 scores.

    >>> from tinyattn.study.softmax import softmax_study
    >>> softmax_dict(softmax_study([0.0, -math.inf]))["hidden"]
    [False, True]
    """
    made = row._asdict() | {"divisor": row.divisor, "hidden": row.hidden, "problem": row.problem or None}
    made["jacobian"] = row.jacobian if len(row.scores) <= MOST_IN_JSON else None
    made |= {"row_sums": row.jacobian.sum(axis=-1), "d_scores": _heard_dict(row.d_scores)}
    made |= {"ways": [_way_dict(way) for way in row.ways]}
    if row.published is not None:
        told = row.published._asdict() | {"remaining": row.published.remaining}
        made["published"] = told | {"against": [needs._asdict() for needs in row.published.against]}
    found: dict[str, Any] = _plain({"study": "softmax"} | made)
    return found


def head_dict(head: Head) -> dict[str, Any]:
    """All numbers for JSON, as in `softmax_dict`."""
    made = head._asdict() | {"d_k": head.d_k, "word": head.word, "hidden": head.hidden}
    made["jacobian"] = head.jacobian if len(head.tokens) <= MOST_IN_JSON else None
    made |= {"position": head.position + 1, "head": head.head + 1}
    made["gradients"] = {heard.name: _heard_dict(heard) for heard in head.gradients}
    made["ways"] = [_way_dict(way) for way in head.ways]
    found: dict[str, Any] = _plain({"study": "attention"} | made)
    return found


def _heard_dict(heard: Heard) -> dict[str, Any]:
    pairs = ("hand-tape", "hand-differences", "tape-differences")
    said = {"hand": heard.hand, "tape": heard.tape, "differences": heard.differences}
    return said | {"apart": dict(zip(pairs, heard.apart, strict=True)), "agree": heard.agree}


def _way_dict(way: Way) -> dict[str, Any]:
    return way._asdict() | {"entropy": way.entropy, "largest": way.largest, "size": way.size}


def _plain(x: Any) -> Any:
    """What JSON can hold."""
    if isinstance(x, np.ndarray):
        return _plain(x.tolist())
    if isinstance(x, dict):
        return {name: _plain(each) for name, each in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(each) for each in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


# ---------------------------------------------------------------------------------------------------- small things


def _columns(
    labels: Sequence[str],
    columns: dict[str, Vector],
    *,
    foot: tuple[tuple[str, ...], ...] = (),
    bars: Vector | None = None,
    title: str = "token",
    digits: int = 4,
) -> Table:
    """A table with a row for each token."""
    rows = zip((cut(label, WORD) for label in labels), *(numbers(x, digits) for x in columns.values()), strict=True)
    return Table((title, *columns), tuple(rows), foot, () if bars is None else tuple(map(float, bars)))


def _matrix(name: str, labels: Sequence[str], matrix: Vector) -> Table:
    """Rows of numbers, of many columns the first ones."""
    more = matrix.shape[1] > MOST_COLUMNS
    end = ("…",) if more else ()
    rows = ((cut(label), *numbers(row[:MOST_COLUMNS]), *end) for label, row in zip(labels, matrix, strict=True))
    titles = tuple(str(i + 1) for i in range(min(matrix.shape[1], MOST_COLUMNS)))
    return Table((name, *titles, *((str(matrix.shape[1]),) if more else ())), tuple(rows))


def _named(tokens: Sequence[str], chosen: Vector) -> str:
    """The words, of many the first."""
    names = [cut(token) for token, named in zip(tokens, chosen, strict=True) if named]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
