# The commands for developers and CI. Each target creates its venv from a bare Python.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8080
DATA = .venv/data
PATHS ?= $(DATA)
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
# If PYTHONDONTWRITEBYTECODE were set, each process that the tests start would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

# SEED determines the order of the tests and the values that they draw. With the default, Hypothesis makes the same
# examples in each run. Any other number, or `random`, makes new ones.
SEED ?= 20260101
ifeq ($(SEED),random)
override SEED := $(shell $(PYTHON) -c 'import secrets; print(secrets.randbelow(2**32))')
endif
SEEDS = --randomly-seed=$(SEED) $(if $(filter 20260101,$(SEED)),,--hypothesis-seed=$(SEED))
# There are more workers than cores, because many tests wait for a process or a socket.
WORKERS ?= 5
SUITE = -n $(WORKERS) --dist=loadfile --no-loadscope-reorder $(SEEDS)

.PHONY: demo serve test test-quick test-pythons coverage check package test-wheel fuzz bench bench-quick clean lock data
demo: $(VENV)/.installed  ## the tutorial: a page that shows what streaming does, and its routes for curl
	$(BIN)/chunkwise demo --port $(PORT)

serve: data  ## serve real data, or yours: make serve PATHS="folder file.csv" PORT=8080
	$(BIN)/chunkwise serve $(PATHS) --port $(PORT)

test: data  ## all tests; SEED=random draws another seed and prints it, SEED=123 repeats it
	@echo "make test SEED=$(SEED)"
	$(BIN)/pytest $(SUITE) $(TESTS)

test-quick: $(VENV)/.installed  ## the tests that start no other program: under a minute
	HYPOTHESIS_PROFILE=few $(BIN)/pytest -n 3 --quick $(SEEDS) $(TESTS)

test-pythons:  ## all tests under each installed Python; WITHOUT=.venv leaves out the one that `make test` uses
	$(PYTHON) tools/pythons.py $(if $(WITHOUT),--without $(WITHOUT))

coverage: data  ## fails unless the tests take each branch, and each module's own tests do; htmlcov/index.html shows the lines
	$(BIN)/coverage erase
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/.coverage $(BIN)/python -m pytest $(SUITE)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report --fail-under=100
	$(BIN)/python tools/own_coverage.py

check: $(VENV)/.installed  ## ruff, its formatter and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

package: $(VENV)/.installed  ## the source distribution and its wheel in dist/, and a wheel without compiled code in dist/pure/
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	CC=/bin/false $(PIP) wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir dist/pure dist/*.tar.gz

test-wheel: package  ## tests of both wheels, without the source tree
	$(BIN)/python tools/test_wheel.py dist/*.whl compiled
	$(BIN)/python tools/test_wheel.py dist/pure/*.whl pure

# Only the search for new inputs (SECONDS) needs atheris; replaying the corpus does not.
fuzz: $(VENV)/$(if $(SECONDS),.fuzz-installed,.installed)  ## replay the corpus; make fuzz SECONDS=600 searches for new inputs
	$(BIN)/python -m fuzzing $(if $(SECONDS),--seconds $(SECONDS))

bench: $(VENV)/.bench-installed  ## compare with other libraries, about 20 minutes; make bench QUICK=1: under two
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

bench-quick: $(VENV)/.bench-installed
	$(BIN)/python -m benchmarks --quick

.PHONY: docs
docs: $(VENV)/.docs-installed  ## the site, in build/docs; a warning is an error
	$(BIN)/python -m sphinx -W -n --keep-going --quiet -b html docs build/docs

clean:
	rm -rf .venv .venvs build dist src/*.egg-info htmlcov .coverage .coverage.* .hypothesis .*_cache
	rm -f src/chunkwise/*/*.c src/chunkwise/*/*.so src/chunkwise/*/*/*.c src/chunkwise/*/*/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

PIN = env -u PIP_EXTRA_INDEX_URL -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null $(BIN)/pip-compile --quiet --upgrade \
	--generate-hashes --strip-extras --unsafe-package pip --no-header --no-emit-options --no-emit-index-url
GROUP = $(BIN)/python -c 'import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]], sep="\n")'

lock: $(VENV)/.installed  # uses only the default index, so that no setting of this machine gets into the files
	$(GROUP) dev | $(PIN) --extra cli --extra sql -o requirements/dev.txt pyproject.toml -
	sed -i -e '1i # Made by `make lock`: the group "dev", the extras "cli" and "sql" and the package itself; pip is part of the venv.' \
	-e '/^$$/,$$d' -e 's/-r -$$/dev (group)/' requirements/dev.txt
	$(GROUP) docs | $(PIN) -c requirements/dev.txt -o requirements/docs.txt -
	sed -i -e '1i # Made by `make lock`: the group "docs", beside requirements/dev.txt. Only `make docs` installs it.' \
	-e '/^$$/,$$d' -e 's/-r -$$/docs (group)/' requirements/docs.txt
	$(GROUP) bench | $(PIN) -c requirements/dev.txt -o requirements/bench.txt -
	sed -i -e '1i # Made by `make lock`: the group "bench", beside requirements/dev.txt. Only `make bench` installs it.' \
	-e '/^$$/,$$d' -e 's/-r -$$/bench (group)/' requirements/bench.txt
	$(GROUP) fuzz | $(PIN) -c requirements/dev.txt -o requirements/fuzz.txt -
	sed -i -e '1i # Made by `make lock`: the group "fuzz". Only `make fuzz SECONDS=...` installs it.' \
	-e '/^$$/,$$d' -e 's/-r -$$/fuzz (group)/' requirements/fuzz.txt

data: $(VENV)/.installed
	$(BIN)/python tools/real_data.py $(DATA)

$(VENV)/.installed: $(wildcard requirements/*.txt) pyproject.toml $(wildcard src/chunkwise/*/*/*.pyx src/chunkwise/*/*/*.pxi src/chunkwise/*/*/*.h)
	@$(PYTHON) -c "import venv, ensurepip" 2>/dev/null || \
	{ echo "$(PYTHON) cannot make a venv: install its package for that (Debian: apt-get install python3-venv python3-dev)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --no-deps -r requirements/dev.txt
	$(PIP) install --require-hashes --no-deps -r requirements/data.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.docs-installed: $(VENV)/.installed requirements/docs.txt
	$(PIP) install --require-hashes --no-deps -r requirements/docs.txt
	touch $@

$(VENV)/.bench-installed: $(VENV)/.installed requirements/bench.txt
	$(PIP) install --require-hashes --no-deps -r requirements/bench.txt
	touch $@

$(VENV)/.fuzz-installed: $(VENV)/.installed requirements/fuzz.txt
	$(PIP) install --require-hashes --no-deps -r requirements/fuzz.txt
	touch $@
