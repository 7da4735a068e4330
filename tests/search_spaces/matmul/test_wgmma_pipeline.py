"""The protocol of the wgmma kernel's barriers, played through in random orders.

The actors below do what the loader and the consumers of `wgmma.cu` do, with the kernel's own index
functions and barriers that count as PTX says (mbarrier: a phase completes when no arrivals and no
bytes are pending; a wait asks for a phase's parity only). A deadlock, a stage overwritten while it
is read, or a stage read with another step's contents fails.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from barrier_protocol import Actor, Barrier, ProtocolError, play
from wgmma_cases import HostCode, Slot, rendered, schedule

from search_spaces.matmul import matmul


class Block:
    def __init__(self, code: HostCode, rank: int) -> None:
        macros = code.macros
        sharers = 1 if macros["PINGPONG"] else macros["CONSUMERS"]
        partners = macros["CLUSTER_M"] + macros["CLUSTER_N"] - 1
        self.rank = rank
        self.full = [Barrier(1) for _ in range(macros["STAGES"])]
        self.empty = [Barrier(partners * sharers) for _ in range(macros["STAGES"])]
        self.turns = [Barrier(1), Barrier(1)]
        self.stages: list[dict[Any, Any]] = [{} for _ in range(macros["STAGES"])]
        self.reading = [0] * macros["STAGES"]


class Cluster:
    """Blocks of one cluster and the copies on their way; `ordered`: whether turns are kept."""

    def __init__(self, code: HostCode, cluster: int, ordered: bool) -> None:
        self.code, self.cluster, self.ordered = code, cluster, ordered
        size = code.macros["CLUSTER_M"] * code.macros["CLUSTER_N"]
        self.blocks = [Block(code, rank) for rank in range(size)]
        self.copies: list[Callable[[], None]] = []
        self.products = 0
        self.turns = range(code.units_of(cluster))

    def copy(self, blocks: int, stage: int, key: Any, step: Any) -> None:
        for block in self.blocks:
            if blocks >> block.rank & 1:
                self.copies.append(lambda block=block: self.deliver(block, stage, key, step))

    def deliver(self, block: Block, stage: int, key: Any, step: Any) -> None:
        if block.reading[stage]:
            raise ProtocolError("a stage is overwritten while it is read")
        block.stages[stage][key] = step
        block.full[stage].change(bytes=-1)

    def loader(self, block: Block) -> Actor:
        code, stage, phase = self.code, 0, 1
        macros, rank = code.macros, block.rank
        for turn in self.turns:
            unit = code.unit_of(self.cluster, turn, rank)
            for step in range(unit.first_step, unit.first_step + unit.steps):
                yield block.empty[stage].passed(phase)
                pieces = macros["CLUSTER_M"] + macros["CLUSTER_N"]
                block.full[stage].change(arrivals=1, bytes=pieces)
                left, right = rank // macros["CLUSTER_M"], rank % macros["CLUSTER_M"]
                self.copy(code.same_rows(rank), stage, ("left", left), (turn, step))
                self.copy(code.same_columns(rank), stage, ("right", right), (turn, step))
                stage, phase = self.after(stage, phase)

    def after(self, stage: int, phase: int) -> tuple[int, int]:
        slot = self.code.next_slot(self.slot(stage, phase))
        return slot.stage, slot.phase

    def slot(self, stage: int, phase: int) -> Any:
        return Slot(stage, phase)

    def release(self, block: Block, stage: int) -> None:
        block.reading[stage] -= 1
        for other in self.blocks:
            if self.code.partners(block.rank) >> other.rank & 1:
                other.empty[stage].change(arrivals=1)

    def consumer(self, block: Block, number: int) -> Actor:
        code, stage, phase, turn_phase = self.code, 0, 0, number ^ 1
        pingpong = code.macros["PINGPONG"]
        for turn in self.turns:
            unit = code.unit_of(self.cluster, turn, block.rank)
            if pingpong and turn % code.macros["CONSUMERS"] != number:
                slot = code.skip_slots(self.slot(stage, phase), unit.steps)
                stage, phase = slot.stage, slot.phase
                continue
            if pingpong and self.ordered:
                yield block.turns[number].passed(turn_phase)
                turn_phase ^= 1
            previous = None
            for step in range(unit.first_step, unit.first_step + unit.steps):
                yield block.full[stage].passed(phase)
                self.multiply(block, stage, (turn, step))
                yield lambda: True
                if previous is not None:
                    self.release(block, previous)
                previous = stage
                stage, phase = self.after(stage, phase)
            if pingpong and self.ordered:
                block.turns[number ^ 1].change(arrivals=1)
            yield lambda: True
            assert previous is not None
            self.release(block, previous)
            yield lambda: True  # stores C

    def multiply(self, block: Block, stage: int, expected: Any) -> None:
        found = block.stages[stage]
        pieces = self.code.macros["CLUSTER_M"] + self.code.macros["CLUSTER_N"]
        if len(found) != pieces or set(found.values()) != {expected}:
            raise ProtocolError(f"step {expected} reads {found}")
        block.reading[stage] += 1
        self.products += 1

    def play(self, seed: int) -> None:
        """Everyone moves when it can, in random order, until all are done."""
        actors: list[Actor] = [self.loader(block) for block in self.blocks]
        for block in self.blocks:
            actors += [self.consumer(block, n) for n in range(self.code.macros["CONSUMERS"])]
        play(actors, self.copies, seed)


def code_of(tmp_path: Path, **knobs: Any) -> HostCode:
    """Of 9 x 6 tiles of 128 x 128 and 11 steps along k."""
    workload = matmul(m=1100, n=720, k=680, dtype="bfloat16", layout="nt")
    return HostCode(rendered(workload, schedule(**{"blocks": 8, "group": 2, **knobs})), tmp_path)


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"stages": 2, "consumers": 1},
        {"stages": 3, "cluster_m": 2},
        {"stages": 5, "cluster_n": 2, "consumers": 1},
        {"stages": 3, "cluster_m": 2, "cluster_n": 2},
        {"stages": 4, "cluster_n": 4},
        {"stages": 3, "pingpong": True},
        {"stages": 7, "pingpong": True, "cluster_m": 2},
        {"stages": 12, "pingpong": True, "cluster_m": 2, "cluster_n": 2},
        {"stages": 4, "split_k": 3, "pingpong": True, "store": "direct"},
        {"stages": 5, "split_k": 4, "cluster_m": 2},
        {"stages": 4, "stream_k": True, "pingpong": True, "cluster_n": 2},
        {"stages": 3, "stream_k": True},
    ],
)
def test_no_order_of_events_deadlocks_or_mixes_steps(tmp_path: Path, knobs: dict[str, Any]) -> None:
    code = code_of(tmp_path, **knobs)
    for seed in range(4):
        cluster = Cluster(code, seed % code.macros["CLUSTERS"], ordered=True)
        cluster.play(seed)
        sharers = 1 if code.macros["PINGPONG"] else code.macros["CONSUMERS"]
        steps = sum(code.unit_of(cluster.cluster, turn, 0).steps for turn in cluster.turns)
        assert cluster.products == steps * sharers * len(cluster.blocks) > 0


def test_ping_pong_needs_its_turns(tmp_path: Path) -> None:
    """Without them a consumer takes a phase for the one two rounds later, of equal parity."""
    code = code_of(tmp_path, pingpong=True, stages=3)
    with pytest.raises(ProtocolError):
        for seed in range(20):
            Cluster(code, 0, ordered=False).play(seed)
