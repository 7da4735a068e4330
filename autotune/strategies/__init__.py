"""Search strategies. One line a strategy; a module is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from autotune.strategies.base import SearchStrategy
from autotune.strategies.spaces import SearchableSpace
from records.errors import InvalidInputError

STRATEGIES = {
    "guided": "autotune.strategies.guided:Guided",
    "evolutionary": "autotune.strategies.evolutionary:Evolutionary",
    "racing": "autotune.strategies.racing:Racing",
    "random": "autotune.strategies.random_search:RandomSearch",
    "local": "autotune.strategies.local_search:LocalSearch",
    "genetic": "autotune.strategies.genetic:Genetic",
    "differential-evolution": "autotune.strategies.differential_evolution:DifferentialEvolution",
    "annealing": "autotune.strategies.annealing:Annealing",
    "parallel-annealing": "autotune.strategies.annealing:parallel_annealing",
    "tabu": "autotune.strategies.tabu:Tabu",
    "particle-swarm": "autotune.strategies.particle_swarm:ParticleSwarm",
    "exhaustive": "autotune.strategies.exhaustive:Exhaustive",
}
DEFAULT = "guided"

GUIDED = frozenset({"guided", "evolutionary", "racing"})
"""Strategies that follow a cost model's predictions."""

PRUNED = frozenset({"random"})
"""Strategies that take no guidance, but of whose asks a cost model may choose: in any order, and
with any left out, they are as good. The others follow measurements, and no model has a part."""


def make_strategy(name: str, space: SearchableSpace, seed: int) -> SearchStrategy:
    """The strategy of that name over `space`; `InvalidInputError` lists the names there are."""
    if name not in STRATEGIES:
        raise InvalidInputError(f"no strategy {name!r}; there are: {', '.join(STRATEGIES)}")
    module, _, attribute = STRATEGIES[name].partition(":")
    return cast(SearchStrategy, getattr(import_module(module), attribute)(space, seed))
