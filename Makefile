PYTHON ?= python3
VENV := .venv
VENV_ESM := .venv-esm

.PHONY: help predict test test-slow test-esm check format docs package bench clean

help:
	@echo "make predict    install, then predict the solubility of twenty well-known proteins"
	@echo "make test       install, then run the fast tests"
	@echo "make test-slow  run the slow tests: full-size models and long runs"
	@echo "make test-esm   run the tests against PyPI's esm and its older Hub client, in a second environment"
	@echo "make check      format, lint, types and import contracts"
	@echo "make format     correct the format"
	@echo "make docs       build the site into build/site, check its links, and run the notebooks"
	@echo "make package    build wheel and sdist, and use them as their users do: install, README, predict, type checker"
	@echo "make bench      measure speed and memory, and write benchmarks/results and docs/speed.md (about two hours)"
	@echo "make clean      remove both environments"

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
	$(VENV_ESM)/bin/python -m pip install --quiet --editable '.[esm,test]'
	touch $@

predict: $(VENV)/installed
	$(VENV)/bin/eqxesm predict examples/proteins.fasta

# Compiling takes most of the time of the tests. What one test has compiled, others and later runs find.
test test-slow: export JAX_ENABLE_COMPILATION_CACHE = true
test test-slow: export JAX_COMPILATION_CACHE_DIR = $(CURDIR)/$(VENV)/compiled
# A bound on the size, or many small programs, would have the processes wait for each other.
test test-slow: export JAX_COMPILATION_CACHE_MAX_SIZE = -1
test test-slow: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS = 0.1
# Half of what compiling small models takes is optimising them.
test: export XLA_FLAGS = --xla_backend_optimization_level=0
test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest --numprocesses 2 -m "not slow"

test-slow: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest --numprocesses 2 --durations 30 -m slow

test-esm: $(VENV_ESM)/installed
	$(VENV_ESM)/bin/python -m pytest --numprocesses 2 tests/hub \
		tests/conversion/test_esm_original.py tests/conversion/test_parity.py

check: $(VENV)/installed-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ty check --python $(VENV)
	$(VENV)/bin/lint-imports --no-logo

format: $(VENV)/installed-dev
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# Strict: a broken link or anchor is an error. Notebooks write beside themselves, so copies of them run.
docs: $(VENV)/installed-dev
	$(VENV)/bin/python -m mkdocs build --strict
	rm -rf build/notebooks && mkdir -p build && cp -r notebooks build/notebooks
	cd build/notebooks && ../../$(VENV)/bin/python -m pytest --config-file /dev/null --rootdir . --nbmake --nbmake-timeout 900

package: $(VENV)/installed-dev
	rm -rf dist
	$(VENV)/bin/python -m build --no-isolation
	$(VENV)/bin/python -m twine check --strict dist/*
	$(VENV)/bin/python tests/helpers/installed.py dist

bench: $(VENV)/installed-dev
	for name in load predict forward train; do $(VENV)/bin/python -m benchmarks.$$name || exit 1; done
	$(VENV)/bin/python -m benchmarks.document

clean:
	rm -rf $(VENV) $(VENV_ESM) dist
