# setup, demo, pictures, serve, test, check, lock, clean. Needs Python 3.11, make and a package registry; everything else
# goes into .venv, and uv into build/uv where there is none.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := setup
.PHONY: setup demo pictures serve test check lock clean

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

# The documentation's pictures: the README's from a demo run, those of how-it-works.md from one walk.
pictures: demo
	$(BIN)/python -c "from PIL import Image; Image.open('out/side-by-side.png').convert('RGB') \
	    .save('docs/images/before-after.jpg', quality=85, optimize=True)"
	$(BIN)/face-detailer detail examples/astronaut-damaged.jpg --output out/astronaut.png --prompt "detailed face" \
	    --denoise 0.4 --profile tiny --device cpu --steps docs/images/steps

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
	$(BIN)/hadolint Dockerfile

# Names no registry: the hashes are what pins. requirements.txt is what people and tests work with. The Dockerfile takes the
# other two, of the same versions: -runtime is what serves, -build what makes the image.
COMPILE = $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: | $(filter build/%,$(UV))
	$(COMPILE) pyproject.toml --group dev --output-file requirements.txt
	$(COMPILE) pyproject.toml --extra postgres --no-annotate --constraint requirements.txt \
	    --output-file requirements-runtime.txt
	$(COMPILE) --group build --no-annotate --constraint requirements.txt --output-file requirements-build.txt

clean:
	rm -rf .venv build/uv out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage htmlcov
