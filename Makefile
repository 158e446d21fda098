.DEFAULT_GOAL := help
.PHONY: help install up first-run stop status test bench latency replay soak deaths ml worth lint format types imports clean-state

HOME_FOLDER := $(or $(MBATS_HOME),.mbats)

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install:  ## install everything, with what the tests need
	./starter_script.sh install --dev

up:  ## start the services and prepare them
	.venv/bin/mbats up

first-run:  ## download, backtest and report the example strategies, put one on paper
	.venv/bin/mbats first-run

stop:  ## stop the services; all data is kept
	./starter_script.sh stop

status:  ## each service with its health and address
	./starter_script.sh status

test:  ## all checks, as before a change lands
	tests/run.sh

bench:  ## how fast the parts are, beside what was promised
	.venv/bin/python benchmarks/research_loop.py
	.venv/bin/python benchmarks/simulator_core.py
	.venv/bin/python benchmarks/simulator_streams.py

latency:  ## from the end of a bar to the order at the exchange
	.venv/bin/python benchmarks/live_latency.py

replay:  ## a week of minute bars, live and in the backtest, fill for fill
	.venv/bin/python benchmarks/replay_week.py

soak:  ## two hours on an accelerated market that breaks down all the time
	.venv/bin/python benchmarks/live_soak.py --hours 2

deaths:  ## a thousand traders die, and nothing is lost
	.venv/bin/python benchmarks/thousand_deaths.py --runs 1000 --seed 1

ml:  ## a backtest with a model, in one batch and bar by bar
	.venv/bin/python benchmarks/ml_backtest.py

worth:  ## what the shipped recipes are worth out of sample, after costs
	.venv/bin/python benchmarks/model_worth.py

lint:  ## style
	.venv/bin/ruff check
	.venv/bin/ruff format --check

format:  ## put the style right
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

types:  ## static types
	.venv/bin/mypy

imports:  ## who may import whom
	.venv/bin/lint-imports

clean-state:  ## stop, and delete all data and passwords, after asking
	@printf 'Delete everything in %s: databases, objects, passwords? [y/N] ' '$(HOME_FOLDER)'; read answer; [ "$$answer" = y ]
	-./starter_script.sh stop
	rm -rf '$(HOME_FOLDER)'
