# SPDX-License-Identifier: GPL-2.0
"""Fixtures of the benchmark's tests."""

import importlib
import json
import sys

import pytest


@pytest.fixture
def write(tmp_path):
    """A function that writes a document into a file of that name."""
    def write_document(name, document):
        path = tmp_path / name
        path.write_text(json.dumps(document))
        return path

    return write_document


@pytest.fixture
def run(capsys, monkeypatch):
    """A function that runs a program of bench/, in this process, and returns what it prints."""
    def run_program(program, *arguments):
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        importlib.import_module(f"bench.{program}").main()
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return run_program
