"""The architecture, checked: who may import whom, and what `import autotune` costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = ("records", "search_spaces", "cost_model", "autotune")
"""Each imports only from those before it."""

LIGHT = {"numpy": {"search_spaces", "cost_model", "autotune"}}
"""Third-party packages and the layers that may use them anywhere."""

CONFINED = {
    "click": {"autotune.cli"},
    "cuda": {"autotune.backends.cuda"},
    "pycuda": {"autotune.backends.cuda"},
    "pynvml": {"autotune.backends.cuda"},
    "plotly": {"autotune.leaderboard_plot"},
    "pyopencl": {"autotune.backends.opencl.driver"},
    "pytest": {"autotune.testing"},
    "rich": {"autotune.cli"},
    "scipy": {"autotune.libraries", "cost_model.acquisition", "cost_model.gaussian_process"},
    "sklearn": {"cost_model.evaluate", "cost_model.forest_model", "cost_model.pretrained"},
    "sqlite_utils": {"records.connection"},
    "threadpoolctl": {"autotune.libraries", "search_spaces.threads"},
    "torch": {"autotune.libraries"},
    "xgboost": {"cost_model.feasibility", "cost_model.pretrained", "cost_model.xgboost_model"},
}
"""Other third-party packages, and the module or package that each is confined to."""

COSTLY = ("click", "cuda", "pycuda", "pyopencl", "rich", "sklearn", "sqlite_utils", "xgboost")
"""Not imported by `import autotune`."""


@dataclass(frozen=True)
class Import:
    """`module` imports `name` at `line`; `lazy` inside a function."""

    module: str
    name: str
    line: int
    lazy: bool

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}: imports {self.name}"


def modules() -> dict[str, Path]:
    """Every module of the four packages by its dotted name."""
    found = {}
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    return tuple(
        found
        for module, path in modules().items()
        for found in imports_of(module, path.read_text(), is_package=path.name == "__init__.py")
    )


def imports_of(module: str, source: str, *, is_package: bool = False) -> Iterator[Import]:
    """All imports of a text: statements, guarded or not, and `import_module("name")`."""
    package = module if is_package else module.rpartition(".")[0]
    yield from _imports_in(ast.parse(source), module, package, lazy=False)


def _imports_in(node: ast.AST, module: str, package: str, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for name in _names(child, package):
            yield Import(module, name, getattr(child, "lineno", 0), lazy)
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports_in(child, module, package, lazy=lazy or is_function)


def _names(node: ast.AST, package: str) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=name, names=names, level=level):
            parent = package.split(".")[: len(package.split(".")) - level + 1] if level else []
            source = ".".join([*parent, *([name] if name else [])])
            return [f"{source}.{alias.name}" for alias in names]
        case ast.Call(
            func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return [name]
    return []


def is_within(module: str, homes: set[str]) -> bool:
    return any(module == home or module.startswith(f"{home}.") for home in homes)


def to_the_right(found: Import) -> bool:
    layer = found.module.partition(".")[0]
    return found.package in LAYERS and LAYERS.index(found.package) > LAYERS.index(layer)


def out_of_place(found: Import) -> bool:
    """A third-party package that this module may not import, or that no table has."""
    package = found.package
    if package in LAYERS or package in sys.stdlib_module_names:
        return False
    return not is_within(found.module, LIGHT.get(package) or CONFINED.get(package, set()))


def cycle(found: tuple[Import, ...], known: set[str]) -> list[str]:
    """A cycle of imports made while modules load, `TYPE_CHECKING` ones too; `[]` if none."""
    graph: dict[str, set[str]] = {module: set() for module in known}
    for each in found:
        target = each.name if each.name in known else each.name.rpartition(".")[0]
        if not each.lazy and target in known and target != each.module:
            graph[each.module].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_arrows_point_to_the_left() -> None:
    assert [str(found) for found in imports() if to_the_right(found)] == []


def test_third_party_packages_stay_where_they_belong() -> None:
    assert [str(found) for found in imports() if out_of_place(found)] == []


def test_tables_name_modules_that_exist() -> None:
    homes = {home for places in CONFINED.values() for home in places}
    assert homes <= set(modules())


def test_there_are_no_cycles_not_even_for_types() -> None:
    assert cycle(imports(), set(modules())) == []


def test_every_folder_of_modules_is_a_package() -> None:
    """Others are not installed."""
    folders = {path.parent for path in modules().values()}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("records.store", "from autotune.api import tune"),
        ("records.store", "def late():\n    from search_spaces import registry"),
        ("search_spaces.space", "import cost_model.base"),
        ("cost_model.base", "from importlib import import_module\nimport_module('autotune.api')"),
    ],
)
def test_an_arrow_to_the_right_is_found(module: str, line: str) -> None:
    assert any(map(to_the_right, imports_of(module, line)))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("autotune.api", "import pyopencl as cl"),
        ("autotune.tuner", "if True:\n    from rich.table import Table"),
        ("records.store", "import numpy"),
        ("autotune.libraries", "import ray"),
        ("cost_model.base", "def late():\n    import xgboost"),
    ],
)
def test_a_package_out_of_place_is_found(module: str, line: str) -> None:
    assert any(map(out_of_place, imports_of(module, line)))


def test_a_cycle_through_type_checking_is_found() -> None:
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import B"
    found = (*imports_of("p.a", guarded), *imports_of("p.b", "from p import a"))
    assert set(cycle(found, {"p", "p.a", "p.b"})) == {"p.a", "p.b"}


def test_a_relative_import_is_resolved() -> None:
    names = [found.name for found in imports_of("a.b.c", "from .. import d\nfrom .e import f")]
    assert names == ["a.d", "a.b.e.f"]
    assert [found.name for found in imports_of("a.b", "from . import c", is_package=True)] == [
        "a.b.c"
    ]


def test_import_autotune_is_light() -> None:
    code = f"import sys, autotune; print([name for name in {COSTLY!r} if name in sys.modules])"
    assert python(code) == "[]"


def test_every_public_name_resolves_and_no_module_hides_it() -> None:
    code = """
import importlib, pkgutil, types, autotune
for found in pkgutil.walk_packages(autotune.__path__, "autotune."):
    if not found.name.startswith("autotune.testing"):
        importlib.import_module(found.name)
values = {name: getattr(autotune, name) for name in autotune.__all__}
print([name for name, value in values.items() if isinstance(value, types.ModuleType)])
print(sorted(values) == sorted(dir(autotune)) == sorted(autotune.__all__))
"""
    assert python(code).split("\n") == ["[]", "True"]


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
