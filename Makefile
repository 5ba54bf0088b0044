PYTHON ?= python3
PIP = .venv/bin/pip install -q -c constraints.txt
CODE = src packages benchmarks tests attacks deploy
.DEFAULT_GOAL := help
.PHONY: help install demo test lint types zoo zoo-llm bench slow optional fuzz format clean

help:                                    ## what can be made
	@grep -hE '^[a-z-]+:.* ## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
PARTS = -e . -e packages/m2kt-broker -e packages/m2kt-content -e packages/m2kt-zoo
PROJECTS = pyproject.toml $(wildcard packages/*/pyproject.toml) constraints.txt
.venv/.installed: $(PROJECTS) ; $(PYTHON) -m venv .venv && $(PIP) $(PARTS) && touch $@
.venv/.dev: .venv/.installed ; $(PIP) $(PARTS) -e '.[dev]' && touch $@

install: .venv/.installed                ## make .venv with the m2kt command in it
demo: .venv/.installed                   ## the main job, end to end, on tiny models
	.venv/bin/m2kt demo
test: lint types                         ## all checks and every test that needs no download
	.venv/bin/lint-imports --no-cache && HF_HUB_OFFLINE=1 .venv/bin/pytest -q -m 'not slow' -n 2 --dist loadfile
lint: .venv/.dev                         ## ruff
	.venv/bin/ruff check $(CODE)
types: .venv/.dev                        ## mypy --strict
	.venv/bin/mypy --strict
zoo: .venv/.installed                    ## rebuild the tiny teachers and students (minutes, seeded)
	.venv/bin/python -m m2kt_zoo.recipes.build
zoo-llm: .venv/.installed                ## tune real LLMs as teachers (about an hour; m2kt models get both before)
	.venv/bin/python -m m2kt_zoo.recipes.tuned
bench: .venv/.dev                        ## the quick bench: skills under controls on a tiny student, and its page
	.venv/bin/m2kt bench run quick --jobs 2 && .venv/bin/m2kt bench report benchmarks/results/quick --html benchmarks/quick.html
slow: .venv/.dev                         ## the slow tests: real pretrained students (make them once by m2kt models get)
	.venv/bin/pytest -q -m slow
optional: .venv/.dev                     ## what needs packages that few want: students in 8 and 4 bits, llama.cpp
	$(PIP) -e '.[quantised,llamacpp]' && HF_HUB_OFFLINE=1 .venv/bin/pytest -q -m optional
fuzz: .venv/.dev                         ## mutated packets, N with the signature kept and N signed anew; then atheris, if installed
	.venv/bin/python -m tests.fuzz.campaign --mutations $(or $(N),100000) && .venv/bin/python -m tests.fuzz.guided $(or $(SECONDS),60)
format: .venv/.dev                       ## ruff format and fix
	.venv/bin/ruff check --fix -q $(CODE); .venv/bin/ruff format $(CODE)
clean:                                   ## remove what make made
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
