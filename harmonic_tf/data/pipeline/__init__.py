"""From annotations to batches, by tf.data: reading, augmentation, cache, service."""
