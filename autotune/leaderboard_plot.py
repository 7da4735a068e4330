"""A leaderboard as a page with curves, by plotly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from autotune.leaderboard import Standing, bootstrap_interval
from records.errors import InvalidInputError, MissingComponentError

_INTERVALS = 24
"""Points of a curve at which its interval is worked out."""


def write(standings: Sequence[Standing], path: Path, title: str) -> None:
    """A page that needs nothing else: mean fraction of the optimum by trials, with intervals."""
    figure = required().Figure()
    for each in standings:
        means = each.fractions.mean(axis=(0, 1))
        low, high = _band(each)
        trials = list(range(1, len(means) + 1))
        figure.add_scatter(
            x=trials,
            y=means.tolist(),
            name=each.name,
            mode="lines",
            error_y={"array": high, "arrayminus": low, "thickness": 1, "width": 2},
        )
    figure.update_layout(
        title=title,
        xaxis={"title": "trials", "type": "log"},
        yaxis={"title": "mean fraction of the optimum"},
        hovermode="x unified",
    )
    try:
        figure.write_html(path, include_plotlyjs=True)
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be written: {error}; name another file") from error


def required() -> ModuleType:
    """What draws; `MissingComponentError` where plotly is not installed."""
    try:
        from plotly import graph_objects
    except ImportError as error:
        raise MissingComponentError(
            'plots need plotly: pip install "autotune-kernels[report]"'
        ) from error
    drawing: ModuleType = graph_objects
    return drawing


def _band(standing: Standing) -> tuple[list[float | None], list[float | None]]:
    """How far the interval reaches below and above the mean; `None` between its points."""
    trials = standing.fractions.shape[2]
    below: list[float | None] = [None] * trials
    above: list[float | None] = [None] * trials
    for place in range(0, trials, max(1, trials // _INTERVALS)):
        values = standing.fractions[:, :, place]
        low, high = bootstrap_interval(values)
        below[place], above[place] = float(values.mean()) - low, high - float(values.mean())
    return below, above
