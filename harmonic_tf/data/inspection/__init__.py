"""A look at a data set before training: findings, report and pictures of them."""
