"""Numbers that describe a schedule of a workload on a target, each with a name.

Three groups: the schedule itself (knobs and template), the workload and the target, and what the
template's `KernelStats` say of the meeting of all three. Trees do not care for monotone
transformations, so a knob is one column and not a second one of its logarithm; quantities of
wide range are kept in log2 to survive float32. A number that is unknown is NaN, which XGBoost
treats as missing: that is how templates with different knobs share one model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from records.canonical import Value
from records.peaks import NO_PEAKS, Peaks, PeaksOf
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.dtypes import DTYPES
from search_spaces.filled import filled
from search_spaces.kernel import KernelStats

Column: TypeAlias = npt.NDArray[np.float64]

_STATS = tuple(field.name for field in fields(KernelStats) if field.name != "extra")


def context_features(
    workload: Workload, target: Target, peaks: PeaksOf = NO_PEAKS
) -> dict[str, float]:
    """Features that all schedules of one workload on one target share.

    Where the target's `peaks` are known: FLOP a second in the workload's dtype, bytes a second,
    and their ratio, the arithmetic intensity from which on arithmetic is what bounds.
    """
    return _log2_items("workload", filled(workload).items()) | {
        "target.backend=" + target.backend: 1.0,
        "target.arch=" + target.arch: 1.0,
        **_log2_items("target", target.limits),
        **_peak_features(workload, peaks.get(target)),
    }


def distance(
    first: tuple[Workload, Target], second: tuple[Workload, Target], peaks: PeaksOf = NO_PEAKS
) -> float:
    """Doublings between sizes of workloads and between limits and peaks of devices, and one for
    any name in which they differ, as that of the device; a name that only one of them tells counts
    half, a number nothing. The peaks of both are those in the dtype of the first workload."""
    apart = _doublings(context_features(*first), context_features(*second))
    of_both = (_peak_features(first[0], peaks.get(target)) for _, target in (first, second))
    return apart + float(first[1].device != second[1].device) + _doublings(*of_both)


def knob_features(schedule: Schedule) -> dict[str, float]:
    """The knobs as they are; a category becomes a column named after its value."""
    features = {"template=" + schedule.template: 1.0}
    for name, value in schedule.knobs:
        if isinstance(value, (bool, int, float)):
            features["knob." + name] = float(value)
        else:
            features |= _categories("knob." + name, value)
    return features


def stats_features(
    workload: Workload, target: Target, stats: Sequence[KernelStats]
) -> dict[str, Column]:
    """One array a feature, one entry a schedule, in order."""
    raw = {name: _known([getattr(each, name) for each in stats]) for name in _STATS}
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {f"stats.{name}": np.log2(values) for name, values in raw.items()}
        columns |= _work_features(raw)
        columns |= _launch_features(raw, target)
        columns |= _memory_features(raw, workload, target)
    for name in sorted({name for each in stats for name, _ in each.extra}):
        found = [dict(each.extra).get(name, math.nan) for each in stats]
        columns["extra." + name] = np.array(found, dtype=np.float64)
    return columns


def _work_features(raw: dict[str, Column]) -> dict[str, Column]:
    """Arithmetic intensity (FLOP a byte), and the share of the work that is not padding."""
    return {
        "intensity.dram": np.log2(raw["flops"] / raw["dram_bytes"]),
        "intensity.l2": np.log2(raw["flops"] / raw["l2_bytes"]),
        "edge_efficiency": raw["useful_flops"] / raw["flops"],
        "work_per_thread": np.log2(raw["flops"] / (raw["groups"] * raw["threads"])),
    }


def _launch_features(raw: dict[str, Column], target: Target) -> dict[str, Column]:
    """How evenly the groups fill the device: waves, tail, resident work-items."""
    threads = raw["threads"]
    warp = _limit(target, "warp")
    per_unit = raw["groups"] / _limit(target, "units")
    resident = np.fmin(
        _limit(target, "shared_bytes") / raw["shared_bytes"],
        _limit(target, "registers") / (raw["registers"] * threads),
    )
    resident = np.where(np.isnan(resident), np.nan, np.maximum(np.floor(resident), 1.0))
    waves = per_unit / resident
    return {
        "groups_per_unit": np.log2(per_unit),
        "unit_efficiency": per_unit / np.ceil(per_unit),
        "waves": np.log2(waves),
        "wave_efficiency": waves / np.ceil(waves),
        "resident_threads": np.log2(np.fmin(resident, per_unit) * threads),
        "warp_efficiency": threads / (np.ceil(threads / warp) * warp),
    }


def _memory_features(
    raw: dict[str, Column], workload: Workload, target: Target
) -> dict[str, Column]:
    """What fits where, and how much of a hardware vector is used."""
    kept = raw["working_set_bytes"]
    known = DTYPES.get(str(workload.values.get("dtype", "")))
    element_bytes = known.bits / 8 if known else math.nan
    vector_bytes = raw["vector_lanes"] * element_bytes
    columns = {
        f"working_set_of_{level}": np.log2(kept / _limit(target, level))
        for level in ("l1_bytes", "l2_bytes", "cache_bytes")
    }
    return columns | {
        "dram_of_cache": np.log2(raw["dram_bytes"] / _limit(target, "cache_bytes")),
        "scratch_of_cache": np.log2(raw["scratch_bytes"] / _limit(target, "cache_bytes")),
        "vector_fill": np.log2(vector_bytes / _limit(target, "vector_bytes")),
        "shared_share": raw["shared_bytes"] / _limit(target, "shared_bytes"),
    }


def _limit(target: Target, name: str) -> float:
    """A numeric limit, NaN where the device does not tell."""
    return float(target.limit(name, 0)) or math.nan


def _known(values: Sequence[float]) -> Column:
    """Statistics as an array, their zeros ("unknown") as NaN."""
    array = np.array(values, dtype=np.float64)
    array[array <= 0.0] = np.nan
    return array


def _doublings(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    names = sum("=" in name for name in one.keys() ^ other.keys())
    gaps = (abs(one[name] - other[name]) for name in one.keys() & other.keys())
    return names / 2 + math.fsum(gap for gap in gaps if not math.isnan(gap))


def _peak_features(workload: Workload, peaks: Peaks | None) -> dict[str, float]:
    if peaks is None:
        return {}
    dtype = str(workload.values.get("dtype", "float32"))
    flops = _log2(peaks.flops_per_s.get(dtype, 0.0))
    bandwidth = _log2(peaks.copy_bytes_per_s)
    return {
        "target.peak_flops": flops,
        "target.bandwidth": bandwidth,
        "target.ridge": flops - bandwidth,
    }


def _log2_items(prefix: str, items: Iterable[tuple[str, Value]]) -> dict[str, float]:
    features: dict[str, float] = {}
    for name, value in items:
        if isinstance(value, bool):
            features[f"{prefix}.{name}"] = float(value)
        elif isinstance(value, (int, float)):
            features[f"{prefix}.{name}"] = _log2(value)
        elif _is_numbers(value):
            features |= _summary(f"{prefix}.{name}", np.asarray(value, np.float64))
        else:
            features |= _categories(f"{prefix}.{name}", value)
    return features


def _log2(value: float) -> float:
    return math.log2(value) if value > 0 else math.nan


def _is_numbers(value: Value) -> bool:
    if not isinstance(value, tuple) or not value:
        return False
    return not any(isinstance(each, (bool, str)) for each in value)


def _summary(name: str, numbers: Column) -> dict[str, float]:
    """Of lengths of sequences, of rows of groups: how many, how large, how uneven."""
    mean = float(numbers.mean())
    return {
        f"{name}.count": math.log2(numbers.size),
        f"{name}.mean": _log2(mean),
        f"{name}.max": _log2(float(numbers.max())),
        f"{name}.spread": float(numbers.std()) / mean if mean > 0 else math.nan,
    }


def _categories(name: str, value: Value) -> dict[str, float]:
    values: Iterable[object] = value if isinstance(value, tuple) else (value,)
    return {f"{name}={each}": 1.0 for each in values}
