"""Kernels' barriers played through in random orders: mbarriers that count as PTX says, and actors.

An actor is a generator that yields what it waits for; copies are events that may happen at any
time. A phase of a barrier completes when no arrivals and no bytes are pending; a wait asks for a
phase's parity only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

Actor = Iterator[Callable[[], bool]]  # yields what it waits for


class ProtocolError(Exception):
    pass


@dataclass
class Barrier:
    arrivals: int
    pending: int = field(init=False)
    bytes: int = 0
    phase: int = 0

    def __post_init__(self) -> None:
        self.pending = self.arrivals

    def change(self, arrivals: int = 0, bytes: int = 0) -> None:
        self.pending -= arrivals
        self.bytes += bytes
        if self.pending < 0:
            raise ProtocolError("more arrivals than a phase expects")
        if self.pending == 0 and self.bytes == 0:
            self.phase ^= 1
            self.pending = self.arrivals

    def passed(self, parity: int) -> Callable[[], bool]:
        return lambda: self.phase != parity


def play(actors: Sequence[Actor], copies: list[Callable[[], None]], seed: int) -> None:
    """Everyone moves when it can, in random order, until all are done; `copies` may grow."""
    dice = random.Random(seed)
    waiting: dict[int, Callable[[], bool]] = {n: lambda: True for n in range(len(actors))}
    while waiting:
        ready = [n for n, condition in waiting.items() if condition()]
        if not ready and not copies:
            raise ProtocolError("deadlock")
        choice = dice.randrange(len(ready) + len(copies))
        if choice >= len(ready):
            copies.pop(dice.randrange(len(copies)))()
            continue
        number = ready[choice]
        condition = next(actors[number], None)
        if condition is None:
            del waiting[number]
        else:
            waiting[number] = condition
