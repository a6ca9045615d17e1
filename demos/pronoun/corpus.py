"""A seeded grammar of sentences in which a pronoun could be either of two nouns, and only meaning decides.

Every sentence has two *roles*: `a` does something to `b`. A template says it in two voices, so that each role comes
first equally often, and has cues that fit one role only:

    active   the {a} chased the {b}         because it  was hungry    -> {a}
    passive  the {b} was chased by the {a}  because it  was hungry    -> {a}

Where both nouns are of one kind, exchanging them exchanges the answer and leaves the same bag of words: on that half
of the corpus nothing but *who did what to whom* can help. Held-out sentences use pairs of nouns that the template
never showed in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, product
from typing import TypeVar

import numpy as np

T = TypeVar("T")

NOUNS = {
    "men": ("king", "boy", "actor", "uncle", "prince", "waiter"),
    "women": ("queen", "nurse", "girl", "aunt", "princess", "actress"),
    "people": ("doctors", "teachers", "children", "soldiers", "pilots", "players"),
    "animals": ("animal", "cat", "dog", "horse", "fox", "bear", "rabbit", "puppy"),
    "containers": ("box", "bag", "suitcase", "basket", "drawer", "crate"),
    "things": ("trophy", "ball", "book", "lamp", "clock", "violin"),
    "furniture": ("mat", "sofa", "table", "bed", "carpet", "bench"),
    "vehicles": ("truck", "car", "bus", "boat", "train", "van"),
    "places": ("street", "river", "bridge", "garden", "field", "road"),
}
BARKERS = ("dog", "fox", "puppy")
KIND_OF = {noun: kind for kind, nouns in NOUNS.items() for noun in nouns}
PRONOUN_OF = dict.fromkeys(NOUNS, "it") | {"men": "he", "women": "she", "people": "they"}
PRONOUNS = ("it", "he", "she", "they", "that")

DEGREES = ("too", "so", "very")
CONNECTORS = ("because", "since")
OPENINGS = ("yesterday", "last week", "as we heard", "one day", "in the end")
SCENES = ("we saw", "look at", "everybody likes")
ASIDES = ("in the end", "as we heard", "after all", "once more")
N_FILLERS = (0, 0, 0, 1, 1, 2)
FILLERS = (
    "again", "today", "after all", "at last", "this time", "once more", "for a while", "as usual", "in the end",
    "very early in the morning", "all of a sudden", "as far as we know", "for the second time this year",
    "on a cold and rainy day",
)  # fmt: skip
NEAR_FILLERS = (
    "", "over there", "on the left", "outside", "not far away", "on the other side", "right here at the back",
)  # fmt: skip
CORPUS_STREAM = 1  # keeps the corpus of a seed apart from the model of that seed
MAX_GAP = 12  # words between the nearer noun and the pronoun, connector included


@dataclass(frozen=True)
class Template:
    """Something that `a` does to `b`, in two voices, and the cues that fit only one of the two."""

    name: str
    active: str
    passive: str
    kinds: tuple[tuple[str, str], ...]
    cues_a: tuple[str, ...]
    cues_b: tuple[str, ...]
    relative: bool = False  # "... that barked" in place of "... because it barked"


def _same(*kinds: str) -> tuple[tuple[str, str], ...]:
    return tuple((kind, kind) for kind in kinds)


def _was(*adjectives: str) -> tuple[str, ...]:
    return tuple("{was} {degree} " + adjective for adjective in adjectives)


# cues_a[i] and cues_b[i] differ in one word: exchanging them makes a minimal pair
TEMPLATES = (
    # who did what to whom decides: both nouns may be of one kind
    Template("fit", "the {a} did not fit in the {b}", "the {b} could not hold the {a}",
             (*_same("containers"), ("things", "containers")),
             _was("big", "long"), _was("small", "short")),
    Template("chase", "the {a} chased the {b}", "the {b} was chased by the {a}",
             _same("animals"),
             (*_was("hungry"), "was hunting"), (*_was("tasty"), "was fleeing")),
    Template("thank", "the {a} thanked the {b}", "the {b} {was} thanked by the {a}",
             _same("men", "women", "people"),
             (*_was("grateful"), "had benefited"), (*_was("kind"), "had helped")),
    Template("overtake", "the {a} overtook the {b}", "the {b} was overtaken by the {a}",
             _same("vehicles"),
             (*_was("fast"), "had accelerated"), (*_was("slow"), "had stopped")),
    Template("hide", "the {a} hid the {b}", "the {b} was hidden by the {a}",
             _same("things", "furniture"),
             _was("large", "close"), _was("tiny", "distant")),
    Template("pay", "the {a} paid the {b}", "the {b} {was} paid by the {a}",
             _same("men", "women", "people"),
             _was("rich", "generous"), _was("poor", "diligent")),
    Template("defeat", "the {a} defeated the {b}", "the {b} {was} defeated by the {a}",
             _same("men", "women", "people"),
             (*_was("strong"), "had trained"), (*_was("weak"), "had surrendered")),
    Template("fear", "the {a} feared the {b}", "the {b} was feared by the {a}",
             _same("animals"),
             _was("timid", "young"), _was("fierce", "dangerous")),
    Template("carry", "the {a} could not carry the {b}", "the {b} could not be carried by the {a}",
             (*_same("animals", "vehicles"), ("animals", "things")),
             _was("weak", "exhausted"), _was("heavy", "enormous")),
    Template("forgive", "the {a} forgave the {b}", "the {b} {was} forgiven by the {a}",
             _same("men", "women", "people"),
             _was("patient", "wise"), _was("sorry", "ashamed")),
    Template("replace", "the {a} replaced the {b}", "the {b} was replaced by the {a}",
             _same("places", "furniture"),
             _was("new", "modern"), _was("old", "shabby")),
    Template("scratch", "the {a} scratched the {b}", "the {b} was scratched by the {a}",
             _same("things", "vehicles"),
             _was("sharp", "rough"), _was("delicate", "fragile")),
    # what the nouns are decides: the cue fits one kind only
    Template("cross", "the {a} did not cross the {b}", "the {b} was not crossed by the {a}",
             (("animals", "places"),),
             _was("tired", "afraid"), _was("wide", "icy")),
    Template("sit", "the {a} sat on the {b}", "the {b} was sat on by the {a}",
             (("animals", "furniture"),),
             _was("tired", "sleepy"), _was("soft", "warm")),
    Template("jump", "the {a} jumped over the {b}", "the {b} was jumped over by the {a}",
             (("animals", "containers"), ("animals", "furniture")),
             _was("playful", "brave"), _was("low", "flat")),
    Template("hit", "the {a} hit the {b}", "the {b} was hit by the {a}",
             (("vehicles", "furniture"),),
             ("was speeding", "was skidding"), ("was abandoned", "was hidden")),
    Template("near", "the {a} near the {b}", "the {b} near the {a}",
             (("things", "animals"), ("containers", "animals")),
             ("was broken", "was painted"), ("was asleep", "was hungry"), relative=True),
    Template("bark", "the {a} beside the {b}", "the {b} beside the {a}",
             (("things", "barkers"),),
             ("rolled", "glittered"), ("barked", "growled"), relative=True),
)  # fmt: skip
NounPairs = dict[Template, list[list[tuple[str, str]]]]
GROUPS = NOUNS | {"barkers": BARKERS}


@dataclass(frozen=True)
class Sentence:
    """One sentence with its answer; `pronoun`, `antecedent` and `rival` are places in `words`."""

    template: Template
    a: str
    b: str
    passive: bool
    cue: str
    degree: str = ""
    connector: str = "because"
    filler: str = ""
    opening: str = ""
    aside: str = ""
    also: str = ""  # a second cue of the same clause, "... because it was tired and it was soft"
    also_first: bool = False  # said before the one that is asked for
    before: Sentence | None = None  # another clause, joined with "and"
    after: Sentence | None = None

    @property
    def nouns(self) -> tuple[str, str]:
        """The two nouns in the order in which they are said."""
        return (self.b, self.a) if self.passive else (self.a, self.b)

    @property
    def answer(self) -> str:
        return self.a if self.cue in self.template.cues_a else self.b

    @property
    def same_kind(self) -> bool:
        return KIND_OF[self.a] == KIND_OF[self.b]

    @cached_property
    def own_words(self) -> tuple[str, ...]:
        template, first = self.template, self.nouns[0]
        clause = template.passive if self.passive else template.active
        if self.aside:
            clause = clause.replace("}", "} " + self.aside, 1)
        pronoun = "that" if template.relative else PRONOUN_OF[KIND_OF[self.a]]
        cues = (self.also, self.cue) if self.also_first else (self.cue, self.also)
        reasons = " and ".join(f"{pronoun} {cue}" for cue in cues if cue)
        link = "" if template.relative else self.connector
        was = "were" if KIND_OF[first] == "people" else "was"
        text = f"{self.opening} {clause} {self.filler} {link} {reasons}"
        return tuple(text.format(a=self.a, b=self.b, was=was, degree=self.degree).split())

    @cached_property
    def words(self) -> tuple[str, ...]:
        before = (*self.before.own_words, "and") if self.before else ()
        after = ("and", *self.after.own_words) if self.after else ()
        return before + self.own_words + after

    @property
    def pronoun(self) -> int:
        start = len(self.before.own_words) + 1 if self.before else 0
        return start + [i for i, word in enumerate(self.own_words) if word in PRONOUNS][self.also_first]

    @property
    def antecedent(self) -> int:
        return self.words.index(self.answer)

    @property
    def rival(self) -> int:
        return self.words.index(self.b if self.answer == self.a else self.a)

    @property
    def combination(self) -> tuple[str, str, str]:
        """What train and held-out never share: the template with both nouns, and so with every cue."""
        return (self.template.name, *sorted((self.a, self.b)))

    def with_other_cue(self) -> Sentence:
        """The same sentence with the cue's twin, so that the other noun is meant."""
        cues_a, cues_b = self.template.cues_a, self.template.cues_b
        twin = dict(zip(cues_a + cues_b, cues_b + cues_a, strict=True))
        return replace(self, cue=twin[self.cue])

    def __str__(self) -> str:
        text = " ".join(self.words)
        return text[0].upper() + text[1:] + "."


