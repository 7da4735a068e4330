"""What a race of a matmul on an NVIDIA GPU showed: a row of the table, and its goals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matmul_table as table

from autotune.benchmark import BenchResult
from autotune.contest import Ratio, Standing
from autotune.peaks import Peaks
from records.workload import Workload
from search_spaces import registry
from search_spaces.dtypes import size_bytes
from search_spaces.matmul.parameters import Parameters

GOAL = 1.0  # times the faster of cuBLAS and cuBLASLt
MEAN_GOAL = 1.05
SKINNY_ROWS = 16  # up to here a matmul is bound by reading B
BANDWIDTH_GOAL = 0.9  # of a copy's, in bytes of B, there
CUBLAS = ("cublas", "cublaslt")

_WEIGHTY_ELEMENTS = 2**27  # take as long as everything else about a shape


@dataclass(frozen=True)
class Case:
    """A workload and the name by which `--shapes` chooses it."""

    name: str
    workload: Workload

    @property
    def weight(self) -> float:
        """Of its share of the time: arrays are drawn, copied and compared with a reference."""
        arrays = registry.op(self.workload.op).arrays(self.workload)
        return 1.0 + sum(math.prod(array.shape) for array in arrays) / _WEIGHTY_ELEMENTS


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
            "-" if ratio is None else _written(ratio),
            ", ".join(f"{name} {_written(each)}" for name, each in self.others.items()) or "-",
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


def page(rows: Sequence[Row], absent: Sequence[str]) -> Iterator[str]:
    """Facts, the table, the mean, what falls short."""
    yield table.facts(rows[0].result)
    yield ""
    yield "The peak is the tensor cores' as measured; up to 16 rows a copy's bandwidth (bytes read"
    yield "plus written), against which the bytes of B are counted. Ratios above 1: ours is faster."
    yield "cuBLAS multiplies by int4 weights only once they are numbers: dequantised beforehand."
    yield ""
    yield from HEADER
    yield from (row.line for row in rows)
    yield ""
    ratios = [row.cublas[1].value for row in rows if row.cublas is not None]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        yield f"Geometric mean over {len(ratios)}: {mean:.3f} × cuBLAS (goal {MEAN_GOAL})."
    short = [
        f"- {row.case.name}: {'; '.join(each)}" for row in rows if (each := [*row.shortfalls()])
    ]
    yield "Falls short:" if short or absent else "Nothing falls short."
    yield from (*short, *absent)


def _written(ratio: Ratio) -> str:
    within = "" if ratio.interval is None else f" ± {ratio.value * ratio.interval:.3f}"
    return f"**{ratio.value:.3f}**{within}"
