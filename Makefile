# `make` alone lists the targets. A fresh machine needs make and Python 3.11 to 3.14 with venv; all else goes to $(VENV).

VENV := .venv
CONSTRAINTS := constraints.txt
CPU_INDEX := https://download.pytorch.org/whl/cpu
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
TORCH := $(shell sed -n 's/^torch==//p' $(CONSTRAINTS))
IN_VENV := $(VENV)/bin/python -m
PIP := $(IN_VENV) pip install --constraint $(CONSTRAINTS)

# Where packages come from (indexes, proxies, certificates, cache) is the user's business, what goes where is ours.
PIP_KEPT := INDEX_URL EXTRA_INDEX_URL NO_INDEX FIND_LINKS TRUSTED_HOST CERT CLIENT_CERT PROXY KEYRING_PROVIDER \
	CACHE_DIR NO_CACHE_DIR CONFIG_FILE TIMEOUT DEFAULT_TIMEOUT RETRIES
unexport $(filter-out $(PIP_KEPT:%=PIP_%),$(filter PIP_% PERDURE_%,$(.VARIABLES))) PYTHONPATH PYTHONHOME
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo demo-nlu test crash-test soak fuzz bench lint format constraints clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/demo.stamp ## the whole story on real handwritten digits, in about a minute
	@$(IN_VENV) tests.demo

demo-nlu: $(VENV)/demo.stamp ## an assistant that learns a new intent, in about half a minute
	@$(IN_VENV) tests.demo_nlu

test: lint ## lint, strict types, the test suite: what CI runs
	$(IN_VENV) pytest -n 2 --dist worksteal

crash-test: $(VENV)/dev.stamp ## kill runs at every operation, at least 1,000 times: 10 to 40 minutes
	@$(IN_VENV) tests.crash

soak: $(VENV)/dev.stamp ## ten minutes (SOAK_SECONDS) of kills, stops, new shards and a server that restarts
	@$(IN_VENV) tests.crash.soak

lint: $(VENV)/dev.stamp ## lint and types alone
	$(IN_VENV) ruff check .
	$(IN_VENV) ruff format --check .
	$(IN_VENV) mypy

fuzz: $(VENV)/dev.stamp $(VENV)/fuzz.stamp ## ever new bytes for the readers of others' files, each SECONDS=60 (Linux)
	@$(IN_VENV) tests.fuzz $(or $(SECONDS),60)

bench: $(VENV)/dev.stamp $(VENV)/bench.stamp ## every table of times, beside peers (TABLES="step start" for some), to build/bench/
	@$(IN_VENV) tests.benchmarks $(TABLES)

format: $(VENV)/dev.stamp ## bring the source into its form
	$(IN_VENV) ruff check --fix .
	$(IN_VENV) ruff format .

# torch keeps its version: which builds of it exist for which Python is looked up by hand, here and in RIGHT_VERSION.
constraints: ## pin the newest versions that pyproject.toml allows
	rm -rf build/newest && mkdir -p build
	grep '^torch==' constraints.txt > build/torch.txt
	$(MAKE) VENV=build/newest CONSTRAINTS=build/torch.txt build/newest/dev.stamp
	grep '^#' constraints.txt > build/constraints.txt
	build/newest/bin/python -m pip freeze --all --exclude-editable \
		| sed -E -e '/^(pip==|nvidia-|cuda-|triton)/d' -e 's/^(torch==[^+]*)\+.*/\1/' >> build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## remove all that make made
	rm -rf $(VENV) build demo-run demo-nlu-run *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf tests/azurite/node_modules tests/azurite/.lock
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- setting up: the environment, then torch, then the rest ---

RIGHT_VERSION := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))

$(VENV)/bin/pip:
	@for python in $(PYTHONS); do \
		$$python -c '$(RIGHT_VERSION)' 2>/dev/null || continue; \
		$$python -c 'import ensurepip, venv' 2>/dev/null || { no_venv=$$python; continue; }; \
		exec $$python -m venv --clear $(VENV); \
	done; \
	if [ -n "$$no_venv" ]; then \
		echo "$$no_venv has no venv: install it (Debian, Ubuntu: apt install python3-venv), then run make again."; \
	else \
		echo "No Python 3.11 to 3.14 among: $(PYTHONS). Install one (Debian, Ubuntu: apt install python3 python3-venv;" \
			"macOS: brew install python@3.13) or name it: make PYTHON=/path/to/python demo"; \
	fi >&2; exit 1

# The signal ends the question after 5 s, however many addresses the name has and wherever it hangs.
CPU_INDEX_ANSWERS = $(VENV)/bin/python -c 'import signal, urllib.request; signal.alarm(5); \
	urllib.request.urlopen("$(CPU_INDEX)/torch/").close()' >/dev/null 2>&1

# In the name of the stamp, so that other changes in the constraints do not ask for torch again.
TORCH_STAMP := $(VENV)/torch-$(TORCH).stamp

$(TORCH_STAMP): | $(VENV)/bin/pip
	@if [ -e /proc/driver/nvidia ] || command -v nvidia-smi >/dev/null; then \
		echo "NVIDIA driver found: downloading torch $(TORCH) with CUDA, about 3 GB."; \
	elif $(CPU_INDEX_ANSWERS); then \
		echo "No NVIDIA driver: downloading the CPU build of torch $(TORCH), about 200 MB."; \
		$(PIP) --no-deps --index-url $(CPU_INDEX) torch || echo "That failed: trying the default index."; \
	else \
		echo "No NVIDIA driver, but $(CPU_INDEX) does not answer: downloading torch $(TORCH)" \
			"from the default index, 200 MB or, with CUDA, about 3 GB."; \
	fi
	@$(PIP) torch
	@touch $@

SIZE_demo := 100 MB
SIZE_dev := 250 MB
SIZE_fuzz := 35 MB
SIZE_bench := 150 MB

# litdata asks for torchvision, of which what is measured here needs nothing.
NO_DEPS_bench := litdata

$(VENV)/demo.stamp $(VENV)/dev.stamp $(VENV)/fuzz.stamp $(VENV)/bench.stamp: $(VENV)/%.stamp: pyproject.toml $(CONSTRAINTS) $(TORCH_STAMP)
	@echo "Downloading the other packages, about $(SIZE_$*)."
	@$(PIP) --quiet --upgrade setuptools
	@$(PIP) --quiet --no-build-isolation --editable '.[$*]'
	@$(if $(NO_DEPS_$*),$(PIP) --quiet --no-deps $(NO_DEPS_$*))
	@touch $@
