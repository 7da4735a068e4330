"""A locked build: the same manifest again, or nothing."""

from __future__ import annotations

from pathlib import Path

from autotune.codegen.manifest import MANIFEST_FILE, Manifest
from records.errors import InvalidInputError


def refuse_difference(directory: Path, earlier: Manifest | None, now: Manifest) -> None:
    """Raises `InvalidInputError` naming what differs, or that there is nothing to compare."""
    if earlier is None:
        raise InvalidInputError(
            f"a locked build needs {directory / MANIFEST_FILE} of an earlier build; "
            "build once without --locked, and keep that file"
        )
    if earlier == now:
        return
    before = {kernel.name: kernel for kernel in earlier.kernels}
    after = {kernel.name: kernel for kernel in now.kernels}
    names = sorted(name for name in before | after if before.get(name) != after.get(name))
    if earlier.target != now.target:
        names.insert(0, f"target ({earlier.target}, now {now.target})")
    names = names or sorted(
        name
        for name in {**earlier.files, **now.files}
        if earlier.files.get(name) != now.files.get(name)
    )
    raise InvalidInputError(
        f"the build in {directory} is locked, and would change in: {', '.join(names)}; "
        "build without --locked to accept that"
    )
