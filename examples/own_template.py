"""A template of your own, tuned beside its own mistakes.

    python examples/own_template.py

A template describes one algorithm: its knobs and what makes them legal, what a schedule will ask
of the device, and the kernel's text. This one multiplies matrices the plain way: each work-item
computes a few neighbouring elements of a row of C. One knob is for show: `mistake` puts into the
kernel what goes wrong in real ones, and each costs a row in the database, not the session.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import autotune
from autotune.session import TuningResult
from autotune.timing import TimingPlan
from records import Schedule, Target, Workload
from records.store import TuningDatabase
from search_spaces import registry
from search_spaces.dialect import Dialect
from search_spaces.kernel import KernelSource, KernelStats, Launch
from search_spaces.space import Constraint, SearchSpace, choice, power_of_two

KERNEL = """
// C = A B for A of M x K and B of K x N elements; a work-item computes WIDTH elements of a row.
__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void rows(__global const float *a, __global const float *b, __global float *c)
{
    const int column = (int)get_global_id(0) * WIDTH, row = (int)get_global_id(1);
    float sums[WIDTH];
    for (int i = 0; i < WIDTH; ++i)
        sums[i] = 0.0f;
#if MISTAKE_HANG
    for (volatile int waiting = 1; waiting;) {}
#elif MISTAKE_CRASH
    *(__global volatile float *)(size_t)row = 1.0f;  // an address that is nobody's
#endif
    for (int p = MISTAKE_WRONG; p < K; ++p)  // wrong: the first product is forgotten
        for (int i = 0; i < WIDTH; ++i)
            sums[i] += a[row * K + p] * b[p * N + column + i];
    for (int i = 0; i < WIDTH; ++i)
        c[row * N + column + i] = sums[i];
}
"""


class Rows:
    """Plain products of float32 matrices. Implements `search_spaces.template.Template`."""

    op = "matmul"
    name = "rows"
    version = 1  # rises with every change of the text, so that old times are not taken for new
    dialects = ("opencl",)

    def rejects(self, workload: Workload, target: Target) -> str:
        if "float32" not in target.limit("dtypes", ("float32",)):
            return "the device does not compute in float32"
        if (workload["dtype"], workload["layout"], workload["batch"]) != ("float32", "nn", 1):
            return "made for single products of row-major float32 matrices"
        return "made for products without an epilogue" if workload["epilogue"] else ""

    def space(self, workload: Workload, target: Target) -> SearchSpace:
        n, most = workload["n"], target.limit("max_group", 1)
        knobs = [
            power_of_two("width", 1, 16, "columns that a work-item computes"),
            power_of_two("group", 1, max(1, min(256, most)), "work-items in a group"),
            choice("mistake", ("none", "hang", "crash", "wrong"), "what is done wrong"),
        ]
        constraints = [
            Constraint(
                ("width", "group"),
                lambda width, group: n % (width * group) == 0,
                f"{n} columns do not split into groups of {{group}} times {{width}}",
            ),
            Constraint(
                ("mistake", "width", "group"),
                lambda mistake, width, group: mistake == "none" or width * group == 1,
                "one of each mistake is enough, and {mistake} is shown elsewhere",
            ),
        ]
        return SearchSpace(self.name, self.version, knobs, constraints)

    def stats(self, workload: Workload, schedule: Schedule, target: Target) -> KernelStats:
        """What the cost model learns from, beside the knobs; zeros would do too."""
        m, n, k = (workload[size] for size in "mnk")
        return KernelStats(
            groups=m * n // (schedule["width"] * schedule["group"]),
            threads=schedule["group"],
            flops=2.0 * m * n * k,
            useful_flops=2.0 * m * n * k,
            dram_bytes=4.0 * (m * k + k * n + m * n),
            vector_lanes=schedule["width"],
        )

    def render(self, workload: Workload, schedule: Schedule, dialect: Dialect) -> KernelSource:
        """A block of `#define`s above the same text; the text must not depend on anything else."""
        width, group = schedule["width"], schedule["group"]
        defines = {size.upper(): workload[size] for size in "nk"} | {"WIDTH": width, "GROUP": group}
        for mistake in ("hang", "crash", "wrong"):
            defines[f"MISTAKE_{mistake.upper()}"] = int(schedule["mistake"] == mistake)
        text = "".join(f"#define {name} {value}\n" for name, value in defines.items()) + KERNEL
        groups = (workload["n"] // (width * group), workload["m"], 1)
        launch = Launch("rows", groups, (group, 1, 1), ("a", "b", "c"))
        arrays = registry.op(self.op).arrays(workload)
        return KernelSource(dialect.name, text, (launch,), arrays)


def tune(database: Path, size: int = 64, device: str | None = None) -> TuningResult:
    autotune.register_template(Rows())
    return autotune.tune(
        autotune.matmul(m=size, n=size, k=size),
        device=device,
        database=database,
        templates=["rows"],  # without this: beside the templates that come with autotune
        time_limit_s=60,
        compare=False,
        plan=TimingPlan(launch_timeout_s=2.0),
    )


def main() -> None:
    database = Path("own_template.db")
    result = tune(database)
    assert result.best is not None, "the plain schedules work everywhere"
    print(f"{result.workload} on {result.target.device}: {result.outcome}")
    print(f"best: {result.best.schedule}, {1e6 * (result.best.measurement.time_s or 0):.1f} µs")
    with TuningDatabase(database, read_only=True) as store:
        trials = list(store.records(result.workload, result.target))
    print(Counter(str(trial.measurement.status) for trial in trials))
    for trial in trials:
        if not trial.measurement.is_ok:
            reason = trial.measurement.error.splitlines()[0]
            print(f"{trial.schedule['mistake']}: {trial.measurement.status}, {reason}")


if __name__ == "__main__":
    main()
