"""`autotune space`."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from autotune.cli import EXIT_FAILED_CHECK, screen, text
from autotune.cli.options import device_option, json_option, op_group, present_target
from records.errors import InvalidInputError
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.fit import check_fits
from search_spaces.space import SearchSpace
from search_spaces.template import Template


def space(
    workload: Workload, device: str | None, template: str | None, why: str | None, as_json: bool
) -> int:
    """Show the knobs, the exact number of schedules, and what each constraint removes.

    With --why, say in words which constraints these values break; exit code 1 if any.
    """
    target = present_target(device)
    check_fits(workload, target)
    chosen = (
        [registry.template(workload.op, template)]
        if template
        else list(registry.templates(workload.op))
    )
    if why is not None:
        return _explain(workload, target, chosen, why, as_json)
    rows = [_row(each, workload, target) for each in chosen]
    if as_json:
        text.echo_json(
            {"workload": workload.to_json(), "target": target.to_json(), "templates": rows}
        )
        return 0
    screen.show(Text(f"{text.name(workload)} on {text.device(target)}", "bold"))
    for row in rows:
        _print(row)
    return 0


command = op_group(
    "space",
    space,
    device_option,
    click.option("--template", metavar="NAME", help="Only this template.  [default: all]"),
    click.option(
        "--why", metavar="KNOB=VALUE,…", help="Which constraints these values break, in words."
    ),
    json_option,
)


def _row(template: Template, workload: Workload, target: Target) -> dict[str, Any]:
    reason = template.rejects(workload, target)
    row: dict[str, Any] = {"template": template.name, "rejects": reason}
    if reason:
        return row
    found = template.space(workload, target)
    row["product"] = found.product
    row["size"] = found.size
    row["why_empty"] = found.why_empty()
    row["knobs"] = [
        {"name": knob.name, "values": list(knob.values), "help": knob.help} for knob in found.knobs
    ]
    row["constraints"] = [
        {
            "knobs": list(constraint.knobs),
            "reason": constraint.reason,
            "removes": removed,
            "only_it_removes": only,
        }
        for (constraint, removed), (_, only) in zip(
            found.removed(), found.removed_only(), strict=True
        )
    ]
    return row


def _print(row: dict[str, Any]) -> None:
    click.echo()
    title = Text.assemble("template ", (row["template"], "bold"))
    if row["rejects"]:
        screen.show(title + Text(f": not here: {row['rejects']}"))
        return
    counts = f": {text.counted(row['size'], 'schedule')} of {row['product']:,} combinations"
    screen.show(title + Text(counts))
    for reason in row["why_empty"]:
        screen.show(Text(f"  none is left: {reason}"))
    knobs = (
        (knob["name"], ", ".join(map(str, knob["values"])), knob["help"]) for knob in row["knobs"]
    )
    screen.show(Text(), screen.table(("knob", "values", "what it does"), knobs), Text())
    _print_constraints(row["constraints"], row["product"])


def _print_constraints(constraints: list[dict[str, Any]], product: int) -> None:
    """The most restrictive first; those that do nothing here are only counted."""
    removing = [each for each in constraints if each["removes"]]
    removing.sort(key=lambda each: -each["removes"])
    rows = (
        (
            _share(each["removes"], product),
            f"{each['only_it_removes']:,}",
            each["reason"],
        )
        for each in removing
    )
    headings = ("removes", "only it", "constraint")
    screen.show(screen.table(headings, rows, right=headings[:2]))
    idle = len(constraints) - len(removing)
    if idle:
        screen.show(f"{text.counted(idle, 'more constraint')}: nothing to remove here")


def _share(part: int, whole: int) -> str:
    share = part / max(1, whole)
    return "<0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _explain(
    workload: Workload, target: Target, templates: list[Template], why: str, as_json: bool
) -> int:
    """Print why these values are refused by the templates that have such knobs."""
    given = parse_knobs(why)
    answers: list[dict[str, Any]] = [
        {"template": template.name, "legal": not reasons, "reasons": reasons}
        for template, found in _with_knobs(given, workload, target, templates)
        for reasons in [found.violations(_typed(found, given))]
    ]
    if as_json:
        text.echo_json({"values": given, "templates": answers})
    for answer in [] if as_json else answers:
        click.echo(f"{answer['template']}: {'legal' if answer['legal'] else 'not legal'}")
        for reason in answer["reasons"]:
            click.echo(f"  - {reason}")
    return 0 if all(answer["legal"] for answer in answers) else EXIT_FAILED_CHECK


def _with_knobs(
    given: dict[str, str], workload: Workload, target: Target, templates: list[Template]
) -> list[tuple[Template, SearchSpace]]:
    """Templates that serve the workload and have all the knobs; an error that lists what is."""
    fitting, others = [], []
    for template in templates:
        reason = template.rejects(workload, target)
        found = None if reason else template.space(workload, target)
        if found is not None and set(given) <= {knob.name for knob in found.knobs}:
            fitting.append((template, found))
        else:
            knobs = ", ".join(knob.name for knob in found.knobs) if found else reason
            others.append(f"{template.name}: {knobs}")
    if not fitting:
        raise InvalidInputError(
            f"no template has knobs {', '.join(given)}; there are {'; '.join(others)}"
        )
    return fitting


def parse_knobs(given: str) -> dict[str, str]:
    """`a=1,b=true` as a dict of texts."""
    pairs = [part.partition("=") for part in given.split(",") if part.strip()]
    if not pairs or any(not name.strip() or not mark for name, mark, _ in pairs):
        raise InvalidInputError(f"--why {given!r}: write knob=value, with commas between")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _typed(found: SearchSpace, given: dict[str, str]) -> dict[str, Any]:
    """Each text as the legal value that it spells, or as it is."""
    values: dict[str, Any] = dict(given)
    for knob in found.knobs:
        if knob.name in given:
            try:
                values[knob.name] = knob.parse(given[knob.name])
            except InvalidInputError:
                pass  # `violations` says so, with the other reasons
    return values
