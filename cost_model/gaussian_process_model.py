"""The Gaussian process as a cost model: few trials, and an honest account of what is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress

import numpy as np

from cost_model.base import Expectation, Floats, Prediction
from cost_model.coordinates import Column, Context, Coordinates, KnobTable
from cost_model.examples import Examples, Places, joined
from cost_model.gaussian_process import GaussianProcess, Observations, Posterior
from cost_model.groups import Group, known_groups
from cost_model.kept import KeptOfTuple
from cost_model.refits import Effort, Refits
from cost_model.table import FindTemplate, quantities_of
from cost_model.trend import trend
from records.record import TuningRecord
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry
from search_spaces.threads import single_threaded_products

ALIKE = 1e-4
"""Deviation of logarithms of speeds up to which they are one speed: no device is timed so well."""


@dataclass(frozen=True)
class Settings:
    """What bounds a fit.

    `enough`: schedules that worked before it is ready. `most`: examples a template. `effort` of
    finding hyperparameters. Of an `Expectation` the deviation counts as much as that of so many
    examples, `believed`, and what it misses deviates by `missed` at least, in deviations of all:
    the first schedules are those that it promises most of, and say little of the others.
    """

    enough: int = 4
    most: int = 400
    effort: Effort = Effort()
    believed: float = 8.0
    missed: float = 0.3


@dataclass(frozen=True)
class _Fitted:
    """`offset`: how far the template's mean is from everyone's, in deviations."""

    coordinates: Coordinates
    process: GaussianProcess
    offset: float

    def at(self, columns: Sequence[Column], doubts: Floats | None) -> Posterior:
        inputs = self.coordinates(columns)
        return self.process.at(inputs, _linear(inputs, doubts))


@dataclass(frozen=True)
class _Memory:
    """Of one template, from fit to fit: it saves time and changes no prediction."""

    knobs: KnobTable
    refits: Refits


class GaussianProcessModel:
    """Regression on the logarithm of the speed, clipped, by knobs alone; one process a template.

    Templates share the mean and the deviation of speeds, which is also what is expected of a
    template not tried yet. Where records are of several workloads or targets, their sizes and
    limits are coordinates too. `score` is the logarithm of runs a second (of the speed relative
    to the best where the workload is new). Times that scatter weigh less.
    """

    def __init__(
        self,
        seed: int = 0,
        settings: Settings | None = None,
        find_template: FindTemplate = registry.template,
        expectation: Expectation | None = None,
    ) -> None:
        """`seed` is taken for the sake of the common constructor: nothing here is random.

        With an expectation of one workload on one target the model is ready at once, for that one;
        what it is given to learn from must be of that one alone.
        """
        self._expectation = expectation
        self._settings = settings or Settings()
        self._find_template = find_template
        self._memories: dict[str, _Memory] = {}
        self._context = Context(())
        self._best: dict[tuple[Workload, Target], float] = {}
        self._fitted: dict[str, _Fitted] = {}
        self._mean, self._deviation = 0.0, 1.0
        self._by_template = KeptOfTuple(_by_template)

    @property
    def ready(self) -> bool:
        return bool(self._fitted) or self._expectation is not None

    def fit(self, records: Sequence[TuningRecord]) -> None:
        groups = known_groups(records, self._find_template)
        self._fitted = {}
        worked = sum(group.worked for group in groups)
        if worked < (self._settings.enough if self._expectation is None else 1):
            return
        self._best = {
            (group.workload, group.target): -float(np.log(group.best_s))
            for group in groups
            if group.worked
        }
        self._context = Context([(group.workload, group.target) for group in groups])
        labels = np.concatenate([group.log_speeds for group in groups])
        self._mean, self._deviation = self._scale(labels)
        templates = dict.fromkeys(each.template for group in groups for each in group.schedules)
        with single_threaded_products():
            for template in templates:
                self._fitted[template] = self._fit(template, self._examples(template, groups))

    def predict(
        self, workload: Workload, target: Target, schedules: Sequence[Schedule]
    ) -> Prediction:
        if not self.ready:
            raise RuntimeError("the cost model has not learnt enough: ask `ready` first")
        best = self._best.get((workload, target), 0.0)
        mean, deviation = np.zeros(len(schedules)), np.ones(len(schedules))
        expected, doubts = self._expected(schedules)
        if doubts is not None:
            deviation = np.sqrt(1.0 + np.square(doubts).sum(axis=1))
        parts: list[tuple[Places, Posterior]] = []
        for template, places in self._by_template(schedules).items():
            fitted = self._fitted.get(template)
            if fitted is None:
                continue
            own = schedules if len(places) == len(schedules) else [schedules[at] for at in places]
            columns = self._columns(template, own, workload, target)
            with single_threaded_products():
                posterior = fitted.at(columns, None if doubts is None else doubts[places])
            mean[places] = posterior.mean + fitted.offset
            deviation[places] = posterior.deviation
            parts.append((places, posterior))
        deviation *= self._deviation
        return Prediction(
            self._mean + self._deviation * (mean + expected) + best,
            deviation,
            best,
            covariance=_Covariance(parts, deviation, self._deviation),
        )

    def expected(self, schedules: Sequence[Schedule]) -> Floats:
        """By the expectation, corrected by what was learnt of its doubts; 0 without one."""
        if self._expectation is None:
            return np.zeros(len(schedules))
        mean = self._expectation.mean(schedules)
        doubts = self._expectation.doubts(schedules)
        for template, places in self._by_template(schedules).items():
            if template in self._fitted:
                mean[places] += doubts[places] @ self._fitted[template].process.coefficients
        return mean

    def _scale(self, labels: Floats) -> tuple[float, float]:
        """Mean and deviation; a few labels do not tell theirs where more is known."""
        if self._expectation is None:
            return float(labels.mean()), _unit(float(labels.std()))
        believed = self._settings.believed
        total = believed * self._expectation.deviation**2 + len(labels) * float(labels.var())
        return 0.0, _unit(float(np.sqrt(total / (believed + len(labels)))))

    def _expected(self, schedules: Sequence[Schedule]) -> tuple[Floats, Floats | None]:
        """In deviations of all labels."""
        if self._expectation is None:
            return np.zeros(len(schedules)), None
        mean = self._expectation.mean(schedules) / self._deviation
        return mean, self._expectation.doubts(schedules) / self._deviation

    def _columns(
        self, template: str, schedules: Sequence[Schedule], workload: Workload, target: Target
    ) -> list[Column]:
        if template not in self._memories:
            quantities = quantities_of(self._find_template, workload.op, template)
            self._memories[template] = _Memory(KnobTable(quantities), Refits(self._settings.effort))
        knobs = self._memories[template].knobs.columns(schedules)
        return [*knobs, *self._context.columns(workload, target, len(schedules))]

    def _examples(self, template: str, groups: Sequence[Group]) -> Examples:
        where = [
            np.array([each.template == template for each in group.schedules]) for group in groups
        ]
        parts = list(zip(groups, where, strict=True))
        own = [list(compress(group.schedules, places)) for group, places in parts]
        blocks = [
            self._columns(template, schedules, group.workload, group.target)
            for group, schedules in zip(groups, own, strict=True)
            if schedules
        ]
        labels = np.concatenate([group.log_speeds[places] for group, places in parts])
        noise = np.concatenate([group.log_variances[places] for group, places in parts])
        return Examples(
            [joined(columns) for columns in zip(*blocks, strict=True)],
            (labels - self._mean) / self._deviation,
            noise / self._deviation**2,
            *self._expected(list(chain.from_iterable(own))),
        )

    def _fit(self, template: str, examples: Examples) -> _Fitted:
        examples = examples.limited(self._settings.most)
        coordinates = Coordinates(self._met(template, examples.columns), len(self._context))
        surprises = examples.labels - examples.expected
        offset = float(surprises.sum()) / (len(surprises) + 1.0)
        inputs = coordinates(examples.columns)
        observations = Observations(
            inputs,
            surprises - offset,
            examples.noise,
            coordinates.groups,
            _linear(inputs, examples.doubts),
        )
        found = self._memories[template].refits.hyperparameters(observations)
        if self._expectation is not None:
            found = replace(found, amplitude=max(found.amplitude, np.log(self._settings.missed)))
        process = GaussianProcess(observations, found)
        return _Fitted(coordinates, process, offset)

    def _met(self, template: str, columns: list[Column]) -> list[Column]:
        """With what others measured: the first few schedules may agree in most of their knobs."""
        others = [] if self._expectation is None else self._expectation.measured(template)
        if not others:
            return columns
        theirs = self._memories[template].knobs.columns(others)
        return [joined(pair) for pair in zip(columns, theirs, strict=True)]


def _linear(inputs: Floats, doubts: Floats | None) -> Floats:
    """What is learnt beside the smooth function: an expectation has its own idea of trends."""
    return trend(inputs) if doubts is None else doubts


def _unit(deviation: float) -> float:
    """For labels to be told in; the rounding of times that are all alike is none."""
    return deviation if deviation > ALIKE else 1.0


def _by_template(schedules: Sequence[Schedule]) -> dict[str, Places]:
    """Where the schedules of each template stand."""
    names = np.array([schedule.template for schedule in schedules])
    return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}


@dataclass(frozen=True)
class _Covariance:
    """Of a prediction whose templates know nothing of each other."""

    parts: list[tuple[Places, Posterior]]
    spread: Floats
    unit: float

    def __call__(self, place: int) -> Floats:
        covariance = np.zeros(len(self.spread))
        for places, posterior in self.parts:
            at = int(np.searchsorted(places, place))
            if at < len(places) and places[at] == place:
                covariance[places] = posterior.covariance(at) * self.unit**2
        covariance[place] = self.spread[place] ** 2
        return covariance
