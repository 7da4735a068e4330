"""Cost models. One line a model; a module is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from cost_model.base import CostModel, Prediction
from records.errors import InvalidInputError

__all__ = ["DEFAULT", "MODELS", "CostModel", "Prediction", "make_model"]

MODELS = {
    "xgboost": "cost_model.xgboost_model:XGBoostModel",
}
DEFAULT = "xgboost"


def make_model(name: str, seed: int = 0) -> CostModel:
    """The cost model of that name; `InvalidInputError` lists the names there are."""
    if name not in MODELS:
        raise InvalidInputError(f"no cost model {name!r}; there are: {', '.join(MODELS)}")
    module, _, attribute = MODELS[name].partition(":")
    return cast(CostModel, getattr(import_module(module), attribute)(seed=seed))
