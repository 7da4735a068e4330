"""How long Kernel Tuner and pyATF take to build a space from its parameters and restrictions.

    python benchmarks/space_construction.py < spaces.json

Run by `search.py`, with the interpreter that has them; it imports nothing of this project. Reads a
JSON list of `params` and `restrictions`; prints a line of JSON for each: by tool `size` and `s`
(the shortest of nine), or `error`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

REPEATS = 9


def main() -> None:
    for space in asked(sys.stdin):
        tools = {"kernel_tuner": kernel_tuner, "pyatf": pyatf}
        print(json.dumps({name: timed(build, space) for name, build in tools.items()}), flush=True)


def asked(file: TextIO) -> list[Any]:
    """The spaces in the file, if the command line is right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    try:
        spaces = json.load(file)
    except json.JSONDecodeError as error:
        parser.error(f"what stands on stdin is no JSON: {error}; give it a list of spaces")
    if not isinstance(spaces, list):
        parser.error("what stands on stdin is no list of spaces; put brackets around a single one")
    return spaces


def timed(build: Callable[[Any], int], space: Any) -> dict[str, Any]:
    """The first build is not counted: it loads the library."""
    try:
        build(space)
        times_s = []
        for _ in range(REPEATS):
            started_s = time.perf_counter()
            size = build(space)
            times_s.append(time.perf_counter() - started_s)
    except Exception as error:  # of a tool that is missing or does not take this space
        return {"error": f"{type(error).__name__}: {error}"}
    return {"size": size, "s": min(times_s)}


def kernel_tuner(space: Any) -> int:
    from kernel_tuner.searchspace import Searchspace

    return int(Searchspace(space["params"], list(space["restrictions"]), 1 << 30).size)


def pyatf(space: Any) -> int:
    """Each rule stands at the last of its parameters, as pyATF wants it."""
    from pyatf import TP, Set
    from pyatf.search_space import SearchSpace

    names = list(space["params"])
    rules: dict[str, list[str]] = {name: [] for name in names}
    for rule in space["restrictions"]:
        read = [name for name in names if re.search(rf"\b{re.escape(name)}\b", rule)]
        rules[read[-1]].append(rule)
    parameters = []
    for name, values in space["params"].items():
        parameters.append(TP(name, Set(*values), _rule(name, rules[name], names)))
    return int(SearchSpace(*parameters, verbosity=0).constrained_size)


def _rule(own: str, rules: list[str], names: list[str]) -> Any:
    if not rules:
        return None
    text = " and ".join(f"({rule})" for rule in rules)
    read = [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)]
    others = [name for name in read if name != own]
    return eval(f"lambda {', '.join([*others, own])}: {text}")


if __name__ == "__main__":
    main()
