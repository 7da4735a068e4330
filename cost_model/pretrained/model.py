"""A model in a file: a header line, and after it XGBoost's own UBJ or JSON. Nothing is executed.

`tail -n +2 model.ubj` gives the file that XGBoost itself reads.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import xgboost

from cost_model.base import Prediction
from cost_model.pretrained.header import Header
from cost_model.table import FeatureTable, FindTemplate, Matrix
from records.errors import InvalidInputError
from records.peaks import NO_PEAKS, PeaksOf
from records.schedule import Schedule
from records.target import Target
from records.workload import Workload
from search_spaces import registry

_LARGEST_HEADER_BYTES = 1 << 20


class PretrainedModel:
    """Trees that predict the logarithm of a schedule's speed relative to the best of its workload.

    The scores compare schedules of one workload on one target, as those of every cost model; it
    has no notion of its uncertainty.
    """

    def __init__(
        self,
        header: Header,
        booster: xgboost.Booster,
        find_template: FindTemplate = registry.template,
        peaks: PeaksOf = NO_PEAKS,
    ) -> None:
        self.header = header
        self._booster = booster
        self._table = FeatureTable(find_template, peaks)

    def predict(
        self, workload: Workload, target: Target, schedules: Sequence[Schedule]
    ) -> Prediction:
        count = len(schedules)
        if not count:
            return Prediction(np.zeros(0), np.zeros(0))
        matrix = self._table.matrix(workload, target, schedules)
        features = aligned(matrix, self._table.names, self.header.features)
        score = np.asarray(self._booster.inplace_predict(features), dtype=np.float64)
        return Prediction(score, np.zeros(count))

    @property
    def importance(self) -> dict[str, float]:
        """Each feature's share of what all splits gained, the largest first."""
        gains = self._booster.get_score(importance_type="total_gain")
        found = {self.header.features[int(name[1:])]: float(gain) for name, gain in gains.items()}
        total = sum(found.values()) or 1.0
        ranked = sorted(found.items(), key=lambda item: -item[1])
        return {name: gain / total for name, gain in ranked}

    def save(self, path: Path) -> None:
        """Whole or not at all; XGBoost's JSON where the name ends in `.json`, else its UBJ."""
        trees = bytes(self._booster.save_raw("json" if path.suffix == ".json" else "ubj"))
        header = replace(self.header, sha256=hashlib.sha256(trees).hexdigest())
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(header.to_line() + trees)
            os.replace(partial, path)
        except OSError as error:
            with suppress(OSError):  # where nothing can be written, nothing can be removed
                partial.unlink(missing_ok=True)
            raise InvalidInputError(
                f"{path}: cannot be written: {error}; name another file"
            ) from error

    @classmethod
    def load(
        cls,
        path: Path,
        find_template: FindTemplate = registry.template,
        peaks: PeaksOf = NO_PEAKS,
    ) -> PretrainedModel:
        """`peaks` are those of targets that it will be asked about, as far as they are known.

        `InvalidInputError` for a file that is no model, is damaged or of another version.
        """
        try:
            with path.open("rb") as file:
                line, trees = file.readline(_LARGEST_HEADER_BYTES), file.read()
        except OSError as error:
            raise InvalidInputError(
                f"{path}: cannot be read: {error}; name another file"
            ) from error
        header = Header.from_line(line, str(path))
        if hashlib.sha256(trees).hexdigest() != header.sha256:
            raise InvalidInputError(f"{path}: damaged: its trees are not those that were written")
        booster = xgboost.Booster({"nthread": 1})
        try:
            booster.load_model(bytearray(trees))
        except xgboost.core.XGBoostError as error:
            raise InvalidInputError(
                f"{path}: XGBoost {xgboost.__version__} cannot read its trees; train it again"
            ) from error
        if booster.num_features() != len(header.features):
            raise InvalidInputError(
                f"{path}: damaged: {booster.num_features()} features in its trees, "
                f"{len(header.features)} names"
            )
        return cls(header, booster, find_template, peaks)


def aligned(matrix: Matrix, have: Sequence[str], wanted: Sequence[str]) -> Matrix:
    """The columns that are wanted, in that order; NaN ("unknown") where there is none."""
    places = {name: place for place, name in enumerate(have)}
    found = np.full((len(matrix), len(wanted)), np.nan, dtype=np.float32)
    for column, name in enumerate(wanted):
        if name in places:
            found[:, column] = matrix[:, places[name]]
    return found
