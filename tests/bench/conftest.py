# SPDX-License-Identifier: GPL-2.0
"""Fixtures of the benchmark's tests."""

import importlib
import json
import sys

import pytest


@pytest.fixture
def write(tmp_path):
    """A function that writes documents into a directory of that name, as a run of the benchmark does."""
    def write_documents(name, *documents):
        directory = tmp_path / name
        directory.mkdir()
        for number, document in enumerate(documents):
            (directory / f"{number}.json").write_text(json.dumps(document))
        return directory

    return write_documents


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
