"""Reads PASCAL VOC: one XML file an image."""

from __future__ import annotations

import collections
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
from tqdm import tqdm

from harmonic_tf.data import checks
from harmonic_tf.data.example import Annotation, DetectionData, Problem
from harmonic_tf.data.images.finding import RENAMED, Images
from harmonic_tf.data.readers import voc_layouts, voc_xml
from harmonic_tf.data.readers.image_files import find_images, is_image, upright_size
from harmonic_tf.data.readers.voc_layouts import Entry
from harmonic_tf.data.readers.voc_xml import VocObject

SIZE_NOTE = "width and height are read from the image"
STALE_NOTE = "a <filename> that several XML files share, and that is not theirs, is not followed"
UNANNOTATED_NOTE = "an image without an XML file is left out"


class _Picture(NamedTuple):
    """One XML file.

    Args:
        entry: what asked for it.
        path: its image.
        named: what `<filename>` says.
        other: another image than `path` that is so named; empty where there is none.
        size: width and height, pixels.
        objects: those without problems.
    """

    entry: Entry
    path: str
    named: str
    other: str
    size: tuple[int, int]
    objects: list[VocObject]


def read_voc(
    root: str,
    split: str,
    class_names: Sequence[str] | None = None,
    on_bad_example: str = "error",
    name: str = "voc",
) -> DetectionData:
    """Reads splits of VOC data and checks them; images are looked for, not decoded.

    The image is the one that bears the XML's own name; where there is none, the one that the XML's
    `<filename>` names; `<path>` is not used. VOC counts pixels from 1 and includes the last one, so
    xyxy = (xmin - 1, ymin - 1, xmax, ymax).

    Args:
        root: a VOC folder, which holds `ImageSets/Main`, `Annotations` and `JPEGImages`; a
            VOCdevkit, which holds one such folder `VOC<year>` for each year; a folder of XML files
            and images, beside each other or in folders like `annots` and `images`; or one which
            holds such a folder for each split, `train`, `valid`, `test`.
        split: name of a list in `ImageSets/Main`, for example `"trainval"`; in a VOCdevkit with
            its year, `"2007_trainval"`; name of a split's folder; or `"all"` where there is
            neither. Several are joined by a plus sign: `"2007_trainval+2012_trainval"`.
        class_names: index by name; by default the names in the split, sorted.
        on_bad_example: "error" raises the first problem; "skip" leaves out the box, or the
            picture with all its boxes, and lists it in `skipped`.
        name: what to call the data set.

    Returns:
        The data set, images in the order of the lists or of the XML files' paths; `extras` has
        `truncated`: 1, 0, or NaN where not given.

    Raises:
        DataError: a list cannot be read, nothing is left, or there is a problem and
            `on_bad_example` is "error".

    Source: the format, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html.
    """
    if class_names is not None:
        checks.class_indices(class_names, root, "class names")
    problems: list[Problem] = []
    notes: collections.Counter[str] = collections.Counter()
    finder = Images()
    entries = voc_layouts.find_entries(root, split)
    pictures: dict[str, _Picture] = {}
    seen: set[str] = set()
    for entry in tqdm(entries, desc=f"Reading {name}", unit="picture", delay=1):
        with checks.collecting(problems, checks.PICTURE):
            if entry.image_id in seen:
                problem, remedy = "id is not unique", "List each picture once"
                checks.refuse(entry.origin, entry.field, entry.image_id, problem, remedy)
            seen.add(entry.image_id)
            checks.safe_join(root, entry.image_id, entry.origin, entry.field)
            pictures[entry.image_id] = _read_picture(entry, class_names, finder, problems, notes)
    kept = _with_own_images(list(pictures.values()), problems, notes)
    if class_names is None:
        class_names = sorted({item.name for picture in kept for item in picture.objects})
    annotations = [_annotation(picture, class_names) for picture in kept]
    notes[UNANNOTATED_NOTE] += _unannotated(root, entries, pictures.values(), finder)
    data = DetectionData(name, tuple(class_names), annotations, notes=+notes)
    return checks.finish(data, root, problems, on_bad_example)


def splits_of_voc(path: str) -> list[str]:
    """The splits that `read_voc` takes; `["all"]` without any, `[]` without VOC data."""
    return voc_layouts.find_splits(path)


def _read_picture(
    entry: Entry,
    class_names: Sequence[str] | None,
    finder: Images,
    problems: list[Problem],
    notes: collections.Counter[str],
) -> _Picture:
    """Reads one XML file; bad objects go to the problems, a bad file raises DataError."""
    file = entry.file
    root = voc_xml.read_xml(file, notes)
    path, named, other = _find_image(root, entry, finder)
    notes[RENAMED] += not other and _is_renamed(path, named)
    size = voc_xml.annotated_size(root, file)
    if size is None:
        size = upright_size(path)
        notes[SIZE_NOTE] += 1
    objects: list[VocObject] = []
    for index, element in enumerate(root.findall("object")):
        with checks.collecting(problems):
            item = voc_xml.read_object(element, file, f"object[{index}]", size, notes)
            if class_names is not None and item.name not in class_names:
                problem, remedy = "class is not in the list", f"Use one of {', '.join(class_names)}"
                checks.refuse(file, f"object[{index}]/name", item.name, problem, remedy)
            objects.append(item)
    return _Picture(entry, path, named, other, size, objects)


