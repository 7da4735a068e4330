"""Conformance kits: what every backend, runner, strategy, cost model and template must do."""
