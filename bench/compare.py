# SPDX-License-Identifier: GPL-2.0
"""Say what changed from one run to another of `bench/sim` (its sim.json) or of `bench/instructions` (its --output).

Figures changed where they differ by more than --least per cent, and counts of instructions where their ranges have
nothing in common besides.
"""

import argparse
import json
from pathlib import Path

from bench.sim_report import FIGURES

LEAST = 2  # per cent


def figures_of(document):
    """By place and name, each with the range of what was seen."""
    found = {}
    for run in document.get("runs", []):
        for figure, title in FIGURES.items():
            if figure in run:
                found[run.get("scenario"), run["job"], run["contestant"], title] = (run[figure],) * 3
    for row in document.get("instructions", []):
        total = sum(row[part] for part in ("guest", "kernel", "user"))
        found[document["level"], row["job"], row["contestant"], "instructions"] = row["low"], total, row["high"]
    return found


def in_both(old, new):
    """The places that are in both; the others are told."""
    for where, missing in (("old", old.keys() - new.keys()), ("new", new.keys() - old.keys())):
        for place in sorted({", ".join(map(str, place[:-1])) for place in missing}):
            print(f"only in the {where} run: {place}")
    return [place for place in old if place in new]


def changed(old, new, least):
    """By how much of what it was a figure changed, or 0."""
    (low, was, high), (new_low, is_now, new_high) = old, new
    change = is_now / was - 1 if was else 0
    apart = high < new_low or new_high < low
    return change if apart and abs(change) * 100 > least else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--least", type=float, default=LEAST)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    old, new = (figures_of(json.loads(path.read_text())) for path in (options.old, options.new))
    both = in_both(old, new)
    changes = {place: change for place in both if (change := changed(old[place], new[place], options.least))}
    for place, change in changes.items():
        better = (change > 0) == (place[-1] == "IOPS")
        print(f"{'better' if better else 'worse '}  {', '.join(place)}:"
              f" {old[place][1]:.5g} → {new[place][1]:.5g} ({change:+.1%})")
    print(f"{len(changes)} of {len(both)} changed")


if __name__ == "__main__":
    main()
