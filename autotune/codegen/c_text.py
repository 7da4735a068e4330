"""Pieces of C: literals and initialisers that every C99 and C++11 compiler accepts."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

_ESCAPES = {ord("\n"): "\\n", ord("\t"): "\\t", ord('"'): '\\"', ord("\\"): "\\\\"}


def string(text: str) -> str:
    """A string literal; what is not printable ASCII goes by the octal value of its UTF-8 bytes."""
    return '"' + "".join(_character(byte) for byte in text.encode()) + '"'


def _character(byte: int) -> str:
    if byte in _ESCAPES:
        return _ESCAPES[byte]
    if byte == ord("?"):  # "??=" would be a trigraph
        return "\\?"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"


def braces(items: Iterable[object]) -> str:
    """`{a, b}`. An empty list becomes `{0}`: C has no empty initialiser before C23."""
    return "{" + (", ".join(str(item) for item in items) or "0") + "}"


def comment(lines: Iterable[str]) -> str:
    """`//` lines of at most 100 columns, safe against what the text itself holds."""
    wrapped = []
    for line in lines:
        plain = " ".join(line.replace("\\", "/").split())
        plain = re.sub(r"\?+(?=/)", "?", plain)  # "??/" is a trigraph for a backslash
        wrapped += textwrap.wrap(plain, 94, subsequent_indent="    ") or [""]
    return "".join(f"// {line}".rstrip() + "\n" for line in wrapped)


def pieces(text: str, longest: int = 1000) -> list[str]:
    """The lines of `text`, long ones cut.

    C99 promises 4095 bytes in one literal, and a character takes up to 4 in UTF-8.
    """
    return [
        line[start : start + longest]
        for line in text.splitlines(keepends=True)
        for start in range(0, len(line), longest)
    ]
