"""Times as other tools write them, and what they call their failures, as measurements."""

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

_FAILED_MS = 1e10
"""What takes longer is no time but a tool's way to say that there is none (1e20, infinity)."""


def failure(kind: str) -> Measurement:
    """A failed measurement; kinds that are not known count as refused by the driver."""
    for word, status in _BY_WORD:
        if word in kind.lower():
            return Measurement.failed(status, kind)
    return Measurement.failed(Status.LAUNCH_ERROR, kind)


def outcome(time_ms: object, kind: str = "failed") -> Measurement:
    """Of a time in milliseconds, or a failure of that kind where it is no positive number."""
    if isinstance(time_ms, int | float) and 0.0 < time_ms < _FAILED_MS:
        return Measurement.ok((time_ms * 1e-3,))
    return failure(time_ms if isinstance(time_ms, str) else kind)
