# SPDX-License-Identifier: GPL-2.0
"""Print each test that a document names and that does not exist; called by tests/static.

A document names tests in backticks: `PROGRAM:TEST`, `unit PROGRAM`, `qemu TEST`, `guest SCENARIO`, where * stands
for any text, and after one of them `…:TEST` for another test of that program or `…_END` for another one with that end.
"""

import re
import sys
from fnmatch import fnmatch
from pathlib import Path

HERE = Path(__file__).resolve().parent
UNIT = HERE / "unit"
PROGRAMS = {path.stem for path in UNIT.glob("*.c")}


def unit_tests(program):
    """The names of a program's tests: their functions, these with their parameters, and names given as strings."""
    text = (UNIT / f"{program}.c").read_text()
    names = set(re.findall(r"^static void (\w+)\(void \*\*\w*\)", text, re.MULTILINE))
    names.update(re.findall(r'\{ "(\w+?)_?"', text))
    for test, parameter in re.findall(r"^\t\t[A-Z_]+_ON\((\w+), (\w+)\)", text, re.MULTILINE):
        names.add(f"{test}_on_{parameter}")
    return names


def python_tests(directory):
    """The names of the test functions and files below a directory, without "test_"."""
    names = set()
    for path in directory.rglob("test_*.py"):
        names.add(path.stem.removeprefix("test_"))
        names.update(re.findall(r"^def test_(\w+)", path.read_text(), re.MULTILINE))
    return names


def missing(line):
    """The names in a line of a document for which there is no test."""
    known = set()
    for quoted in re.findall(r"`([^`]+)`", line):
        words = re.fullmatch(r"(?:(unit|qemu|guest) )?(?:(\w+|…):)?([a-z0-9_*…-]+)", quoted)
        if not words:
            continue
        lane, program, test = words.groups()
        if program in PROGRAMS:
            known = unit_tests(program)
        elif lane == "unit":
            known = PROGRAMS
        elif lane:
            known = python_tests(HERE / lane)
        elif not known or (program != "…" and not test.startswith("…_")):
            continue
        pattern = test.replace("…", "*").replace("-", "_")
        if not any(fnmatch(name, pattern) for name in known):
            yield quoted


def main():
    for document in sys.argv[1:]:
        for number, line in enumerate(Path(document).read_text().splitlines(), 1):
            for name in missing(line):
                print(f"{document}:{number}: no test `{name}`")


if __name__ == "__main__":
    main()
