"""`autotune devices`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from autotune.cli import screen
from autotune.cli.options import json_option
from autotune.cli.text import echo_json, size
from records.errors import DeviceError, InvalidInputError
from records.target import Target

if TYPE_CHECKING:
    from autotune.backends.base import DeviceInfo
    from autotune.peaks import Peaks


@click.command("devices")
@json_option
@click.option("--all", "all_devices", is_flag=True, help="Simulated devices too.")
@click.option(
    "--probe/--no-probe",
    default=True,
    show_default=True,
    help="Measure peaks that are not known yet: seconds a device, once.",
)
@click.option("--refresh", is_flag=True, help="Measure all peaks again, on a quiet machine.")
def command(as_json: bool, all_devices: bool, probe: bool, refresh: bool) -> None:
    """List every device, usable or not, with its limits and measured peaks."""
    from autotune.device_names import list_devices

    if refresh and not probe:
        raise InvalidInputError("--refresh measures peaks, --no-probe does not: choose one")
    infos = list_devices(all=all_devices)
    listed = [(info, *_peaks(info, probe, refresh)) for info in infos]
    if as_json:
        echo_json([_as_json(*each) for each in listed])
        return
    for info, peaks, peaks_problem in listed:
        mark = ("usable", "green") if info.usable else ("not usable", "red")
        screen.show(
            Text.assemble((info.name, "bold"), "  ", mark),
            screen.facts(_facts(info, peaks, peaks_problem)),
        )
    if not any(info.usable for info in infos):
        screen.show('No usable device. For the CPU: pip install "autotune-kernels[cpu]"')


def _peaks(info: DeviceInfo, probe: bool, refresh: bool) -> tuple[Peaks | None, str]:
    """Peaks, or `None` and why a probe failed."""
    from autotune import peaks

    if not info.usable or info.backend == "sim":  # nothing is computed there at any speed
        return None, ""
    try:
        known = peaks.known(info.name)
        if refresh or (known is None and probe):
            with _waiting(f"measuring the peaks of {info.name}"):
                known = peaks.probe(info.name, again=refresh)
    except DeviceError as error:
        return None, str(error)
    return known, ""


def _waiting(words: str) -> AbstractContextManager[object]:
    console = Console(stderr=True, markup=False)
    return console.status(words) if console.is_terminal else nullcontext()


def _as_json(info: DeviceInfo, peaks: Peaks | None, peaks_problem: str) -> dict[str, Any]:
    return {
        "name": info.name,
        "backend": info.backend,
        "description": info.description,
        "usable": info.usable,
        "problem": info.problem,
        "driver": info.driver,
        "target": info.target.to_json() if info.target else None,
        "peaks": peaks.to_json() if peaks else None,
        "peaks_problem": peaks_problem,
    }


def _facts(info: DeviceInfo, peaks: Peaks | None, peaks_problem: str) -> Iterator[tuple[str, str]]:
    yield "device", info.description
    if info.problem:
        yield "problem", info.problem
    if info.driver:
        yield "driver", info.driver
    if info.target:
        yield from _limit_facts(info.target)
    if peaks:
        yield "copy", f"{peaks.copy_bytes_per_s / 1e9:.1f} GB/s, read plus written"
        for dtype, flops_per_s in peaks.flops_per_s.items():
            yield f"{dtype} peak", f"{flops_per_s / 1e9:.1f} GFLOP/s"
    if peaks_problem:
        yield "peaks", f"not measured: {peaks_problem}"


def _limit_facts(target: Target) -> Iterator[tuple[str, str]]:
    unknown = "not told"
    yield "arch", target.arch
    units = target.limit("units", unknown)
    yield "units", f"{units}, groups of up to {target.limit('max_group', unknown)}"
    yield "local memory", size(target.limit("shared_bytes", None))
    yield "vectors", size(target.limit("vector_bytes", None))
    yield "memory", size(target.limit("memory_bytes", None))
    if target.limit("cache_bytes"):
        yield "last cache", size(target.limit("cache_bytes"))
    if target.limit("clock_mhz"):
        yield "clock", f"up to {target.limit('clock_mhz')} MHz"
    yield "types", ", ".join(target.limit("dtypes", ())) or unknown
