"""Importing this lets a script import `flags`, which is installed under another name."""

from __future__ import annotations

import pathlib
import sys

TOP = str(pathlib.Path(__file__).resolve().parents[1])

if TOP not in sys.path:
    sys.path.append(TOP)
