"""The manifest of a build: everything that a host program must know to launch its kernels.

The format is described in docs/build-format.md; a change that a reader of the old format would
misread raises `FORMAT_VERSION`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from records.errors import InvalidInputError
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces.kernel import Array, KernelSource, Launch, Scratch
from search_spaces.tensor_map import TensorMap

FORMAT = "autotune-kernels"
FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class ManifestKernel:
    """One kernel of a build. `expected_time_s`: the median that won, seconds for all launches.

    `sha256` is of the file's bytes. `how` is how the database came to this record (`"exact"`,
    or what is different); `measured_at` is UTC, ISO 8601. `flops` counts the useful work.
    """

    name: str
    workload: Workload
    schedule: Schedule
    dialect: str
    file: str
    sha256: str
    options: tuple[str, ...]
    arrays: tuple[Array, ...]
    scratch: tuple[Scratch, ...]
    launches: tuple[Launch, ...]
    expected_time_s: float
    flops: float
    measured_at: str
    how: str
    tensor_maps: tuple[TensorMap, ...] = ()

    @property
    def argument_names(self) -> tuple[str, ...]:
        """Of arrays and scalars, then scratch, then tensor maps: as the C header counts them."""
        arrays = (array.name for array in self.arrays)
        scratch = (each.name for each in self.scratch)
        return (*arrays, *scratch, *(tensor.name for tensor in self.tensor_maps))

    def source(self, text: str) -> KernelSource:
        """What a backend compiles and launches, given the text of `file`."""
        return KernelSource(
            self.dialect,
            text,
            self.launches,
            self.arrays,
            self.scratch,
            self.options,
            self.tensor_maps,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "workload": self.workload.to_json(),
            "schedule": self.schedule.to_json(),
            "source": {"dialect": self.dialect, "file": self.file, "sha256": self.sha256},
            "options": list(self.options),
            "arguments": [_array_to_json(array) for array in self.arrays]
            + [_scratch_to_json(scratch) for scratch in self.scratch],
            "tensor_maps": [_tensor_map_to_json(tensor) for tensor in self.tensor_maps],
            "launches": [_launch_to_json(launch) for launch in self.launches],
            "expected_time_s": self.expected_time_s,
            "flops": self.flops,
            "measured_at": self.measured_at,
            "how": self.how,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ManifestKernel:
        arguments = data["arguments"]
        return cls(
            name=data["name"],
            workload=Workload.from_json(data["workload"]),
            schedule=Schedule.from_json(data["schedule"]),
            dialect=data["source"]["dialect"],
            file=data["source"]["file"],
            sha256=data["source"]["sha256"],
            options=tuple(data["options"]),
            arrays=tuple(_array(item) for item in arguments if item["role"] != "scratch"),
            scratch=tuple(
                Scratch(item["name"], item["bytes"])
                for item in arguments
                if item["role"] == "scratch"
            ),
            launches=tuple(_launch(item) for item in data["launches"]),
            expected_time_s=float(data["expected_time_s"]),
            flops=float(data["flops"]),
            measured_at=data["measured_at"],
            how=data["how"],
            tensor_maps=tuple(_tensor_map(item) for item in data.get("tensor_maps", ())),
        )


@dataclass(frozen=True)
class Manifest:
    """A build: its target, its kernels by name, and the SHA-256 of each file beside it."""

    target: Target
    kernels: tuple[ManifestKernel, ...]
    files: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "target": self.target.to_json(),
            "kernels": [kernel.to_json() for kernel in self.kernels],
            "files": dict(sorted(self.files.items())),
        }

    def to_text(self) -> str:
        """The bytes of `manifest.json`: the same manifest gives the same text."""
        return json.dumps(self.to_json(), indent=2, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        version = data.get("format_version")
        if data.get("format") != FORMAT or version != FORMAT_VERSION:
            raise InvalidInputError(
                f"need a manifest of format {FORMAT} version {FORMAT_VERSION}, "
                f"got {data.get('format')!r} version {version!r}"
            )
        return cls(
            Target.from_json(data["target"]),
            tuple(ManifestKernel.from_json(kernel) for kernel in data["kernels"]),
            {str(file): str(sha256) for file, sha256 in data["files"].items()},
        )

    @classmethod
    def from_text(cls, text: str) -> Manifest:
        """Raises `InvalidInputError` for anything but a manifest of this format."""
        try:
            data = json.loads(text)
            if not isinstance(data, dict):
                raise ValueError("not a JSON object")
            return cls.from_json(data)
        except InvalidInputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"not a manifest of {FORMAT}: {error!r}") from None


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _array_to_json(array: Array) -> dict[str, Any]:
    return {
        "name": array.name,
        "role": array.role,
        "dtype": array.dtype,
        "shape": list(array.shape),
    }


def _array(data: Mapping[str, Any]) -> Array:
    return Array(data["name"], tuple(data["shape"]), data["dtype"], data["role"])


def _scratch_to_json(scratch: Scratch) -> dict[str, Any]:
    return {"name": scratch.name, "role": "scratch", "bytes": scratch.bytes}


def _tensor_map_to_json(tensor: TensorMap) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "array": tensor.array,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "strides": list(tensor.strides),
        "box": list(tensor.box),
        "swizzle_bytes": tensor.swizzle_bytes,
        "l2_promotion_bytes": tensor.l2_promotion_bytes,
        "interleave_bytes": tensor.interleave_bytes,
        "fill": tensor.fill,
    }


def _tensor_map(data: Mapping[str, Any]) -> TensorMap:
    tuples = {name: tuple(data[name]) for name in ("shape", "strides", "box")}
    return TensorMap(**{**data, **tuples})


def _launch_to_json(launch: Launch) -> dict[str, Any]:
    return {
        "kernel": launch.kernel,
        "groups": list(launch.groups),
        "group_size": list(launch.group_size),
        "shared_bytes": launch.shared_bytes,
        "arguments": list(launch.arguments),
    }


def _launch(data: Mapping[str, Any]) -> Launch:
    x, y, z = data["groups"]
    width, height, depth = data["group_size"]
    return Launch(
        data["kernel"],
        (x, y, z),
        (width, height, depth),
        tuple(data["arguments"]),
        data["shared_bytes"],
    )
