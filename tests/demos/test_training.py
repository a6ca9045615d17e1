"""Hand and tape train the same model, and a run that stops goes on to the very same bits."""

import numpy as np
import pytest

from demos.files import FileError, load_arrays, save_arrays
from demos.pronoun.corpus import KIND_OF
from demos.pronoun.evaluation import Exam, from_pronoun
from demos.pronoun.training import (
    CHECKPOINT_EVERY,
    GRADIENTS,
    Data,
    Run,
    Settings,
    TrainingError,
    check_gradients,
    load_checkpoint,
)


@pytest.fixture(scope="module")
def data():
    return Data(Settings(seed=2))


def watch(run, loss):
    """Nothing to report."""


def test_losses_by_hand_and_by_tape_agree_over_200_steps(data):
    losses = {}
    for backprop in ("hand", "tape"):
        run = Run(Settings(seed=2, steps=200, backprop=backprop, dtype="float64"), data)
        losses[backprop] = np.array([run.take_step()[0] for _ in range(200)])
    assert losses["hand"][-1] < losses["hand"][0] - 1, "it learns"
    assert np.abs(losses["hand"] - losses["tape"]).max() < 1e-9


def test_the_three_witnesses_agree(data):
    errors = check_gradients(Settings(seed=2), data)
    assert 0 < errors.tape < 1e-12
    assert 0 < errors.numeric < 1e-6


MISTAKES = {
    "a factor": lambda gradient: gradient * 1.001,
    "nothing": lambda gradient: gradient * 0,
    "NaN": lambda gradient: gradient * np.nan,
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("backprop", ["hand", "tape"])
def test_a_wrong_gradient_is_seen_by_its_witnesses(data, monkeypatch, backprop, mistake):
    right, name = GRADIENTS[backprop], "block_1.attention.w_key"

    def wrong(run, batch):
        loss, gradients = right(run, batch)
        return loss, gradients | {name: MISTAKES[mistake](gradients[name])}

    monkeypatch.setattr(f"demos.pronoun.training.gradients_by_{backprop}", wrong)
    errors = check_gradients(Settings(seed=2), data)
    assert not errors.ok
    assert errors.tape > 1e-4
    assert errors.tape_at == name
    if backprop == "hand":
        assert errors.numeric > 1e-4
        assert errors.numeric_at == name


def test_embeddings_of_words_that_are_said_are_compared_too(data, monkeypatch):
    right = GRADIENTS["hand"]

    def wrong(run, batch):
        loss, gradients = right(run, batch)
        gradients["words.weight"][batch.tokens[0, 1]] = 0
        return loss, gradients

    monkeypatch.setattr("demos.pronoun.training.gradients_by_hand", wrong)
    assert not check_gradients(Settings(seed=2), data).ok


@pytest.mark.parametrize(
    "wrong",
    [{"seed": -4}, {"seed": "x"}, {"steps": "many"}, {"steps": 0}, {"backprop": "magic"}, {"dtype": "float16"},
     {"batch": 0}, {"rate": "x"}, {"rate": float("nan")}],
)  # fmt: skip
def test_settings_that_no_run_can_have_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)


def test_batches_depend_on_seed_and_step_alone(data):
    forwards = [data.batch(step).tokens for step in range(40)]
    for step in (39, 3, 17, 16, 15):
        np.testing.assert_array_equal(data.batch(step).tokens, forwards[step])
    other = Data(Settings(seed=2, batch=64))
    np.testing.assert_array_equal(other.batch(21).tokens, forwards[21])


@pytest.mark.parametrize("backprop", ["hand", "tape"])
def test_a_resumed_run_ends_in_the_same_bits(data, tmp_path, backprop):
    settings = Settings(seed=2, steps=CHECKPOINT_EVERY + 40, backprop=backprop)
    whole = Run(settings, data)
    whole.train(watch, tmp_path / "whole")

    class Killed(Exception):
        """Stands for a kill between two steps."""

    def stop(run, loss):
        if run.step == CHECKPOINT_EVERY + 21:
            raise Killed

    with pytest.raises(Killed):
        Run(settings, data).train(stop, tmp_path / "stopped")
    loaded, arrays, state = load_checkpoint(tmp_path / "stopped")
    assert loaded == settings
    assert state["step"] == CHECKPOINT_EVERY
    resumed = Run(loaded, data)
    resumed.restore(arrays, state)
    resumed.train(watch, tmp_path / "stopped")
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[name], array, err_msg=name)
    assert [(row.step, row.loss) for row in resumed.log] == [(row.step, row.loss) for row in whole.log]


