"""What a race of a matmul on an NVIDIA GPU showed: a row of the table, and its goals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from cuda_races import Case, written

from autotune.benchmark import BenchResult
from autotune.contest import Ratio, Standing
from autotune.peaks import Peaks
from search_spaces import registry
from search_spaces.dtypes import size_bytes
from search_spaces.matmul.parameters import Parameters

GOAL = 1.0  # times the faster of cuBLAS and cuBLASLt
SKINNY_ROWS = 16  # up to here a matmul is bound by reading B
BANDWIDTH_GOAL = 0.9  # of a copy's, in bytes of B, there
CUBLAS = ("cublas", "cublaslt")


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
    def cublas(self) -> tuple[Standing, Ratio] | None:
        """The faster of the two."""
        ours = [each for each in self.result.rivals if each[0].name in CUBLAS]
        return min(ours, key=lambda each: each[0].time_s or math.inf, default=None)

    @property
    def ratio(self) -> Ratio | None:
        """Not of quantised weights: cuBLAS reads several times as much for them."""
        if self.cublas is None or Parameters.of(self.case.workload).quantised:
            return None
        return self.cublas[1]

    @property
    def others(self) -> dict[str, Ratio]:
        """Against rivals that are no BLAS, by name."""
        return {
            rival.name: ratio for rival, ratio in self.result.rivals if rival.name not in CUBLAS
        }

    @property
    def is_skinny(self) -> bool:
        return int(self.case.workload["m"]) <= SKINNY_ROWS

    @property
    def share(self) -> float | None:
        """Of the tensor cores' peak; of a copy's bandwidth, in bytes of B, up to 16 rows."""
        if self.peaks is None:
            return None
        given = Parameters.of(self.case.workload)
        if self.is_skinny:
            weights = size_bytes(given.b_dtype, given.b_shape)
            return weights / self.time_s / self.peaks.copy_bytes_per_s
        peak = self.peaks.flops_per_s.get(given.dtype)
        return self._flops / self.time_s / peak if peak else None

    @property
    def line(self) -> str:
        rival, ratio = self.cublas or (None, None)
        cells = (
            self.case.name,
            str(self.trials or "stored"),
            f"{self.time_s * 1e6:.1f}",
            f"{self._flops / self.time_s / 1e12:.1f}",
            "-" if self.share is None else f"{self.share:.0%}",
            "-" if rival is None or rival.time_s is None else self._rate(rival),
            "-" if ratio is None else written(ratio),
            ", ".join(f"{name} {written(each)}" for name, each in self.others.items()) or "-",
            self.result.record.schedule.template,
        )
        return f"| {' | '.join(cells)} |"

    def shortfalls(self) -> Iterator[str]:
        """The goals that it misses, in words."""
        if self.cublas is not None and self.cublas[1].value < GOAL:
            yield f"{self.cublas[1].value:.3f} × {self.cublas[0].name}, goal {GOAL}"
        for name, other in self.others.items():
            if other.value < GOAL:
                yield f"{other.value:.3f} × {name}"
        if self.is_skinny and self.share is not None and self.share < BANDWIDTH_GOAL:
            yield f"{self.share:.0%} of the copy bandwidth, goal {BANDWIDTH_GOAL:.0%}"
        for name, reason in self.result.absent:
            if name in CUBLAS and "elements are off" in reason:
                yield f"{name} did not pass the check: {reason}"

    @property
    def _flops(self) -> float:
        return registry.op("matmul").flops(self.case.workload)

    def _rate(self, rival: Standing) -> str:
        return f"{self._flops / (rival.time_s or math.nan) / 1e12:.1f} ({rival.name})"


HEADER = (
    "| m×n×k | trials | µs | TFLOP/s | of peak | cuBLAS TFLOP/s | × cuBLAS | × others | template |",
    "|---|---|---|---|---|---|---|---|---|",
)


NOTES = (
    "The peak is the tensor cores' as measured; up to 16 rows a copy's bandwidth (bytes read",
    "plus written), against which the bytes of B are counted. Ratios above 1: ours is faster.",
    "cuBLAS multiplies by int4 weights only once they are numbers: dequantised beforehand; the",
    "mean leaves them out.",
)
