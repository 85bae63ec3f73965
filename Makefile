# Everything a new machine needs is installed by `setup`, into .venv; all targets call it.
PYTHON ?= python3
BIN := .venv/bin
CODE := waypost console sequencer responder inbound leads tracker monitor mta content rules bus \
        storage config mail
# Modules that decide and do no I/O; `make check` asks for 90 % coverage of them;
# 95 % is where it should get.
PURE := mail/*,rules/*,config/values.py,config/load.py,config/reference.py,\
mta/arc.py,mta/compose.py,mta/forwarding.py,mta/gate.py,mta/notice_limit.py,\
mta/notice_words.py,mta/notices.py,mta/ready_made.py,mta/srs.py,mta/links.py,mta/merge.py,mta/mime.py,mta/outcome.py,mta/retry.py,\
mta/signing.py,mta/template.py,inbound/agents.py,inbound/analysis.py,inbound/auto_reply.py,\
inbound/bounce.py,inbound/bounce_text.py,inbound/boundary.py,inbound/charset.py,\
inbound/complaint.py,inbound/contact_card.py,inbound/forward.py,inbound/headers.py,\
inbound/kind.py,inbound/lines.py,inbound/parse.py,inbound/purpose.py,inbound/quoting.py,\
inbound/signature.py,inbound/unsubscribe.py,responder/draft.py,responder/engine.py,\
responder/entities.py,responder/facts.py,responder/notice.py,responder/times.py,\
sequencer/document.py,sequencer/lint.py,sequencer/machine.py,sequencer/plan.py,\
sequencer/steps.py,leads/cluster.py,leads/warmth.py,tracker/line.py,content/files.py,\
content/matching.py,content/theme.py

.PHONY: help setup system run test check bench screenshots lock clean

help:  ## show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/ready  ## make .venv with everything (the other targets call it)

.venv/ready: requirements.lock pyproject.toml scripts/setup
	@PYTHON=$(PYTHON) sh scripts/setup

system: ## install the Debian packages that the tests start (browser, IMAP server)
	@sh scripts/system

run: setup  ## start the appliance with its demo, and print where to look
	@$(BIN)/waypost demo

test: setup system  ## run all tests
	@$(BIN)/python -m pytest -n 2 --dist worksteal

check: setup system  ## format, lint, types, import contract, tests with coverage
	$(BIN)/ruff format --check $(CODE) tests scripts benchmarks
	$(BIN)/ruff check $(CODE) tests scripts benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=
	$(BIN)/coverage report --include='$(PURE)' --fail-under=90 --skip-covered

bench: setup  ## measure the mail path and the reading; prints figures with their conditions
	@$(BIN)/python benchmarks/loop.py

screenshots: setup system  ## draw all pages into docs/pictures
	@$(BIN)/python scripts/screenshots.py

lock:  ## resolve pyproject.toml anew into requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --upgrade --quiet \
	  --custom-compile-command "make lock" -o requirements.lock

clean:  ## remove what setup made
	rm -rf .venv
