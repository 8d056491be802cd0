"""Rendered scenes, a folder for each split: COCO annotations with their images."""

from __future__ import annotations

import os
from collections.abc import Sequence

from harmonic_tf.data import checks
from harmonic_tf.data.example import DetectionData
from harmonic_tf.data.readers.coco import read_coco
from harmonic_tf.data.scenes import rendering


def read_scenes(
    path: str, split: str, class_names: Sequence[str] | None, on_bad_example: str, name: str
) -> DetectionData:
    """Reads a rendering: see `read_coco`.

    Args:
        path: folder with a rendering for each split; see `scenes.rendering.render`.
        split: which of them.
        class_names: see `read_coco`.
        on_bad_example: see `read_coco`.
        name: what to call the data set.

    Raises:
        DataError: it is not rendered yet, or see `read_coco`.
    """
    folder = os.path.join(path, split)
    annotation_file = os.path.join(folder, rendering.ANNOTATION_FILE)
    if not os.path.isfile(annotation_file):
        module = "harmonic_tf.data.scenes.rendering"
        code = f"from {module} import render; render({folder!r}, count=1000, seed=1)"
        remedy = f'Render it, with a seed of its own: python -c "{code}"'
        checks.refuse(folder, "split", split, "is not rendered yet", remedy)
    images = os.path.join(folder, rendering.IMAGE_FOLDER)
    return read_coco(annotation_file, images, class_names, on_bad_example, name)
