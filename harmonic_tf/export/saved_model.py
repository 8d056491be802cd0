"""Writes a detector as a version of a served model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

from harmonic_tf.backend import quiet, tf
from harmonic_tf.export.labels import write_labels
from harmonic_tf.export.serving import ServingModule, ServingSettings
from harmonic_tf.export.versions import write_version
from harmonic_tf.export.warmup import sample_requests, write_warmup
from harmonic_tf.models import JointDetector


def export_model(
    model: JointDetector,
    class_names: Sequence[str],
    export_dir: str,
    settings: ServingSettings,
    version: int | None = None,
) -> str:
    """Writes a SavedModel with the signatures of `ServingModule`, labels and warm-up requests.

    Args:
        model: a detector whose decoder is a `DetectionDecoder`; its decoder and the precision that
            it was built in are those of the served model.
        class_names: name of each class.
        export_dir: folder of the model, which TensorFlow Serving is told; its last part is the
            model's name.
        settings: what the model takes.
        version: number of the version, >= 1; None takes the one after the highest.

    Returns:
        The folder of the version. It appears when all of it is written.

    Raises:
        ValueError: the names do not fit the model, or the number is less than 1.
        FileExistsError: the version is there already.
        OSError: the folder cannot be written to.
    """
    module = ServingModule(model, class_names, settings)
    decoder = model.prediction_decoder
    model_name = os.path.basename(os.path.abspath(export_dir))

    def write(folder: str) -> None:
        with tempfile.TemporaryDirectory() as labels:
            module.labels = tf.saved_model.Asset(write_labels(labels, class_names))
            with quiet():  # it lists every weight for every signature
                tf.saved_model.save(module, folder, signatures=module.signatures())
        requests = sample_requests(settings.image_size, decoder.lowest_score, decoder.iou_threshold)
        write_warmup(folder, model_name, requests)

    return write_version(os.path.abspath(export_dir), write, version)
