"""Verify the CUDA backend on a real GPU, and print a table. Two to three minutes.

    python benchmarks/h200_verify.py [--device cuda:0]

Runs the conformance kit and the tests that need silicon, then measures the device's peaks.
Needs pytest beside what `autotune-kernels[cuda]` installs. Exit status 1 where a check fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_TESTS = _ROOT / "tests" / "autotune" / "backends" / "cuda"
_CHECKS = (
    f"{_TESTS / 'test_cuda_conformance.py'}::TestReal",
    str(_TESTS / "test_cuda_silicon.py"),
    str(_TESTS / "test_cuda_compiler.py"),
    str(_ROOT / "tests" / "autotune" / "test_cublas.py"),
    str(_ROOT / "tests" / "autotune" / "codegen" / "test_codegen_silicon.py"),
)


class Table:
    """A plugin of pytest: a line a check, as it ends."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: object) -> None:
        outcome, phase = report.outcome, report.when  # type: ignore[attr-defined]
        if phase != "call" and outcome == "passed":
            return
        self.counts[outcome] += 1
        name = report.nodeid.partition("::")[2]  # type: ignore[attr-defined]
        duration_s = report.duration  # type: ignore[attr-defined]
        print(f"{outcome:8} {duration_s:7.2f} s  {name}", flush=True)

    def pytest_report_teststatus(self, report: object) -> tuple[str, str, str]:
        return report.outcome, "", ""  # type: ignore[attr-defined]  # no dots between our lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda:0")
    device = parser.parse_args().device
    sys.path.insert(0, str(_ROOT))
    started_s = time.monotonic()
    if not describe(device):
        return 1
    failed = check(device)
    measure_peaks(device)
    print(f"\n{time.monotonic() - started_s:.0f} s; {'FAILED' if failed else 'all passed'}")
    return int(failed)


def describe(device: str) -> bool:
    """Says what the device is; whether it can be used."""
    from autotune.backends import cuda

    for info in cuda.list_devices():
        print(f"{info.name:8} {info.description}  {info.driver}  {info.problem or 'usable'}")
        if info.name == device and info.target is not None:
            for name, value in info.target.limits:
                print(f"         {name}: {value}")
            return info.usable
    print(f"there is no {device}")
    return False


def check(device: str) -> bool:
    """Whether a check failed, or none ran."""
    try:
        import pytest
    except ModuleNotFoundError:
        print("pytest is not installed: pip install pytest")
        return True
    os.environ["AUTOTUNE_TEST_DEVICES"] = device
    table = Table()
    # Without the project's own configuration, which asks for plugins that only tests here need.
    bare = ["-c", os.devnull, "--rootdir", str(_ROOT), "-p", "no:cacheprovider", "-q", "--tb=short"]
    print()
    status = pytest.main([*bare, *_CHECKS], plugins=[table])
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(table.counts.items())))
    return status != 0 or not table.counts["passed"]


def measure_peaks(device: str) -> None:
    from autotune import peaks
    from records.errors import AutotuneError

    print()
    try:
        found = peaks.probe(device, again=True)
    except AutotuneError as error:
        print(f"peaks: {error}")
        return
    print(f"copy          {found.copy_bytes_per_s / 1e12:8.2f} TB/s, read plus written")
    for dtype, flops_per_s in found.flops_per_s.items():
        print(f"{dtype:13} {flops_per_s / 1e12:8.1f} TFLOP/s")


if __name__ == "__main__":
    raise SystemExit(main())
