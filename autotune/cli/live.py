"""What `tune` shows while it works. Nothing, where nobody looks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autotune.cli import text
from records.measurement import Status
from records.record import TuningRecord

if TYPE_CHECKING:
    from autotune.session import Context, Progress

_BAR_COLUMNS = 60


@dataclass(frozen=True)
class Moment:
    """A session as it stood when the tuner last told of it, `told_s` on the monotonic clock."""

    context: Context
    progress: Progress
    told_s: float
    last: TuningRecord | None = None

    @property
    def elapsed_s(self) -> float:
        return self.progress.elapsed_s + time.monotonic() - self.told_s


class LiveView:
    """An observer of the tuner that draws on stderr; notices stay above the picture.

    Draws nothing where `console` is no terminal. `notices` are all of them, for the summary.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.notices: list[str] = []
        self._moment: Moment | None = None
        self._console = console or Console(stderr=True, markup=False, highlight=False)
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def started(self, context: Context, progress: Progress) -> None:
        self._moment = Moment(context, progress, time.monotonic())
        if progress.resumed:
            earlier = text.counted(progress.resumed, "trial")
            self._say(f"going on: {earlier} from before, of {progress.trials:,}")

    def trial(self, record: TuningRecord, progress: Progress) -> None:
        if self._moment is not None:
            self._moment = Moment(self._moment.context, progress, time.monotonic(), record)

    def notice(self, text: str) -> None:
        self.notices.append(text)
        self._say(text)

    def _say(self, message: str) -> None:
        if self._console.is_terminal:
            self._console.print(Text(message, "dim"))

    def _picture(self) -> RenderableType:
        if self._moment is None:
            return Text("preparing: opening the device, timing the libraries")
        return picture(self._moment)


def picture(moment: Moment) -> Group:
    """Trials, failures by reason, time left and the best so far against roof and libraries."""
    context, progress = moment.context, moment.progress
    title = Text(f"{text.name(context.workload)} on {text.device(context.target)}", "bold")
    bar = Table.grid()
    bar.add_row(ProgressBar(1.0, _share_done(moment), width=_BAR_COLUMNS))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("trials", f"{progress.done:,} of {progress.trials:,}{_failures(progress)}")
    facts.add_row("time", _time(moment))
    if progress.done >= progress.trials:
        facts.add_row("now", "racing the fastest again, and the best against the libraries")
    if progress.model is not None:
        facts.add_row("model", Text(progress.model.hindsight))
        if progress.model.foresight:
            facts.add_row("ahead", Text(progress.model.foresight))
    facts.add_row("best", Text(best(context, progress.best), "green"))
    if moment.last is not None:
        facts.add_row("last", Text(_outcome(moment.last)))
    return Group(title, bar, facts)


def best(context: Context, record: TuningRecord | None, *, against_libraries: bool = True) -> str:
    """Rate and time, as a share of the roofline and against the fastest library's known time."""
    time_s = record.measurement.time_s if record else None
    if not time_s:
        return "none yet"
    parts = [text.rate(context.workload, time_s), text.seconds(time_s)]
    if context.floor_s:
        parts.append(f"{context.floor_s / time_s:.0%} of the roofline")
    if context.libraries and against_libraries:
        name, library_s = min(context.libraries.items(), key=lambda item: item[1])
        parts.append(f"{library_s / time_s:.2f} × {name}")
    return ", ".join(parts)


def _share_done(moment: Moment) -> float:
    """Of whichever bound is met first: trials or time."""
    progress = moment.progress
    limit_s = progress.time_limit_s
    return max(progress.done / progress.trials, moment.elapsed_s / limit_s if limit_s else 0.0)


def _failures(progress: Progress) -> str:
    parts = [f"{progress.resumed:,} from before"] if progress.resumed else []
    parts += [
        f"{count:,} {status}"
        for status, count in sorted(progress.counts.items())
        if status is not Status.OK
    ]
    return f"  ({', '.join(parts)})" if parts else ""


def _time(moment: Moment) -> str:
    progress, elapsed_s = moment.progress, moment.elapsed_s
    measured = progress.done - progress.resumed
    left_s = []
    if measured:
        per_trial_s = progress.elapsed_s / measured
        left_s.append(per_trial_s * (progress.trials - progress.done))
    if progress.time_limit_s is not None:
        left_s.append(progress.time_limit_s - elapsed_s)
    left = f", about {text.duration(max(0.0, min(left_s)))} left" if left_s else ""
    return text.duration(elapsed_s) + left


def _outcome(record: TuningRecord) -> str:
    if record.measurement.is_ok:
        return text.seconds(record.measurement.time_s)
    reason = record.measurement.error.strip().splitlines()
    return f"{record.measurement.status}: {reason[0][:80] if reason else ''}"
