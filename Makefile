# The recipes of this project; .ci/run calls the same ones. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help check test coverage search soak bench sets growth processes simulate sabotages rate directory wheel lock

help: ## list the recipes
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

check: ## lint, format, types, import contracts
	uv run ruff check .
	uv run ruff format --check .
	uv run mypy
	uv run lint-imports

test: ## the tests, on all processors (uv run pytest -n auto)
	uv run pytest -n auto

coverage: ## the tests of crdt/ and replication/, with branches; fails below the floor
	HYPOTHESIS_PROFILE=branches uv run coverage run -m pytest -q tests/crdt tests/replication
	uv run coverage report --fail-under=97

search: ## the property tests with 2,000 examples each
	HYPOTHESIS_PROFILE=search uv run pytest -q tests/crdt tests/replication

soak: ## the real directory into three processes: in turn, 64 at once, and with kills and a cut (about 8 minutes)
	ATOLL_SOAK=1 uv run pytest -q -s tests/end_to_end/test_directory.py

bench: ## figures, each with its floor, and peers where they are installed (about 15 minutes)
	uv run atoll bench --peers

sets: ## cost of a set at 1,000 and at 1,000,000 members
	uv run atoll bench sets

growth: ## cost and memory from 100,000 to 5,000,000 events; draws growth.svg (about 6 minutes)
	uv run atoll bench growth --plot growth.svg

processes: ## what more processes on one store would bring
	uv run python tests/benchmarks/processes.py

simulate: ## 500 seeds of the partition simulator under a swarm of faults (about 8 minutes on two cores)
	uv run atoll simulate --seeds 0..499 --faults swarm --jobs 2

sabotages: ## find and shrink every sabotage again; writes tests/seeds/sabotages/ (about 8 minutes)
	uv run python tests/benchmarks/sabotages.py

rate: ## how many seeds a minute are simulated, and where the time goes
	uv run python tests/benchmarks/simulation_rate.py

directory: ## a real directory's history, in ../shared/data, under swarm faults for 20 seeds (about 20 minutes)
	uv run python tests/benchmarks/real_directory.py ../shared/data

wheel: ## build the wheel, and run it from an empty folder
	rm -rf dist && uv build --wheel --quiet
	cd "$$(mktemp -d)" && uv run --no-project --isolated --with $(CURDIR)/dist/*.whl atoll --version && \
		uv run --no-project --isolated --with $(CURDIR)/dist/*.whl atoll simulate split-brain --duration 5s

lock: ## resolve the dependencies again: requirements.lock, and the pins in pyproject.toml
	python3 .ci/lock