def test_a_number_that_is_not_finite_ends_training_with_the_last_checkpoint_whole(data, tmp_path):
    run = Run(Settings(seed=2, steps=20), data)
    run.parameters["block_1.expand.weight"].data[3, 5] = np.nan
    with pytest.raises(TrainingError, match="step 1 led to numbers that are not finite"):
        run.train(watch, tmp_path / "checkpoint")
    assert load_checkpoint(tmp_path / "checkpoint")[2]["step"] == 0


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_cut_off_file_is_told(tmp_path, keep):
    path = tmp_path / "model.safetensors"
    save_arrays(path, "model", {"x": np.arange(6.0)}, {"n": 1})
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(FileError, match="not a whole safetensors file"):
        load_arrays(path, "model")


def test_the_same_content_gives_the_same_bytes(tmp_path):
    arrays, metadata = {"b": np.arange(6.0), "a": np.arange(3)}, dict.fromkeys("qwertyuiop", 1)
    for name in ("one", "two", "three"):
        save_arrays(tmp_path / name, "test", arrays, metadata)
    assert len({(tmp_path / name).read_bytes() for name in ("one", "two", "three")}) == 1


def test_arrays_in_any_memory_order_survive(tmp_path):
    path = tmp_path / "arrays"
    arrays = {"fortran": np.asfortranarray(np.arange(15.0).reshape(3, 5)), "view": np.arange(35.0).reshape(5, 7).T[::2]}
    arrays["no axes"] = np.array(7)
    save_arrays(path, "test", arrays, {"text": "d\u00e9j\u00e0", "list": [1, None]})
    loaded, metadata = load_arrays(path, "test")
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].shape == array.shape
    assert metadata == {"text": "d\u00e9j\u00e0", "list": [1, None]}
    with pytest.raises(FileError, match="not a model"):
        load_arrays(path, "model")


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "arrays"
    save_arrays(path, "test", {"x": np.ones(3)}, {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_arrays(path, "test", {"x": np.ones(5)}, {"bad": object()})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["arrays"]


def test_findings_are_counted_right(data):
    exam, words, heldout = Exam(data.corpus, data.vocabulary), data.vocabulary, data.corpus.heldout
    is_noun = np.array([word in KIND_OF for word in words.words])

    def first_noun(tokens, pronoun):
        """Answers with the noun said first. Head 1 looks at the end of the batch, head 2 at that noun."""
        rows, first = np.arange(len(tokens)), is_noun[tokens].argmax(axis=1)
        scores = np.zeros((len(tokens), len(words)))
        scores[rows, tokens[rows, first]] = 1
        weights = np.zeros((len(tokens), 2, tokens.shape[1]))
        weights[:, 0, -1] = weights[rows, 1, first] = 1
        return scores, [weights[:, ::-1], weights * 0.5]

    found = exam.findings(first_noun)
    right = [next(word for word in s.words if word in KIND_OF) == s.answer for s in heldout]
    same = [is_right for is_right, s in zip(right, heldout, strict=True) if s.same_kind]
    assert 0 < np.mean(right) < 1
    assert found.heldout == pytest.approx(np.mean(right))
    assert found.same_kind == pytest.approx(np.mean(same))
    assert found.minimal_pairs == 0, "one answer for both of a pair is wrong for one"
    alone = [is_right for is_right, s in zip(right, heldout, strict=True) if s.same_kind]
    assert found.swaps == pytest.approx(np.mean(alone)), "the first noun is right for both of a swap or for neither"
    assert (found.best_head.layer, found.best_head.head) == (2, 2), "of the last layer, though the first looks harder"
    assert found.best_head.antecedent == pytest.approx(0.5 * np.mean(right))
    assert found.best_head.over_rival == pytest.approx(np.mean(right))


def test_weights_from_the_pronoun():
    weights = np.random.default_rng(0).random((3, 2, 5, 5))
    places = np.array([4, 0, 2])
    picked = from_pronoun(weights, places)
    for row, place in enumerate(places):
        np.testing.assert_array_equal(picked[row], weights[row, :, place])
    np.testing.assert_array_equal(from_pronoun(weights[:, :, :1], places), weights[:, :, 0])
