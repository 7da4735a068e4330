"""What a Gaussian process learns from, before it is made coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cost_model.base import Floats
from cost_model.coordinates import Column

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """Schedules of one template in the order of their records, (examples,) each.

    `labels`, what was `expected` of them and variances `noise` are in deviations of all labels;
    `doubts`, (examples, functions), as an `Expectation` has them, in the same unit.
    """

    columns: list[Column]
    labels: Floats
    noise: Floats
    expected: Floats
    doubts: Floats | None

    def limited(self, most: int) -> Examples:
        """Of more than `most` the fastest half and the latest half."""
        count = len(self.labels)
        if count <= most:
            return self
        latest = np.arange(count - most // 2, count)
        older = np.argsort(-self.labels[: count - most // 2], kind="stable")
        return self._take(np.sort(np.concatenate([older[: most - len(latest)], latest])))

    def _take(self, places: Places) -> Examples:
        return Examples(
            [column[places] for column in self.columns],
            self.labels[places],
            self.noise[places],
            self.expected[places],
            None if self.doubts is None else self.doubts[places],
        )


def joined(columns: Sequence[Column]) -> Column:
    """One below the other; numbers stay numbers only where all are."""
    if len({column.dtype.kind for column in columns}) > 1:
        columns = [column.astype(str) for column in columns]
    return np.concatenate(columns)
