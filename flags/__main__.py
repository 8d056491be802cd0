"""Runs a command: `python -m flags train` is `harmonic-tf train` in a checkout."""

from .command import main

main()
