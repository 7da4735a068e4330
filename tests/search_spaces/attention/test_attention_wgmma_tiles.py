"""The index arithmetic of the wgmma attention, its own text compiled as C: who works on which
queries and keys, and in which stage of shared memory these lie."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from wgmma_attention_cases import ALONE, PARTS, HostCode, Slot, rendered, schedule

from records.workload import Workload
from search_spaces.attention import attention
from search_spaces.attention.parameters import Parameters

HALF: dict[str, Any] = {"dtype": "float16", "head_dim": 64}
GROUPED: dict[str, Any] = {"heads": 12, "kv_heads": 3, **HALF}

CASES: list[tuple[Workload, dict[str, Any]]] = [
    (attention(batch=2, heads=3, q_len=300, **HALF), {"together": 4}),
    (attention(batch=2, heads=3, q_len=300, causal=True, **HALF), {"blocks": 7, "together": 2}),
    (attention(**GROUPED, q_len=333, causal=True), {"consumers": 3, "pack_heads": True}),
    (attention(**GROUPED, q_len=333, kv_len=40, causal=True), {"tile_n": 16, "blocks": 5}),
    (attention(**GROUPED, q_len=70, kv_len=900, window=100), {**PARTS, "tile_n": 48}),
    (attention(**GROUPED, q_len=500, causal=True), {"cluster": 2, "blocks": 6, "tile_n": 64}),
    (attention(**GROUPED, q_len=5, kv_len=900), {**PARTS, **ALONE, "pack_heads": True}),
    (
        attention(**GROUPED, q_lens=(100, 0, 7, 260), kv_lens=(90, 50, 300, 0), layout="bshd"),
        {"together": 8, "blocks": 3, "tile_n": 64},
    ),
    (
        attention(**GROUPED, q_len=200, kv_lens=(90, 450), causal=True, window=64),
        {"tile_n": 32, "pack_heads": True, "together": 2},
    ),
]  # fmt: skip


def units_of(code: HostCode) -> list[Any]:
    """Of all blocks, in the order of each cluster."""
    found = []
    for cluster in range(code.macros["CLUSTERS"]):
        turn = 0
        while (index := code.unit_index(cluster, turn)) < code.c_units():
            found += [code.unit_of(index, rank) for rank in range(code.macros["CLUSTER_M"])]
            turn += 1
    return found


@pytest.mark.parametrize(("workload", "knobs"), CASES)
def test_every_row_of_every_head_is_worked_on_once(
    tmp_path: Path, workload: Workload, knobs: dict[str, Any]
) -> None:
    chosen, given = schedule(**knobs), Parameters.of(workload)
    code = HostCode(rendered(workload, chosen), tmp_path)
    seen: Counter[tuple[int, int, int, int]] = Counter()
    for unit in units_of(code):
        for row in range(64 * chosen["consumers"]):
            query = code.query_of(unit, row)
            if query < given.q_len:
                seen[unit.batch, code.head_of(unit, row), query, unit.part] += 1
                head = code.head_of(unit, row)
                assert code.kv_head_of(unit) == head // given.queries_per_kv_head
    assert set(seen.values()) == {1}
    assert len(seen) == given.batch * given.heads * given.q_len * chosen["splits"]


@pytest.mark.parametrize(("workload", "knobs"), CASES)
def test_tiles_of_keys_are_those_that_rows_see(
    tmp_path: Path, workload: Workload, knobs: dict[str, Any]
) -> None:
    chosen, given = schedule(**knobs), Parameters.of(workload)
    code = HostCode(rendered(workload, chosen), tmp_path)
    tile_n, rows = chosen["tile_n"], 64 * chosen["consumers"]
    walked: dict[tuple[int, int, int], list[int]] = {}
    for unit in units_of(code):
        sequence = given.sequences[unit.batch]
        lengths = (sequence.q_len, sequence.kv_len)
        span = code.c_span(unit, *lengths)
        tiles = list(range(span.first, span.end))
        if unit.row == unit.cluster_row:
            walked.setdefault((unit.batch, unit.head, unit.row), []).extend(tiles)
        queries = [code.query_of(unit, row) for row in range(rows)]
        kept = [given.visible(sequence, query) for query in queries if query < sequence.q_len]
        for warp_row in range(0, len(kept) - 15, 16):
            whole = code.c_whole(unit, *lengths, warp_row, 16)
            for tile in tiles:
                keys = range(tile * tile_n, (tile + 1) * tile_n)
                all_see = all(
                    keys[0] in seen and keys[-1] in seen for seen in kept[warp_row : warp_row + 16]
                )
                assert (whole.first <= tile < whole.end) == all_see
    for (batch, _, row), tiles in walked.items():
        sequence = given.sequences[batch]
        pack = code.macros["PACK"]
        end = row + rows * chosen["cluster"]
        queries = range(row // pack, min(sequence.q_len, -(-end // pack)))
        keys = [key for query in queries for key in given.visible(sequence, query)]
        expected = range(min(keys) // tile_n, max(keys) // tile_n + 1) if keys else range(0)
        assert sorted(tiles) == list(expected)


def test_the_longest_tiles_come_first_and_are_shared_out_fairly(tmp_path: Path) -> None:
    """To and fro: no block has more than a tile of keys per turn above the mean."""
    workload = attention(batch=2, heads=16, q_len=4096, causal=True, **HALF)
    chosen = schedule(together=32, blocks=132)
    code = HostCode(rendered(workload, chosen), tmp_path)
    loads = []
    for block in range(132):
        steps, turn = [], 0
        while (index := code.unit_index(block, turn)) < code.c_units():
            span = code.c_span(code.unit_of(index, 0), 4096, 4096)
            steps.append(span.end - span.first)
            turn += 1
        assert steps == sorted(steps, reverse=True)
        loads.append(sum(steps))
    assert max(loads) <= 1.05 * sum(loads) / len(loads)


def test_heads_together_share_keys_before_others_begin(tmp_path: Path) -> None:
    workload = attention(**GROUPED, q_len=1000)
    code = HostCode(rendered(workload, schedule(together=4)), tmp_path)
    heads = [code.unit_of(index, 0).head for index in range(code.c_units())]
    assert heads[:8] == [0, 1, 2, 3] * 2
    assert set(heads[: 4 * 8]) == {0, 1, 2, 3}


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_stages_are_taken_in_turn_and_phases_alternate(tmp_path: Path, stages: int) -> None:
    workload = attention(heads=1, q_len=600, **HALF)
    code = HostCode(rendered(workload, schedule(stages=stages)), tmp_path)
    slot = Slot(0, 0)
    for step in range(3 * stages):
        assert (slot.stage, slot.phase) == (step % stages, step // stages % 2)
        slot = code.next_slot(slot)
