"""`autotune model`: train a cost model on many workloads, judge it on what it has not seen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from autotune.cli import CommandGroup, screen, text
from autotune.cli.option_types import NewFile
from autotune.cli.options import json_option

if TYPE_CHECKING:
    from cost_model.groups import Group
    from cost_model.pretrained.header import Header
    from cost_model.pretrained.leave_out import Unseen

_SHOWN_FEATURES = 15

_files_argument = click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
_seed_option = click.option(
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    show_default=True,
    help="Of the training.",
)


@click.group("model", cls=CommandGroup)
def command() -> None:
    """Train a cost model on many workloads and devices, judge it, and show what one knows."""


@command.command("train", short_help="Train a model, and judge it on what is held out.")
@_files_argument
@click.option(
    "-o",
    "--output",
    type=NewFile(),
    metavar="FILE",
    required=True,
    help="The model; XGBoost's JSON inside if it ends in .json, else its UBJ.",
)
@_seed_option
@json_option
def train(files: Sequence[Path], output: Path, seed: int, as_json: bool) -> None:
    """Train a model on the search trials of FILES, and judge it on what is held out.

    FILE is a tuning database, what db export wrote, or a folder of such files.
    """
    from autotune import record_files
    from cost_model.pretrained.leave_out import train_judged

    peaks = record_files.read_peaks(files)
    model = train_judged(_groups(files), seed=seed, peaks=peaks)
    model.save(output)
    if as_json:
        text.echo_json({"path": str(output), **_header_json(model.header)})
    else:
        _print_header(str(output), model.header)


@command.command("evaluate", short_help="Judge models on what was held out.")
@_files_argument
@_seed_option
@json_option
def evaluate(files: Sequence[Path], seed: int, as_json: bool) -> None:
    """Judge models on workloads, and on devices, that were held out of their training.

    FILE is a tuning database, what db export wrote, or a folder of such files.
    """
    from autotune import record_files
    from cost_model.pretrained.leave_out import HELD_OUT, leave_out

    groups, peaks = _groups(files), record_files.read_peaks(files)
    found = {held_out: leave_out(groups, held_out, seed=seed, peaks=peaks) for held_out in HELD_OUT}
    if as_json:
        text.echo_json({name: list(map(_unseen_json, unseen)) for name, unseen in found.items()})
        return
    for held_out, unseen in found.items():
        if unseen:
            screen.show(Text(f"A {held_out} never seen", "bold"), _table(unseen), "")
        else:
            screen.show(f"A {held_out} never seen: needs records of two {held_out}s or more", "")


@command.command("info", short_help="Show what a model knows, and whether it helps.")
@click.argument("file", required=False, type=click.Path(exists=True, path_type=Path))
@json_option
def info(file: Path | None, as_json: bool) -> None:
    """Show what FILE knows, whether it helps, and by what it predicts; by default the shipped."""
    from cost_model.pretrained import SHIPPED
    from cost_model.pretrained.model import PretrainedModel
    from search_spaces import registry

    path = file or SHIPPED
    model = PretrainedModel.load(path)
    outdated = model.header.why_outdated(registry.template)
    importance = model.importance
    if as_json:
        found = {"path": str(path), **_header_json(model.header), "outdated": outdated}
        text.echo_json({**found, "importance": importance})
        return
    _print_header(str(path), model.header)
    if outdated:
        screen.show(f"  outdated: {outdated}")
    shares = list(importance.items())[:_SHOWN_FEATURES]
    rows = ((f"  {name}", f"{share:.1%}") for name, share in shares)
    screen.show("", screen.table(("  feature", "share of what splits gain"), rows))


def _groups(files: Sequence[Path]) -> list[Group]:
    from autotune import record_files
    from cost_model.pretrained.training import usable

    return usable(record_files.read(files))


def _header_json(header: Header) -> dict[str, Any]:
    judged = {
        op: {name: {**asdict(each), "helps": each.helps} for name, each in found.items()}
        for op, found in header.judged.items()
    }
    return {**asdict(header), "judged": judged}


def _print_header(path: str, header: Header) -> None:
    workloads = ", ".join(f"{count:,} of {op}" for op, count in header.workloads.items())
    targets = ", ".join(f"{backend}:{device}" for backend, device, _ in header.targets)
    templates = ", ".join(
        f"{op} {name} {version}"
        for op, versions in header.templates.items()
        for name, version in versions.items()
    )
    screen.show(
        Text(path, "bold"),
        screen.facts(
            [
                ("workloads", workloads),
                ("devices", targets),
                ("templates", templates),
                ("schedules", f"{header.records:,}"),
                ("features", f"{len(header.features):,}, in {header.rounds:,} trees"),
                ("made by", f"autotune {header.made_by}, from data {header.digest[:12]}"),
                *_judgements(header),
            ]
        ),
    )


def _judgements(header: Header) -> Iterator[tuple[str, str]]:
    for op, found in header.judged.items():
        for held_out, judged in found.items():
            use = "used" if judged.helps else "not used: hardly better than random"
            yield (
                f"{op}, {held_out} unseen",
                f"{judged.accuracy:.0%} of pairs in order; first choices lose {judged.loss:.1%}, "
                f"random ones {judged.random_loss:.1%}: {use}",
            )


def _unseen_json(unseen: Unseen) -> dict[str, Any]:
    return {
        "workload": unseen.group.workload.to_json(),
        "target": unseen.group.target.to_json(),
        "schedules": len(unseen.group.schedules),
        "accuracy": _number(unseen.accuracy),
        "losses": list(unseen.losses),
        "random_losses": list(unseen.random_losses),
        "recall": _number(unseen.recall),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _table(found: Sequence[Unseen]) -> Table:
    from cost_model.pretrained.leave_out import RECALL, TOPS

    headings = ["  op", "n", "pairs in order", *(f"loss@{top}" for top in TOPS)]
    headings += [f"recall@{RECALL}"]
    rows: list[Sequence[str]] = []
    for op in dict.fromkeys(each.group.workload.op for each in found):
        own = [each for each in found if each.group.workload.op == op]
        predicted = (_mean(losses) for losses in zip(*(each.losses for each in own), strict=True))
        random = (_mean(each) for each in zip(*(each.random_losses for each in own), strict=True))
        accuracy, recall = _mean(each.accuracy for each in own), _mean(each.recall for each in own)
        share = _mean(each.random_recall for each in own)
        rows.append((f"  {op}", str(len(own)), accuracy, *predicted, recall))
        rows.append(("    at random", "", "50%", *random, share))
    return screen.table(headings, rows, right=headings[1:])


def _mean(numbers: Iterable[float]) -> str:
    """Mean and standard deviation of those that are known."""
    known = [number for number in numbers if not math.isnan(number)]
    if not known:
        return "-"
    spread = f" ± {statistics.stdev(known):.1%}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.1%}{spread}"
