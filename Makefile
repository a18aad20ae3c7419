# Two commands for a fresh machine: `make demo` and `make test`. Both make what they need.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 0
LEARN ?=
RUN := runs/demo-$(SEED)

.PHONY: demo test check bench learn clean
.DELETE_ON_ERROR:

# Exact versions, because results are compared to the bit; constraints.txt says where a CPU build of torch is.
$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch]'
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,dev,bench]'
	@touch $@

demo: $(VENV)/.core  ## train CartPole until the loop has decided that it is done, then check the policy
	rm -rf $(RUN)
	$(BIN)/optix-bus up topologies/cartpole_ppo.yaml --seed $(SEED) --run-dir $(RUN)
	$(BIN)/optix-bus checkpoint evaluate $(RUN) --episodes 100 --seed 10000

test: $(VENV)/.dev  ## everything but the slow learning gates
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## format, lint, types, layers, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.architecture.docs_check

bench: $(VENV)/.bench  ## every benchmark, beside its peer or its raw limit
	$(BIN)/python -m tests.benchmarks

# Both parts are run, whatever the first says. An interrupted one goes on with `make learn LEARN=--resume`.
learn: $(VENV)/.dev  ## every algorithm trained to its gate, then the slow tests
	@code=0; $(BIN)/python -m tests.learning $(LEARN) || code=$$?; \
	$(BIN)/python -m pytest -m 'learning or slow' --timeout 3600 || code=$$?; exit $$code

clean:
	rm -rf $(VENV) runs build dist *.egg-info
