# make setup   .venv with everything the Python side needs
# make bounce  examples/ through a real server; says where the stems are
# make plugin  the VST3 and LV2 plugin, in build/plugin          make install-plugin   puts it where hosts look
# make test    every test          make lint   ruff and mypy          make bench   the table of ratios
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
OUT ?= build/stems

PLUGIN := build/plugin
ARTEFACTS := $(PLUGIN)/Stemline_artefacts/Release
CONFIG := $(or $(XDG_CONFIG_HOME),$(HOME)/.config)/stemline

.PHONY: setup bounce plugin install-plugin test lint bench clean
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

plugin: $(VENV)/.ready
	@plugin/install_dependencies.sh test
	@mkdir -p build
	cmake -S plugin -B $(PLUGIN) -G Ninja -DCMAKE_BUILD_TYPE=Release -DPython_EXECUTABLE=$(CURDIR)/$(PY) >$(PLUGIN).log 2>&1 || { cat $(PLUGIN).log; exit 1; }
	cmake --build $(PLUGIN)
	@echo "the plugin is $(ARTEFACTS)/VST3/Stemline.vst3"

# The second line of what a DAW needs: which Python the plugin starts its server with.
install-plugin: plugin
	mkdir -p $(HOME)/.vst3 $(HOME)/.lv2 $(CONFIG)
	cp -r $(ARTEFACTS)/VST3/Stemline.vst3 $(HOME)/.vst3/
	cp -r $(ARTEFACTS)/LV2/Stemline.lv2 $(HOME)/.lv2/
	echo $(CURDIR)/$(PY) >$(CONFIG)/python

test: $(VENV)/.dev plugin
	@plugin/install_dependencies.sh test hosts
	cd $(PLUGIN) && ctest --output-on-failure
	$(PY) -m pytest

lint: $(VENV)/.dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

# Without what they depend on: see benchmarks/peers.py.
build/peers/.ready: $(VENV)/.ready
	$(PIP) install -q --no-deps --upgrade --target build/peers demucs==4.0.1 openunmix==1.3.0 einops==0.8.2 julius==0.2.8
	@touch $@

bench: setup build/peers/.ready
	$(PY) -m benchmarks

clean:
	rm -rf build .mypy_cache .pytest_cache .ruff_cache
