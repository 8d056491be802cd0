"""The embedded data set: scenes of irregular, overlapping objects, rendered from a seed."""
