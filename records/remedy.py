"""What to type when the database has no answer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from records.canonical import Value
from records.target import Target
from records.workload import Workload


def tune_command(workload: Workload, target: Target, database: Path) -> str:
    """The command line that tunes this workload on this target into this database."""
    words = ["autotune", "tune", workload.op]
    for name, value in workload.params:
        words += _option(name, value)
    words += ["--device", f"{target.backend}:{target.device}", "--db", str(database)]
    return shlex.join(words)


def not_tuned(
    workload: Workload, target: Target, database: Path, outcomes: Mapping[str, int]
) -> str:
    """Why there is no answer, and what to type. `outcomes` counts trials by status."""
    counts = ", ".join(f"{count} {status}" for status, count in outcomes.items())
    why = f"none of its trials is usable ({counts})" if counts else "it was never tuned there"
    return (
        f"no schedule for {workload} on {target} in {database}: {why}; tune it with:\n"
        f"  {tune_command(workload, target, database)}"
    )


def _option(name: str, value: Value) -> list[str]:
    """A parameter as an option: true is a bare flag; false and empty are the default."""
    flag = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
    if value is True:
        return [flag]
    if value is False or value == "" or value == ():
        return []
    text = ",".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
    return [flag, text]
