"""Numbers and names as people read them."""

from __future__ import annotations

import json
from typing import Any

import click

from autotune.contest import Ratio
from records.record import TuningRecord
from records.workload import Workload
from search_spaces import registry


def seconds(time_s: float | None) -> str:
    """A time with three digits and its unit."""
    if time_s is None:
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if time_s >= scale:
            return f"{time_s / scale:.3g} {unit}"
    return f"{time_s / 1e-9:.3g} ns"


def size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def rate(flops: float, time_s: float | None) -> str:
    """Work over time, in GFLOP/s."""
    return "-" if not time_s else f"{flops / time_s / 1e9:.1f} GFLOP/s"


def ratio(found: Ratio) -> str:
    """`1.07× ± 0.01`: above 1, ours is faster."""
    if found.interval is None:
        return f"{found.value:.3f}×"
    return f"{found.value:.3f}× ± {found.value * found.interval:.3f}"


def duration(time_s: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(int(time_s), 60)
    return f"{minutes}:{rest:02d}"


def name(workload: Workload) -> str:
    """`matmul 1024×1024×1024 float32`; everything that is not a default is said."""
    values = dict(workload.values)
    if workload.op != "matmul":
        return str(workload)
    parts = ["matmul", "×".join(str(values[extent]) for extent in "mnk"), str(values["dtype"])]
    if values["batch"] != 1:
        parts.append(f"batch {values['batch']}")
    if values["layout"] != "nn":
        parts.append(str(values["layout"]))
    if values["accumulate"] != values["dtype"]:
        parts.append(f"accumulate {values['accumulate']}")
    if values["epilogue"]:
        parts.append("+" + "+".join(workload["epilogue"]))
    return " ".join(parts)


def record_json(record: TuningRecord) -> dict[str, Any]:
    """A record for programs: as stored, with its time and rate worked out."""
    flops = registry.op(record.workload.op).flops(record.workload)
    time_s = record.measurement.time_s
    return {
        **record.to_json(),
        "time_s": time_s,
        "gflops": flops / time_s / 1e9 if time_s else None,
    }


def echo_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
