"""Kernel Tuner's strategies on one of its cache files, in its simulation mode.

    python benchmarks/kernel_tuner_search.py CACHE.json --trials 200 --seeds 20 --strategies a,b

It is run by `search.py`, with the interpreter that has Kernel Tuner; it imports nothing of this
project. Prints a line of JSON for each strategy: `strategy`, `times_ms` (for each seed the time of
each distinct configuration in the order evaluated, null for a failure), `elapsed_s` (of each
search), or `error` where the strategy does not run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import time
import warnings
from typing import Any

import numpy as np
from kernel_tuner import interface, util
from kernel_tuner.searchspace import Searchspace

NOT_COMPARED = ("brute_force", "nsga2", "nsga3")
"""The first finds everything; the others are for several objectives."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache")
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--seeds", type=int, required=True)
    parser.add_argument("--strategies", default="")
    options = parser.parse_args()
    cache = util.read_cache(options.cache, open_cache=False)
    _use_recorded_space(cache)
    names = options.strategies.split(",") if options.strategies else _all_strategies()
    for name in names:
        line: dict[str, Any] = {"strategy": name, "times_ms": [], "elapsed_s": []}
        try:
            for seed in range(options.seeds):
                started_s = time.perf_counter()
                line["times_ms"].append(_search(cache, options.cache, name, options.trials, seed))
                line["elapsed_s"].append(time.perf_counter() - started_s)
        except Exception as error:  # whatever it is, the other strategies are still of interest
            line = {"strategy": name, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(line), flush=True)


def _all_strategies() -> list[str]:
    return [name for name in interface.strategy_map if name not in NOT_COMPARED]


def _use_recorded_space(cache: dict[str, Any]) -> None:
    """Searches see exactly the recorded configurations, and do not build them each time."""

    def recorded(*_: Any, **__: Any) -> Searchspace:
        space = Searchspace(None, None, None, from_cache=cache)
        space._modified_restrictions = []
        return space

    interface.Searchspace = recorded
    util.read_cache = lambda *_, **__: cache


def _search(
    cache: dict[str, Any], path: str, strategy: str, trials: int, seed: int
) -> list[float | None]:
    random.seed(seed)
    np.random.seed(seed)
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        results, _ = interface.tune_kernel(
            cache["kernel_name"],
            "__global__ void nothing() {}",
            cache["problem_size"],
            [],
            cache["tune_params"],
            simulation_mode=True,
            cache=path,
            strategy=strategy,
            strategy_options={"max_fevals": trials},
            quiet=True,
            seed=seed,
        )
    return _distinct(results, list(cache["tune_params"]))[:trials]


def _distinct(results: list[dict[str, Any]], names: list[str]) -> list[float | None]:
    """Kernel Tuner reports repeated evaluations too; they cost nothing."""
    times_ms: dict[tuple[Any, ...], float | None] = {}
    for each in results:
        time_ms = None if "__error__" in each else each["time"]
        times_ms.setdefault(tuple(each[name] for name in names), time_ms)
    return list(times_ms.values())


if __name__ == "__main__":
    sys.exit(main())