def _find_image(root: Element, entry: Entry, finder: Images) -> tuple[str, str, str]:
    """The image of an XML file, what `<filename>` says, and another image that this means."""
    own = find_images(finder, entry.folders, entry.image_id)
    own = own or find_images(finder, entry.folders, _base(entry))
    text = (root.findtext("filename") or "").strip()
    named = _images_named(text, entry.folders, finder)
    agreed = [path for path in own if path in named]
    if own:
        other = "" if agreed or _is_somebodys_path(text) or not named else named[0]
        return (agreed or own)[0], text, other
    if named:
        return named[0], text, ""
    places = ", ".join(entry.folders) or "no folder"
    means = f", or {text}" if text else ""
    there = "".join(
        f"; there is {finder.what_is_there(folder, [os.path.join(folder, _base(entry))])}"
        for folder in entry.folders[:1]
    )
    remedy = f"Restore it; looked for {_base(entry)} with any suffix{means} in {places}{there}"
    checks.refuse(entry.file, "filename", text or "missing", "picture is missing", remedy)


def _is_renamed(path: str, named: str) -> bool:
    """Whether a `<filename>` means the image, but for its suffix or case."""
    there, written = os.path.basename(path), pathlib.PureWindowsPath(named).name
    (stem, suffix), (written_stem, written_suffix) = map(os.path.splitext, (there, written))
    alike = stem.casefold() == written_stem.casefold() and is_image(written)
    return alike and (stem, suffix) != (written_stem, written_suffix)


def _base(entry: Entry) -> str:
    """The name of the XML file without its suffix."""
    return os.path.splitext(os.path.basename(entry.file))[0]


def _images_named(text: str, folders: Sequence[str], finder: Images) -> list[str]:
    """The images that a `<filename>` means: by its path below the folders, or by its last part.

    Images that have another format by now, or a `<filename>` without suffix, are found too.
    """
    path = pathlib.PureWindowsPath(text)  # knows / and \
    names = [path.name] if _is_somebodys_path(text) else [path.as_posix(), path.name]
    found = [path for name in names if name for path in find_images(finder, folders, name)]
    return [p for p in found if os.path.basename(p).lower() == path.name.lower()] or found


def _is_somebodys_path(text: str) -> bool:
    """Whether it leads elsewhere: to where the image was when it was annotated."""
    path = pathlib.PureWindowsPath(text)
    return bool(path.anchor) or ".." in path.parts


def _with_own_images(
    pictures: Sequence[_Picture], problems: list[Problem], notes: collections.Counter[str]
) -> list[_Picture]:
    """Leaves out those whose `<filename>` is another's, or whose image is another's, too.

    A name that several files bear wrongly is a template's, and says nothing of any of them.
    """
    others = collections.Counter(picture.other for picture in pictures)
    users = collections.Counter(picture.path for picture in pictures)
    kept = []
    for picture in pictures:
        file = picture.entry.file
        with checks.collecting(problems, checks.PICTURE):
            if picture.other and others[picture.other] == 1:
                problem = "names another image than the one that bears the XML's own name"
                own = os.path.basename(picture.path)
                remedy = f"Write {own} if the objects are those of {own}, or rename the XML"
                checks.refuse(file, "filename", picture.named, problem, remedy)
            is_own = os.path.splitext(os.path.basename(picture.path))[0] == _base(picture.entry)
            if users[picture.path] > 1 and not is_own:
                problem = "names an image that another XML file is about"
                remedy = f"Restore the image {_base(picture.entry)}, or delete the XML"
                checks.refuse(file, "filename", picture.named, problem, remedy)
            notes[STALE_NOTE] += bool(picture.other)
            kept.append(picture)
    return kept


def _unannotated(
    root: str, entries: Sequence[Entry], pictures: Sequence[_Picture], finder: Images
) -> int:
    """How many images in the folders of those that were read have no XML file; 0 for a list."""
    if any(entry.origin != entry.file for entry in entries):
        return 0
    named = {os.path.splitext(os.path.basename(file))[0] for file in voc_layouts.xml_files(root)}
    used = {picture.path for picture in pictures}
    folders = {os.path.dirname(path) for path in used}
    names = ((folder, name) for folder in folders for name in finder.names(folder))
    images = {os.path.join(*name) for name in names if is_image(name[1])} - used
    stems = (os.path.splitext(os.path.basename(path))[0] for path in images)
    return sum(stem not in named for stem in stems)


def _annotation(picture: _Picture, class_names: Sequence[str]) -> Annotation:
    """One picture's objects as arrays."""
    objects = picture.objects
    return Annotation(
        image_path=picture.path,
        image_id=picture.entry.image_id,
        width=picture.size[0],
        height=picture.size[1],
        boxes=np.array([item.box for item in objects], np.float32).reshape(-1, 4),
        classes=np.array([class_names.index(item.name) for item in objects], np.int32),
        difficult=np.array([item.difficult for item in objects], bool),
        crowd=np.zeros(len(objects), bool),
        extras={"truncated": np.array([item.truncated for item in objects], np.float32)},
    )
