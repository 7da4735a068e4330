"""A recorded space made up for tests, in the formats that recordings come in."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np


def recording() -> dict[str, Any]:
    """A tile kernel of 7 × 7 × 3 × 2 = 294 configurations, less those above 256 work-items."""
    params: dict[str, list[Any]] = {
        "rows": [1, 2, 4, 8, 16, 32, 64],
        "columns": [1, 2, 4, 8, 16, 32, 64],
        "order": ["a", "b", "c"],
        "pad": [False, True],
    }
    configs = [each for each in itertools.product(*params.values()) if each[0] * each[1] <= 256]
    times: list[float | None] = []
    status = {}
    for place, (rows, columns, order, pad) in enumerate(configs):
        if rows == 1 and pad:
            times.append(None)
            status[str(place)] = "CompilationFailedConfig"
            continue
        slowness = (np.log2(rows) - 4) ** 2 + (np.log2(columns) - 2) ** 2 + (order != "b") + pad
        times.append(1.0 + float(slowness))
    return {
        "kernel": "tile",
        "device": "made up",
        "params": params,
        "configs": configs,
        "time_ms": times,
        "status": status,
    }


FAILED = "CompilationFailedConfig"


def kernel_tuner_cache() -> dict[str, Any]:
    """The same as a cache file of Kernel Tuner."""
    space = recording()
    names = list(space["params"])
    entries = {
        ",".join(map(str, config)): {
            **dict(zip(names, config, strict=True)),
            "time": FAILED if time_ms is None else time_ms,
            "timestamp": "2024-01-01 00:00:00",
        }
        for config, time_ms in zip(space["configs"], space["time_ms"], strict=True)
    }
    return {
        "device_name": space["device"],
        "kernel_name": space["kernel"],
        "problem_size": [64, 64],
        "tune_params_keys": names,
        "tune_params": space["params"],
        "objective": "time",
        "cache": entries,
    }


def t4_results() -> dict[str, Any]:
    """The same as T4 results."""
    space = recording()
    return {
        "schema_version": "1.0.0",
        "metadata": {"timeunit": "miliseconds"},
        "results": [
            {
                "configuration": dict(zip(space["params"], config, strict=True)),
                "times": {"compilation": 1.0, "runtimes": [time_ms] if time_ms else []},
                "invalidity": "correct" if time_ms else "compile",
                "correctness": int(time_ms is not None),
                "measurements": [{"name": "time", "value": time_ms or FAILED, "unit": ""}],
                "objectives": ["time"],
            }
            for config, time_ms in zip(space["configs"], space["time_ms"], strict=True)
        ],
    }
