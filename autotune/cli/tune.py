"""`autotune tune`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from autotune.cli import EXIT_FAILED_CHECK, EXIT_INTERRUPTED, live, screen, text
from autotune.cli.interrupts import second_ends_at_once
from autotune.cli.options import (
    Duration,
    Percentage,
    database_option,
    device_option,
    json_option,
    op_group,
)
from autotune.strategies import DEFAULT as DEFAULT_STRATEGY
from autotune.strategies import GUIDED, STRATEGIES
from cost_model import DEFAULT as DEFAULT_MODEL
from cost_model import MODELS
from records.workload import Workload

if TYPE_CHECKING:
    from autotune.session import Progress, TuningResult


def tune(
    workload: Workload, device: str | None, database: Path, as_json: bool, **options: Any
) -> int:
    """Search for the fastest schedule and store every trial.

    The same command again goes on where it stopped. Ctrl-C ends it with what was found. Exit
    code 1 where no schedule passed.
    """
    with live.LiveView() as view, second_ends_at_once():
        from autotune import api

        result = api.tune(workload, device=device, database=database, observer=view, **options)
    if as_json:
        text.echo_json(_as_json(result, database, view.notices))
    else:
        screen.show(
            Text(f"{text.name(workload)} on {text.device(result.target)}", "bold"),
            screen.facts(_facts(result, database, view.notices)),
        )
    if result.outcome == "interrupted":
        return EXIT_INTERRUPTED
    return 0 if result.best else EXIT_FAILED_CHECK


def _listed(names: Collection[str]) -> str:
    *others, last = sorted(names)
    return f"{', '.join(others)} and {last}"


command = op_group(
    "tune",
    tune,
    device_option,
    database_option,
    click.option(
        "--trials",
        type=click.IntRange(1),
        metavar="N",
        default=200,
        show_default=True,
        help="Schedules measured in all, those from before included.",
    ),
    click.option(
        "--time-limit",
        "time_limit_s",
        type=Duration(),
        metavar="TIME",
        help="Of this run, such as 90s or 3m.",
    ),
    click.option(
        "--stop-gain",
        type=Percentage(),
        metavar="SHARE",
        help="End where another 50 trials are expected to gain less, such as 0.5%.",
    ),
    click.option(
        "--strategy",
        type=click.Choice(list(STRATEGIES)),
        default=DEFAULT_STRATEGY,
        show_default=True,
        help=f"How to search. {_listed(GUIDED)} follow a cost model, the others measurements.",
    ),
    click.option(
        "--model",
        type=click.Choice([*MODELS, "none"]),
        help=f"Cost model: {DEFAULT_MODEL} by default for {_listed(GUIDED)}, else none. With "
        "random, the most promising of three times as many draws are measured.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        metavar="N",
        default=0,
        show_default=True,
        help="Of the search and of the inputs.",
    ),
    click.option(
        "--compare/--no-compare", default=True, show_default=True, help="Time the libraries too."
    ),
    json_option,
)


def _facts(
    result: TuningResult, database: Path, notices: Sequence[str]
) -> Iterator[tuple[str, str]]:
    progress = result.progress
    yield "outcome", _outcome(result)
    yield "trials", _counts(progress)
    if result.best is None:
        why = "no schedule passed: see `autotune db info`" if progress.done else "nothing measured"
        yield "best", f"none, {why}"
    else:
        yield "best", live.best(result.context, result.best, against_libraries=not result.ratios)
        for library, ratio in result.ratios.items():
            yield library, f"ours is {text.ratio(ratio)}, interleaved in one run"
        yield "schedule", f"{result.best.schedule.template}: {text.knobs(result.best.schedule)}"
    if result.ties:
        yield "ties", f"{len(result.ties)} more that the race could not tell from it"
    if result.model is not None and progress.done > progress.resumed:
        for sentence in result.model.sentences():
            yield "model", sentence
    for notice in notices:
        yield "note", notice
    yield "stored in", str(database)


def _outcome(result: TuningResult) -> str:
    """How it ended, and how to go on."""
    progress = result.progress
    took = f"in {text.duration(progress.elapsed_s)}"
    match result.outcome:
        case "finished" if progress.done == progress.resumed:
            return f"complete before; to go on, give --trials more than {progress.trials}"
        case "finished":
            return f"finished {took}"
        case "exhausted":
            return f"finished {took}: every schedule there is was measured"
        case "little to gain":
            expected = result.model.outlook if result.model else ""
            trials = f"{progress.done:,} of {progress.trials:,} trials"
            return (
                f"stopped {took} after {trials}: {expected}; without --stop-gain the same command "
                "goes on"
            )
        case "time limit":
            return f"stopped by --time-limit {took}; the same command goes on"
        case _:
            return f"{result.outcome} {took}; the same command goes on"


def _counts(progress: Progress) -> str:
    counts = ", ".join(f"{count:,} {status}" for status, count in progress.counts.most_common())
    before = f"; {progress.resumed:,} of them from before" if progress.resumed else ""
    asked = f"of {progress.trials:,}" if progress.done <= progress.trials else "measured"
    return f"{progress.done:,} {asked}{f': {counts}' if counts else ''}{before}"


def _as_json(result: TuningResult, database: Path, notices: Sequence[str]) -> dict[str, Any]:
    return {
        "workload": result.workload.to_json(),
        "target": result.target.to_json(),
        "outcome": result.outcome,
        "database": str(database),
        "trials": result.progress.done,
        "resumed": result.progress.resumed,
        "counts": {str(status): count for status, count in result.progress.counts.items()},
        "elapsed_s": result.progress.elapsed_s,
        "best": text.record_json(result.best) if result.best else None,
        "ties": [text.record_json(record) for record in result.ties],
        "ratios": {name: text.ratio_json(ratio) for name, ratio in result.ratios.items()},
        "model": result.model.to_json() if result.model else None,
        "notices": list(notices),
    }
