"""A local web page to try detectors on pictures: what it shows, and the server behind it."""
