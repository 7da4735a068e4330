"""Numbers and names as people read them, and records as programs do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from records.errors import InvalidInputError
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.titles import counted as counted
from search_spaces.titles import title

if TYPE_CHECKING:
    from autotune.contest import Ratio


def seconds(time_s: float | None) -> str:
    """A time with three digits and its unit."""
    if time_s is None:
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if time_s >= scale:
            return f"{time_s / scale:.3g} {unit}"
    return f"{time_s / 1e-9:.3g} ns"


def size(count: float | None) -> str:
    """Bytes in binary units."""
    if count is None:
        return "not told"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def rate(workload: Workload, time_s: float | None) -> str:
    """Work over time, in GFLOP/s; `-` where either is unknown."""
    gflops = gflops_of(workload, time_s)
    if gflops is None:
        return "-"
    return f"{gflops:.1f} GFLOP/s" if gflops >= 10 else f"{gflops:.3g} GFLOP/s"


def gflops_of(workload: Workload, time_s: float | None) -> float | None:
    try:
        flops = registry.op(workload.op).flops(workload)
    except (InvalidInputError, KeyError):  # a stored op, or its form, that is not known here
        return None
    return flops / time_s / 1e9 if time_s else None


def ratio(found: Ratio) -> str:
    """`1.070 ± 0.010 times as fast`: above 1, ours is faster."""
    said = f"{found.value:.3f} times as fast"
    if found.interval is None:
        return said
    if found.interval >= 1.0:
        return f"{said}, too unsteady to tell"
    return said.replace(" ", f" ± {found.value * found.interval:.3f} ", 1)


def duration(time_s: float) -> str:
    """`42 s`, `2 min 05 s` or `1 h 02 min`."""
    minutes, rest_s = divmod(round(time_s), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest_s:02d} s" if minutes else f"{rest_s} s"


def device(target: Target) -> str:
    """A target as `--device` takes it."""
    return f"{target.backend}:{target.device}"


def name(workload: Workload) -> str:
    """`matmul 1024×1024×1024 float32 +bias`; every parameter that is not its default is said."""
    return title(workload)


def knobs(schedule: Schedule) -> str:
    """The knobs as `space --why` takes them."""
    return ", ".join(f"{name}={value}" for name, value in schedule.knobs)


def record_json(record: TuningRecord) -> dict[str, Any]:
    """A record for programs: as stored, with its time and rate worked out."""
    time_s = record.measurement.time_s
    return {
        **record.to_json(),
        "time_s": time_s,
        "gflops": gflops_of(record.workload, time_s),
    }


def echo_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def ratio_json(found: Ratio) -> dict[str, float | None]:
    return {"ratio": found.value, "ratio_interval": found.interval}
