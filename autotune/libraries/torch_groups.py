"""Groups of rows, each multiplied by a matrix of its own, as calls of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

from search_spaces.matmul.parameters import Parameters


def one_after_the_other(torch: Any, given: Parameters, a: Any, b: Any) -> Callable[[], Any]:
    """A product for each group that has rows; `a` is (m, k) and `b` (groups, k, n)."""
    rows = [slice(end - count, end) for count, end in _with_rows(given).values()]
    pairs = [(a[part], b[index]) for part, index in zip(rows, _with_rows(given), strict=True)]

    def run() -> Any:
        c = torch.empty((given.m, given.n), dtype=a.dtype, device=a.device)
        for part, (left, right) in zip(rows, pairs, strict=True):
            torch.mm(left, right, out=c[part])
        return c

    return run


def at_once(torch: Any, given: Parameters, a: Any, b: Any) -> Callable[[], Any]:
    """One call for all of them; matrices of groups without rows are left out beforehand."""
    groups = _with_rows(given)
    ends = torch.tensor([end for _, end in groups.values()], dtype=torch.int32, device=a.device)
    if len(groups) < len(given.groups):
        along_k = given.layout[1] == "t"  # the copy keeps the layout
        stored = (b.swapaxes(-1, -2) if along_k else b)[list(groups)]
        b = stored.swapaxes(-1, -2) if along_k else stored
    return lambda: torch._grouped_mm(a, b, offs=ends)


def _with_rows(given: Parameters) -> dict[int, tuple[int, int]]:
    """Rows and the row after the last, of each group that has any."""
    ends = accumulate(given.groups)
    return {
        index: (rows, end)
        for index, (rows, end) in enumerate(zip(given.groups, ends, strict=True))
        if rows
    }
