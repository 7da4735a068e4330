"""What `compile` gives: a driver's binary with the circumstances in which it is valid."""

from __future__ import annotations

from typing import Any

from autotune.backends.opencl.driver import build, load_binary
from autotune.backends.opencl.target import standard
from records.canonical import canonical_json, digest
from records.errors import DeviceError
from search_spaces.kernel import KernelSource

_MAGIC = b"autotune-opencl-1\n"


def options_of(device: Any, source: KernelSource) -> tuple[str, ...]:
    """The source's own options, and a language standard where it names none."""
    if any(option.startswith("-cl-std") for option in source.options):
        return source.options
    return (standard(device), *source.options)


def packed(device: Any, program: Any) -> bytes:
    """A driver that gives no binary leaves an empty one: then `unpacked` compiles again."""
    index = [other.int_ptr for other in program.devices].index(device.int_ptr)
    return _MAGIC + _key(device) + bytes(program.binaries[index])


def unpacked(context: Any, device: Any, source: KernelSource, binary: bytes) -> Any:
    """The built program. Raises `DeviceError` where `binary` is another device's or driver's."""
    key = _key(device)
    header, body = binary[: len(_MAGIC) + len(key)], binary[len(_MAGIC) + len(key) :]
    if header != _MAGIC + key:
        raise DeviceError(
            f"this binary was not compiled for {device.name.strip()} with driver "
            f"{device.driver_version}: compile the source again"
        )
    program = load_binary(context, device, body) if body else None
    if program is None:  # not every driver takes its own binaries back
        program = build(context, device, source.text, options_of(device, source))
    return program


def _key(device: Any) -> bytes:
    """Sixteen digits for the silicon and everything that may change the code it runs."""
    platform = device.platform
    facts = [platform.name, platform.version, device.name, device.version, device.driver_version]
    return digest(canonical_json(facts)).encode()
