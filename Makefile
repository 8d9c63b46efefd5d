# Two commands are all the set-up there is: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/pip --disable-pip-version-check --quiet

.PHONY: demo test lint clean

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
