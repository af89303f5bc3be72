# setup, demo, serve, test, check, lock, clean. Needs Python 3.11, make and a package registry; everything else goes
# into .venv, and uv into build/uv where there is none.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := setup
.PHONY: setup demo serve test check lock clean

PYTHON ?= $(or $(shell command -v python3.11),python3)
PORT ?= 8000
FACE_DETAILER_DATA_DIR ?= $(CURDIR)/data
export FACE_DETAILER_DATA_DIR

UV := $(or $(shell command -v uv),build/uv/bin/uv)
BIN := .venv/bin
STAMP := .venv/.set-up
# No interpreter is fetched: the one at hand serves.
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1

setup: $(STAMP)

build/uv/bin/uv:
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv

$(BIN)/python: | $(filter build/%,$(UV))
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv

$(STAMP): requirements.txt pyproject.toml | $(BIN)/python
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes --requirements requirements.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/python examples/demo.py --out out

serve: setup
	@mkdir -p "$$FACE_DETAILER_DATA_DIR"; key_file="$$FACE_DETAILER_DATA_DIR/make-serve.key"; \
	if [ ! -s "$$key_file" ]; then \
	    (umask 077; $(BIN)/face-detailer keys create --unlimited | awk 'NF { word = $$NF } END { print word }' >"$$key_file"); \
	fi; \
	echo "Once it says that it is ready, from another terminal:"; \
	echo; \
	echo "  curl -H 'x-api-key: $$(cat "$$key_file")' -F image=@examples/astronaut-damaged.jpg \\"; \
	echo "    -F prompt='detailed face' -F denoise=0.4 -F base64=false -o result.jpg http://127.0.0.1:$(PORT)/v1/face-detailer"; \
	echo; \
	exec $(BIN)/face-detailer serve --port $(PORT)

test: setup
	$(BIN)/pytest

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Names no registry: the hashes are what pins.
lock: | $(filter build/%,$(UV))
	$(UV) pip compile --quiet pyproject.toml --group dev --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --output-file requirements.txt

clean:
	rm -rf .venv build/uv out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage htmlcov
