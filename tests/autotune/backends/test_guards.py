from __future__ import annotations

import numpy as np
import pytest

from autotune.backends import guards


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_band_is_nan_in_every_float(dtype: type[np.floating]) -> None:
    assert np.isnan(guards.pattern(3).view(dtype)).all()


def test_bands_of_two_buffers_differ_nearly_everywhere() -> None:
    one, other = (guards.pattern(seed).view(np.uint32) for seed in (0, 1))
    assert np.mean(one != other) > 0.9


def test_damage_counts_the_bytes_and_says_where() -> None:
    clean = guards.pattern(7)
    assert guards.damage("y", 7, clean, clean) == ""
    hit = clean.copy()
    hit[-4:] = 0
    assert guards.damage("y", 7, hit, clean) == (
        "y: 4 bytes written outside the buffer, ending 1 bytes before it"
    )
    hit = clean.copy()
    hit[12:20] = 0
    assert guards.damage("y", 7, clean, hit) == (
        "y: 8 bytes written outside the buffer, starting 12 bytes past its end"
    )
