# Everything a person or the CI types. Each target makes or completes the virtual environment by itself.
#   ARGS    passed on to `mmpi demo`, pytest, the benchmark, the campaign, image/build, Ansible or uv
#   PLAY    the playbook that `make fleet` runs: site, update, status, kill, rotate-keys, backup
#   HOURS   for how long `make hil-campaign` begins further plans: HOURS=0.5
#   TESTS   what `make image-test` runs of its tests: TESTS="-k secrets"
#   VENV    where the environment lives
#   PYTHON  the interpreter to make it with (CPython >= 3.11)

VENV ?= .venv
PYTHON ?=
ARGS ?=
PLAY ?= status
HOURS ?= 1
TESTS ?=
BIN := $(VENV)/bin
ORACLE := $(VENV)-oracle
FLEET := $(VENV)-fleet
BOOTSTRAP := @VENV="$(VENV)" PYTHON="$(PYTHON)" scripts/bootstrap

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test setup oracle ansible lint unit slow bench campaign image image-test image-reproduce image-lock wheels fleet hil hil-campaign lock

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## watch the market maker work on a generated market: make demo ARGS="--seconds 20 --json"
	$(BOOTSTRAP) demo
	@$(BIN)/mmpi demo $(ARGS)

test: ## lint and the whole test suite; with ARGS one pytest run: make test ARGS="-k ladder"
ifeq ($(ARGS),)
test: lint unit slow
else
test: lint
	$(BIN)/pytest $(ARGS)
endif

setup: ## make .venv with everything: run, research and development
	$(BOOTSTRAP) dev

oracle: setup ## make .venv-oracle with the venue's own client, which the slow suite plays against ours
	@VENV="$(ORACLE)" PYTHON="$(BIN)/python" scripts/bootstrap oracle

ansible: setup ## make .venv-fleet with Ansible, which sets up and updates fleets
	@VENV="$(FLEET)" PYTHON="$(BIN)/python" scripts/bootstrap fleet

lint: setup ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

unit: setup ## the unit suite, on two cores
	$(BIN)/pytest -m "not slow and not image" -n 2

slow: setup oracle ansible ## the process-level suites, file by file on two cores
	$(BIN)/pytest -m slow -n 2 --dist loadfile --durations=25

bench: setup ## measure speed and memory; the table is written to bench/table.txt, too
	$(BIN)/python bench/run.py --out bench/table.txt $(ARGS)

campaign: setup ## random faults, kills and power cuts in numbers, and what did not run: make campaign ARGS="--seeds 1-100"
	@$(BIN)/python -m tests.campaigns $(ARGS)

image: setup ## make the SD card's image in dist/ from locked packages (root, or user namespaces); ARGS="--list"
	@image/build $(ARGS)

image-test: image ## boot the image in an emulator and hold it to its promises; results in dist/image-test.xml
	$(BIN)/pytest -m image -s --junitxml=dist/image-test.xml $(TESTS)
	@$(BIN)/python -m image.tested --write || test -n "$(TESTS)"

image-reproduce: setup ## make the image twice under different circumstances; what differs is kept in dist/reproduce/
	@$(BIN)/python -m image.reproduce $(ARGS)

hil: setup ## play every scenario on a rig, with a report in dist/hil/: make hil ARGS="--rig nspawn -k press --seed 3"
	$(BIN)/python -m pytest hil $(ARGS)

hil-campaign: setup ## random interleavings of troubles on a rig, for hours; it goes on: make hil-campaign HOURS=2 ARGS="--seed 3"
	@$(BIN)/python -m hil.campaign --hours $(HOURS) $(ARGS)

image-lock: setup ## write image/packages.lock anew from what this machine's Debian mirror has now
	@image/build --lock

wheels: setup ## make the wheels for a fleet's hosts in dist/wheels/: make wheels ARGS="--arch aarch64 --python 3.13"
	@$(BIN)/python -m image.wheel_set $(ARGS)

fleet: ## run a playbook of ansible/ on a fleet: make fleet PLAY=status ARGS="-i ansible/inventory/mine"
	@test -x $(FLEET)/bin/ansible-playbook -a -x $(BIN)/mmpi || $(MAKE) ansible
	@ANSIBLE_CONFIG=ansible/ansible.cfg $(FLEET)/bin/ansible-playbook $(ARGS) ansible/$(PLAY).yml

lock: setup ## write requirements/*.txt anew; newer versions: make lock ARGS=--upgrade
	@VENV="$(VENV)" scripts/lock $(ARGS)
