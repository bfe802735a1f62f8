# One door for people and CI. Each target prepares .venv by itself, from a bare Python.
PYTHON ?= python3
PORT ?= 8080
PATHS ?= .venv/data
SECONDS ?= 60
PIP = .venv/bin/python -m pip --quiet --disable-pip-version-check --no-input
# The tests start hundreds of processes, each of which would compile the package again where nothing may be kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo serve test coverage check package test-wheel fuzz bench bench-quick clean lock data
demo: .venv/.installed  ## the tutorial: a page that shows what streaming does, and its routes for curl
	.venv/bin/chunkwise demo --port $(PORT)

serve: data  ## serve real data, or your own: make serve PATHS="folder file.csv" PORT=8080
	.venv/bin/chunkwise serve $(PATHS) --port $(PORT)

test: data
	.venv/bin/pytest -n 5 --dist=loadfile --no-loadscope-reorder

coverage: data  ## the branches of each module that the tests take, and its own tests; htmlcov/index.html shows the lines
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest -n 5 --dist=loadfile --no-loadscope-reorder
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage html --quiet
	.venv/bin/coverage report --fail-under=100
	.venv/bin/python tools/own_coverage.py

check: .venv/.installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

package: .venv/.installed  ## the source distribution and its wheel, in dist/; in dist/pure/ as without a compiler
	rm -rf dist
	.venv/bin/python -m build --no-isolation
	CC=/bin/false $(PIP) wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir dist/pure dist/*.tar.gz

test-wheel: package  ## what of the tests tells whether a wheel is whole, on both, without the source tree
	.venv/bin/python tools/test_wheel.py dist/*.whl compiled
	.venv/bin/python tools/test_wheel.py dist/pure/*.whl pure

fuzz: .venv/.fuzz-installed  ## a minute for each decoder and for the request side; make fuzz SECONDS=5
	.venv/bin/python -m fuzzing --seconds $(SECONDS)

bench: .venv/.bench-installed  ## measure against the rivals, some 20 minutes; make bench QUICK=1: under two
	.venv/bin/python -m benchmarks $(if $(QUICK),--quick)

bench-quick: .venv/.bench-installed
	.venv/bin/python -m benchmarks --quick

.PHONY: docs
docs: .venv/.docs-installed  ## the site, in build/docs; a warning is an error
	.venv/bin/python -m sphinx -W -n --keep-going --quiet -b html docs build/docs

clean:
	rm -rf .venv build dist src/*.egg-info htmlcov .coverage .coverage.* .hypothesis .*_cache
	rm -f src/chunkwise/*/*.c src/chunkwise/*/*.so src/chunkwise/*/*/*.c src/chunkwise/*/*/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

PIN = env -u PIP_EXTRA_INDEX_URL -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null .venv/bin/pip-compile --quiet --upgrade \
	--generate-hashes --strip-extras --unsafe-package pip --no-header --no-emit-options --no-emit-index-url
GROUP = .venv/bin/python -c 'import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]], sep="\n")'

lock: .venv/.installed  # from the plain index: no setting of this machine gets into the files
	$(GROUP) dev | $(PIN) --extra cli --extra sql -o requirements/dev.txt pyproject.toml -
	sed -i -e '1i # Made by `make lock`: the group "dev", the extras "cli" and "sql" and the package itself; pip comes with the venv.' \
	-e '/^$$/,$$d' -e 's/-r -$$/dev (group)/' requirements/dev.txt
	$(GROUP) docs | $(PIN) -c requirements/dev.txt -o requirements/docs.txt -
	sed -i -e '1i # Made by `make lock`: the group "docs", beside requirements/dev.txt. Only `make docs` installs it.' \
	-e '/^$$/,$$d' -e 's/-r -$$/docs (group)/' requirements/docs.txt
	$(GROUP) bench | $(PIN) -c requirements/dev.txt -o requirements/bench.txt -
	sed -i -e '1i # Made by `make lock`: the group "bench", beside requirements/dev.txt. Only `make bench` installs it.' \
	-e '/^$$/,$$d' -e 's/-r -$$/bench (group)/' requirements/bench.txt
	$(GROUP) fuzz | $(PIN) -c requirements/dev.txt -o requirements/fuzz.txt -
	sed -i -e '1i # Made by `make lock`: the group "fuzz". Only `make fuzz` installs it.' \
	-e '/^$$/,$$d' -e 's/-r -$$/fuzz (group)/' requirements/fuzz.txt

data: .venv/.installed
	.venv/bin/python tools/real_data.py .venv/data

.venv/.installed: $(wildcard requirements/*.txt) pyproject.toml $(wildcard src/chunkwise/*/*/*.pyx src/chunkwise/*/*/*.pxi src/chunkwise/*/*/*.h)
	$(PYTHON) -m venv .venv
	$(PIP) install --require-hashes --no-deps -r requirements/dev.txt
	$(PIP) install --require-hashes --no-deps -r requirements/data.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

.venv/.docs-installed: .venv/.installed requirements/docs.txt
	$(PIP) install --require-hashes --no-deps -r requirements/docs.txt
	touch $@

.venv/.bench-installed: .venv/.installed requirements/bench.txt
	$(PIP) install --require-hashes --no-deps -r requirements/bench.txt
	touch $@

.venv/.fuzz-installed: .venv/.installed requirements/fuzz.txt
	$(PIP) install --require-hashes --no-deps -r requirements/fuzz.txt
	touch $@
