"""What an operation is, apart from how it is scheduled: arrays, reference, work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from records.workload import Workload
from search_spaces.kernel import Array

Arrays = dict[str, npt.NDArray[Any]]


class Op(Protocol):
    """One operation. All methods are pure; arrays are numpy, C-contiguous, on the host.

    `workload(**params)` validates and returns the canonical workload, or raises
    `InvalidInputError` naming need, limit and remedy.
    `arrays(workload)` lists inputs, scalars and outputs in the order a caller passes them.
    `inputs(workload, seed)` gives random values for inputs and scalars, never zeros, and NaN in
    places whose contents must not matter.
    `reference(workload, inputs)` gives every output in float64.
    `tolerance(workload, inputs, reference)` gives, for each output, an array (or scalar) of the
    largest error allowed for each element, from the arithmetic's error bound.
    `flops(workload)` and `bytes(workload)`: the work and the compulsory traffic, the floors that
    a roofline divides by.
    """

    @property
    def name(self) -> str: ...

    def workload(self, **params: Any) -> Workload: ...

    def arrays(self, workload: Workload) -> tuple[Array, ...]: ...

    def inputs(self, workload: Workload, seed: int) -> Arrays: ...

    def reference(self, workload: Workload, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays: ...

    def tolerance(
        self,
        workload: Workload,
        inputs: Mapping[str, npt.NDArray[Any]],
        reference: Mapping[str, npt.NDArray[Any]],
    ) -> dict[str, npt.NDArray[np.float64]]: ...

    def flops(self, workload: Workload) -> float: ...

    def bytes(self, workload: Workload) -> int: ...
