# make serve and make test are all a newcomer needs; both create the environment first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: install serve test chaos lint format web openapi clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

serve: install
	$(BIN)/parallel-interview serve

test: install
	$(BIN)/python -m pytest

MINUTES ?= 20
chaos: install
	$(BIN)/python -m tests.chaos.run --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages' scripts, from their sources. What comes out is part of the repository: nobody else needs Node.
web:
	cd api/web && npm ci --ignore-scripts --no-audit --no-fund && npm run check && npm test && npm run build

# The OpenAPI document as a file.
openapi: install
	$(BIN)/python -m api.openapi > docs/openapi.json

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