class Corpus:
    """Train and held-out sentences from one seed; the two share no template with the same two nouns.

    >>> corpus = Corpus(seed=0, n_train=100, n_heldout=50)
    >>> shared = {s.combination for s in corpus.train} & {s.combination for s in corpus.heldout}
    >>> len(corpus.train), len(corpus.heldout), shared
    (100, 50, set())
    """

    def __init__(self, seed: int = 0, n_train: int = 40_000, n_heldout: int = 2_000, heldout_share: float = 0.2):
        rng = np.random.default_rng([seed, CORPUS_STREAM])
        split = {template: _split(_noun_pairs(template), heldout_share, rng) for template in TEMPLATES}
        choices = _Choices(rng)
        self.train = [_sentence(choices, {t: train for t, (train, _) in split.items()}) for _ in range(n_train)]
        self.heldout = [_sentence(choices, {t: heldout for t, (_, heldout) in split.items()}) for _ in range(n_heldout)]

    @property
    def minimal_pairs(self) -> list[tuple[Sentence, Sentence]]:
        """Held-out sentences beside themselves with one word of the cue changed: the answer flips."""
        return [(sentence, sentence.with_other_cue()) for sentence in self.heldout]

    @property
    def swaps(self) -> list[tuple[Sentence, Sentence]]:
        """Held-out sentences beside themselves with the two nouns exchanged: the answer follows."""
        return [(s, replace(s, a=s.b, b=s.a)) for s in self.heldout if s.same_kind]


