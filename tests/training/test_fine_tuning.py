"""Starting from a trained detector: what is kept, what is not, and what is refused."""

import numpy as np
import pytest

from harmonic_tf.backend import keras, name_of
from harmonic_tf.models import HarmonicRetinaNet, HarmonicYOLOV8Detector
from harmonic_tf.training.fine_tuning import start_from
from harmonic_tf.training.settings import SettingsError
from tests.tiny import TinyBackbone


def retinanet(num_classes, seed, width=8):
    keras.utils.set_random_seed(seed)
    backbone = TinyBackbone(channels=width)
    return HarmonicRetinaNet(backbone, num_classes, "xyxy", channels=8, head_depth=1)


def yolov8(num_classes, seed):
    keras.utils.set_random_seed(seed)
    return HarmonicYOLOV8Detector(TinyBackbone(16), num_classes, "xyxy", fpn_depth=1)


def save(model, folder):
    path = str(folder / "trained.keras")
    model.save(path)
    return path


@pytest.fixture(scope="module", params=[retinanet, yolov8])
def trained(request, tmp_path_factory):
    """Function that builds a detector, one of three classes that it built, and its checkpoint."""
    model = request.param(3, seed=0)
    return request.param, model, save(model, tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize("classes", (3, 40))
def test_everything_but_the_classes_is_kept(trained, classes):
    """40 classes are more than the channels of YOLOv8's classification head here."""
    build, trained, path = trained
    model = build(classes, seed=1)
    fresh = [weight.numpy() for weight in model.weights]
    transfer = start_from(model, path, list(map(str, range(classes))))
    anew = {name: (old, new) for name, old, new in transfer.reinitialized}
    for old, new, before in zip(trained.weights, model.weights, fresh):
        if name_of(new) in anew:
            assert anew[name_of(new)] == (tuple(old.shape), tuple(new.shape))
            np.testing.assert_array_equal(new.numpy(), before)
        else:
            np.testing.assert_array_equal(new.numpy(), old.numpy())
    assert bool(anew) == (classes != 3)
    # Nothing of the backbone, the pyramid or the boxes depends on the classes.
    assert all("class" in name for name in anew)
    assert transfer.kept + len(anew) == len(model.weights)
    assert transfer.kept_parameters + transfer.reinitialized_parameters == model.count_params()
    assert path in str(transfer) and ("anew" if anew else "classes too") in str(transfer)


def test_another_network_is_refused_and_nothing_changed(trained):
    """One of another width, and one of another kind."""
    model = retinanet(3, seed=1, width=16)
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(SettingsError, match="another network"):
        start_from(model, trained[2], "abc")
    for weight, value in zip(model.weights, before):
        np.testing.assert_array_equal(weight.numpy(), value)


@pytest.mark.parametrize("content", (None, b"", b"no checkpoint"))
def test_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "none.keras"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"none\.keras does not load"):
        start_from(None, str(path), "abc")  # found out before the detector is looked at
