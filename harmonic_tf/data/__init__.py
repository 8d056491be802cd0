"""From annotated pictures on disk to batches: sources, transforms, pipelines."""
