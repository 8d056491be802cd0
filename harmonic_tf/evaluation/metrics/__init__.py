"""Numbers that say how good detections are: COCO, VOC, consistency, calibration."""
