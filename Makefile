# Two commands do everything on a machine with Python 3.10 to 3.13 and a package registry: make demo, make test.
PYTHON ?= python3
VENV := .venv
STUDIO_VENV := .venv-label-studio
BIN := $(VENV)/bin
REQUIREMENTS := $(wildcard requirements/*.txt)
PIP := -m pip install --quiet --disable-pip-version-check

# What `make demo` passes on to `tsal demo`; `tsal demo --help` says what each does.
DEMO_OPTIONS := $(if $(CLIPS),--clips "$(CLIPS)") $(if $(LABELS),--labels "$(LABELS)") $(if $(UNATTENDED),--unattended) \
	$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(BATCH),--batch $(BATCH)) $(if $(REPORT),--report "$(REPORT)") \
	$(if $(PORT),--port $(PORT)) $(if $(SEED),--seed $(SEED)) $(if $(FOLDER),--folder "$(FOLDER)")

.PHONY: help install serve demo test unit coverage check bench study soak studios lint docs screenshots wheel release lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{sub(/:.*/, "", $$1); printf "make %-11s %s\n", $$1, $$2}'

install: $(VENV)/.installed $(STUDIO_VENV)/.installed ## make both environments: ours, and Label Studio's

$(VENV)/.installed: $(REQUIREMENTS) pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) --requirement requirements/lock.txt --requirement requirements/development.txt
	$(BIN)/python $(PIP) --no-deps --requirement requirements/label-studio-ml.txt --editable .
	touch $@

$(STUDIO_VENV)/.installed: requirements/label-studio.txt
	$(PYTHON) -m venv $(STUDIO_VENV)
	$(STUDIO_VENV)/bin/python $(PIP) --requirement requirements/label-studio.txt
	touch $@

serve: $(VENV)/.installed ## run the backend, a worker and the sidecar for a Label Studio you already have (settings: TSAL_*)
	$(BIN)/python scripts/serve.py

demo: install ## the whole loop on this machine: Label Studio, backend, worker, sidecar, frames
	$(BIN)/python scripts/demo.py $(DEMO_OPTIONS)

test: install ## all tests, three files at once; each of them computes on one core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

unit: $(VENV)/.installed ## the fast tests: nothing but our own code
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m unit --numprocesses 2

coverage: install ## all tests, and which lines they run
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

check: lint docs unit ## what a change must pass before it is sent

bench: install ## every speed claim against the plain way, in one run (QUICK=1: shows that it runs)
	$(BIN)/python -m benchmarks.run $(if $(QUICK),--quick)

study: $(VENV)/.installed ## the paper's study: make study DATA="DIR DIR" [OUT=DIR] [PRESET=paper] [COMPARE=ImageNet|random] [QUICK=1] [PART="--protocol pool ..."]
	$(BIN)/python scripts/study.py $(DATA) $(if $(OUT),--output "$(OUT)") $(if $(PRESET),--preset $(PRESET)) \
		$(if $(COMPARE),--compare $(COMPARE)) $(if $(QUICK),--quick) $(PART)

SOAK_SEED := $(if $(SEED),--seed $(SEED))

soak: install ## broken files, every crash point, events in any order, then a team at work while every fault happens that we know; with MINUTES a long day instead of that: make soak [ROUNDS=20] [MINUTES=180] [SEED=0]
	started=$$(date +%s) && \
	$(BIN)/python -m soak.fuzz $(SOAK_SEED) && \
	$(BIN)/python -m soak.crash.run $(SOAK_SEED) && \
	$(BIN)/python -m soak.crash.run --real $(SOAK_SEED) && \
	$(BIN)/python -m soak.events.run $(SOAK_SEED) && \
	$(BIN)/python -m soak.events.run --real --steps 300 --output runs/events-real.json $(SOAK_SEED) && \
	$(if $(MINUTES),$(BIN)/python -m soak.day --minutes $(MINUTES) --since $$started,\
	$(BIN)/python -m soak.run $(if $(ROUNDS),--rounds $(ROUNDS))) $(SOAK_SEED)

studios: install ## the tests against several releases of Label Studio, on both databases: make studios [VERSIONS="1.20.0 1.23.2"]
	$(BIN)/python -m soak.studios $(VERSIONS)

lint: $(VENV)/.installed ## ruff, mypy, import-linter, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/audit.py

docs: $(VENV)/.installed ## build the documentation into site; a warning is an error
	$(BIN)/python scripts/render_docs.py
	$(BIN)/python scripts/render_speed.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

screenshots: install ## pictures of a demo's pages into docs/images: make screenshots [FOLDER=an earlier demo]
	$(BIN)/python -m scripts.screenshots $(if $(FOLDER),--folder "$(FOLDER)")

wheel: $(VENV)/.installed ## build the wheel and the source archive into dist
	rm -rf build dist
	$(BIN)/python -m build

release: wheel ## build, check, and say what to upload
	$(BIN)/twine check --strict dist/*
	$(BIN)/python scripts/release.py

lock: $(VENV)/.installed ## choose the versions in requirements anew (PACKAGE=name: of that one only)
	cd requirements && for one in "../pyproject.toml --output-file lock.txt" \
		"development.in --constraint lock.txt --output-file development.txt"; do \
		../$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header \
			$(if $(PACKAGE),--upgrade-package $(PACKAGE),--upgrade) $$one > /dev/null || exit 1; done
	sed -i -E '/^(cuda|nvidia|triton)/d; 1i # `make lock` makes this file. The pins of graphics drivers are left to torch.' \
		requirements/lock.txt requirements/development.txt

clean: ## remove environments and what runs wrote
	rm -rf $(VENV) $(STUDIO_VENV) runs build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
