"""Training that stops when the validation split is not detected any better."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonic_tf.backend import tf
from harmonic_tf.training import callbacks
from harmonic_tf.training.callbacks import StopEarly, Validation
from harmonic_tf.training.fitting import check_patience
from harmonic_tf.training.settings import SettingsError
from harmonic_tf.training.strategy import build_strategy
from tests.training.test_callbacks import one_picture


def epochs_by_hand(precisions, patience, every):
    """After how many epochs training stops, counted in the plainest way."""
    measured = [
        (epoch, precision)
        for epoch, precision in enumerate(precisions, start=1)
        if epoch % every == 0 or epoch == len(precisions)
    ]
    for place, (epoch, _) in enumerate(measured):
        seen = [precision for _, precision in measured[: place + 1]]
        if patience is not None and place - seen.index(max(seen)) >= patience:
            return epoch
    return len(precisions)


class Training:
    """As much of a training as counts measurements: it can be killed, and goes on."""

    def __init__(self, precisions, patience, every=1, strategy=None):
        self.precisions = precisions
        self.state = SimpleNamespace(best=tf.Variable(-1.0), since_best=tf.Variable(0))
        self.saved = (0, -1.0, 0)  # epochs made, and the two variables
        run = SimpleNamespace(save_model=lambda *_: None)
        self.validation = Validation(
            *(run, None, None, self.state, one_picture(), 64, 1, len(precisions), every),
            measured=lambda *_: None,
        )
        self.stop_early = StopEarly(self.state, patience, strategy or build_strategy("one_device"))

    def train(self, until=None):
        """Trains, up to a kill where `until` epochs are made; gives the epochs made."""
        epoch, best, since_best = self.saved
        self.state.best.assign(best)
        self.state.since_best.assign(since_best)
        model = SimpleNamespace(stop_training=False)
        self.stop_early.set_model(model)
        while epoch < len(self.precisions) and epoch != until and not self.stop_early.is_over():
            metrics = {"AP": self.precisions[epoch], "AP50": 0.0, "AP75": 0.0}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(callbacks, "detect", lambda *_, **__: None)
                patch.setattr(callbacks, "coco_metrics", lambda *_, found=metrics: found)
                self.validation.on_epoch_end(epoch, {})
            self.stop_early.on_epoch_end(epoch)
            epoch += 1
            self.saved = (epoch, self.state.best.numpy(), self.state.since_best.numpy())
            if model.stop_training:
                break
        return epoch


PRECISIONS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75]), min_size=1, max_size=12)
PATIENCE = st.one_of(st.none(), st.integers(1, 4))


@settings(deadline=None, max_examples=50)
@given(PRECISIONS, PATIENCE, st.integers(1, 3))
def test_patience_ends_where_a_plain_loop_does(precisions, patience, every):
    expected = epochs_by_hand(precisions, patience, every)
    assert Training(precisions, patience, every).train() == expected


@settings(deadline=None, max_examples=50)
@given(PRECISIONS, PATIENCE, st.integers(1, 3), st.integers(0, 11))
def test_patience_of_a_resumed_training_ends_where_the_uninterrupted_one_does(
    precisions, patience, every, killed
):
    training = Training(precisions, patience, every)
    training.train(until=killed)
    assert training.train() == Training(precisions, patience, every).train()


def test_training_that_stopped_early_does_not_go_on_unless_patience_grows():
    training = Training([0.5, 0.25, 0.25, 0.25, 0.75, 0.75], patience=2)
    assert training.train() == 3
    assert training.train() == 3
    training.stop_early.patience = 3
    assert training.train() == 4
    training.stop_early.patience = None
    assert training.train() == 6


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_early_stopping_says_when_and_why(caplog, strategy):
    with caplog.at_level("INFO", "absl"):
        Training([0.5, 0.25, 0.5, 0.1], patience=2, strategy=build_strategy(strategy)).train()
    (line,) = [text for text in caplog.messages if "Stopped early" in text]
    assert line == (
        "Stopped early after epoch 3: measurements since the best AP, 0.500: 2 (--patience=2)."
    )


def test_patience_without_a_validation_split_is_refused():
    experiment = SimpleNamespace(patience=3, data=SimpleNamespace(val_part=None))
    with pytest.raises(SettingsError, match=r"patience = 3 .* --val_split or --val_fraction too"):
        check_patience(experiment)
    check_patience(SimpleNamespace(patience=None, data=SimpleNamespace(val_part=None)))
    check_patience(SimpleNamespace(patience=3, data=SimpleNamespace(val_part="val")))


@pytest.mark.parametrize("command", ["train", "ablate"])
def test_patience_is_checked_before_any_data_is_read(run_command, capsys, tmp_path, command):
    where = f"--run_dir={tmp_path / 'run'}" if command == "train" else f"--out_dir={tmp_path / 'a'}"
    with pytest.raises(SystemExit):
        run_command(command, "--dataset=voc:/nowhere", "--patience=3", where)
    assert "patience = 3 goes by the AP" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
