"""What a worker process and its parent say to each other over the pipe, pickled.

To the child: `Open` once, then tasks. From the child: `Ready` or `Raised` for the former; for each
task `Announcement`s, and then `Done` or `Raised`.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Protocol

from autotune.backends.base import Backend
from autotune.measure import Announce, Phase
from records.canonical import Items
from records.errors import InvalidInputError
from records.measurement import Measurement
from records.target import Target
from search_spaces.dialect import Dialect


class Task(Protocol):
    """Work for a worker; picklable, so defined in a module that can be imported."""

    def __call__(self, backend: Backend, announce: Announce) -> Any: ...


@dataclass(frozen=True)
class Open:
    open_backend: Callable[[], Backend]


@dataclass(frozen=True)
class Ready:
    target: Target
    dialect: Dialect
    environment: Items


@dataclass(frozen=True)
class Announcement:
    phase: Phase
    entry: int = 0
    known: Measurement | None = None


@dataclass(frozen=True)
class Done:
    value: Any


@dataclass(frozen=True)
class Raised:
    """An exception: the name of its class, and what it says (of ours) or where it came from."""

    kind: str
    text: str


class _Pickler(pickle.Pickler):
    """Refuses what a child cannot import: it does not run the user's script."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type | FunctionType) and value.__module__ == "__main__":
            raise InvalidInputError(
                f"{value.__qualname__} is defined in the script that runs, and worker processes "
                "need it too: move it to a module and import it from there"
            )
        return NotImplemented


def pickled(message: Open | Task) -> bytes:
    buffer = io.BytesIO()
    try:
        _Pickler(buffer).dump(message)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InvalidInputError(
            f"worker processes cannot be told about it: {error}; use functions and classes of "
            "a module's top level, and functools.partial for their arguments"
        ) from None
    return buffer.getvalue()
