from dataclasses import replace

import pytest

from autotune.limits import breaks_limits
from autotune.testing import addition
from records.target import Target
from search_spaces.kernel import KernelSource, Scratch


def target(**limits: int) -> Target:
    return Target.of("sim", "small", "sim", limits)


def source(**changes: object) -> KernelSource:
    original = addition.job(n=1024).source
    launch = replace(original.launches[0], shared_bytes=2048)
    return replace(original, launches=(launch,), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_group": 64, "shared_bytes": 2048, "max_buffer_bytes": 4096}, ""),
        ({}, ""),
        ({"max_group": 63}, "add: a work-group of 64 work-items; the device takes at most 63"),
        ({"shared_bytes": 2047}, "add: 2048 bytes of local memory; a work-group has at most 2047"),
        ({"max_buffer_bytes": 4095}, "a: needs 4096 bytes; the device's largest buffer has 4095"),
    ],
)
def test_each_limit_holds_to_the_unit(limits: dict[str, int], reason: str) -> None:
    assert breaks_limits(source(), target(**limits)) == reason


def test_scratch_is_a_buffer_too() -> None:
    with_scratch = source(scratch=(Scratch("partial", 5000),))
    assert "partial: needs 5000 bytes" in breaks_limits(with_scratch, target(max_buffer_bytes=4096))
