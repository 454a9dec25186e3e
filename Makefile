# What can be done with this checkout: `make` lists it.

.DEFAULT_GOAL := help
.PHONY: help setup test demo demo-stop bench clients kills tears token-tears lies crash-matrix whole soak restarts pcsc-threads encode-speed card-speed argon2 fuzz search-speed requirements docs-screenshots independent-card clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

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

clients: ## other programs' clients against one card, as a table
	@packaging/setup test
	@.venv/bin/pytest -q -s tests/interop/card/test_card_client_table.py

kills: ## kill agent, PIN window, portal and pcscd at every boundary of both journals; SEED=n KILLS="--errand batch --victims portal"
	@packaging/setup test
	@.venv/bin/python -m tests.faults.kills $(if $(SEED),--seed $(SEED)) $(KILLS)

tears: ## tear a physical card out, kill the agent and cut its channel at every APDU of every job; TEARS="--over portal --modes torn"
	@packaging/setup test
	@.venv/bin/python -m tests.faults.tears $(TEARS)

token-tears: ## have a token's module die or hang, or the agent killed, at each PKCS#11 call of every job; TOKEN_TEARS="--jobs issue --modes late --all"
	@packaging/setup test
	@.venv/bin/python -m tests.faults.token_tears $(TOKEN_TEARS)

lies: ## have a physical card answer falsely to every APDU of every job; LIES="--jobs encode --every 5"
	@packaging/setup test
	@.venv/bin/python -m tests.faults.lies $(LIES)

crash-matrix: ## kill the portal and cut its database at every step of issuing, and make the CA fail in every way
	@packaging/setup test
	@.venv/bin/python -m tests.faults.crash_matrix $(CRASH)

whole: ## every combination of what `make test` tries a sample of; WHOLE="tests/agent/test_order_physical_pin.py"
	@packaging/setup test
	@INLAY_WHOLE=1 .venv/bin/pytest -q $(or $(WHOLE),$(shell grep -rl --include='test_*.py' tests.support.samples tests) tests/portal/processes)

soak: ## 10,000 signatures of each kind over pcscd + vpcd: leaks and speed
	@packaging/setup test
	@.venv/bin/python -m bench.card_soak

restarts: ## kill and restart pcscd 100 times under the running agent, with cards in and orders under way; TIMES=n
	@packaging/setup test
	@.venv/bin/python -m bench.restarts --times $(or $(TIMES),100)

pcsc-threads: ## ten threads of one process at pcscd at once, 4000 sessions or looks each; ROUNDS=n
	@packaging/setup test
	@PCSC_ROUNDS=$(or $(ROUNDS),4000) .venv/bin/pytest -q -m interop tests/interop/test_threads_at_pcsc.py

encode-speed: ## an encoding by Inlay's driver, and a whole order beside yubikit, ykman and others: APDUs and time
	@packaging/setup test
	@.venv/bin/python -m bench.encode
	@.venv/bin/python -m bench.encode_order

card-speed: ## change PIN, unblock, sign and so on by Inlay, yubikit, ykman, OpenSC and replayed: APDUs and time
	@packaging/setup test
	@.venv/bin/python -m bench.card_jobs

argon2: ## what opening a card costs on this machine
	@packaging/setup test
	@.venv/bin/python -m bench.card_argon2

fuzz: ## 10 minutes each: APDU engine, vpcd framing, card file; MINUTES=n
	@packaging/setup test
	@.venv/bin/python -m tests.fuzz --minutes $(or $(MINUTES),10)

independent-card: ## a card written from the standards alone: every order on all kinds of it, other programs, and beside the virtual card; PAIRS=n
	@packaging/setup test
	@CARDS=all .venv/bin/pytest -q -k "like or pure or independent" tests/cards tests/agent tests/interop tests/faults
	@HYPOTHESIS_PROFILE=search CARD_PAIRS=$(or $(PAIRS),20000) .venv/bin/pytest -q -o timeout=0 tests/agent/vsc/test_card_beside_independent.py

search-speed: ## searches of 100,000 certificates beside those of 2,000; CERTIFICATES=n
	@packaging/setup test
	@CERTIFICATES=$(or $(CERTIFICATES),100000) .venv/bin/pytest -q tests/portal/staff/test_staff_search_speed.py

requirements: ## pin every Python dependency anew; UPGRADE=1 takes the newest versions
	@packaging/setup test
	@packaging/pin-requirements $(if $(UPGRADE),--upgrade)

docs-screenshots: ## make the pictures in docs/images anew
	@packaging/setup test
	@.venv/bin/python -m tests.support.page_screenshots docs/images
	@.venv/bin/python -m tests.support.staff_screenshots docs/images
	@.venv/bin/python -m tests.agent.desktop.window_pictures docs/images
	@.venv/bin/python -m tests.support.use_case_pictures docs/images

clean: ## remove everything that was made here
	@packaging/demo stop
	rm -rf .venv .run build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
