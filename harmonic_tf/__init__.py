"""Object detectors whose scores mean overlap: joint classification and localization training."""

__version__ = "0.1.0"
