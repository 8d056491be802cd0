"""The files and tables that show an evaluation to a person."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Callable

import numpy as np

from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.reports.document import (
    Document,
    Items,
    Lines,
    Section,
    picture_paths,
)
from harmonic_tf.evaluation.reports.figures import draw_figures
from harmonic_tf.evaluation.reports.html import html
from harmonic_tf.evaluation.reports.markdown import markdown, text_tables
from harmonic_tf.evaluation.reports.sections import report_sections
from harmonic_tf.files import write_text


def results_table(metrics: Mapping[str, Mapping]) -> str:
    """The results as aligned plain text, for the terminal.

    Args:
        metrics: as `evaluate` returns them.

    Returns:
        Lines joined by newlines, without one at the end.
    """
    return text_tables(report_sections(metrics))


def write_reports(
    folder: str,
    title: str,
    metrics: Mapping[str, Mapping],
    ground_truth: GroundTruth,
    detections: Detections,
    candidates: Detections | None,
    picture: Callable[[int], np.ndarray],
    sheet_pictures: Sequence[int],
    settings: Mapping[str, str],
    skipped: Sequence[str] = (),
    notes: Sequence[str] = (),
    raw: Detections | None = None,
) -> list[str]:
    """Writes `report.md` and `report.html` with all their pictures into a folder.

    The Markdown refers to the pictures beside it; the HTML holds them and needs no other file.

    Args:
        folder: where to write; it exists.
        title: first line.
        metrics: as `evaluate` returns them.
        ground_truth: the annotated pictures.
        detections: what was found in them, after NMS.
        candidates: the same before NMS, where known.
        picture: gives the picture at a position of `ground_truth.image_ids`, uint8 [H, W, 3].
        sheet_pictures: the positions of the pictures to show whole.
        settings: what the results were obtained with, name to value.
        skipped: one line for each example that was left out because it was bad.
        notes: paragraphs to stand above the numbers.
        raw: the detections before their scores were calibrated, if they were.

    Returns:
        The files that were written.

    Raises:
        ValueError: see `checks.check`.
        OSError: the folder is missing or cannot be written to.
    """
    figures = draw_figures(
        folder, metrics, ground_truth, detections, candidates, picture, sheet_pictures, raw
    )
    sections = report_sections(metrics, figures)
    if settings:
        lines = [f"{name} = {value}" for name, value in settings.items()]
        sections.append(Section("settings", "Settings", [Lines(lines)]))
    if skipped:
        heading = f"Skipped examples ({len(skipped):,})"
        sections.append(Section("skipped", heading, [Items(skipped)]))
    document = Document(title, notes, sections)
    texts = {"report.md": markdown(document, folder), "report.html": html(document)}
    paths = [os.path.join(folder, name) for name in texts]
    for path, text in zip(paths, texts.values()):
        write_text(path, text)
    return [*picture_paths(sections), *paths]
