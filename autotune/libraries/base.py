"""The seam to the vendors' libraries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

from autotune.backends.base import Execution
from records.target import Target
from records.workload import Workload

Inputs = Mapping[str, npt.NDArray[Any]]


class Library(Protocol):
    """One library routine for one op.

    `rejects` is `""` or why the library cannot do this workload on this target (not installed,
    no such type). `prepare` brings the inputs to where the library computes, the device of the
    canonical name `device`, and returns what does the whole computation at each `launch`, into
    memory allocated beforehand. Its `details` say what ran: version, threads, kernel
    architecture; ask after the first launch. It has no guard bands, so `damage` is always `""`.
    """

    @property
    def name(self) -> str: ...

    @property
    def op(self) -> str: ...

    def rejects(self, workload: Workload, target: Target) -> str: ...

    def prepare(self, workload: Workload, inputs: Inputs, device: str) -> Execution: ...


def operands(workload: Workload, arrays: Mapping[str, Any]) -> tuple[Any, Any]:
    """A as (…, m, k) and B as (…, k, n): transposed layouts as views, as a BLAS takes them.

    Of arrays of numpy as of tensors of PyTorch.
    """
    return (
        arrays["a"].swapaxes(-1, -2) if workload["layout"][0] == "t" else arrays["a"],
        arrays["b"].swapaxes(-1, -2) if workload["layout"][1] == "t" else arrays["b"],
    )
