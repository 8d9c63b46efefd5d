# Two commands are all the set-up there is: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/pip --disable-pip-version-check --quiet

.PHONY: demo test lint clean host

demo: $(VENV)/.installed
	$(VENV)/bin/ltx2 demo --out demo

test: $(VENV)/.installed-test lint
	$(VENV)/bin/python -m pytest -n 2

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed tests/requirements-parity.txt
	$(PIP) install -c constraints.txt -e '.[test]'
	$(PIP) install --no-deps -r tests/requirements-parity.txt
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info

# A Python with all that a ComfyUI checkout (COMFYUI_DIR) asks for, so that the tests can run the pack on the real host.
# torchvision has no CPU wheel: its Python part alone is enough (see tests/comfyui/shims).
COMFYUI_DIR ?= $(HOME)/ComfyUI
HOST_PIP = .venv-host/bin/pip --disable-pip-version-check --quiet
host:
	test -x .venv-host/bin/python || $(PYTHON) -m venv .venv-host
	$(HOST_PIP) install -c constraints.txt torch pytest
	grep -vE '^ *(#|$$)|^(torch|torchvision|torchaudio|spandrel)([^a-z].*)?$$' $(COMFYUI_DIR)/requirements.txt > .venv-host/requirements.txt
	$(HOST_PIP) install -r .venv-host/requirements.txt requests
	$(HOST_PIP) install --no-deps 'torchvision==0.28.*' torchaudio spandrel
	find .venv-host/lib*/python*/site-packages/torchvision .venv-host/lib*/python*/site-packages/torchaudio -name '*.so' -delete
