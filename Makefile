# What can be done with this checkout: `make` lists it.

.DEFAULT_GOAL := help
.PHONY: help setup test demo demo-stop bench requirements docs-screenshots clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

setup: ## install what Inlay and its tests need (Debian packages, .venv)
	@packaging/setup test

test: ## set up, then lint, types, imports, and every test; each part is timed
	@packaging/setup test
	@packaging/check $(PARTS)

demo: ## the whole use case with every part real; without a terminal by itself; KEEP=1 leaves it running
	@packaging/setup run
	@KEEP='$(KEEP)' DEMO='$(DEMO)' packaging/demo

demo-stop: ## end what `make demo KEEP=1` left running
	@packaging/demo stop

bench: ## Inlay's figures beside what they are judged by; PARTS="link window use-case memory"
	@packaging/setup test
	@.venv/bin/python -m bench $(PARTS)

requirements: ## pin every Python dependency anew; UPGRADE=1 takes the newest versions
	@packaging/setup test
	@packaging/pin-requirements $(if $(UPGRADE),--upgrade)

docs-screenshots: ## make the pictures in docs/images anew
	@packaging/setup test
	@.venv/bin/python -m tests.support.page_screenshots docs/images
	@.venv/bin/python -m tests.agent.desktop.window_pictures docs/images
	@.venv/bin/python -m tests.support.use_case_pictures docs/images

clean: ## remove everything that was made here
	@packaging/demo stop
	rm -rf .venv .run build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
