"""Every parameter of a workload, also those that its key leaves out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from records.workload import Workload
from search_spaces.attention.parameters import Parameters as AttentionParameters

# Workloads of other ops name all that matters in the key itself.
_READERS: Mapping[str, Callable[[Workload], Any]] = {"attention": AttentionParameters.of}


def filled(workload: Workload) -> dict[str, Any]:
    """Parameters by name, in the op's order where it has one, defaults included.

    Of workloads that are not whole, as of a version not known here: what they name.
    """
    read = _READERS.get(workload.op)
    try:
        return dict(workload.values) if read is None else dict(vars(read(workload)))
    except (KeyError, TypeError):
        return dict(workload.values)
