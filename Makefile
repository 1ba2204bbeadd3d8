# make setup   .venv with everything the Python side needs
# make bounce  examples/ through a real server; says where the stems are
# make test    every test          make lint   ruff and mypy          make bench   the table of ratios
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
OUT ?= build/stems

.PHONY: setup bounce test lint bench clean
setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt CMakeLists.txt $(wildcard proto/stems/v1/*.proto)
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Stemline needs Python 3.11 or newer as python3"; exit 1; }
	@test -x $(PY) || python3 -m venv $(VENV) || { echo "python3 cannot make a virtual environment; on Debian/Ubuntu: apt-get install python3-venv"; exit 1; }
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(PIP) install -q -c constraints.txt -e .
	@touch $@

# What only developers need: tests, linters, the training code's libraries.
$(VENV)/.dev: $(VENV)/.ready
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

bounce: setup
	$(PY) -m pyserver bounce examples -o $(OUT) --overwrite

test: $(VENV)/.dev
	$(PY) -m pytest

lint: $(VENV)/.dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: setup
	$(PY) -m benchmarks

clean:
	rm -rf build .mypy_cache .pytest_cache .ruff_cache
