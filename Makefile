# make tune: install into .venv and tune a matmul on the default device, about three minutes.
# make test: all checks and tests.
PYTHON ?= python3
BIN := .venv/bin
DB ?= tuning.db
SIZE ?= 1024

.PHONY: tune test check bench clean

tune: .venv/.installed
	$(BIN)/autotune devices
	$(BIN)/autotune tune matmul -m $(SIZE) -n $(SIZE) -k $(SIZE) --db $(DB) --time-limit 150s

bench: .venv/.installed
	$(BIN)/autotune bench matmul -m $(SIZE) -n $(SIZE) -k $(SIZE) --db $(DB)

test: .venv/.dev check
	$(BIN)/python -m pytest

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[cpu]'
	touch $@

.venv/.dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --editable '.[cpu,dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
