"""The grammar keeps what it promises: neither place nor nearness nor the bag of words gives the answer away."""

import math
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from demos.pronoun.corpus import (
    KIND_OF,
    MAX_GAP,
    NOUNS,
    PRONOUN_OF,
    PRONOUNS,
    TEMPLATES,
    Corpus,
    vocabulary,
)
from tinyattn.by_hand import pronoun as by_hand

LONGEST = 32


@pytest.fixture(scope="module", params=[0, 3])
def corpus(request):
    return Corpus(request.param, n_train=20_000, n_heldout=2_000)


def test_there_are_enough_templates_nouns_kinds_and_pronouns(corpus):
    assert len(TEMPLATES) >= 12
    assert len(KIND_OF) >= 40
    assert len(NOUNS) >= 6
    assert {s.words[s.pronoun] for s in corpus.train} == set(PRONOUNS) == {"it", "he", "she", "they", "that"}


def test_the_places_point_at_what_they_name(corpus):
    for s in corpus.train[:5000] + corpus.heldout:
        assert s.words[s.pronoun] in PRONOUNS
        assert s.words[s.antecedent] == s.answer
        assert {s.words[s.antecedent], s.words[s.rival]} == {s.a, s.b}
        assert max(s.antecedent, s.rival) < s.pronoun < len(s.words) <= LONGEST


def test_one_to_twelve_words_stand_between_the_nearer_noun_and_the_pronoun(corpus):
    alone = [s for s in corpus.train if not (s.before or s.after or s.also)]
    gaps = Counter(s.pronoun - max(s.antecedent, s.rival) - 1 for s in alone if not s.template.relative)
    assert set(gaps) == set(range(1, MAX_GAP + 1))
    relative = Counter(s.pronoun - max(s.antecedent, s.rival) - 1 for s in alone if s.template.relative)
    assert set(relative) >= {0, 1, 2, 3, 5}, "the dog that barked, the dog over there that barked, ..."


@pytest.mark.parametrize("part", ["train", "heldout"])
def test_neither_order_nor_nearness_helps(corpus, part):
    sentences = getattr(corpus, part)
    for group in (sentences, [s for s in sentences if s.same_kind], [s for s in sentences if not s.same_kind]):
        share = np.mean([s.antecedent < s.rival for s in group])
        assert abs(share - 0.5) < 3.5 * 0.5 / np.sqrt(len(group)), "three and a half standard deviations"


@pytest.mark.parametrize("voice", [False, True])
def test_either_voice_has_each_role_as_its_answer_equally_often(corpus, voice):
    group = [s for s in corpus.train if s.passive is voice]
    assert 0.45 < len(group) / len(corpus.train) < 0.55
    assert abs(np.mean([s.answer == s.a for s in group]) - 0.5) < 0.02


def test_in_more_than_half_of_the_sentences_both_nouns_are_of_one_kind(corpus):
    assert np.mean([s.same_kind for s in corpus.train]) >= 0.5
    assert np.mean([s.same_kind for s in corpus.heldout]) >= 0.5


@pytest.mark.parametrize("part", ["train", "heldout"])
def test_the_bag_of_words_is_at_chance_where_both_nouns_are_of_one_kind(corpus, part):
    """Among n sentences with the same bag either noun is the answer n/2 times, give or take √n/2."""
    bags = defaultdict(list)
    for s in getattr(corpus, part):
        if s.same_kind:
            bags[s.template.name, *sorted((s.a, s.b)), s.passive, s.cue, s.also].append(s.answer == min(s.a, s.b))
    excess = [(2 * sum(firsts) - len(firsts)) ** 2 / len(firsts) for firsts in bags.values()]  # 1 on average, if fair
    assert abs(np.mean(excess) - 1) < 3.5 * np.sqrt(2 / len(excess)), "three and a half standard deviations"


def test_each_noun_plays_either_role_about_as_often(corpus):
    """Else a reader could learn that a king mostly acts, and a boy mostly suffers."""
    roles = defaultdict(list)
    for s in corpus.train:
        if s.same_kind:
            roles[s.a].append("a")
            roles[s.b].append("b")
    assert set(roles) == set(KIND_OF)
    for noun, played in roles.items():
        assert 0.35 < played.count("a") / len(played) < 0.65, noun


