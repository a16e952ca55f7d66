# SPDX-License-Identifier: GPL-2.0
"""Whole guests doing verified I/O through vhost-blk; runs in the test host."""

import argparse
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
from tests.guest.checks import Results
from tests.guest.guest import VHOST
from tests.lib.host import explain


def main():
    # "four-queues" is run() of scenarios/four_queues.py.
    names = sorted(path.stem.replace("_", "-") for path in (HERE / "scenarios").glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default=VHOST, help="the disks' device; virtio-blk-pci to try the tests")
    parser.add_argument("--rounds", type=int, help="how often to repeat what a scenario repeats")
    parser.add_argument("scenario", nargs="*", choices=[[], *names])
    options = parser.parse_args()
    results = Results(options.rounds)
    for name in options.scenario or names:
        failed_before = results.failed
        try:
            scenario = importlib.import_module(f"tests.guest.scenarios.{name.replace('-', '_')}")
            print(f"# {name}: {scenario.__doc__}", flush=True)
            scenario.run(results, options.device)
        except Exception as error:
            text = explain(error)
            # What failed in a check has been told there.
            first = text.splitlines()[0]
            print(f"# {name} ended early: {first if results.failed > failed_before else text}", flush=True)
            results.failed = failed_before + 1
    print(f"guest: {results.passed} passed, {results.failed} failed, 0 skipped")
    sys.exit(results.failed > 0)


if __name__ == "__main__":
    main()
