"""The searches of `search.py`: made file by file, several at once if asked, and kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import click
import search_rivals
from search_spaces_files import SpaceFile, relatives

from autotune import knowledge
from autotune.leaderboard import Standing
from autotune.replay import Policy, Replayed, replay
from records.record import TuningRecord

RIVAL = "Kernel Tuner: "


@dataclass(frozen=True)
class Rivals:
    """Strategies of Kernel Tuner (all where the text is empty), and where their searches go."""

    python: str
    strategies: str
    folder: Path | None

    def kept(self, file: SpaceFile, trials: int, seeds: int) -> Path | None:
        settings = f"{trials}-{seeds}-{self.strategies or 'all'}"
        name = f"{file.name.replace('/', '__')}-{settings}.jsonl"
        return self.folder / name if self.folder is not None else None


@dataclass(frozen=True)
class Made:
    """A search that was made, and its trials."""

    replayed: Replayed
    records: Sequence[TuningRecord]


@dataclass(frozen=True)
class Job:
    """Searches of one file, with seeds from 0; `earlier`: what each of them knows."""

    file: SpaceFile
    policy: Policy
    trials: int
    batch: int
    earlier: Sequence[Sequence[TuningRecord]]
    noise: Path | None = None

    def made(self) -> list[Made]:
        space = self.file.load()
        repeats = None if self.noise is None else self.file.repeats(self.noise, space)
        made = []
        for seed, earlier in enumerate(self.earlier):
            told: list[TuningRecord] = []
            replayed = replay(
                self.policy,
                space,
                self.trials,
                seed,
                batch=self.batch,
                noise=repeats,
                earlier=earlier,
                told=told.append,
            )
            made.append(Made(replayed, told))
        return made


@dataclass(frozen=True)
class Runs:
    """Searches of some files; a space is loaded, searched and forgotten, its trials are kept."""

    files: Sequence[SpaceFile]
    seeds: int
    trials: int
    batch: int
    processes: int = 1
    kept: dict[tuple[str, SpaceFile], list[Made]] = field(default_factory=dict, repr=False)

    def cold(self, policy: Policy, noise: Path | None = None) -> Standing:
        if noise is not None:
            jobs = [self._job(file, policy, noise=noise) for file in self.files]
            made = _all_made(jobs, self.processes)
            return self._standing(policy.name, made)
        return self._standing(policy.name, self._cold(policy).values())

    def knowing_relatives(self, policy: Policy) -> Standing:
        """Of each file, for each seed, with the trials of the relatives' cold searches."""
        cold = self._cold(policy)
        jobs = [
            self._job(file, policy, _known([cold[each] for each in relatives(file, self.files)]))
            for file in self.files
        ]
        return self._standing(f"{policy.name}, knowing relatives", _all_made(jobs, self.processes))

    def kernel_tuner(self, rivals: Rivals) -> list[Standing]:
        """Of each strategy that ran on every file."""
        found: dict[str, list[list[Replayed]]] = {}
        for file in self.files:
            space = file.load()
            kept = rivals.kept(file, self.trials, self.seeds)
            for name, replays in search_rivals.searches(
                rivals.python, space, self.trials, self.seeds, rivals.strategies, kept
            ):
                if isinstance(replays, str):
                    click.echo(f"{RIVAL}{name} does not run on {file.name}: {replays}", err=True)
                else:
                    found.setdefault(name, []).append(replays)
        return [
            Standing.of(RIVAL + name, replays, self.trials)
            for name, replays in found.items()
            if len(replays) == len(self.files)
        ]

    def _cold(self, policy: Policy) -> dict[SpaceFile, list[Made]]:
        """Made once: those that know relatives need their trials again."""
        files = [file for file in self.files if (policy.name, file) not in self.kept]
        jobs = [self._job(file, policy) for file in files]
        for file, made in zip(files, _all_made(jobs, self.processes), strict=True):
            self.kept[policy.name, file] = made
        return {file: self.kept[policy.name, file] for file in self.files}

    def _job(
        self,
        file: SpaceFile,
        policy: Policy,
        earlier: Sequence[Sequence[TuningRecord]] | None = None,
        noise: Path | None = None,
    ) -> Job:
        known = [()] * self.seeds if earlier is None else earlier
        return Job(file, policy, self.trials, self.batch, known, noise)

    def _standing(self, name: str, made: Iterable[Sequence[Made]]) -> Standing:
        return Standing.of(name, [[each.replayed for each in of] for of in made], self.trials)


def _known(cold: Sequence[Sequence[Made]]) -> list[list[TuningRecord]]:
    """For each seed as many trials as the tuner lets a model learn from, of all relatives alike."""
    each = max(1, knowledge.MOST // len(cold))
    return [
        [record for made in seed for record in made.records[:each]]
        for seed in zip(*cold, strict=True)
    ]


def _all_made(jobs: Sequence[Job], processes: int) -> Iterator[list[Made]]:
    """In the order of the jobs, which are made in so many processes."""
    if processes == 1:
        yield from map(Job.made, jobs)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from pool.map(Job.made, jobs)
