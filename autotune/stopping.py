"""When a search ends by itself: little is expected of going on."""

from __future__ import annotations

from autotune.model_report import ModelReport

LEAST = 64
"""Trials before a search may end so: a model that knows less is too easily sure."""

PATIENCE = 3
"""Batches in a row before each of which little was expected."""


class StoppingRule:
    """Met where the gain expected of `FURTHER_TRIALS` more stays below `gain`, a share; never with
    `None`. `benchmarks/outlook.md` has what it saves, and what it costs."""

    def __init__(self, gain: float | None) -> None:
        self._gain = gain
        self._low = 0

    def is_met(self, report: ModelReport | None, trials: int) -> bool:
        """Asked once before each batch, `trials` having been measured."""
        if self._gain is None:
            return False
        expected = report.outlook.gain if report is not None and report.outlook else None
        is_low = expected is not None and expected < self._gain and trials >= LEAST
        self._low = self._low + 1 if is_low else 0
        return self._low >= PATIENCE
