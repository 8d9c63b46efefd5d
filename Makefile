# Two commands are all the set-up there is: `make demo` and `make test`. Each makes .venv and installs what it needs.
# `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
# one more than cores: tests on a real ComfyUI and in its page wait for much of their time
JOBS ?= 3
PIP = $(VENV)/bin/pip --disable-pip-version-check --quiet
RUN = $(VENV)/bin/python
# what is compiled is kept, whatever a machine says: the tests start many Pythons
export PYTHONDONTWRITEBYTECODE =

.PHONY: help demo mini test test-fast fuzz crash soak bench lint format types texts workflows picture version changes wheel registry publish host newest clean

help:  ## this list
	@sed -nE 's/^([a-z-]+):.*##  ?(.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(VENV)/.installed  ## a film of three segments with sound on the model that comes along, in demo/
	$(VENV)/bin/ltx2 demo --out demo

test: lint types  ## lint, types and every test; on a real ComfyUI too where one is found (see `make host`)
	$(RUN) -m pytest -n $(JOBS)

test-fast: $(VENV)/.installed-test  ## what needs no ComfyUI and is not slow: under two minutes on two cores
	$(RUN) -m pytest -n 2 -m "not host and not slow"

fuzz: $(VENV)/.installed-test  ## a million mutated files of every format; FUZZ_INPUTS and FUZZ_FIRST say how many and from which on
	FUZZ_INPUTS=$${FUZZ_INPUTS:-1000000} $(RUN) -m pytest -n 2 tests/fuzz/test_fuzz.py

crash: $(VENV)/.installed-test  ## kills, failing disks and full ones while states, sessions and stories are written
	$(RUN) -m tests.fuzz.crash

bench: $(VENV)/.installed-test  ## times beside the published packages and how they grow, in build/bench; about ten minutes of one core
	$(RUN) -m benchmarks.bench --out build/bench

soak: $(VENV)/.installed-test  ## 200 segments and 100 prompts on a real ComfyUI, and whether memory and open files stay flat
	$(RUN) -m benchmarks.soak

lint: $(VENV)/.installed-test  ## ruff: rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.installed-test  ## what ruff can mend by itself
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# The pack is a package whose folder has a name that is none in Python, so it is checked through a link.
types: $(VENV)/.installed-test  ## mypy over ltx2/ and nodes/
	mkdir -p $(VENV)/types && ln -sfn '$(CURDIR)' $(VENV)/types/continuum
	MYPYPATH=$(VENV)/types $(VENV)/bin/mypy -p continuum.ltx2 -p continuum.nodes

texts: $(VENV)/.installed-test  ## the English locale and the tables of the help pages, from the nodes' schemas
	$(RUN) -m tests.comfyui.make_texts

workflows: $(VENV)/.installed-test  ## templates, their API form, thumbnails and the recorded node list, from a real ComfyUI
	$(RUN) -m tests.comfyui.make_workflows

picture: $(VENV)/.installed  ## docs/rooms.svg and docs/walks.svg, from docs/draw_architecture.py
	$(RUN) docs/draw_architecture.py

version:  ## the version, which is written in pyproject.toml alone
	@sed -nE 's/^version = "(.*)"/\1/p' pyproject.toml

changes:  ## what CHANGELOG.md says of this version
	@awk -v head="## $$($(MAKE) -s version) " 'index($$0, "## ") == 1 {on = index($$0, head) == 1; next} on' CHANGELOG.md

wheel: $(VENV)/.installed-test  ## the engine and the command line as a wheel, in dist/
	rm -rf dist build/lib && $(PIP) wheel --no-deps --wheel-dir dist .

registry: $(VENV)/.installed-test  ## what ComfyUI's registry will say to the pack, and the archive that it would get
	$(VENV)/bin/comfy --skip-prompt node validate
	$(VENV)/bin/comfy --skip-prompt node pack

# Needs REGISTRY_TOKEN, and is run by the release workflow alone.
publish: registry  ## hand the pack to ComfyUI's registry
	@test -n "$$REGISTRY_TOKEN" || { echo "REGISTRY_TOKEN is not set: give the publisher's token of the registry"; exit 1; }
	$(MAKE) -s changes | $(VENV)/bin/comfy --skip-prompt node publish --token "$$REGISTRY_TOKEN" --changelog-file -

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed tests/requirements-parity.txt
	$(PIP) install -c constraints.txt -e '.[test]'
	$(PIP) install --no-deps -r tests/requirements-parity.txt
	touch $@

# Resumed where it was stopped; see training/README.md.
mini: $(VENV)/.installed  ## the demonstration model anew, from nothing: two hours of one core
	$(RUN) -m training

# A Python with all that a ComfyUI checkout (COMFYUI_DIR) asks for, so that the tests can run the pack on the real host.
# torchvision has no CPU wheel: its Python part alone is enough (see tests/comfyui/shims).
COMFYUI_DIR ?= $(HOME)/ComfyUI
HOST_PIP = .venv-host/bin/pip --disable-pip-version-check --quiet
host:  ## .venv-host, with all that a ComfyUI checkout asks for (COMFYUI_DIR)
	test -x .venv-host/bin/python || $(PYTHON) -m venv .venv-host
	$(HOST_PIP) install -c constraints.txt torch pytest
	grep -vE '^ *(#|$$)|^(torch|torchvision|torchaudio|spandrel)([^a-z].*)?$$' $(COMFYUI_DIR)/requirements.txt > .venv-host/requirements.txt
	$(HOST_PIP) install -r .venv-host/requirements.txt requests
	$(HOST_PIP) install --no-deps 'torchvision==0.28.*' torchaudio spandrel
	find .venv-host/lib*/python*/site-packages/torchvision .venv-host/lib*/python*/site-packages/torchaudio -name '*.so' -delete

# Tried with comfyui-frontend-package 1.58.1 and comfyui-workflow-templates-json 0.1.123 on ComfyUI 0.33.
newest: $(VENV)/.installed-test  ## the page and the host's own templates as they are published today, on a ComfyUI checkout
	rm -rf .newest && $(PIP) install --no-deps --target .newest comfyui-frontend-package comfyui-workflow-templates-json
	CONTINUUM_NEWEST=$(CURDIR)/.newest $(RUN) -m pytest tests/comfyui/test_real_page.py tests/comfyui/test_real_templates.py

clean:  ## everything that was made here
	rm -rf $(VENV) demo build dist *.egg-info