class _Choices:
    """Random choices, their draws made in bulk: asking the generator for each one takes seconds."""

    def __init__(self, rng: np.random.Generator):
        self._draws = self._stream(rng)

    @staticmethod
    def _stream(rng: np.random.Generator) -> Iterator[float]:
        while True:
            yield from rng.random(4096).tolist()

    def chance(self, share: float) -> bool:
        return next(self._draws) < share

    def among(self, options: Sequence[T]) -> T:
        return options[int(next(self._draws) * len(options))]


def _sentence(choices: _Choices, pairs: NounPairs) -> Sentence:
    """A clause with more words around it, or joined with a second clause."""
    clause = _clause(choices, pairs)
    if choices.chance(0.15):
        other = _clause(choices, pairs)
        if {other.a, other.b}.isdisjoint({clause.a, clause.b}):
            return replace(clause, **{"before" if choices.chance(0.5) else "after": other})
    return _dressed(choices, clause)


def _dressed(choices: _Choices, clause: Sentence) -> Sentence:
    """Some clauses get an opening, an aside and fillers; a few a second reason."""
    if choices.chance(0.08):
        template, twin = clause.template, clause.with_other_cue().cue
        others = [cue for cue in template.cues_a + template.cues_b if cue not in (clause.cue, twin)]
        return replace(clause, also=choices.among(others), also_first=choices.chance(0.5))
    if clause.template.relative:
        return replace(clause, opening=choices.among(SCENES) if choices.chance(0.5) else "")
    fillers = [choices.among(FILLERS) for _ in range(choices.among(N_FILLERS))]
    while len(" ".join(fillers).split()) >= MAX_GAP:
        fillers.pop()
    opening = choices.among(OPENINGS) if choices.chance(0.25) else ""
    aside = choices.among(ASIDES) if choices.chance(0.1) else ""
    return replace(clause, opening=opening, aside=aside, filler=" ".join(fillers))


