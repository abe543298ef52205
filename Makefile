# make demo: set up and annotate the sample clip.   make test: set up and run the tests.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tested versions, where they exist: some of them have left Python 3.10 behind.
PINS := $(shell $(PYTHON) -c "import sys; print('-c constraints.txt' if sys.version_info >= (3, 11) else '')")
# Twice quiet: only errors. setuptools warns of every editable install.
PIP = $(BIN)/python -m pip install --quiet --quiet $(PINS)
DEMO := demo-output

.PHONY: demo test robustness check clean

demo: $(VENV)/.installed
	$(BIN)/fer-stream samples/two-faces-720p.mp4 --overwrite \
		--save $(DEMO)/annotated.mp4 --data $(DEMO)/table.csv --chart $(DEMO)/timeline.png \
		--report $(DEMO)/report.html
	@echo "report:          $(DEMO)/report.html (open it in a browser)"
	@echo "annotated video: $(DEMO)/annotated.mp4"
	@echo "table:           $(DEMO)/table.csv"
	@echo "timeline:        $(DEMO)/timeline.png"

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

# The faults of docs/robustness.md in full: 20 minutes on two cores. `make test` runs a part of each.
robustness: export FER_STREAM_ROBUSTNESS ?= 1
robustness: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m robustness --durations=0 -vv

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV), once: PyTorch and the rest, about 6 GB, 3 to 15 minutes without a word"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(PIP) -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[test,offline,ray]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
