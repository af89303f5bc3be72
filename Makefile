# Targets: setup, demo, pictures, screenshots, docs, serve, test, fuzz, soak, check, audit, lock, clean.
# Needs Python 3.11, make and a package registry; everything else is installed into .venv, and uv into
# build/uv if it is not installed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := setup
.PHONY: setup demo pictures screenshots docs serve test fuzz soak check audit lock clean

PYTHON ?= $(or $(shell command -v python3.11),python3)
PORT ?= 8000

UV := $(or $(shell command -v uv),build/uv/bin/uv)
BIN := .venv/bin
STAMP := .venv/.set-up
# Use the installed interpreter; never download one.
export UV_PYTHON_DOWNLOADS := never
# Whoever watches sees what is being downloaded; a log has no bars.
ifndef MAKE_TERMERR
QUIET := --quiet
endif
# So that no first start has to.
export UV_COMPILE_BYTECODE := 1

setup: $(STAMP)

build/uv/bin/uv:
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv

$(BIN)/python: | $(filter build/%,$(UV))
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv

$(STAMP): requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing Python packages into .venv: some gigabytes to download, which takes minutes."
	$(UV) pip install $(QUIET) --python $(BIN)/python --require-hashes --requirements requirements.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q evaluation face_detailer_client pipeline server weights
	touch $@

demo: setup
	$(BIN)/python examples/demo.py --out out

# The documentation's pictures: the README's from a run of the demo, those of how-it-works.md from
# one request.
pictures: demo
	$(BIN)/python -c "from PIL import Image; Image.open('out/side-by-side.png').convert('RGB') \
	    .save('docs/images/before-after.jpg', quality=85, optimize=True)"
	$(BIN)/face-detailer detail examples/astronaut-damaged.jpg --output out/astronaut.png --prompt "detailed face" \
	    --denoise 0.4 --profile tiny --device cpu --steps docs/images/steps --overwrite

# The README's pictures of the page. Needs Debian's chromium.
screenshots: setup
	$(BIN)/python docs/screenshots.py

# The tables of fields and settings in docs/.
docs: setup
	$(BIN)/python docs/tables.py

serve: setup
	@data_dir="$${FACE_DETAILER_DATA_DIR:-$${XDG_DATA_HOME:-$$HOME/.local/share}/face-detailer}"; \
	key_file="$$data_dir/make-serve.key"; mkdir -p -m 700 "$$data_dir"; \
	if [ ! -s "$$key_file" ]; then \
	    (umask 077; $(BIN)/face-detailer keys create --unlimited | awk 'NF { word = $$NF } END { print word }' >"$$key_file"); \
	fi; \
	echo "From another terminal (the first line waits until it is ready):"; \
	echo; \
	url="$${FACE_DETAILER_PUBLIC_BASE_URL:-http://127.0.0.1:$(PORT)}"; \
	echo "  curl -sf --retry 300 --retry-delay 1 --retry-connrefused -o /dev/null $${url%/}/ready"; \
	echo "  curl --fail-with-body -H 'x-api-key: $$(cat "$$key_file")' \\"; \
	echo "    -F image=@examples/astronaut-damaged.jpg -F prompt='detailed face' -F denoise=0.4 \\"; \
	echo "    -F base64=false -o result.jpg $${url%/}/v1/face-detailer"; \
	echo; \
	echo "Or in a browser: $${url%/}/#key=$$(cat "$$key_file")"; \
	echo; \
	exec $(BIN)/face-detailer serve --port $(PORT)

test: setup
	$(BIN)/pytest

# Holds a running server against its OpenAPI document for half an hour.
fuzz: setup
	$(BIN)/pytest -m fuzz

# Calls a server at three times what its workers can do, for so long, and sees that it stays as it was.
MINUTES ?= 30
soak: setup
	$(BIN)/python tests/support/soak.py --minutes $(MINUTES)

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

# Looks up known vulnerabilities of everything that the image installs, in PyPI's database or, with
# AUDIT_SERVICE=osv, in OSV's. Exit code 1 and a table if there are any.
AUDIT_SERVICE ?= pypi
audit: | $(filter build/%,$(UV))
	$(UV) tool run --quiet --python $(PYTHON) pip-audit==2.10.1 --vulnerability-service $(AUDIT_SERVICE) \
	    --strict --disable-pip --require-hashes --requirement requirements-runtime.txt

# The files name no registry; hashes pin the packages. requirements.txt is for development and
# tests. The Dockerfile uses the others, with the same versions: -runtime to serve, -cluster to serve
# on Ray, -build to build the image.
COMPILE = $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: | $(filter build/%,$(UV))
	$(COMPILE) pyproject.toml --group dev --output-file requirements.txt
	$(COMPILE) pyproject.toml --extra postgres --no-annotate --constraint requirements.txt \
	    --output-file requirements-runtime.txt
	$(COMPILE) pyproject.toml --extra postgres --extra ray --no-annotate --constraint requirements.txt \
	    --output-file requirements-cluster.txt
	$(COMPILE) --group build --no-annotate --constraint requirements.txt --output-file requirements-build.txt

clean:
	rm -rf .venv build/uv out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage htmlcov
