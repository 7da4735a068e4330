"""The tables: which ops there are, and which templates serve each. One line an entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from records.errors import InvalidInputError
from records.workload import Workload
from search_spaces.attention.cpu import CPU_ATTENTION
from search_spaces.attention.cpu_decode import CPU_DECODE_ATTENTION
from search_spaces.attention.decode import DECODE_ATTENTION
from search_spaces.attention.mma_sync import MMA_SYNC_ATTENTION
from search_spaces.attention.op import ATTENTION
from search_spaces.attention.portable import PORTABLE_ATTENTION
from search_spaces.attention.wgmma import WGMMA_ATTENTION
from search_spaces.matmul.cpu import CPU
from search_spaces.matmul.mma_sync import MMA_SYNC
from search_spaces.matmul.op import MATMUL
from search_spaces.matmul.portable import PORTABLE
from search_spaces.matmul.skinny import SKINNY
from search_spaces.matmul.wgmma import WGMMA
from search_spaces.op import Op
from search_spaces.template import Template

OPS: dict[str, Op] = {
    MATMUL.name: MATMUL,
    ATTENTION.name: ATTENTION,
}

_TEMPLATES: list[Template] = [
    CPU,
    PORTABLE,
    MMA_SYNC,
    SKINNY,
    WGMMA,
    CPU_ATTENTION,
    CPU_DECODE_ATTENTION,
    PORTABLE_ATTENTION,
    MMA_SYNC_ATTENTION,
    DECODE_ATTENTION,
    WGMMA_ATTENTION,
]


def op(name: str) -> Op:
    """The op of that name, or `InvalidInputError` listing the names there are."""
    try:
        return OPS[name]
    except KeyError:
        raise InvalidInputError(f"no op {name!r}; there are: {', '.join(sorted(OPS))}") from None


def validated(data: Mapping[str, Any]) -> Workload:
    """A workload from its JSON form, checked by its op."""
    return op(str(data["op"])).workload(**data["params"])


def templates(op_name: str) -> tuple[Template, ...]:
    """Every template of an op, in order of registration."""
    return tuple(template for template in _TEMPLATES if template.op == op_name)


def template(op_name: str, name: str) -> Template:
    """The template of that name, or `InvalidInputError` listing the names there are."""
    known = {template.name: template for template in templates(op_name)}
    if name not in known:
        raise InvalidInputError(
            f"no template {name!r} for {op_name}; there are: {', '.join(known) or 'none'}"
        )
    return known[name]


def register_template(template: Template) -> None:
    """Add a template (a user's own too), replacing one of the same op and name."""
    _TEMPLATES[:] = [
        known for known in _TEMPLATES if (known.op, known.name) != (template.op, template.name)
    ]
    _TEMPLATES.append(template)
