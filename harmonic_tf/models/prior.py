"""Where untrained class scores start: low, as most places of a picture show nothing."""

from __future__ import annotations

import math

# Class probability that untrained heads start from; arXiv 1708.02002, section 4.1.
PRIOR = 0.01


def bias_of(prior: float) -> float:
    """The logit of a probability in (0, 1): the bias whose sigmoid it is."""
    return -math.log((1.0 - prior) / prior)
