PYTHON ?= python3
VENV := .venv
VENV_ESM := .venv-esm

.PHONY: help predict test test-esm check format clean

help:
	@echo "make predict   install, then predict the solubility of twenty well-known proteins"
	@echo "make test      install, then run every test (torch original: transformers' EsmcForMaskedLM)"
	@echo "make test-esm  against the first release, PyPI's esm, and with its older Hub client, in an environment of its own"
	@echo "make check     format, lint, types and import contracts"
	@echo "make format    put the format right"
	@echo "make clean     remove both environments"

$(VENV)/installed: pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $(VENV)/installed $@

$(VENV_ESM)/installed: pyproject.toml
	test -x $(VENV_ESM)/bin/python || $(PYTHON) -m venv $(VENV_ESM)
	$(VENV_ESM)/bin/python -m pip install --quiet --editable '.[esm]'
	touch $@

predict: $(VENV)/installed
	$(VENV)/bin/eqxesm predict examples/proteins.fasta

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest --numprocesses 2

test-esm: $(VENV_ESM)/installed
	$(VENV_ESM)/bin/python -m pytest --numprocesses 2 tests/test_esm_original.py tests/test_parity.py \
		tests/test_hub.py tests/test_publish.py

check: $(VENV)/installed-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ty check --python $(VENV)
	$(VENV)/bin/lint-imports --no-logo

format: $(VENV)/installed-dev
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) $(VENV_ESM)
