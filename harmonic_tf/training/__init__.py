"""The wiring of an experiment: settings, optimizers, training, measurement."""
