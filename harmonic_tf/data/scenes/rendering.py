"""The embedded data set: pictures of irregular, overlapping objects, rendered from a seed.

Six classes are told apart by shape alone; colour, texture, size and direction are random. Objects
hide one another and are cut off by the border. `render` writes real files: JPEG pictures and
COCO-format JSON whose objects carry, beside the COCO fields, `occlusion` (the visible fraction: 1
is fully visible) and `irregularity` (1 - mask area / box area); `SceneObject` has the details.
"""

from __future__ import annotations

import json
import numbers
import os
import tempfile
from collections.abc import Mapping

from PIL import Image
from tqdm import tqdm

from harmonic_tf.data.checks import refuse
from harmonic_tf.data.scenes.drawing import CLASS_NAMES, SceneObject, draw_scene

ANNOTATION_FILE = "annotations.json"
IMAGE_FOLDER = "images"

_VERSION = 1  # of the drawing: to be raised when the same seed gives other pictures
_SIDES = (64, 2048)  # px: below, small objects lose their shape; above, drawing takes seconds
_JPEG_QUALITY = 90


def render(folder: str, count: int, seed: int, image_size: tuple[int, int] = (160, 160)) -> str:
    """Renders a set of scenes into a folder, or finds that it is there already.

    Writes `images/000001.jpg`, `images/000002.jpg`, ... and `annotations.json`. Picture i depends
    on the seed, i and the size alone: a longer set starts with the pictures of a shorter one, and
    two splits need two seeds. The same arguments give the same bytes (with the same versions of
    NumPy and Pillow). The folder appears when it is complete; an interrupted rendering leaves
    nothing behind.

    Args:
        folder: where to; made if missing. A complete rendering of the same arguments is reused.
        count: number of pictures, >= 1.
        seed: >= 0.
        image_size: height and width of the pictures, pixels, 64 to 2048 each.

    Returns:
        The path of the annotation file.

    Raises:
        DataError: an argument makes no sense, the folder holds something else, or it cannot be
            written.
    """
    _check_arguments(folder, count, seed, image_size)
    parameters = {
        "version": _VERSION,
        "count": int(count),
        "seed": int(seed),
        "height": int(image_size[0]),
        "width": int(image_size[1]),
    }
    target = os.path.realpath(folder)
    try:
        if not _is_rendered(target, parameters):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with tempfile.TemporaryDirectory(
                prefix=".scenes-", dir=os.path.dirname(target)
            ) as holder:
                unfinished = os.path.join(holder, "scenes")
                _write(unfinished, parameters)
                try:
                    os.replace(unfinished, target)
                except OSError:
                    if not _is_rendered(target, parameters):  # by another process meanwhile
                        raise
    except OSError as error:
        refuse(
            folder,
            "folder",
            folder,
            f"cannot be written ({error.strerror or error})",
            "Name a folder that you may write to, on a disk with room",
        )
    return os.path.join(folder, ANNOTATION_FILE)


def _check_arguments(folder: str, count: int, seed: int, image_size: tuple[int, int]) -> None:
    """Raises DataError for an argument that makes no sense."""

    def check(field: str, value: object, low: int, high: float) -> None:
        if not isinstance(value, numbers.Integral) or not low <= value <= high:
            limits = f"{low} or more" if high == float("inf") else f"{low} to {high}"
            refuse(folder, field, value, "makes no sense", f"Give a whole number, {limits}")

    check("count", count, 1, float("inf"))
    check("seed", seed, 0, float("inf"))
    if not isinstance(image_size, (tuple, list)) or len(image_size) != 2:
        refuse(folder, "image_size", image_size, "makes no sense", "Give height and width")
    for field, side in zip(("image_size height", "image_size width"), image_size):
        check(field, side, *_SIDES)


def _is_rendered(folder: str, parameters: Mapping[str, int]) -> bool:
    """Whether the folder holds just this rendering: False if it is free, DataError if it is not."""
    if not os.path.exists(folder) or (os.path.isdir(folder) and not os.listdir(folder)):
        return False
    try:
        with open(os.path.join(folder, ANNOTATION_FILE), encoding="utf-8") as file:
            found = json.load(file)["info"]["parameters"]
        pictures = set(os.listdir(os.path.join(folder, IMAGE_FOLDER)))
    except (OSError, ValueError, LookupError, TypeError):
        found, pictures = None, set()
    remedy = "Remove it, or name another folder"
    if found is None:
        refuse(folder, "folder", folder, "holds something that is not a rendering", remedy)
    if found != parameters:
        problem = f"holds a rendering of other parameters than {json.dumps(parameters)}"
        refuse(folder, "info.parameters", json.dumps(found), problem, remedy)
    if not pictures.issuperset(_file_name(index) for index in range(parameters["count"])):
        refuse(folder, IMAGE_FOLDER, f"{len(pictures)} files", "lacks pictures", remedy)
    return True


def _write(folder: str, parameters: Mapping[str, int]) -> None:
    """Renders into a new folder; one picture and one row of JSON in memory at a time."""
    count, seed = parameters["count"], parameters["seed"]
    height, width = parameters["height"], parameters["width"]
    os.makedirs(os.path.join(folder, IMAGE_FOLDER))
    head = {
        "info": {
            "description": "Scenes of irregular, overlapping objects",
            "parameters": parameters,
        },
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASS_NAMES, start=1)],
    }
    objects = 0
    with open(os.path.join(folder, ANNOTATION_FILE), "w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + ', "annotations": [')
        for index in tqdm(range(count), desc="Rendering scenes", unit="picture", delay=1):
            picture, found = draw_scene(seed, index, (height, width))
            path = os.path.join(folder, IMAGE_FOLDER, _file_name(index))
            Image.fromarray(picture).save(path, quality=_JPEG_QUALITY)
            for item in found:
                objects += 1
                file.write(",\n" if objects > 1 else "\n")
                json.dump(_row(item, number=objects, image_id=index + 1), file)
        file.write('\n], "images": [')
        for index in range(count):
            row = {"id": index + 1, "file_name": _file_name(index)}
            file.write(",\n" if index else "\n")
            json.dump({**row, "height": height, "width": width}, file)
        file.write("\n]}\n")


def _file_name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _row(item: SceneObject, number: int, image_id: int) -> dict:
    """One object as a row of COCO's `annotations`."""
    return {
        "id": number,
        "image_id": image_id,
        "category_id": item.category + 1,
        "bbox": [round(float(value), 2) for value in item.bbox],
        "area": round(item.area, 2),
        "iscrowd": 0,
        "occlusion": round(item.occlusion, 4),
        "irregularity": round(item.irregularity, 4),
    }
