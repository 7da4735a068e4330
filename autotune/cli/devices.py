"""`autotune devices`."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from autotune.backends.base import DeviceInfo
from autotune.cli.options import json_option
from autotune.cli.text import echo_json, size


@click.command("devices")
@json_option
@click.option("--all", "all_devices", is_flag=True, help="Simulated devices too.")
@click.option("--probe/--no-probe", default=True, help="Measure peaks not known yet (seconds).")
def command(as_json: bool, all_devices: bool, probe: bool) -> None:
    """List every device, usable or not, with its limits and measured peaks."""
    from autotune.device_names import list_devices

    rows = [_row(info, probe) for info in list_devices(all=all_devices)]
    if as_json:
        echo_json(rows)
        return
    console = Console(soft_wrap=True)
    for row in rows:
        console.print(_table(row))
    if not any(row["usable"] for row in rows):
        console.print('No usable device. For the CPU: pip install "autotune-kernels\\[cpu]"')


def _row(info: DeviceInfo, probe: bool) -> dict[str, Any]:
    from autotune import peaks

    row: dict[str, Any] = {
        "name": info.name,
        "description": info.description,
        "usable": info.usable,
        "problem": info.problem,
        "driver": info.driver,
        "target": info.target.to_json() if info.target else None,
    }
    if info.usable:
        known = peaks.probe(info.name) if probe else peaks.known(info.name)
        row["peaks"] = known.to_json() if known else None
    return row


def _table(row: dict[str, Any]) -> Table:
    mark = "[green]usable[/]" if row["usable"] else "[red]not usable[/]"
    table = Table(title=f"[bold]{row['name']}[/]  {mark}", title_justify="left", box=None)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.show_header = False
    for label, text in _facts(row):
        table.add_row(label, text)
    return table


def _facts(row: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [("device", row["description"])]
    if row["problem"]:
        facts.append(("problem", row["problem"]))
    if row["driver"]:
        facts.append(("driver", row["driver"]))
    if row["target"]:
        limits = row["target"]["limits"]
        facts += [
            ("arch", row["target"]["arch"]),
            ("units", f"{limits.get('units', '?')}, groups of up to {limits.get('max_group')}"),
            ("local memory", size(limits.get("shared_bytes", 0))),
            ("vectors", f"{limits.get('vector_bytes', 0)} bytes"),
            ("memory", size(limits.get("memory_bytes", 0))),
            ("types", ", ".join(limits.get("dtypes", ()))),
        ]
    return facts + _peak_facts(row.get("peaks"))


def _peak_facts(peaks: dict[str, Any] | None) -> list[tuple[str, str]]:
    if not peaks:
        return []
    facts = [("copy", f"{peaks['copy_bytes_per_s'] / 1e9:.1f} GB/s, read plus written")]
    for dtype, flops_per_s in peaks["flops_per_s"].items():
        facts.append((f"{dtype} FMA", f"{flops_per_s / 1e9:.1f} GFLOP/s"))
    return facts
