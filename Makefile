# `make demo` and `make test` need Python 3.10+ and nothing else: they make their own virtual
# environment in $(VENV) and install the package there as a user would get it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One more than there are cores: some tests wait for processes that they start.
WORKERS := $(shell $(PYTHON) -c "import os; print((os.cpu_count() or 1) + 1)")
SOURCES := $(shell find hierebm envs agents -name '*.py' -o -name py.typed) setup.cfg pyproject.toml
# Threads of OpenMP that wait must sleep: spinning makes two runs side by side 5-10 times slower.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: demo test lint types unit docs clean

demo: $(VENV)/.installed
	$(BIN)/hierebm demo --out demo

test: lint types unit

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers cannot follow the folder mapping of an editable install: check the installed copy,
# with the benchmarks beside it.
types: $(VENV)/.test
	rm -rf $(VENV)/benchmarks && cp -r benchmarks $(VENV)
	cd $(VENV) && bin/mypy --num-workers 2 --config-file ../setup.cfg -p hierebm -p benchmarks

# One thread for each worker: products here are too small to be shared.
unit: export OMP_NUM_THREADS ?= 1
# What was compiled is kept for the processes that tests start, whatever the shell says.
unit: export PYTHONDONTWRITEBYTECODE =
unit: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --cov --cov-report term

# The site, from docs/ into build/site; warnings are errors, and nothing is fetched.
docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# A folder is installed again whatever its version is, so that the copy is that of the sources.
# Compiling all of torch and the others takes a minute; what is imported is compiled then.
INSTALL = rm -rf build hierebm.egg-info && \
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt

$(VENV)/.installed: $(VENV)/bin/python $(SOURCES) constraints.txt README.md
	$(INSTALL) ".[render]"
	touch $@

# All at once: building and looking for versions take a while each time.
$(VENV)/.test: $(VENV)/bin/python $(SOURCES) constraints.txt README.md
	$(INSTALL) ".[render,test,docs]"
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache
