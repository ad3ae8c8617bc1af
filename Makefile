# The two commands are `make book` and `make test`; `make help` lists the rest.

PYTHON ?= python3
# cpu: torch without CUDA. Otherwise the build that pip finds in the lock.
TORCH ?= lock
VENV := .venv
# Of the fuzzing: how many times the examples of make test.
EXAMPLES ?= 20
SERVICE ?= pypi
BIN := $(VENV)/bin
# Two processes with one thread each are faster than two threads in each of two processes.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help setup book test replay linkcheck fuzz audit lint format record notebooks serve bench exercises new-chapter wheel lock mutants lighthouse budgets pdf claims-seeds clean

help: ## List the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## Make .venv with the locked dependencies and the package

$(VENV)/.installed: requirements.lock pyproject.toml tools/setup.py
	$(PYTHON) tools/setup.py $(VENV) $(TORCH)

book: setup ## Execute the chapters that changed and build the site into _build/html
	$(BIN)/python tools/book.py build

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile -rs
REPLAY := $(PYTEST) --nbval --nbval-current-env --nbval-cell-timeout=60 \
  --nbval-sanitize-with tests/recorded/sanitize.cfg tests/recorded

test: setup ## Check everything on this machine: the code, the book, its recordings, the site
	@status=0; \
	$(MAKE) --no-print-directory lint || status=1; \
	$(BIN)/python tools/book.py build || status=1; \
	$(PYTEST) tests || status=1; \
	exit $$status

replay: setup ## Replay the recordings as other processors would compute them
	ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE $(REPLAY)
	ATEN_CPU_CAPABILITY=avx2 $(REPLAY)

claims-seeds: setup ## Do the claims hold under other seeds? SEEDS=10 PAGES="part/page ..."
	$(BIN)/python tools/claims_seeds.py --seeds $(or $(SEEDS),10) $(PAGES)

fuzz: setup ## Damage every kind of file at random, and kill builds: EXAMPLES times as often as make test
	FUZZ=$(EXAMPLES) $(PYTEST) tests/test_fuzz_*.py tests/test_half_written.py tests/test_killed_build.py

# pip-audit is no part of the lock: it must be newer than what it judges.
AUDIT := _build/audit
audit: ## Ask PyPI for known flaws of the locked packages: SERVICE=osv asks osv.dev (needs the network)
	test -x $(AUDIT)/bin/pip-audit || { rm -rf $(AUDIT) && $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/pip install --quiet pip-audit; }
	$(AUDIT)/bin/pip-audit -r requirements.lock --no-deps --disable-pip --strict --progress-spinner off --vulnerability-service $(SERVICE)

linkcheck: book ## Ask the servers of all links to other sites (needs the network)
	$(BIN)/jupyter-book build book --builder linkcheck --config _config.yml --toc $(CURDIR)/_toc.yml --path-output . -q

lighthouse: book ## Ask Lighthouse about the site, as on a phone (needs npm)
	$(BIN)/python tools/lighthouse.py

lint: setup ## Check the style of the code and the types of lrteach
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Put the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

record: setup ## Record the chapters' text outputs, with which `make test` compares
	$(BIN)/python tools/book.py record

notebooks: book ## Write the chapters as notebooks for any Jupyter into _build/notebooks
	$(BIN)/python tools/notebooks.py

pdf: book ## Print the book as _build/the-learning-rate.pdf (needs Chromium)
	$(BIN)/python tools/pdf.py

serve: book ## Build the book and show it at http://127.0.0.1:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

bench: setup ## Time the hot paths side by side: SUBJECTS="sweeps memory", or all
	$(BIN)/python -m benchmarks $(SUBJECTS)

mutants: setup ## Try small changes of a module's code on its tests: SUBJECT=optimizers
	$(BIN)/python tools/mutants.py $(SUBJECT) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(MINUTES),--minutes $(MINUTES)) \
	  $(if $(AGAIN),--again) $(if $(JOBS),--jobs $(JOBS))

budgets: setup ## Measure from a fresh clone what the book costs: 20 minutes, on a quiet machine
	$(BIN)/python tools/budgets.py

exercises: setup ## Write the exercise notebooks from the solved ones
	$(BIN)/python tools/exercises.py

new-chapter: setup ## Scaffold a chapter: NAME=part/slug, and TITLE="..." if you like
	$(BIN)/python tools/new_chapter.py "$(NAME)" "$(TITLE)"
	$(BIN)/python tools/book.py record

wheel: setup ## Build the package into dist
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

lock: setup ## Renew requirements.lock from pyproject.toml (asks the package index)
	$(BIN)/python tools/lock.py

clean: ## Remove what was built (.venv stays)
	rm -rf _build
