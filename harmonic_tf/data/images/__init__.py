"""Bytes and pixels of one image: headers, checks, decoding."""
