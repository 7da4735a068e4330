"""`autotune build`: the winners of a database as sources, manifest, C headers, CMake package."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autotune.codegen import c_text
from autotune.codegen.c_header import HEADER_FILE, header_text
from autotune.codegen.c_sources import SOURCES_FILE, sources_text
from autotune.codegen.cmake import CMAKE_FILE, CMAKE_TEXT
from autotune.codegen.cuda_header import CUDA_FILE, cuda_text
from autotune.codegen.locked import refuse_difference
from autotune.codegen.manifest import Manifest, ManifestKernel, sha256_of
from autotune.codegen.naming import kernel_name
from autotune.codegen.output import Changes, earlier_manifest, write_build
from autotune.codegen.winners import StaleWinnerError, Winner, Winners, winner
from records.canonical import Items
from records.errors import InvalidInputError, NotTunedError
from records.target import Target
from records.workload import Workload
from search_spaces.dialect import CUDA

EXACT = "exact"
_SUFFIXES = {"opencl": ".cl", "cuda": ".cu"}


@dataclass(frozen=True)
class BuildResult:
    """What a build made. `warnings` are sentences for a person: what was left out, and why."""

    directory: Path
    manifest: Manifest
    changes: Changes
    warnings: tuple[str, ...] = ()

    @property
    def kernels(self) -> tuple[ManifestKernel, ...]:
        return self.manifest.kernels


def build(
    database: Winners,
    target: Target,
    directory: str | os.PathLike[str],
    *,
    workloads: Sequence[Workload] | None = None,
    environment: Items | None = None,
    locked: bool = False,
) -> BuildResult:
    """Write the winners of `database` on `target` into `directory`, replacing an earlier build.

    Without `workloads`, every workload that has a winner there is built; one whose records cannot
    be made again (their template is gone or has changed) is left out with a warning. A listed
    workload must have a winner that can. The same database gives the same bytes. `environment`:
    the circumstances now, where known; a record of other ones is built with a warning.

    `locked` writes nothing that the manifest in `directory` does not already say: it restores the
    files of a manifest kept under version control, and refuses if anything would differ, or if a
    record is stale.

    Raises `NotTunedError` for a workload without a winner, or where there is nothing to build;
    `InvalidInputError` for a stale record, for files in `directory` that are not of a build, and
    for a locked build that differs.
    """
    path = Path(directory)
    earlier = earlier_manifest(path)
    asked = _Question(database, target, environment)
    if workloads is None:
        winners, warnings = asked.every(strict=locked)
    else:
        winners, warnings = asked.listed(workloads), []
    warnings += _doubts(winners, strict=locked)
    manifest, files = _contents(target, winners)
    if locked:
        refuse_difference(path, earlier, manifest)
    changes = write_build(path, files, manifest.to_text(), earlier)
    warnings += [
        f"{path / name} is no longer part of the build; it was edited, so it was kept"
        for name in changes.kept
    ]
    return BuildResult(path, manifest, changes, tuple(warnings))


@dataclass(frozen=True)
class _Question:
    """What is asked of the database, workload by workload."""

    database: Winners
    target: Target
    environment: Items | None

    def listed(self, workloads: Sequence[Workload]) -> list[Winner]:
        """A winner for each, or one error that names all that have none."""
        winners: list[Winner] = []
        missing: list[str] = []
        for workload in dict.fromkeys(workloads):
            try:
                winners.append(self._winner(workload))
            except NotTunedError as error:
                missing.append(str(error))
        if missing or not winners:
            raise NotTunedError("\n".join(missing) or "nothing to build: no workload was listed")
        return winners

    def every(self, strict: bool) -> tuple[list[Winner], list[str]]:
        """The winners there are, and what was left out; with `strict`, nothing may be."""
        winners: list[Winner] = []
        warnings: list[str] = []
        for workload in self.database.workloads():
            try:
                winners.append(self._winner(workload))
            except NotTunedError:
                continue  # tuned for another target
            except StaleWinnerError as error:
                if strict:
                    raise
                warnings.append(f"left out: {error}")
        if not winners:
            nothing = f"nothing to build: no winner on {self.target}; run autotune tune first"
            raise NotTunedError("\n".join([nothing, *warnings]))
        return winners, warnings

    def _winner(self, workload: Workload) -> Winner:
        return winner(self.database, workload, self.target, environment=self.environment)


def _doubts(winners: Iterable[Winner], strict: bool) -> list[str]:
    """What a person should know about winners that are not simply the fastest, measured now."""
    doubts: list[str] = []
    for each in winners:
        workload = each.record.workload
        if each.passed_over:
            doubts.append(f"{workload}: a faster record was passed over: {each.passed_over}")
        if each.how != EXACT:
            doubts.append(
                f"{workload}: the record is {each.how}, measured under another driver, compiler "
                "or timing plan; tune it again"
            )
            if strict:
                raise InvalidInputError(f"a locked build needs exact records; {doubts[-1]}")
    return doubts


def _contents(target: Target, winners: Iterable[Winner]) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest, and every other file by name."""
    texts: dict[str, str] = {}
    kernels: list[ManifestKernel] = []
    for each in winners:
        name = kernel_name(each.record.workload)
        texts[name] = source_text(each)
        kernels.append(_entry(name, each, texts[name]))
    kernels.sort(key=lambda kernel: kernel.name)
    files = {kernel.file: texts[kernel.name].encode() for kernel in kernels}
    bare = Manifest(target, tuple(kernels), {})
    files[HEADER_FILE] = header_text(bare).encode()
    files[SOURCES_FILE] = sources_text(texts, bare.kernels).encode()
    files[CMAKE_FILE] = CMAKE_TEXT.encode()
    if any(kernel.dialect == CUDA.name for kernel in kernels):
        files[CUDA_FILE] = cuda_text().encode()
    digests = {name: sha256_of(data) for name, data in files.items()}
    return Manifest(target, bare.kernels, digests), files


def _entry(name: str, winner: Winner, text: str) -> ManifestKernel:
    record, source = winner.record, winner.source
    return ManifestKernel(
        name=name,
        workload=record.workload,
        schedule=record.schedule,
        dialect=source.dialect,
        file=name + _SUFFIXES[source.dialect],
        sha256=sha256_of(text.encode()),
        options=winner.options,
        arrays=source.arrays,
        scratch=source.scratch,
        launches=source.launches,
        tensor_maps=source.tensor_maps,
        expected_time_s=winner.time_s,
        flops=winner.flops,
        measured_at=record.created_at,
        how=winner.how,
    )


def source_text(winner: Winner) -> str:
    """The kernel's text under a comment that says where it comes from."""
    record = winner.record
    rate = winner.flops / winner.time_s / 1e9
    head = c_text.comment(
        [
            "Generated by autotune build.",
            f"Workload: {record.workload}",
            f"Target:   {record.target}",
            f"Schedule: {record.schedule}",
            f"Measured: {winner.time_s:.4g} s, {rate:.4g} GFLOP/s, {record.created_at}",
            f"Options:  {' '.join(winner.options) or 'none'}",
        ]
    )
    return f"{head}\n{winner.source.text.rstrip()}\n"
