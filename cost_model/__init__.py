"""Cost models. One line a model; a module is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from cost_model.base import CostModel, Expectation, Prediction
from cost_model.table import FindTemplate
from records.errors import InvalidInputError
from search_spaces import registry

__all__ = [
    "DEFAULT",
    "EXPECTING",
    "FORESEEING",
    "MODELS",
    "CostModel",
    "Expectation",
    "Prediction",
    "make_model",
]

MODELS: dict[str, str] = {
    "ensemble": "cost_model.ensemble:Ensemble",
    "gaussian-process": "cost_model.gaussian_process_model:GaussianProcessModel",
    "xgboost": "cost_model.xgboost_model:XGBoostModel",
    "xgboost-log": "cost_model.xgboost_model:on_log_time",
    "xgboost-pairwise": "cost_model.xgboost_model:on_pairs",
    "xgboost-ndcg": "cost_model.xgboost_model:on_lists",
    "random-forest": "cost_model.forest_model:ForestModel",
}
DEFAULT = "ensemble"

FORESEEING = frozenset({"ensemble", "gaussian-process"})
"""Models that know how uncertain predictions move together: what is still to be gained."""


EXPECTING = FORESEEING
"""Models that can be told what to expect before anything is measured."""


def make_model(
    name: str,
    seed: int = 0,
    find_template: FindTemplate = registry.template,
    expectation: Expectation | None = None,
) -> CostModel:
    """The cost model of that name; `InvalidInputError` lists the names there are.

    `expectation` is for one of `EXPECTING`, which then learns of one workload on one target.
    """
    if name not in MODELS:
        raise InvalidInputError(f"no cost model {name!r}; there are: {', '.join(MODELS)}")
    module, _, attribute = MODELS[name].partition(":")
    make = getattr(import_module(module), attribute)
    told = {} if expectation is None else {"expectation": expectation}
    return cast(CostModel, make(seed=seed, find_template=find_template, **told))
