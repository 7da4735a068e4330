"""Finding a device by name, and opening it."""

from __future__ import annotations

from autotune import backends
from autotune.backends.base import Backend, DeviceInfo
from records.errors import InvalidInputError, MissingComponentError

_HIDDEN = ("sim",)


def list_devices(*, all: bool = False) -> list[DeviceInfo]:
    """Every device of every backend, usable or not; simulated ones with `all` only."""
    names = [name for name in backends.BACKENDS if all or name not in _HIDDEN]
    return [info for name in names for info in backends.load(name).list_devices()]


def resolve(name: str | None = None) -> DeviceInfo:
    """The device that a name means; without one, the fastest usable: GPUs go before CPUs.

    Names: `opencl:<platform>:<device>`, `opencl:<text>` (part of the device's or platform's
    name, or `cpu`, `gpu`), `cuda:<index>`, `sim:<name>`, or a backend alone. Case is ignored.
    The fastest usable of several matches is taken. Raises `InvalidInputError` where nothing
    matches, `MissingComponentError` where what matches cannot be used.
    """
    if name is None:
        return _first_usable(list_devices(), "no device can be used")
    backend, _, rest = name.strip().lower().partition(":")
    if backend not in backends.BACKENDS:
        raise _unknown(name)
    known = backends.load(backend).list_devices()
    exact = [info for info in known if info.name.lower() == f"{backend}:{rest}"]
    matching = exact or [info for info in known if _matches(info, rest)]
    if not matching:
        raise _unknown(name)
    if len(matching) == 1 and is_simulator(matching[0]):
        return matching[0]  # never a default, but there for who names it
    return _first_usable(matching, f"{name} cannot be used")


def open_backend(name: str | None = None) -> Backend:
    """The device of `resolve(name)`, open."""
    info = resolve(name)
    return backends.load(info.backend).open(info.name)


def is_simulator(info: DeviceInfo) -> bool:
    """Whether the device interprets kernels to check them, at no meaningful speed."""
    return info.target is not None and bool(info.target.limit("simulator", False))


def _matches(info: DeviceInfo, text: str) -> bool:
    kind = info.target.limit("kind", "") if info.target else ""
    return text == kind or text in info.description.lower()


def _first_usable(infos: list[DeviceInfo], otherwise: str) -> DeviceInfo:
    usable = [info for info in infos if info.usable]
    if usable:
        return min(usable, key=lambda info: info.target is not None and info.target.is_cpu)
    problems = "; ".join(f"{info.name}: {info.problem}" for info in infos)
    raise MissingComponentError(f"{otherwise}: {problems or 'no backend lists one'}")


def _unknown(name: str) -> InvalidInputError:
    known = list_devices(all=name.strip().lower().startswith(_HIDDEN))
    usable = ", ".join(f"{info.name} ({info.description})" for info in known if info.usable)
    return InvalidInputError(
        f"no device {name!r}; there are: {usable or 'none that can be used'}; "
        "`autotune devices` lists all, with what they lack"
    )
