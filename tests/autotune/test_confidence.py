import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.confidence import median_above, relative_interval

TIMES = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=80)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (20, 6, 15), (30, 10, 21), (60, 22, 39)],
)
def test_the_ends_are_the_tabulated_order_statistics(count: int, low: int, high: int) -> None:
    """Ranks of the 95 % interval as tabulated, e.g. by Conover, Practical Nonparametric Stat."""
    times_s = [100.0 + rank for rank in range(1, count + 1)]
    median = 100.0 + (count + 1) / 2
    farther = max(median - (100 + low), 100 + high - median)
    assert relative_interval(times_s) == pytest.approx(farther / median)


@pytest.mark.parametrize("count", range(1, 6))
def test_five_runs_are_too_few(count: int) -> None:
    assert relative_interval([1.0] * count) is None


@given(TIMES, st.randoms(use_true_random=False))
def test_order_and_unit_do_not_matter(times_s: list[float], random: np.random.Generator) -> None:
    shuffled = list(times_s)
    random.shuffle(shuffled)
    first, second = relative_interval(times_s), relative_interval([8 * time for time in shuffled])
    assert first == second if first is None else first == pytest.approx(second)


@pytest.mark.parametrize("count", [6, 15, 40])
def test_it_covers_the_true_median_of_a_skewed_distribution(count: int) -> None:
    random = np.random.default_rng(0)
    true_median = 1.0 + np.log(2.0)
    covered = 0
    for sample in 1.0 + random.exponential(size=(1000, count)):
        interval = relative_interval(list(sample))
        assert interval is not None
        covered += abs(np.median(sample) - true_median) <= interval * np.median(sample)
    assert covered / 1000 > 0.94


@pytest.mark.parametrize(("count", "rank"), [(3, 1), (5, 1), (6, 2), (9, 3), (20, 7)])
def test_the_median_is_above_what_enough_runs_are_above(count: int, rank: int) -> None:
    """Ranks of a one-sided bound of 7/8, from the binomial distribution."""
    times_s = [float(place) for place in range(1, count + 1)]
    assert median_above(times_s, rank - 0.5)
    assert not median_above(times_s, rank + 0.5)


def test_two_runs_are_not_enough_to_say_so() -> None:
    assert not median_above([2.0, 2.0], 1.0)


def test_equals_are_taken_for_slower_once_in_eight_times_at_three_runs() -> None:
    random = np.random.default_rng(0)
    taken = [median_above(list(sample), 1.0) for sample in random.normal(1.0, 0.1, (4000, 3))]
    assert np.mean(taken) == pytest.approx(1 / 8, abs=0.02)
