"""What a race of an attention on an NVIDIA GPU showed: a row of the table, and its goals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from cuda_races import Case, written

from autotune.benchmark import BenchResult
from autotune.contest import Ratio, Standing
from autotune.peaks import Peaks
from search_spaces import registry
from search_spaces.attention.parameters import Parameters, visible_keys
from search_spaces.dtypes import size_bytes

GOAL = 1.0  # times the fastest of the libraries
DECODE_QUERIES = 16  # up to here attention is bound by reading K and V
BANDWIDTH_GOAL = 0.85  # of a copy's, in bytes of K and V, there


@dataclass(frozen=True)
class Row:
    """A race and what it is compared with."""

    case: Case
    trials: int
    result: BenchResult
    peaks: Peaks | None

    @property
    def time_s(self) -> float:
        time_s = self.result.ours.time_s
        assert time_s is not None, "a bench without our time is an error"
        return time_s

    @property
    def best(self) -> tuple[Standing, Ratio] | None:
        """The fastest of the libraries."""
        return min(self.result.rivals, key=lambda rival: rival[0].time_s or math.inf, default=None)

    @property
    def ratio(self) -> Ratio | None:
        return self.best[1] if self.best is not None else None

    @property
    def is_decode(self) -> bool:
        return self._given.q_len <= DECODE_QUERIES

    @property
    def share(self) -> float | None:
        """Of the tensor cores' peak; of a copy's bandwidth, in bytes of K and V, in decode."""
        if self.peaks is None:
            return None
        peak = (
            self.peaks.copy_bytes_per_s
            if self.is_decode
            else self.peaks.flops_per_s.get(self._given.dtype)
        )
        return self._work / self.time_s / peak if peak else None

    @property
    def line(self) -> str:
        best, ratio = self.best or (None, None)
        others = [(rival, each) for rival, each in self.result.rivals if rival is not best]
        cells = (
            self.case.name,
            str(self.trials or "stored"),
            f"{self.time_s * 1e6:.1f}",
            self._rate(self.time_s),
            "-" if self.share is None else f"{self.share:.0%}",
            "-" if best is None else f"{self._rate(best.time_s)} ({best.name})",
            "-" if ratio is None else written(ratio),
            ", ".join(f"{rival.name} {written(each)}" for rival, each in others) or "-",
            self.result.record.schedule.template,
        )
        return f"| {' | '.join(cells)} |"

    def shortfalls(self) -> Iterator[str]:
        """The goals that it misses, in words."""
        if self.best is not None and self.best[1].value < GOAL:
            yield f"{self.best[1].value:.3f} × {self.best[0].name}, goal {GOAL}"
        if self.is_decode and self.share is not None and self.share < BANDWIDTH_GOAL:
            yield f"{self.share:.0%} of the copy bandwidth, goal {BANDWIDTH_GOAL:.0%}"
        for name, reason in self.result.absent:
            if "elements are off" in reason:
                yield f"{name} did not pass the check: {reason}"

    @property
    def _given(self) -> Parameters:
        return Parameters.of(self.case.workload)

    @property
    def _work(self) -> float:
        """Operations; in decode bytes of K and V that some query sees."""
        if not self.is_decode:
            return registry.op("attention").flops(self.case.workload)
        given = self._given
        rows = sum(map(len, visible_keys(given))) * given.kv_heads
        return float(size_bytes(given.kv_dtype, (rows, given.head_dim + given.v_dim)))

    def _rate(self, time_s: float | None) -> str:
        unit = "TB/s" if self.is_decode else "TFLOP/s"
        return f"{self._work / (time_s or math.nan) / 1e12:.{2 if self.is_decode else 1}f} {unit}"


HEADER = (
    "| case | trials | µs | rate | of peak | best rival | × best | × others | template |",
    "|---|---|---|---|---|---|---|---|---|",
)
NOTES = (
    "The peak is the tensor cores' as measured; in decode a copy's bandwidth (bytes read plus",
    "written), against which the bytes of K and V are counted. Ratios above 1: ours is faster.",
    "Pairs that the mask hides do not count as operations.",
)
