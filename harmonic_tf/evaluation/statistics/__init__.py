"""What may be said of those numbers: intervals, bootstrap, paired comparison."""
