"""`autotune space`."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from autotune.cli.options import device_option, json_option, op_group
from autotune.cli.text import echo_json
from autotune.cli.text import name as workload_name
from records.errors import InvalidInputError
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.space import SearchSpace
from search_spaces.template import Template


def space(
    workload: Workload, device: str | None, template: str | None, why: str | None, as_json: bool
) -> int:
    """Show the knobs, the exact number of schedules, and what each constraint removes.

    With --why, say in words which constraints a schedule breaks; exit code 1 if any.
    """
    from autotune.device_names import resolve

    target = resolve(device).target
    assert target is not None, "resolve gives usable devices"
    chosen = (
        [registry.template(workload.op, template)] if template else registry.templates(workload.op)
    )
    if why is not None:
        return _explain(workload, target, chosen, why)
    rows = [_row(each, workload, target) for each in chosen]
    if as_json:
        echo_json({"workload": workload.to_json(), "target": target.to_json(), "templates": rows})
        return 0
    console = Console(soft_wrap=True)
    console.print(f"[bold]{workload_name(workload)}[/] on {target.device}")
    for row in rows:
        _print(console, row)
    return 0


command = op_group(
    "space",
    space,
    device_option,
    click.option("--template", help="Only this template.  [default: all]"),
    click.option("--why", metavar="KNOB=VALUE,…", help="Which constraints these values break."),
    json_option,
)


def _row(template: Template, workload: Workload, target: Target) -> dict[str, Any]:
    reason = template.rejects(workload, target)
    row: dict[str, Any] = {"template": template.name, "rejects": reason}
    if reason:
        return row
    found = template.space(workload, target)
    row["knobs"] = [
        {"name": knob.name, "values": list(knob.values), "help": knob.help} for knob in found.knobs
    ]
    row["product"] = found.product
    row["size"] = found.size
    row["constraints"] = [
        {"knobs": list(constraint.knobs), "reason": constraint.reason, "removes": removed}
        for constraint, removed in found.removed()
    ]
    return row


def _print(console: Console, row: dict[str, Any]) -> None:
    console.print()
    if row["rejects"]:
        console.print(f"template [bold]{row['template']}[/]: not here: {row['rejects']}")
        return
    console.print(
        f"template [bold]{row['template']}[/]: {row['size']:,} schedules "
        f"of {row['product']:,} combinations"
    )
    knobs = Table("knob", "values", "what it does", box=None, padding=(0, 2, 0, 0))
    for knob in row["knobs"]:
        knobs.add_row(knob["name"], ", ".join(map(str, knob["values"])), knob["help"])
    console.print(knobs)
    constraints = Table("removes", "constraint", box=None, padding=(0, 2, 0, 0))
    for constraint in row["constraints"]:
        share = constraint["removes"] / max(1, row["product"])
        constraints.add_row(f"{share:.1%}", constraint["reason"])
    console.print(constraints)


def _explain(workload: Workload, target: Target, templates: Any, text: str) -> int:
    """Print why a schedule is refused by the templates that have these knobs."""
    given = parse_knobs(text)
    spaces: list[tuple[Template, SearchSpace]] = [
        (template, template.space(workload, target))
        for template in templates
        if not template.rejects(workload, target)
    ]
    fitting = [
        (template, found)
        for template, found in spaces
        if set(given) <= {knob.name for knob in found.knobs}
    ]
    if not fitting:
        known = {template.name: [knob.name for knob in found.knobs] for template, found in spaces}
        listing = "; ".join(f"{name}: {', '.join(knobs)}" for name, knobs in known.items())
        raise InvalidInputError(f"no template has all of {', '.join(given)}; knobs are {listing}")
    legal = True
    for template, found in fitting:
        reasons = found.violations(_typed(found, given))
        legal = legal and not reasons
        click.echo(f"{template.name}: {'legal' if not reasons else 'not legal'}")
        for reason in reasons:
            click.echo(f"  - {reason}")
    return 0 if legal else 1


def parse_knobs(text: str) -> dict[str, str]:
    """`a=1,b=true` as a dict of texts."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not pairs or any(not name.strip() or not mark for name, mark, _ in pairs):
        raise InvalidInputError(f"--why {text!r}: write knob=value, with commas between")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _typed(found: SearchSpace, given: dict[str, str]) -> dict[str, Any]:
    """Each text as the legal value it spells, or as it is."""
    spelt = {
        knob.name: {str(value).lower(): value for value in knob.values} for knob in found.knobs
    }
    return {name: spelt[name].get(value.lower(), value) for name, value in given.items()}
