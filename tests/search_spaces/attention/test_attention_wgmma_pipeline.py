"""The protocol of the wgmma attention's barriers, played through in random orders.

The actors below do what the loader and the consumers of `wgmma.cu` do, with the kernel's own index
functions. A deadlock, a stage overwritten while it is read, or a stage read with another tile's
contents fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from barrier_protocol import Actor, Barrier, ProtocolError, play
from wgmma_attention_cases import ALONE, HostCode, Slot, rendered, schedule

from search_spaces.attention import attention

Q_LEN, KV_LEN = 700, 420


class Stage:
    """A place in shared memory: what lies there, who reads it, and its two barriers."""

    def __init__(self, arrivals: int) -> None:
        self.full, self.empty = Barrier(1), Barrier(arrivals)
        self.parts: dict[int, Any] = {}
        self.readers = 0

    def deliver(self, part: int, contents: Any) -> None:
        if self.readers:
            raise ProtocolError("a stage is overwritten while it is read")
        self.parts[part] = contents
        self.full.change(bytes=-1)

    def read(self, parts: int, contents: Any) -> None:
        if len(self.parts) != parts or set(self.parts.values()) != {contents}:
            raise ProtocolError(f"{contents} expected, {self.parts} found")
        self.readers += 1


class Block:
    def __init__(self, code: HostCode, rank: int) -> None:
        macros = code.macros
        consumers, stages = macros["CONSUMERS"], macros["STAGES"]
        self.rank = rank
        self.queries = Stage(consumers)
        releases = consumers * macros["CLUSTER_M"]
        self.rings = [[Stage(releases) for _ in range(stages)] for _ in "KV"]
        self.turns = [0] * consumers  # arrivals of the one before at each consumer's barrier


class Cluster:
    """Blocks of one cluster and the copies on their way."""

    def __init__(self, code: HostCode, cluster: int) -> None:
        self.code, self.macros, self.cluster = code, code.macros, cluster
        self.blocks = [Block(code, rank) for rank in range(code.macros["CLUSTER_M"])]
        self.copies: list[Any] = []
        self.products = 0

    def units(self, rank: int) -> Iterator[tuple[int, range]]:
        """Numbers of units that have keys, and their tiles of keys from the last one on."""
        turn = 0
        while (index := self.code.unit_index(self.cluster, turn)) < self.code.c_units():
            span = self.code.c_span(self.code.unit_of(index, rank), Q_LEN, KV_LEN)
            if span.first < span.end:
                yield index, range(span.end - 1, span.first - 1, -1)
            turn += 1

    def loader(self, block: Block) -> Actor:
        slots, phase = [Slot(0, 1), Slot(0, 1)], 1
        for index, tiles in self.units(block.rank):
            yield from self.load(block, 0, slots, (index, tiles[0]))
            yield block.queries.empty.passed(phase)
            phase ^= 1
            block.queries.full.change(arrivals=1, bytes=1)
            self.copies.append(lambda index=index: block.queries.deliver(0, index))
            for tile in tiles:
                more = tile > tiles[-1]
                if more and self.macros["OVERLAP"]:
                    yield from self.load(block, 0, slots, (index, tile - 1))
                yield from self.load(block, 1, slots, (index, tile))
                if more and not self.macros["OVERLAP"]:
                    yield from self.load(block, 0, slots, (index, tile - 1))

    def load(self, block: Block, which: int, slots: list[Any], contents: Any) -> Actor:
        slot, ring = slots[which], block.rings[which]
        stage = ring[slot.stage]
        yield stage.empty.passed(slot.phase)
        stage.full.change(arrivals=1, bytes=len(self.blocks))
        for other in self.blocks:
            to = other.rings[which][slot.stage]
            self.copies.append(lambda to=to: to.deliver(block.rank, contents))
        slots[which] = self.code.next_slot(slot)

    def consumer(self, block: Block, number: int) -> Actor:
        slots, phase = [Slot(0, 0), Slot(0, 0)], 0
        last = self.macros["CONSUMERS"] - 1
        if self.macros["PINGPONG"] and number == last:
            block.turns[0] += 1
        begun: list[tuple[int, int]] = []  # products under way: ring and stage
        for index, tiles in self.units(block.rank):
            yield block.queries.full.passed(phase)
            phase ^= 1
            block.queries.read(1, index)
            yield from self.begin(block, 0, slots, (index, tiles[0]), begun)
            while begun:  # the last product of the unit before, and the first scores
                yield from self.end(block, begun)
            for tile in tiles[:-1]:
                if self.macros["OVERLAP"]:
                    yield from self.both(block, number, slots, (index, tile), begun)
                else:
                    yield from self.begin(block, 1, slots, (index, tile), begun)
                    yield from self.end(block, begun)
                    yield from self.begin(block, 0, slots, (index, tile - 1), begun)
                    yield from self.end(block, begun)
            block.queries.readers -= 1
            block.queries.empty.change(arrivals=1)
            yield from self.begin(block, 1, slots, (index, tiles[-1]), begun)
        while begun:
            yield from self.end(block, begun)

    def both(self, block: Block, number: int, slots: list[Any], at: Any, begun: Any) -> Actor:
        """Products of the next scores and with these values, issued in turns."""
        index, tile = at
        ring, slot = block.rings[0], slots[0]
        yield ring[slot.stage].full.passed(slot.phase)
        if self.macros["PINGPONG"]:
            yield lambda: block.turns[number] > 0
            block.turns[number] -= 1
        yield from self.begin(block, 0, slots, (index, tile - 1), begun)
        yield from self.begin(block, 1, slots, (index, tile), begun)
        if self.macros["PINGPONG"]:
            block.turns[(number + 1) % self.macros["CONSUMERS"]] += 1
        yield from self.end(block, begun)
        yield from self.end(block, begun)

    def begin(self, block: Block, which: int, slots: list[Any], contents: Any, begun: Any) -> Actor:
        slot, ring = slots[which], block.rings[which]
        stage = ring[slot.stage]
        yield stage.full.passed(slot.phase)
        stage.read(len(self.blocks), contents)
        begun.append((which, slot.stage))
        self.products += 1
        slots[which] = self.code.next_slot(slot)

    def end(self, block: Block, begun: list[tuple[int, int]]) -> Actor:
        yield lambda: True
        which, stage = begun.pop(0)
        block.rings[which][stage].readers -= 1
        for other in self.blocks:
            other.rings[which][stage].empty.change(arrivals=1)

    def play(self, seed: int) -> None:
        actors = [self.loader(block) for block in self.blocks]
        for block in self.blocks:
            actors += [self.consumer(block, n) for n in range(self.macros["CONSUMERS"])]
        play(actors, self.copies, seed)


def code_of(tmp_path: Path, **knobs: Any) -> HostCode:
    workload = attention(
        heads=5, q_len=Q_LEN, kv_len=KV_LEN, head_dim=64, dtype="float16", causal=True
    )
    return HostCode(rendered(workload, schedule(**{"tile_n": 48, "blocks": 4, **knobs})), tmp_path)


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"stages": 3, "consumers": 3},
        {"stages": 1},
        {"stages": 4, **ALONE},
        {"overlap": False, "pingpong": False},
        {"overlap": False, "pingpong": False, "stages": 1},
        {"cluster": 2},
        {"cluster": 2, "stages": 1, "consumers": 3},
        {"cluster": 2, "stages": 3, "pingpong": False, "overlap": False},
    ],
)
def test_no_order_of_events_deadlocks_or_mixes_tiles(tmp_path: Path, knobs: dict[str, Any]) -> None:
    code = code_of(tmp_path, **knobs)
    for seed in range(4):
        cluster = Cluster(code, seed % code.macros["CLUSTERS"])
        cluster.play(seed)
        steps = sum(
            len(tiles) for block in cluster.blocks for _, tiles in cluster.units(block.rank)
        )
        assert cluster.products == 2 * steps * code.macros["CONSUMERS"] > 0


def test_a_stage_must_be_released_by_all_who_read_it(tmp_path: Path) -> None:
    code = code_of(tmp_path, stages=2)
    with pytest.raises(ProtocolError):
        for seed in range(20):
            cluster = Cluster(code, 0)
            for stage in cluster.blocks[0].rings[0]:
                stage.empty = Barrier(1)
            cluster.play(seed)
