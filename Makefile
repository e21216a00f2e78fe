# The course's commands; `make` alone lists them.
#   PYTHON    the Python to begin with         (make lab PYTHON=python3.12)
#   VENV      the environment's folder         (make lab VENV=other-folder)
#   LAB_ARGS  more arguments for JupyterLab    (make lab LAB_ARGS=--no-browser)
#   ONLY      some notebooks only              (make notebooks ONLY=02_cnn)

PYTHON ?= python3
VENV ?= .venv
export VENV

# Makes the environment if need be, and names its Python for the rest of the recipe.
ENVIRONMENT = python=$$("$(PYTHON)" tools/environment.py --print-python) || exit 1

NBVAL = --nbval-sanitize-with tests/nbval_sanitize.cfg --nbval-current-env --nbval-cell-timeout 600

# Two processes share the tests, one thread each: as much as two cores can do at once.
SHARED = -n 2

# Threads that wait by spinning for long slow a busy machine down several times.
export GOMP_SPINCOUNT = 10000

.PHONY: help lab test test-fast notebooks bench claims doctor

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s  %s\n", $$1, $$2}' Makefile

lab: ## open the course in JupyterLab
	@$(ENVIRONMENT); exec "$$python" -m course_lib lab $(LAB_ARGS)

test: ## check everything: style, code, every notebook, widgets in a browser
	@$(ENVIRONMENT); "$$python" -m ruff check . && "$$python" -m ruff format --check . || exit 1; \
	export COURSE_TEST=1; failed=""; \
	OMP_NUM_THREADS=1 "$$python" -m pytest tests $(SHARED) || failed="the tests in tests/"; \
	"$$python" -m pytest notebooks --nbval $(NBVAL) || failed="$${failed:+$$failed and }notebooks"; \
	test -z "$$failed" || { echo "make test: failures in $$failed, see above" >&2; exit 1; }

test-fast: ## check in a few minutes: training capped, outputs not compared, no browser
	@$(ENVIRONMENT); COURSE_TEST=1 COURSE_QUICK=1 OMP_NUM_THREADS=1 "$$python" -m pytest \
	tests notebooks --nbval-lax $(NBVAL) $(SHARED) -m "not browser and not slow"

notebooks: ## build and run the notebooks from notebooks/source
	@$(ENVIRONMENT); "$$python" tools/notebooks.py $(ONLY)

claims: ## write the index of claims and their verdicts
	@$(ENVIRONMENT); "$$python" tools/notebooks.py --index

bench: ## measure the course's code beside its peers: benchmarks/results.md
	@$(ENVIRONMENT); "$$python" -m course_lib bench

doctor: ## check this machine and say what to mend
	@$(ENVIRONMENT); "$$python" -m course_lib doctor
