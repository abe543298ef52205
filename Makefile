# make demo: install what analysis needs and annotate the sample clip.
# make test: install everything and run the checks and the tests.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := demo-output

.PHONY: demo test robustness check coverage docs clean

demo: $(VENV)/.installed
	$(BIN)/python -m fer_stream samples/two-faces-720p.mp4 --overwrite \
		--save $(DEMO)/annotated.mp4 --data $(DEMO)/table.csv --chart $(DEMO)/timeline.png \
		--report $(DEMO)/report.html
	@echo "report:          $(DEMO)/report.html (open it in a browser)"
	@echo "annotated video: $(DEMO)/annotated.mp4"
	@echo "table:           $(DEMO)/table.csv"
	@echo "timeline:        $(DEMO)/timeline.png"

test: check
	$(BIN)/python -m pytest

# The faults of docs/robustness.md in full: half an hour on two cores. `make test` runs a part of each.
robustness: export FER_STREAM_ROBUSTNESS ?= 1
robustness: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m robustness --durations=0 -vv

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Slower than `make test`, which measures nothing.
coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-report=html

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "the site: build/site/index.html"

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing what analysis on a CPU needs into $(VENV): 0.6 GB, a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing everything else, with PyTorch, into $(VENV): some minutes without a word"
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
