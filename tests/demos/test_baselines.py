"""The readers that the toy is compared with: each sees what it should, and nothing else."""

import numpy as np
import pytest

import tinyattn as ta
from demos.pronoun.baselines import LSTM, MODELS, BagOfWords, MeanPooling, nearest_noun
from demos.pronoun.corpus import vocabulary
from demos.pronoun.model import PronounModel
from demos.pronoun.text import Vocabulary
from tinyattn.by_hand.pronoun import Sizes

SIZES = Sizes(vocab_size=11, max_length=13, d_model=8, n_heads=2, d_ff=5)
TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 8, 0, 0, 0]])  # 0 is padding
PRONOUN = np.array([6, 2])  # the last word of the first sentence


def padded(tokens, n=3):
    return np.pad(tokens, ((0, 0), (0, n)))


def changed(tokens, place):
    """Another word in the first sentence."""
    tokens = tokens.copy()
    tokens[0, place] = 10
    return tokens


@pytest.fixture
def scores_of():
    """Scores of a model of `MODELS`, fresh from always the same seed."""

    def scores(make, tokens=TOKENS, pronoun=PRONOUN):
        model = make(SIZES, np.random.default_rng(0), np.dtype("float64"))
        with ta.no_grad():
            return model(tokens, pronoun).data

    return scores


def test_the_nearest_noun_is_the_last_one_before_the_pronoun():
    words = Vocabulary(vocabulary())
    sentences = [
        "the king paid the boy because he was rich and the queen thanked the nurse".split(),
        "the truck was overtaken by the bus because it was slow".split(),
    ]
    pronoun = np.array([sentences[0].index("he"), sentences[1].index("it")])
    scores, looks = nearest_noun(words)(words.encode(sentences), pronoun)
    assert [words.words[number] for number in scores.argmax(axis=1)] == ["boy", "bus"]
    assert looks == []


@pytest.mark.parametrize("name", MODELS)
def test_padding_says_nothing(scores_of, name):
    np.testing.assert_allclose(scores_of(MODELS[name], padded(TOKENS)), scores_of(MODELS[name]), rtol=1e-12)
    alone = scores_of(MODELS[name], TOKENS[1:, :4], PRONOUN[1:])
    np.testing.assert_allclose(scores_of(MODELS[name])[1:], alone, rtol=1e-12)


@pytest.mark.parametrize("pronoun", [0, 3, 6])
def test_the_lstm_sees_each_word_before_the_pronoun_and_behind_it(scores_of, pronoun):
    places = np.array([pronoun, 2])
    expected = scores_of(LSTM, TOKENS, places)
    for place in range(7):
        found = scores_of(LSTM, changed(TOKENS, place), places)
        assert abs(found[0] - expected[0]).max() > 1e-6, place
        assert (found[1] == expected[1]).all(), "the other sentence"


def test_the_lstm_takes_words_in_their_order(scores_of):
    swapped = TOKENS[:, [1, 0, 2, 3, 4, 5, 6]]
    assert abs(scores_of(LSTM, swapped)[0] - scores_of(LSTM)[0]).max() > 1e-6


def test_a_bag_of_words_has_no_order_and_no_pronoun(scores_of):
    expected = scores_of(BagOfWords)
    np.testing.assert_allclose(scores_of(BagOfWords, TOKENS[:, ::-1], np.array([0, 6])), expected, rtol=1e-12)
    for place in range(7):
        assert abs(scores_of(BagOfWords, changed(TOKENS, place))[0] - expected[0]).max() > 1e-6, place


def test_mean_pooling_weighs_words_alike_and_padding_not_at_all():
    rng = np.random.default_rng(0)
    pooling, words = MeanPooling(8, rng, np.dtype("float64")), rng.normal(size=(2, 7, 8))
    mask = (TOKENS != 0)[:, None, None, :]
    update, weights = pooling(words, words, words, mask=mask, return_weights=True)
    assert weights.shape == (2, 1, 1, 7)
    np.testing.assert_allclose(weights.data[:, 0, 0], [[1 / 7] * 7, [1 / 4] * 4 + [0] * 3])
    means = np.stack([words[0].mean(axis=0), words[1, :4].mean(axis=0)])
    np.testing.assert_allclose(update.data[:, 0], means @ pooling.value.weight.data @ pooling.output.weight.data)

    order = [3, 0, 2, 1, 4, 5, 6]
    permuted = pooling(words, words[:, order], words[:, order], mask=mask)
    np.testing.assert_allclose(permuted.data, update.data)


@pytest.mark.parametrize("name", ["values from the stream", "no scaling", "one head", "one layer", "mean pooling"])
def test_a_variant_of_the_model_is_another_reader(scores_of, name):
    difference = scores_of(MODELS[name]) - scores_of(PronounModel)
    assert np.isfinite(difference).all()
    assert (abs(difference).max(axis=1) > 1e-6).all()


@pytest.mark.parametrize(("options", "layers"), [({}, 2), ({"values": "stream"}, 2), ({"skip_block_1": True}, 1)])
def test_each_layer_shows_where_it_looks(options, layers):
    looks = []
    PronounModel(SIZES, np.random.default_rng(0), "float64", **options)(TOKENS, PRONOUN, looks)
    assert len(looks) == layers
    for weights in looks:
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0)
        assert not weights[1, ..., 4:].any(), "padding"
