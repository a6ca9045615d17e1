"""From what people type to words, and the errors about words that are unknown."""

import numpy as np
import pytest

from demos.pronoun.corpus import Corpus, vocabulary
from demos.pronoun.text import Vocabulary, split_words


@pytest.mark.parametrize(
    "typed",
    [
        "The animal didn't cross the street because it was tired.",
        "the animal did not cross the street because it was tired",
        "  THE ANIMAL DIDN\u2019T CROSS THE STREET, BECAUSE IT WAS TIRED!!  ",
        "the animal didnt cross the street because it was tired",
        "the animal didn\u2018t cross the street because it was tired",
        "\u201cThe animal didn't cross\u201d the street \u2014 because\nit was tired\u2026",
    ],
)
def test_case_punctuation_and_contractions_make_no_difference(typed):
    assert split_words(typed) == "the animal did not cross the street because it was tired".split()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", ""),
        ("?! ...", ""),
        ("weren't couldn't wasnt", "were not could not was not"),
        ("can't won't want", "can not will not want"),
        ("because it\u2019s tired and they're poor", "because it was tired and they were poor"),
    ],
)
def test_other_input(typed, words):
    assert split_words(typed) == words.split()


def test_a_word_in_other_letters_stays_one_word():
    assert split_words("the caf\u00e9 cat's \u732b") == ["the", "caf\u00e9", "cat's", "\u732b"]


def test_every_sentence_of_the_grammar_survives_being_typed():
    for sentence in Corpus(1, n_train=300, n_heldout=10).train:
        assert tuple(split_words(str(sentence))) == sentence.words


def test_a_batch_says_where_everything_is():
    words = Vocabulary(vocabulary())
    sentences = Corpus(1, n_train=50, n_heldout=10).train
    batch = words.batch(sentences)
    part = batch.take(np.array([7, 3]))
    assert part.tokens.shape[1] == max(len(sentences[7].words), len(sentences[3].words))
    for row, sentence in enumerate((sentences[7], sentences[3])):
        said = [words.words[number] for number in part.tokens[row] if number]
        assert tuple(said) == sentence.words
        assert said[part.pronoun[row]] == sentence.words[sentence.pronoun]
        assert said[part.antecedent[row]] == words.words[part.answer[row]] == sentence.answer
        assert said[part.rival[row]] in (sentence.a, sentence.b)


def test_the_nearest_known_words():
    words = Vocabulary(vocabulary())
    assert words.nearest("streat")[0] == "street"
    assert words.nearest("kitty") != []
    assert len(words.nearest("\u4f60\u597d")) == 1, "nothing is near; one word shows what words there are"
    assert "<padding>" not in words.nearest("padding")