def _clause(choices: _Choices, pairs: NounPairs) -> Sentence:
    """The bare sentence: a template, its two nouns in one of two roles, a voice and a cue, each equally likely."""
    template = choices.among(TEMPLATES)
    a, b = choices.among(choices.among(pairs[template]))
    if KIND_OF[a] == KIND_OF[b] and choices.chance(0.5):
        a, b = b, a
    cue = choices.among(template.cues_a if choices.chance(0.5) else template.cues_b)
    degree = choices.among(DEGREES) if choices.chance(0.3) else ""
    filler = choices.among(NEAR_FILLERS) if template.relative else ""
    return Sentence(template, a, b, choices.chance(0.5), cue, degree, choices.among(CONNECTORS), filler)


def _noun_pairs(template: Template) -> list[list[tuple[str, str]]]:
    """For each two kinds of the template, every pair of different nouns, once whatever their order."""
    return [
        list(combinations(GROUPS[a], 2)) if a == b else list(product(GROUPS[a], GROUPS[b])) for a, b in template.kinds
    ]


def _split(pairs: list[list[tuple[str, str]]], share: float, rng: np.random.Generator):
    """The pairs in two parts, `share` of each list (at least one pair) in the second."""
    train, heldout = [], []
    for group in pairs:
        shuffled = [group[i] for i in rng.permutation(len(group))]
        n_heldout = max(1, round(share * len(group)))
        heldout.append(shuffled[:n_heldout])
        train.append(shuffled[n_heldout:])
    return train, heldout


def vocabulary() -> tuple[str, ...]:
    """Every word that the grammar can write, in alphabetical order behind the padding."""
    texts = [*KIND_OF, *PRONOUNS, *CONNECTORS, *DEGREES, *OPENINGS, *SCENES, *ASIDES, *FILLERS, *NEAR_FILLERS]
    texts += ["was were and", *(text for t in TEMPLATES for text in (t.active, t.passive, *t.cues_a, *t.cues_b))]
    words = {word for text in texts for word in text.split() if not word.startswith("{")}
    return ("<padding>", *sorted(words))
