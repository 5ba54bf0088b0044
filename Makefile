PYTHON ?= python3
PIP = .venv/bin/pip install -q -c constraints.txt
.DEFAULT_GOAL := help
.PHONY: help install demo test lint types zoo zoo-llm bench slow optional fuzz format clean

help:                                    ## what can be made
	@grep -hE '^[a-z-]+:.* ## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
.venv/.installed: pyproject.toml constraints.txt ; $(PYTHON) -m venv .venv && $(PIP) -e . && touch $@
.venv/.dev: .venv/.installed ; $(PIP) -e '.[dev]' && touch $@

install: .venv/.installed                ## make .venv with the m2kt command in it
demo: .venv/.installed                   ## the main job, end to end, on tiny models
	.venv/bin/m2kt demo
test: lint types                         ## all checks and every test that needs no download
	.venv/bin/lint-imports --no-cache && HF_HUB_OFFLINE=1 .venv/bin/pytest -q -m 'not slow' -n 2 --dist loadfile
lint: .venv/.dev                         ## ruff
	.venv/bin/ruff check src tests attacks zoo
types: .venv/.dev                        ## mypy --strict on src
	.venv/bin/mypy --strict src
zoo: .venv/.installed                    ## rebuild the tiny teachers and students (minutes, seeded)
	.venv/bin/python -m zoo.recipes.build
zoo-llm: .venv/.installed                ## tune real LLMs as teachers (about an hour; m2kt models get both before)
	.venv/bin/python -m zoo.recipes.tuned
bench: .venv/.dev                        ## the quick bench: skills under controls on a tiny student, and its page
	.venv/bin/m2kt bench run quick --jobs 2 && .venv/bin/m2kt bench report bench/results/quick --html bench/quick.html
slow: .venv/.dev                         ## the slow tests: real pretrained students (make them once by m2kt models get)
	.venv/bin/pytest -q -m slow
optional: .venv/.dev                     ## what needs packages that few want: students in 8 and 4 bits, llama.cpp
	$(PIP) -e '.[quantised,llamacpp]' && HF_HUB_OFFLINE=1 .venv/bin/pytest -q -m optional
fuzz: .venv/.dev                         ## mutated packets, N with the signature kept and N signed anew; then atheris, if installed
	.venv/bin/python -m tests.fuzz.campaign --mutations $(or $(N),100000) && .venv/bin/python -m tests.fuzz.guided $(or $(SECONDS),60)
format: .venv/.dev                       ## ruff format and fix
	.venv/bin/ruff check --fix -q src tests attacks zoo; .venv/bin/ruff format src tests attacks zoo
clean:                                   ## remove what make made
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
