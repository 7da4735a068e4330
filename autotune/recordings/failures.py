"""What other tools call their failures, as statuses."""

from __future__ import annotations

from records.measurement import Measurement, Status

_BY_WORD = (
    ("compil", Status.COMPILE_ERROR),
    ("timeout", Status.TIMEOUT),
    ("correct", Status.WRONG_RESULT),
    ("verif", Status.WRONG_RESULT),
    ("constraint", Status.INVALID),
    ("invalid", Status.INVALID),
)


def failure(kind: str) -> Measurement:
    """A failed measurement; kinds that are not known count as refused by the driver."""
    for word, status in _BY_WORD:
        if word in kind.lower():
            return Measurement.failed(status, kind)
    return Measurement.failed(Status.LAUNCH_ERROR, kind)
