"""Measures a detector on any split and writes the report; or compares two of them.

python evaluate.py --run=runs/quickstart --split=val

It is `harmonic-tf evaluate`, for a checkout.
"""

import sys

from flags.command import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
