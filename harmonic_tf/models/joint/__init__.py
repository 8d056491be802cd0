"""Training both branches of a detector by one loss: the detector, its train step and its update."""
