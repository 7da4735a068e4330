"""The error tree. One root, so that a caller can catch everything of ours with one name.

    AutotuneError
    ├── InvalidInputError       what was asked cannot be done; the message says what to change
    ├── MissingComponentError   a driver or an optional package is not there; says how to get it
    ├── DeviceError             a device was lost or refuses to work
    │   └── CompileError        the device's compiler refused a kernel; carries its log
    ├── DatabaseError           the tuning database cannot be used
    │   ├── DatabaseBusyError   another process holds the write lock for longer than we wait
    │   └── SchemaError         written by a newer version, or not a tuning database at all
    └── NotTunedError           the database has no usable record for a workload on a target

A bad *schedule* is none of these: it is a `Measurement` with a `Status` other than `ok`.
"""

from __future__ import annotations


class AutotuneError(Exception):
    """Root of all errors raised on purpose. The command line prints it and exits with 2."""


class InvalidInputError(AutotuneError, ValueError):
    """Input that names something impossible. The message gives need, limit and remedy."""


class MissingComponentError(AutotuneError):
    """A driver or optional package is absent. The message holds the line that installs it."""


class DeviceError(AutotuneError):
    """A device was lost, or fails at what it must be able to do."""


class CompileError(DeviceError):
    """The device's compiler refused a kernel; `str(error)` is the compiler's log."""


class DatabaseError(AutotuneError):
    """The tuning database cannot be read or written."""


class DatabaseBusyError(DatabaseError):
    """Another process kept the database locked for longer than the waiting time."""


class SchemaError(DatabaseError):
    """Not a tuning database, or one written by a newer version than this."""


class NotTunedError(AutotuneError, LookupError):
    """No usable record for this workload on this target; the message says how to tune it."""
