"""What `tune` shows while it works. Nothing, where nobody looks."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autotune.cli import text
from autotune.tuner import Context, Progress
from records.measurement import Status
from records.record import TuningRecord
from search_spaces import registry


class LiveView:
    """An observer of the tuner that draws on stderr; notices are kept above the picture."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._context: Context | None = None
        self._last: TuningRecord | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, context: Context, progress: Progress) -> None:
        self._context = context
        if self._quiet:
            return
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._live.start()
        self._draw(progress)

    def trial(self, record: TuningRecord, progress: Progress) -> None:
        self._last = record
        self._draw(progress)

    def notice(self, message: str) -> None:
        if not self._quiet:
            self._console.print(f"[dim]{message}[/]")

    def _draw(self, progress: Progress) -> None:
        if self._live is not None and self._context is not None:
            self._live.update(_picture(self._context, progress, self._last))


def _picture(context: Context, progress: Progress, last: TuningRecord | None) -> Group:
    title = Text(f"{text.name(context.workload)}  on  {context.target.device}", style="bold")
    bar = ProgressBar(total=progress.trials, completed=progress.done, width=60)
    facts = Table.grid(padding=(0, 2))
    facts.add_row("trials", f"{progress.done} of {progress.trials}{_failures(progress)}")
    facts.add_row("time", _time(progress))
    facts.add_row("best", _best(context, progress.best))
    if last is not None:
        facts.add_row("last", _outcome(last))
    return Group(title, bar, facts)


def _failures(progress: Progress) -> str:
    parts = [
        f"{count} {status}"
        for status, count in sorted(progress.counts.items())
        if status is not Status.OK
    ]
    resumed = [f"{progress.resumed} from before"] if progress.resumed else []
    return f"  ({', '.join(resumed + parts)})" if resumed or parts else ""


def _time(progress: Progress) -> str:
    elapsed = text.duration(progress.elapsed_s)
    measured = progress.done - progress.resumed
    estimates = []
    if measured:
        per_trial_s = progress.elapsed_s / measured
        estimates.append(per_trial_s * (progress.trials - progress.done))
    if progress.time_limit_s is not None:
        estimates.append(progress.time_limit_s - progress.elapsed_s)
    left = f", about {text.duration(max(0.0, min(estimates)))} left" if estimates else ""
    return elapsed + left


def _best(context: Context, best: TuningRecord | None) -> str:
    time_s = best.measurement.time_s if best else None
    if not time_s:
        return "-"
    flops = registry.op(context.workload.op).flops(context.workload)
    parts = [f"[bold green]{text.rate(flops, time_s)}[/]", text.seconds(time_s)]
    if context.floor_s:
        parts.append(f"{context.floor_s / time_s:.0%} of the roofline")
    if context.libraries:
        name, library_s = min(context.libraries.items(), key=lambda item: item[1])
        parts.append(f"{library_s / time_s:.2f} × {name}")
    return ", ".join(parts)


def _outcome(record: TuningRecord) -> str:
    if record.measurement.is_ok:
        return text.seconds(record.measurement.time_s)
    reason = record.measurement.error.strip().splitlines()
    return f"{record.measurement.status}: {reason[0][:80] if reason else ''}"
