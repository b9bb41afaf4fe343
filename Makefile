# SPDX-License-Identifier: LGPL-2.1-or-later
# Each target gets ready what it needs by itself, below build/ and .venv/ alone.
.PHONY: help demo test check bench clean install uninstall
.DEFAULT_GOAL := help

bed = tests/bed
bin = .venv/bin

# as in `make test T="tests/core -k window"`
T =

# where systemd looks: /usr/local or /usr; DESTDIR is put before it
PREFIX = /usr/local
DESTDIR =

help:
	@echo 'make demo    a ban from the first wrong password to its end, shown on this machine (as root; it stays untouched)'
	@echo 'make test    all tests; as root, or else those that need no privileges; T="..." gives pytest more words'
	@echo 'make check   linters and type checkers'
	@echo 'make bench   the figures of the README (as root)'
	@echo 'make clean   remove what the others made'
	@echo 'make install, make uninstall   on this machine (as root); PREFIX=/usr/local, DESTDIR='

demo:
	@$(bed)/setup demo
	@$(bed)/enter $(bin)/python $(bed)/demo.py

test:
	@$(bed)/setup test
	@$(bed)/enter $(bin)/pytest -n auto --dist loadgroup $(T)

check: export PYRIGHT_PYTHON_CACHE_DIR = $(CURDIR)/build/pyright
check: export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1
check:
	@$(bed)/setup check
	$(bin)/ruff check agent tests
	$(bin)/ruff format --check agent tests
	$(bin)/mypy agent/banagent tests
	$(bin)/pyright --warnings
	$(bin)/lint-imports
	$(bin)/codespell
	$(bed)/enter $(bed)/lint-docs

bench:
	@$(bed)/setup bench
	@$(bed)/enter $(bin)/python tests/bench

clean:
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find agent tests -name __pycache__ -exec rm -rf {} +

install uninstall: export PREFIX := $(PREFIX)
install uninstall: export DESTDIR := $(DESTDIR)
install uninstall:
	@units/install $@