def test_exchanged_nouns_leave_the_same_bag_of_words_and_the_other_answer(corpus):
    assert len(corpus.swaps) == sum(s.same_kind for s in corpus.heldout)
    for sentence, swap in corpus.swaps:
        assert sorted(sentence.words) == sorted(swap.words)
        assert sentence.words != swap.words
        assert swap.answer != sentence.answer
        assert swap.antecedent == sentence.antecedent, "the answer follows to the same place"


def test_a_minimal_pair_differs_in_one_word_behind_the_pronoun_and_flips(corpus):
    assert len(corpus.minimal_pairs) == len(corpus.heldout)
    for sentence, twin in corpus.minimal_pairs:
        differing = [i for i, (x, y) in enumerate(zip(sentence.words, twin.words, strict=True)) if x != y]
        assert len(differing) == 1
        assert differing[0] > sentence.pronoun
        assert twin.answer != sentence.answer


def test_train_and_heldout_share_no_template_with_the_same_nouns(corpus):
    train = {s.combination for s in corpus.train} | {
        other.combination for s in corpus.train for other in (s.before, s.after) if other
    }
    asked = [*corpus.heldout, *(s for pair in corpus.swaps + corpus.minimal_pairs for s in pair)]
    assert train.isdisjoint({s.combination for s in asked})
    assert {s.template.name for s in asked} == {t.name for t in TEMPLATES}


def test_the_same_seed_writes_the_same_sentences_and_another_seed_others():
    first, again, other = (Corpus(seed, n_train=200, n_heldout=50) for seed in (5, 5, 6))
    assert [s.words for s in first.train] == [s.words for s in again.train]
    assert [s.words for s in first.heldout] == [s.words for s in again.heldout]
    assert [s.words for s in first.train] != [s.words for s in other.train]


def test_the_vocabulary_is_what_the_grammar_writes(corpus):
    written = {word for s in corpus.train for word in s.words}
    words = vocabulary()
    assert words[0] == "<padding>"
    assert written == set(words[1:])
    assert len(words) == len(set(words))


def test_no_cue_fits_both_roles_of_its_template():
    for template in TEMPLATES:
        assert not set(template.cues_a) & set(template.cues_b), template.name
        assert len(template.cues_a) == len(template.cues_b) >= 2, template.name


def test_the_docs_describe_every_template():
    page = (Path(__file__).parents[2] / "docs" / "pronoun.md").read_text(encoding="utf-8")
    for template in TEMPLATES:
        row = next(line for line in page.splitlines() if line.startswith(f"| {template.name} |"))
        assert row == table_row(template)


def test_the_docs_list_every_noun_and_count_right(corpus):
    page = (Path(__file__).parents[2] / "docs" / "pronoun.md").read_text(encoding="utf-8")
    for kind, nouns in NOUNS.items():
        assert f"| {kind} | {', '.join(nouns)} | {PRONOUN_OF[kind]} |" in page.splitlines()
    sizes = by_hand.Sizes(vocab_size=len(vocabulary()))
    n_parameters = sum(math.prod(shape) for shape in by_hand.shapes(sizes).values())
    assert f"{n_parameters:,} parameters" in page
    assert f"all {len(vocabulary()) - 1} words" in page
    told = int(re.search(r"In (\d+) percent of the sentences both nouns are of one kind", page).group(1))
    assert abs(100 * np.mean([s.same_kind for s in corpus.train]) - told) < 1.5


def table_row(template):
    """The template's line in the table of docs/pronoun.md."""
    a, b = (", ".join(cue.replace("{was} {degree} ", "").replace("{was}", "was") for cue in cues)
            for cues in (template.cues_a, template.cues_b))  # fmt: skip
    same = sorted({x for x, y in template.kinds if x == y}, key=list(NOUNS).index)
    mixed = [f"{x} and {y}" for x, y in template.kinds if x != y]
    says = [text.replace("{was}", "was").replace("{a}", "**a**").replace("{b}", "**b**")
            for text in (template.active, template.passive)]  # fmt: skip
    return f"| {template.name} | {says[0]} / {says[1]} | {', '.join(same)} | {', '.join(mixed)} | {a} | {b} |"
