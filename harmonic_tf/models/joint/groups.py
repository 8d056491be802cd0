"""Groups of samples, each with its loss and with the number that this is divided by.

Most detectors have one group, `MAIN`, whose predictions are what they detect. What is learned
beside it, such as an earlier stage, is a group of its own. All terms add up to the loss.
"""

from __future__ import annotations

from collections.abc import Mapping

from harmonic_tf.backend import tf
from harmonic_tf.losses import HarmonicLoss

MAIN = "main"

Tensors = Mapping[str, tf.Tensor]
# What the loss of each group compares: `y_true` and `y_pred` of `HarmonicLoss.terms`.
Samples = Mapping[str, tuple[Tensors, Tensors]]


class GroupedLoss:
    """The losses of all groups as one.

    Terms of the main group bear the names that `HarmonicLoss` gives them; those of the others begin
    with the name of their group.

    Args:
        losses: of each group, by name; that of `MAIN` among them.
    """

    def __init__(self, losses: Mapping[str, HarmonicLoss]) -> None:
        self._losses = dict(losses)
        self._terms = {
            group: tuple(_named(group, term) for term in loss.term_names)
            for group, loss in losses.items()
        }

    @property
    def term_names(self) -> tuple[str, ...]:
        """The terms that add up to the loss."""
        return tuple(term for terms in self._terms.values() for term in terms)

    @property
    def sum_names(self) -> tuple[str, ...]:
        """What `sums` returns."""
        return tuple(
            _named(group, name)
            for group, loss in self._losses.items()
            for name in (*loss.term_names, *loss.statistic_names)
        )

    def sums(self, samples: Samples, batch_sums: Tensors) -> dict[str, tf.Tensor]:
        """Every term, and what explains it, summed over samples.

        Args:
            samples: of each group.
            batch_sums: see `HarmonicLoss.terms`; of the main group.

        Returns:
            Float32 scalars by `sum_names`.
        """
        sums = {}
        for group, loss in self._losses.items():
            terms = loss.terms(*samples[group], batch_sums if group == MAIN else None)
            sums.update({_named(group, name): tf.reduce_sum(v) for name, v in terms.items()})
        return sums

    def total(self, sums: Tensors, counts: Tensors) -> tf.Tensor:
        """The loss of some samples in units of the main group's: divided by its number, no more.

        Args:
            sums: over these samples.
            counts: see `normalizers`; of several groups, all are needed.

        Raises:
            ValueError: the count of one of several groups is missing.
        """
        if len(self._losses) == 1:
            return tf.add_n([sums[term] for term in self.term_names])
        if missing := self._losses.keys() - counts.keys():
            raise ValueError(
                f"Of several groups of samples, {', '.join(self._losses)}, sample_counts has to "
                f"give every one; {', '.join(sorted(missing))} is missing."
            )
        of_groups = {
            group: tf.add_n([sums[term] for term in terms]) for group, terms in self._terms.items()
        }
        main = _at_least_one(counts[MAIN])
        others = [
            main / _at_least_one(counts[group]) * value
            for group, value in of_groups.items()
            if group != MAIN
        ]
        return tf.add_n([of_groups[MAIN], *others])

    def normalizers(self, sums: Tensors, counts: Tensors) -> dict[str, tf.Tensor]:
        """What the summed loss of each group is divided by, at least 1.

        Args:
            sums: over the whole global batch.
            counts: samples of each group, over the whole global batch. A single group without any
                is divided by the weight of its positives.

        Returns:
            Float32 scalars, by group.
        """
        return {group: _at_least_one(counts.get(group, sums["weights"])) for group in self._losses}

    def means(self, sums: Tensors, normalizers: Tensors) -> dict[str, tf.Tensor]:
        """Every term divided by its group's number.

        Args:
            sums: over the whole global batch.
            normalizers: by group.

        Returns:
            Float32 scalars by `term_names`.
        """
        return {
            term: sums[term] / normalizers[group]
            for group, terms in self._terms.items()
            for term in terms
        }


def _named(group: str, name: str) -> str:
    return name if group == MAIN else f"{group}_{name}"


def _at_least_one(number: tf.Tensor) -> tf.Tensor:
    return tf.maximum(number, 1.0)
