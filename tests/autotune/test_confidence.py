import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.confidence import relative_interval

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
