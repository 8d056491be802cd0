"""Scores that mean overlap after training: fitted on validation pictures, kept as a table."""
