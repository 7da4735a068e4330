"""What a cost model did for a search, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from cost_model.judgement import Judgement
from cost_model.outlook import FASTER, Outlook
from cost_model.track_record import TOP, Recall

TELLING = 10
"""Predictions from which on shares of them are put into words: of fewer, one more moves a share by
over a tenth, and what is promised was hardly held against what came."""


@dataclass(frozen=True)
class Candidates:
    """Schedules that the model weighed when it last chose: all of a space of up to 20,000, else a
    pool of the promising. `left_out` are not measured; of those it expects `failing` to fail."""

    considered: int
    left_out: int
    failing: int

    @property
    def share_left_out(self) -> float:
        return self.left_out / self.considered


@dataclass(frozen=True)
class ModelReport:
    """How right the model was on the last trials that it predicted before they were measured, what
    it left out, and what it expects of going on.

    `accuracy`: share of pairs in the right order, those further apart counting more. `recall`: of
    the trials that came among the `TOP` fastest, how many were expected there. `within_50` and
    `within_90`: share of times inside the intervals that should hold 50 and 90 %; `widening`: the
    factor by which the latter should have been wider. They allow for what times scatter around the
    model where it knows them. `timed`: times predicted, on which these three rest; with fewer than
    `TELLING` neither they nor the outlook are put into words. `verdict`: a sentence. `None`: not
    known (yet), or the model has no notion of it.
    """

    followed: bool
    verdict: str
    accuracy: float | None
    recall: Recall
    within_50: float | None
    within_90: float | None
    widening: float | None
    timed: int
    candidates: Candidates | None
    outlook: Outlook | None

    @classmethod
    def of(
        cls, judgement: Judgement, candidates: Candidates | None, outlook: Outlook | None
    ) -> ModelReport:
        trust, record = judgement.trust, judgement.track_record
        return cls(
            trust.trusted,
            trust.reason,
            None if math.isnan(trust.accuracy) else trust.accuracy,
            record.recall,
            record.coverage(0.5),
            record.coverage(0.9),
            record.widening(0.9),
            record.timed,
            candidates,
            outlook,
        )

    @property
    def hindsight(self) -> str:
        """How right it was, in a few words."""
        if not self.followed:
            return "ignored, no better than guessing"
        parts = []
        if self.accuracy is not None:
            parts.append(f"{self.accuracy:.0%} of pairs right")
        if self.recall.met:
            parts.append(f"{self.recall.foreseen} of {self.recall.met} in the top {TOP} foreseen")
        if self._tells and self.within_50 is not None and self.within_90 is not None:
            parts.append(f"{self.within_50:.0%}, {self.within_90:.0%} in 50, 90 % intervals")
        return "; ".join(parts) or "no prediction to judge yet"

    @property
    def foresight(self) -> str:
        """What it left out and what is still to be gained, in a few words; `""`: not known."""
        parts = []
        if self.candidates is not None:
            parts.append(f"{self.candidates.share_left_out:.1%} left out")
        if self._tells and self.outlook is not None:
            parts.append(f"chance that a faster one is left {self.outlook.left:.0%}")
            parts.append(f"{self.outlook.trials} more: +{self.outlook.gain:.1%}")
        return "; ".join(parts)

    def sentences(self) -> Iterator[str]:
        """One thing each, for people."""
        yield self.verdict
        if self.recall.met and self.recall.of >= TOP:
            yield (
                f"of the last {self.recall.of} trials {self.recall.met} came among the {TOP} "
                f"fastest until then; {self.recall.foreseen} of them had been expected there"
            )
        if self._tells:
            yield from self._intervals()
        if self.candidates is not None:
            yield self._left_out(self.candidates)
        if self._tells and self.outlook is not None:
            yield str(self.outlook)

    @property
    def _tells(self) -> bool:
        return self.timed >= TELLING

    def _intervals(self) -> Iterator[str]:
        if self.within_50 is not None and self.within_90 is not None and self.widening is not None:
            yield (
                f"of the last {self.timed} times predicted {self.within_50:.0%} were inside their "
                f"50 % intervals, {self.within_90:.0%} inside their 90 % intervals, which should "
                f"have been {self.widening:.1f} × as wide"
            )

    def _left_out(self, candidates: Candidates) -> str:
        failing = f", {candidates.failing:,} as likely failures" if candidates.failing else ""
        weighed = f"of {candidates.considered:,} schedules weighed last"
        said = f"{weighed} {candidates.share_left_out:.1%} were left out{failing}"
        if self.outlook is None or not self._tells:
            return said
        return (
            f"{said}; the chance that one more than {FASTER:.0%} faster is among them is about "
            f"{self.outlook.left:.0%}"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
