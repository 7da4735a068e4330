from __future__ import annotations

import pytest

from records.errors import InvalidInputError
from records.target import Target
from search_spaces.fit import check_fits
from search_spaces.matmul import matmul

KIB = matmul(m=16, n=16, k=16)  # three matrices of 1024 bytes


def target(**limits: int) -> Target:
    return Target.of("opencl", "Tiny", "any", limits)


def test_what_fits_exactly_passes_and_unknown_limits_are_not_checked() -> None:
    check_fits(KIB, target(memory_bytes=3 * 1024, max_buffer_bytes=1024))
    check_fits(matmul(m=2**18, n=2**18, k=2**18), target())


def test_a_buffer_too_large_is_named_with_its_bytes() -> None:
    wide = matmul(m=16, n=32, k=4)
    with pytest.raises(InvalidInputError, match=r"'c'.*2048 bytes.*Tiny.*1024 bytes.*single"):
        check_fits(wide, target(max_buffer_bytes=1024))


def test_too_much_in_all_is_refused_with_a_remedy() -> None:
    with pytest.raises(InvalidInputError, match=r"3072 bytes.*3071 bytes.*narrower dtype"):
        check_fits(KIB, target(memory_bytes=3071))
