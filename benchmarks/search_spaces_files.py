"""The recorded spaces of a benchmark: read one at a time, and whose results may help whose."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from autotune.recorded import RecordedSpace
from autotune.recordings import whole_space
from autotune.recordings.json_text import parsed
from autotune.recordings.noise import MeasuredNoise
from autotune.recordings.noise import find as find_noise
from records.errors import InvalidInputError

_SHAPE = re.compile(r"(_\d+)?_\d+(x\d+)+$")
"""What follows a kernel's name where there is a file for each shape."""


@dataclass(frozen=True)
class SpaceFile:
    """A space published as JSON. `name`: its folder and file name."""

    path: Path

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name.partition('.')[0]}"

    @cached_property
    def family(self) -> tuple[str, tuple[str, ...]]:
        """Kernel and parameters: files that agree in them are of one kernel."""
        data = self._data()
        return data["kernel"], tuple(data["params"])

    def load(self) -> RecordedSpace:
        return whole_space.recordings(self._data(), self.path)[0]

    @cached_property
    def size(self) -> int:
        return len(self._data()["configs"])

    def restrictions(self) -> tuple[dict[str, list[Any]], list[str]]:
        """Parameters with their values, and rules; the latter empty where it is a plain list."""
        data = self._data()
        return data["params"], data.get("restrictions") or []

    def has_repeats(self, noise: Path) -> bool:
        """Whether the folder has the repeats behind its times."""
        try:
            return bool(find_noise(noise, self.path))
        except InvalidInputError:
            return False

    def repeats(self, noise: Path, recorded: RecordedSpace) -> MeasuredNoise:
        return MeasuredNoise.load(find_noise(noise, self.path), recorded)

    def _data(self) -> dict[str, Any]:
        data = parsed(self.path)
        if not whole_space.recognises(data):
            raise InvalidInputError(f"{self.path} is no space published as JSON")
        kernel = str(data.get("kernel", self.path.name.partition(".")[0]))
        return {**data, "kernel": _SHAPE.sub("", kernel)}


def find(paths: Sequence[Path], only: str = "") -> list[SpaceFile]:
    """The files of folders, or files themselves, whose names hold `only`."""
    found = [SpaceFile(path) for each in paths for path in _files(each)]
    chosen = [file for file in found if only in file.name]
    if not chosen:
        named = f" with {only!r} in its name" if only else ""
        raise InvalidInputError(f"no .json or .json.gz{named} in {', '.join(map(str, paths))}")
    return chosen


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted([*path.rglob("*.json"), *path.rglob("*.json.gz")])
    else:
        yield path


def families(files: Sequence[SpaceFile]) -> list[list[SpaceFile]]:
    """Those of one kernel together."""
    found: dict[object, list[SpaceFile]] = {}
    for file in files:
        found.setdefault(file.family, []).append(file)
    return list(found.values())


def relatives(file: SpaceFile, files: Sequence[SpaceFile]) -> list[SpaceFile]:
    """The other files of its kernel: other devices, or other shapes."""
    return [each for each in files if each.family == file.family and each != file]
