# What a person and CI run. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that fits; override with `make PYTHON=/path/to/python3.12 ...`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' && { echo $$p; break; }; done)
DATA ?=
ARGS ?=
WORDNET ?= /usr/share/wordnet

.PHONY: help setup java check test test-chaos test-chaos-download test-chaos-cluster test-chaos-train demo real bench-walk bench-queries bench-crawl bench-match bench-balance bench-candidates bench-download bench-hash bench-search bench-recall bench-index bench-shards test-interop bench-loader test-learning bench-train bench-gpu bench-tokenizer bench-probe bench-plan bench-scale dist test-dist docs clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(VENV)/.done ## Set up the environment in .venv

$(VENV)/.done: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 not found: install one, or make PYTHON=/path/to/python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint requirements.lock torch==2.13.0
	$(BIN)/pip install --quiet --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

java: setup
	@$(BIN)/wit java

check: setup ## Lint, format, strict types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: setup java ## Set up and pass the tests
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest

test-interop: setup java ## Other packages read our shards, each in an environment of its own
	$(BIN)/python -m tests.interop.environments
	$(BIN)/python -m pytest -m interop tests/interop

test-learning: setup ## Train on 64 classes of drawn shapes, and name those never seen
	$(BIN)/python -m pytest -s -m learning tests/learning

test-chaos: ## Kill all that can die, in downloads and on a cluster; ARGS="--rounds 50 --seed 0"
	$(MAKE) --no-print-directory test-chaos-download ARGS=
	$(MAKE) --no-print-directory test-chaos-cluster

test-chaos-download: setup java ## Kill downloads at random moments, and compare what comes of it
	$(BIN)/python -m tests.chaos.download $(ARGS)

test-chaos-cluster: setup java ## Kill what a cluster is made of, in every stage; ARGS: --rounds, --seed
	$(BIN)/python -m pytest -m chaos tests/cluster tests/test_chaos_cluster.py tests/jobs/test_store_run.py
	$(BIN)/python -m tests.chaos.cluster $(ARGS)

test-chaos-train: setup ## Kill trainings at random moments, go on, and compare the weights
	$(BIN)/python -m tests.chaos.train

demo: setup java ## Build the demo corpus, train on it, evaluate, audit
	$(BIN)/wit demo --run runs/demo

real: setup java ## Build from real sources: make real DATA=folder
	@test -n "$(DATA)" || { echo "make real needs a folder of real sources: make real DATA=path" >&2; exit 2; }
	$(BIN)/wit real --data $(DATA) --run runs/real --wordnet $(WORDNET)

bench-walk: setup java ## What a row costs in every stage, over the demo, for `wit plan --rates`
	$(BIN)/python -m benchmarks.walk

bench-queries: setup java ## Wikitext and counts beside their peers: make bench-queries DATA=folder
	@test -n "$(DATA)" || { echo "make bench-queries needs excerpts of Wikipedia: make bench-queries DATA=path" >&2; exit 2; }
	$(BIN)/python -m benchmarks.queries $(DATA)

bench-crawl: setup ## Web archives and tables to links, WAT beside warcio
	$(BIN)/python -m benchmarks.crawl

bench-match: ## Captions matched, beside pyahocorasick and Spark: make bench-match DATA=folder
bench-balance: ## The caps' cut, beside a window in Spark: make bench-balance DATA=folder
bench-candidates: ## Ten million candidates, memory and CPU: make bench-candidates DATA=folder
bench-match bench-balance bench-candidates: setup java
	@test -n "$(DATA)" || { echo "make $@ needs a folder of real captions: make $@ DATA=path" >&2; exit 2; }
	$(BIN)/python -m benchmarks.$(@:bench-%=%) $(DATA)

bench-scale: setup java ## A row among many and few: make bench-scale [DATA=folder] [ARGS="--share 0.1 --only dedup"]
	$(BIN)/python -m benchmarks.scale $(if $(DATA),--data $(DATA)) $(ARGS)

bench-download: setup java ## Downloads, beside img2dataset: make bench-download DATA=folder
	@test -n "$(DATA)" || { echo "make bench-download needs a folder of real photos: make bench-download DATA=path" >&2; exit 2; }
	$(BIN)/python -m benchmarks.download $(DATA)

bench-hash: setup ## Hashes, beside imagehash and pdqhash: make bench-hash DATA=folder
	@test -n "$(DATA)" || { echo "make bench-hash needs a folder of real photos: make bench-hash DATA=path" >&2; exit 2; }
	$(BIN)/python -m benchmarks.hash $(DATA)

bench-search: setup java ## Near hashes, beside faiss: 64 and 256 bits, the Spark job, a self-join
	$(BIN)/python -m benchmarks.search

bench-recall: setup ## Planted copies found, and others taken for one: make bench-recall DATA=folder
	@test -n "$(DATA)" || { echo "make bench-recall needs a folder of real photos: make bench-recall DATA=path" >&2; exit 2; }
	$(BIN)/python -m benchmarks.recall $(DATA)

bench-index: setup ## Samples found in somebody else's tars, beside tarfile; indexes opened
	$(BIN)/python -m benchmarks.index

bench-shards: setup ## Shards written, beside tarfile and webdataset; DATA: where (/dev/shm)
	$(BIN)/python -m benchmarks.shards $(DATA)

bench-loader: setup ## Batches, beside open_clip's pipeline and webdataset: make bench-loader [DATA=folder]
	$(BIN)/python -m benchmarks.loader $(DATA)

bench-train: setup ## Training on a CPU, beside open_clip's: make bench-train [DATA=folder]
	$(BIN)/python -m benchmarks.train $(DATA)

bench-gpu: setup ## Training on a GPU, beside open_clip or transformers; ARGS: see --help
	$(BIN)/python -m benchmarks.gpu $(ARGS)

bench-tokenizer: setup ## Merges learned and applied, beside tokenizers and open_clip: make bench-tokenizer DATA=folder
	@test -n "$(DATA)" || { echo "make bench-tokenizer needs a folder of captions: make bench-tokenizer DATA=path" >&2; exit 2; }
	$(BIN)/python -m tests.interop.environments
	$(BIN)/python -m benchmarks.tokenizer $(DATA)

bench-probe: setup ## The linear probe, beside scikit-learn
	$(BIN)/python -m benchmarks.probe

docs: setup ## Write docs/settings.md from the settings
	$(BIN)/python -m jobs.reference

dist: setup ## What a cluster is sent: the wheel, a packed environment, the script for spark-submit
	$(BIN)/python -m jobs.dist

test-dist: dist java ## Submit the demo's first stages from what `make dist` made
	$(BIN)/python -m pytest -m dist tests/cluster/test_dist.py

bench-plan: setup java ## What `wit plan` assumes, beside published figures: make bench-plan [DATA=folder]
	$(BIN)/python -m benchmarks.plan $(DATA)

clean: ## Remove the environment, runs and builds
	rm -rf $(VENV) runs build dist
