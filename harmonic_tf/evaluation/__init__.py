"""Measuring detections: COCO and VOC metrics, score-IoU consistency, reports and pictures."""

from harmonic_tf.evaluation.calibrating.file import (
    CalibrationError,
    read_calibration,
    write_calibration,
)
from harmonic_tf.evaluation.calibrating.fitting import CALIBRATION_METHODS, fit_calibration
from harmonic_tf.evaluation.calibrating.table import Calibration
from harmonic_tf.evaluation.coco_results import ResultsError, read_detections, write_detections
from harmonic_tf.evaluation.detections import Detections, GroundTruth
from harmonic_tf.evaluation.metrics.average_precision import (
    AveragePrecision,
    average_precision,
    mean_average_precision,
    precision_recall,
)
from harmonic_tf.evaluation.metrics.calibration import (
    calibration,
    calibration_and_ap,
    calibration_curve,
    lrp_optimal_thresholds,
    operating_point,
)
from harmonic_tf.evaluation.metrics.coco import coco_evaluation, coco_metrics
from harmonic_tf.evaluation.metrics.coco_matching import (
    AREA_RANGES,
    IOU_THRESHOLDS,
    Matcher,
    Matches,
    match,
)
from harmonic_tf.evaluation.metrics.confusion import confusion_matrix
from harmonic_tf.evaluation.metrics.consistency import agreement, consistency, scores_and_ious
from harmonic_tf.evaluation.metrics.groups import by_group
from harmonic_tf.evaluation.metrics.ranking import oracle_ranked, ranking_cost
from harmonic_tf.evaluation.metrics.score_thresholds import (
    PrecisionRecall,
    precision_recall_by_score,
)
from harmonic_tf.evaluation.metrics.summary import evaluate, write_metrics
from harmonic_tf.evaluation.metrics.suppression import (
    ranking_before_nms,
    suppress,
    suppression,
)
from harmonic_tf.evaluation.metrics.voc import voc_map
from harmonic_tf.evaluation.reports.charts import score_iou_scatter
from harmonic_tf.evaluation.reports.comparison import comparison_table, write_comparison
from harmonic_tf.evaluation.reports.report import (
    results_table,
    write_reports,
)
from harmonic_tf.evaluation.reports.sheet import detection_sheet
from harmonic_tf.evaluation.statistics.comparison import compare

__all__ = [
    "AREA_RANGES",
    "CALIBRATION_METHODS",
    "IOU_THRESHOLDS",
    "AveragePrecision",
    "Calibration",
    "CalibrationError",
    "Detections",
    "GroundTruth",
    "Matcher",
    "Matches",
    "PrecisionRecall",
    "ResultsError",
    "agreement",
    "average_precision",
    "by_group",
    "calibration",
    "calibration_and_ap",
    "calibration_curve",
    "coco_evaluation",
    "coco_metrics",
    "compare",
    "comparison_table",
    "confusion_matrix",
    "consistency",
    "detection_sheet",
    "evaluate",
    "fit_calibration",
    "lrp_optimal_thresholds",
    "match",
    "mean_average_precision",
    "operating_point",
    "oracle_ranked",
    "precision_recall",
    "precision_recall_by_score",
    "ranking_before_nms",
    "ranking_cost",
    "read_calibration",
    "read_detections",
    "results_table",
    "score_iou_scatter",
    "scores_and_ious",
    "suppress",
    "suppression",
    "voc_map",
    "write_calibration",
    "write_comparison",
    "write_detections",
    "write_metrics",
    "write_reports",
]
