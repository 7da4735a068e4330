"""Kernel Tuner's strategies on the spaces that ours are replayed on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from autotune.recorded import RecordedSpace
from autotune.replay import Replayed
from records.errors import InvalidInputError, MissingComponentError

SCRIPT = Path(__file__).with_name("kernel_tuner_search.py")
VERSION = "1.5.0"


def check(python: str) -> None:
    """`MissingComponentError` where that interpreter lacks the version that is compared with."""
    code = "from importlib.metadata import version; print(version('kernel_tuner'))"
    try:
        asked = subprocess.run([python, "-c", code], capture_output=True, text=True)
    except OSError as error:
        raise InvalidInputError(f"{python} is no Python interpreter: {error}") from error
    if asked.stdout.strip() != VERSION:
        raise MissingComponentError(
            f"{python} has Kernel Tuner {asked.stdout.strip() or 'not installed'}, need {VERSION}: "
            f"{python} -m pip install kernel_tuner=={VERSION}"
        )


def searches(
    python: str,
    recorded: RecordedSpace,
    trials: int,
    seeds: int,
    strategies: str = "",
    kept: Path | None = None,
) -> Iterator[tuple[str, list[Replayed] | str]]:
    """Each strategy's name with its replays, or why it does not run.

    A search that ends early keeps its last value; times are of whole calls of `tune_kernel`.
    `kept`: a file that has the searches of an earlier run of the same settings, or will.
    """
    if kept is not None and kept.exists():
        told = kept.read_text()
    else:
        told = _told(python, recorded, trials, seeds, strategies)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(told)
    for line in map(json.loads, told.splitlines()):
        if "error" in line:
            yield line["strategy"], line["error"]
        else:
            runs = zip(line["times_ms"], line["elapsed_s"], strict=True)
            yield (
                line["strategy"],
                [Replayed(_fractions(recorded, times_ms), spent_s) for times_ms, spent_s in runs],
            )


def _told(python: str, recorded: RecordedSpace, trials: int, seeds: int, strategies: str) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "cache.json"
        path.write_text(json.dumps(cache(recorded)))
        words = [python, str(SCRIPT), str(path), f"--trials={trials}", f"--seeds={seeds}"]
        words.append(f"--strategies={strategies}")
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InvalidInputError(f"{SCRIPT.name} failed on {recorded.name}: {done.stderr[-500:]}")
    return done.stdout


def _fractions(recorded: RecordedSpace, times_ms: Sequence[float | None]) -> tuple[float, ...]:
    best_ms = float("inf")
    fractions = []
    for time_ms in times_ms:
        best_ms = min(best_ms, float("inf") if time_ms is None else time_ms)
        fractions.append(recorded.optimum_s * 1e3 / best_ms)
    return tuple(fractions or [0.0])


def cache(recorded: RecordedSpace) -> dict[str, object]:
    """A recording of one template in the format of Kernel Tuner's cache files."""
    [space] = recorded.spaces
    names = [knob.name for knob in space.knobs]
    entries = {}
    for schedule in recorded.measurements:
        values = {name: schedule[name] for name in names}
        time_s = recorded.measure(schedule).time_s
        told = "RuntimeFailedConfig" if time_s is None else time_s * 1e3
        entries[",".join(str(value) for value in values.values())] = {**values, "time": told}
    return {
        "device_name": recorded.target.device,
        "kernel_name": space.template,
        "problem_size": [1],
        "tune_params_keys": names,
        "tune_params": {knob.name: list(knob.values) for knob in space.knobs},
        "objective": "time",
        "cache": entries,
    }
