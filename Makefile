PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/pip install -q -c constraints.txt
# PyPI's torch for Linux brings CUDA, 5 GB. Without a GPU, PyTorch's own index has a CPU build of 200 MB; once installed it is kept.
CPU_TORCH = $(if $(shell command -v nvidia-smi),,--no-deps --retries 0 --index-url https://download.pytorch.org/whl/cpu)
PARTS = -e . -e packages/m2kt-broker -e packages/m2kt-content -e packages/m2kt-zoo
PROJECTS = pyproject.toml $(wildcard packages/*/pyproject.toml) constraints.txt
CODE = src packages benchmarks tests attacks deploy docs examples
TEST = HF_HUB_OFFLINE=1 $(VENV)/bin/pytest -q
UNIT = tests/probes tests/packet tests/student tests/render tests/contracts --ignore tests/student/test_cal.py
PYTHONS ?= 3.11 3.12 3.13 3.14
.DEFAULT_GOAL := help
.PHONY: help install demo check unit test lint types imports zoo zoo-llm bench bench-symbolic slow wheels matrix optional docs walk fuzz format clean

help:                                    ## what can be made
	@grep -hE '^[a-z-]+:.* ## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
$(VENV)/.installed: $(PROJECTS)
	$(PYTHON) -m venv $(VENV)
	$(if $(CPU_TORCH),$(PIP) $(CPU_TORCH) torch || echo "note: PyTorch's CPU index is out of reach; PyPI's torch may bring CUDA (5 GB)" >&2)
	$(PIP) $(PARTS) && touch $@
$(VENV)/.dev: $(VENV)/.installed
	$(PIP) $(PARTS) -e '.[dev]' && touch $@
$(VENV)/.docs: $(VENV)/.dev
	$(PIP) -e '.[docs]' && touch $@

install: $(VENV)/.installed              ## make .venv with the m2kt command in it (2 minutes)
demo: $(VENV)/.installed                 ## the main job, end to end, on tiny models (2 minutes)
	$(VENV)/bin/m2kt demo
check: $(VENV)/.dev                      ## lint, types, imports and unit tests (1 minute)
	@$(MAKE) --no-print-directory -j2 -O lint types imports unit
test: lint types imports                 ## all checks and every test that needs no download (11 minutes)
	$(TEST) -m 'not slow' -n 2 --dist loadfile --no-loadscope-reorder
unit: $(VENV)/.dev
	$(TEST) -m 'not slow and not long' -n 2 --dist loadfile $(UNIT)
lint: $(VENV)/.dev
	$(VENV)/bin/ruff check -q $(CODE) && $(VENV)/bin/ruff format -q --check $(CODE)
types: $(VENV)/.dev
	$(VENV)/bin/mypy --strict
imports: $(VENV)/.dev
	$(VENV)/bin/lint-imports --no-cache > /dev/null || $(VENV)/bin/lint-imports --no-cache
slow: $(VENV)/.dev                       ## the slow tests: real pretrained students (make them once by m2kt models get)
	$(VENV)/bin/pytest -q -m slow
wheels: $(VENV)/.dev                     ## build the wheels, install them in fresh environments, print sizes and seconds (4 minutes)
	$(VENV)/bin/pytest -q -s -m slow tests/contracts/test_wheels.py
matrix: $(PYTHONS:%=matrix-%)            ## check on every Python of PYTHONS, each in an environment of its own
matrix-%:
	$(MAKE) check VENV=.venv-$* PYTHON=python$*
bench: $(VENV)/.dev                      ## the quick bench: skills under controls on a tiny student, and its page (22 minutes)
	$(VENV)/bin/m2kt bench run quick --jobs 2 && $(VENV)/bin/m2kt bench report benchmarks/results/quick --html benchmarks/quick.html
bench-symbolic: $(VENV)/.dev             ## tasks as plain functions through extraction: one program each, at any length?
	$(VENV)/bin/python -m benchmarks.symbolic --jobs 2
docs: $(VENV)/.docs                      ## the documentation as a site, in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet
walk: $(VENV)/.docs                      ## README, tutorial, how-tos and examples, word by word (15 minutes)
	HF_HUB_OFFLINE=1 $(VENV)/bin/pytest -q tests/docs
zoo: $(VENV)/.installed                  ## rebuild the tiny teachers and students (minutes, seeded)
	$(VENV)/bin/python -m m2kt_zoo.recipes.build
zoo-llm: $(VENV)/.installed              ## tune real LLMs as teachers (about an hour; m2kt models get both before)
	$(VENV)/bin/python -m m2kt_zoo.recipes.tuned
optional: $(VENV)/.dev                   ## what needs packages that few want: students in 8 and 4 bits, llama.cpp, pages in chromium
	$(PIP) -e '.[quantised,llamacpp,browser,docs]' && $(TEST) -m optional
fuzz: $(VENV)/.dev                       ## mutated packets, N with the signature kept and N signed anew; then atheris, if installed
	$(VENV)/bin/python -m tests.fuzz.campaign --mutations $(or $(N),100000) && $(VENV)/bin/python -m tests.fuzz.guided $(or $(SECONDS),60)
format: $(VENV)/.dev                     ## ruff format and fix
	$(VENV)/bin/ruff check --fix -q $(CODE); $(VENV)/bin/ruff format $(CODE)
clean:                                   ## remove what make made
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
