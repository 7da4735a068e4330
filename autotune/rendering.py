"""From a schedule to a kernel that can be handed on: a template may be anybody's code."""

from __future__ import annotations

from numbers import Integral

from records.schedule import Schedule
from records.workload import Workload
from search_spaces import registry
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, Launch


def rendered(workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
    """The schedule's kernel, well formed.

    Raises whatever the template raises, `TypeError` or `ValueError` for a kernel that contradicts
    its own description: no device could make anything of it.
    """
    template = registry.template(workload.op, schedule.template)
    source = template.render(workload, schedule, dialect)
    if not isinstance(source, KernelSource):
        raise TypeError(f"need a KernelSource, got {type(source).__name__}")
    problem = _malformed(source, workload, dialect)
    if problem:
        raise ValueError(problem)
    return source


def _malformed(source: KernelSource, workload: Workload, dialect: Dialect) -> str:
    if source.dialect != dialect.name:
        return f"asked for {dialect.name}, got a text in {source.dialect!r}"
    if not all(isinstance(text, str) for text in (source.text, *source.options)):
        return "the text and each option must be a str"
    if source.arrays != registry.op(workload.op).arrays(workload):
        return f"its arrays are not those that the op {workload.op} lists, in that order"
    if not source.launches:
        return "it launches nothing"
    names = {array.name for array in source.arrays}
    names |= {scratch.name for scratch in source.scratch}
    names |= {tensor_map.name for tensor_map in source.tensor_maps}
    problems = (_launch_malformed(launch, names) for launch in source.launches)
    return next(filter(None, problems), "")


def _launch_malformed(launch: Launch, names: set[str]) -> str:
    unknown = sorted(set(launch.arguments) - names)
    if unknown:
        return f"{launch.kernel} takes {', '.join(unknown)}, which is no array nor scratch"
    for what in ("groups", "group_size"):
        sizes = getattr(launch, what)
        if len(sizes) != 3 or not all(
            isinstance(size, Integral) and int(size) > 0 for size in sizes
        ):
            return f"{launch.kernel}: {what}={sizes!r}, need three whole numbers above 0"
    return ""
