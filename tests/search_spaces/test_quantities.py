"""What rules compute of several knobs."""

from __future__ import annotations

import numpy as np
import pytest

from records.errors import InvalidInputError
from search_spaces.quantities import computed_by

KNOBS = ["block_x", "block_y", "tile", "staged"]


@pytest.mark.parametrize(
    ("rule", "texts"),
    [
        ("32 <= block_x * block_y <= 1024", ["block_x * block_y"]),
        ("tile % (block_x * block_y) == 0", ["block_x * block_y"]),
        ("staged == 0 or (block_x*tile + 2) * 4 < 48*1024", ["(block_x * tile + 2) * 4"]),
        ("block_x % 32 != 0", []),
        ("staged == 0 or tile > 1", []),
        ("max(block_x, block_y) * tile <= 64 and block_x / block_y < 8", ["block_x / block_y"]),
    ],
)
def test_arithmetic_on_two_knobs_or_more_is_a_quantity(rule: str, texts: list[str]) -> None:
    assert [each.text for each in computed_by([rule], KNOBS)] == texts


def test_each_is_there_once_and_is_computed_for_all_schedules() -> None:
    rules = ["block_x*block_y >= 32", "block_x * block_y <= 1024", "block_x / tile > 1"]
    product, ratio = computed_by(rules, KNOBS)
    assert product.knobs == ("block_x", "block_y")
    columns = {"block_x": np.array([8.0, 16.0]), "block_y": np.array([4.0, 2.0])}
    assert product(columns).tolist() == [32.0, 32.0]
    assert ratio(columns | {"tile": np.array([2.0, 0.0])}).tolist() == [4.0, 0.0]


def test_a_rule_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="name knobs"):
        computed_by(["warps * 32 <= 1024"], KNOBS)
