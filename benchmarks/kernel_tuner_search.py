"""Kernel Tuner's strategies on one of its cache files, in its simulation mode.

    python benchmarks/kernel_tuner_search.py CACHE.json --trials 200 --seeds 20 --strategies a,b

It is run by `search.py`, with the interpreter that has Kernel Tuner; it imports nothing of this
project. Prints a line of JSON for each strategy: `strategy`, `times_ms` (for each seed the time of
each distinct configuration in the order evaluated, null for a failure), `elapsed_s` (of each
search), or `error` where the strategy does not run. A search that is not done within the limit of
processor time (some go round in circles on sparse spaces) is stopped, and has what it evaluated
until then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from kernel_tuner import interface, util
from kernel_tuner.runners.simulation import SimulationRunner
from kernel_tuner.searchspace import Searchspace

NOT_COMPARED = ("brute_force", "nsga2", "nsga3")
"""The first finds everything; the others are for several objectives."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache")
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--seeds", type=int, required=True)
    parser.add_argument("--strategies", default="")
    parser.add_argument("--limit-s", type=int, default=3, help="CPU time of a search")
    options = parser.parse_args()
    cache = util.read_cache(options.cache, open_cache=False)
    _use_recorded_space(cache)
    evaluated = _watched()
    names = options.strategies.split(",") if options.strategies else _all_strategies()
    for name in names:
        line: dict[str, Any] = {"strategy": name, "times_ms": [], "elapsed_s": []}
        try:
            for seed in range(options.seeds):
                started_s = time.perf_counter()
                evaluated.clear()
                with _limit(options.limit_s):
                    _search(cache, options.cache, name, options.trials, seed)
                line["times_ms"].append(list(evaluated.values())[: options.trials])
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


def _watched() -> dict[tuple[Any, ...], float | None]:
    """What is evaluated from now on: the time of each distinct configuration, in order.

    Kernel Tuner evaluates some again; that costs nothing.
    """
    evaluated: dict[tuple[Any, ...], float | None] = {}
    run = SimulationRunner.run

    def watched(self: Any, space: Any, options: Any) -> Any:
        results = run(self, space, options)
        for result in results:
            if result is not None:
                names = tuple(result[name] for name in options.tune_params)
                evaluated.setdefault(names, None if "__error__" in result else result["time"])
        return results

    SimulationRunner.run = watched
    return evaluated


@contextlib.contextmanager
def _limit(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)  # again, where a strategy catches it
    try:
        yield
    except TimeoutError:
        pass
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def _search(cache: dict[str, Any], path: str, strategy: str, trials: int, seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        interface.tune_kernel(
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


if __name__ == "__main__":
    main()
