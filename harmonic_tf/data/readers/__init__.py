"""Annotation files and folders of each format, read and checked: one file a format."""
