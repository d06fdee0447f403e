# Aliases of the scripts, for fingers that know make. Everything works without it.
.PHONY: help setup demo up test test-fast lint bench fuzz docs spot-day fleet fleet-down clean
help: ; @sed -n 's/^# help: //p' Makefile
# help: make demo       a real simulation through the whole system
# help: make up         everything on this machine, until Ctrl-C
# help: make test       the whole suite
# help: make test-fast  the tests that need no Docker and take no long time
# help: make lint       style, types, import rules
# help: make bench      latency, throughput (beside Celery), kills, idle cost
# help: make fuzz       a long run of schemathesis over the HTTP API
# help: make docs       the documentation site, into site/
# help: make spot-day   a day of a spot fleet in containers
# help: make fleet      a fleet on docker compose, with a simulation; make fleet-down
# help: make setup      the virtual environment .venv
# help: make clean      remove what the others made
setup: ; @scripts/setup
demo: ; @scripts/demo
up: ; @scripts/up
test: ; @scripts/test
test-fast: ; @scripts/test-fast
lint: ; @scripts/lint
bench: ; @scripts/bench
fuzz: ; @scripts/fuzz
docs: ; @scripts/docs
spot-day: ; @scripts/spot-day
fleet: ; @scripts/fleet
fleet-down: ; @scripts/fleet-down
clean: ; @scripts/clean
