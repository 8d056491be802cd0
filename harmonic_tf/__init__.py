"""Object detectors whose scores mean overlap: joint classification and localization training.

Importing it registers losses and models with Keras, so that `keras.models.load_model` finds them.
"""

from harmonic_tf import losses, models

__version__ = "0.1.0"

__all__ = ["losses", "models"]
