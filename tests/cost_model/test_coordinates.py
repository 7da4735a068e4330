"""Which schedules count as near each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from cost_model.coordinates import Coordinates, KnobTable
from records.schedule import Schedule
from search_spaces.quantities import computed_by

Floats = npt.NDArray[np.float64]


def distances(met: list[object], context: int = 0) -> Floats:
    """Between the values of one knob, which were all measured."""
    kind = np.float64 if all(isinstance(each, (int, float)) for each in met) else str
    column = np.array(met, dtype=kind)
    points = Coordinates([column], context)([column])
    squares = np.square(points[:, None, :] - points[None, :, :]).sum(axis=2)
    rooted: Floats = np.sqrt(squares)
    return rooted


def test_doubling_is_a_step_wherever_it_begins() -> None:
    apart = distances([16, 32, 64, 128])
    assert np.diag(apart, 1) == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_divisibility_is_a_dimension_beside_the_value() -> None:
    met = [np.array([64.0, 80.0, 96.0, 112.0, 128.0])]
    coordinates = Coordinates(met)
    assert list(coordinates.groups) == [0, 1]
    assert coordinates(met)[:, 1] == pytest.approx([2 / 3, 0.0, 1 / 3, 0.0, 1.0])


@pytest.mark.parametrize(
    "met", [[1, 2, 4, 8, 16], [1, 2, 3, 4], [8, 16], [0, 2, 4, 8], [0.5, 1, 5]]
)
def test_divisibility_counts_only_where_it_tells_more_than_the_value(met: list[object]) -> None:
    assert len(Coordinates([np.array(met, dtype=np.float64)]).groups) == 1


@pytest.mark.parametrize("met", [["row", "column", "tile"], [0, 1, 2], [0, 1, 2, 3]])
def test_variants_are_equally_far_from_each_other(met: list[object]) -> None:
    apart = distances(met)
    assert apart[~np.eye(len(met), dtype=bool)] == pytest.approx(1.0)


def test_amounts_keep_their_order() -> None:
    apart = distances([0, 1, 2, 3, 4, 5, 6, 7])
    assert apart[0, 7] > apart[0, 1]


def test_sizes_of_workloads_are_amounts_however_few_there_are() -> None:
    apart = distances([0, 1, 2], context=1)
    assert apart[0, 2] == pytest.approx(2.0 * apart[0, 1])


def test_a_value_never_met_is_finite_and_off() -> None:
    met = np.array(["a", "b"])
    new = Coordinates([met])([np.array(["c"])])
    old = Coordinates([met])([met])
    assert np.isfinite(new).all()
    assert np.square(new - old).sum(axis=1) == pytest.approx([0.5, 0.5])


def test_quantities_follow_the_knobs_and_are_nothing_where_these_are_text() -> None:
    schedules = [
        Schedule.of("t", 1, {"tile": tile, "x": x, "y": 2}) for tile, x in (("auto", 8), (3, 16))
    ]
    computed = computed_by(["x * y <= 64", "tile == 'auto' or x * tile < 99"], ["x", "y", "tile"])
    for few, products in ((schedules, [0.0, 48.0]), (schedules[1:], [48.0])):
        columns = KnobTable(computed).columns(few)
        assert len(columns) == 5
        assert columns[-2].tolist() == [each["x"] * 2.0 for each in few]
        assert columns[-1].tolist() == products
