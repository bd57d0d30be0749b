# Every target makes .venv by itself, and takes seconds when nothing has changed.
PYTHON ?= python3
# mkdocs-material's notice of its end in 2027, in every build.
export NO_MKDOCS_2_WARNING := 1
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test soak check docs bench clean install

install: $(STAMP)

# torch comes first, by its pinned version: pip takes a CPU build of it where one is offered, and keeps it when other
# packages ask for torch by a range.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/mastaf demo --out runs/demo

# Files of tests are shared out among as many processes as there are cores, each with one thread of its own.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not soak" -q --durations=10 --numprocesses=auto --dist=loadfile

soak: $(STAMP)
	$(BIN)/python -m pytest -m soak --timeout=3600 -v

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/mkdocs build --quiet --strict --site-dir build/site

docs: $(STAMP)
	$(BIN)/mkdocs build --strict
	@echo "open site/index.html, or, with the search: $(BIN)/python -m http.server --directory site 8000"

bench: $(STAMP)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	@# Of runs/ only what `make` made: the rest is its owner's.
	rm -rf $(VENV) build dist site runs/demo *.egg-info .pytest_cache .ruff_cache .hypothesis
