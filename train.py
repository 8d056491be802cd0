"""Trains a detector, measures it on held-out images and writes the report.

python train.py --preset=quickstart --run_dir=runs/quickstart

It is `harmonic-tf train`, for a checkout.
"""

import sys

from flags.command import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
