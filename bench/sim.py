# SPDX-License-Identifier: GPL-2.0
"""Compare vhost-blk with other ways to serve a disk on simulated hosts (docs/simulator.md): `run` starts them and
leaves report.md, all.md and sim.json in build/sim, `report` makes the Markdown again, `measure` is what runs there."""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import sim_plan
from bench.sim_report import all_tables, report
from tests.lib.host import TREE, Failure

KERNEL = os.environ.get("KERNEL", "6.12")
OUTPUT = TREE / "build/sim"
MAIN = r"^(?!.*polling 1 ms)"  # contestants of the main table


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def plan(full):
    return sim_plan.full_plan() if full else sim_plan.main_plan()


def host_command(number, scenario, options, fio):
    mode = ["--full"] if options.full else []
    return [str(TREE / "testbed/run"), "--simulate", "--kernel", KERNEL, "--smp", str(scenario.cpus),
            "--timeout", "7200", "--out", str(options.output), "--", str(TREE / "bench/sim"), "measure", *mode,
            "--contestants", options.contestants, "--output", f"{options.output}/{number}.json", str(number), fio]


def run_scenario(number, scenario, options, fio):
    """Start the simulated host of a scenario, and return what was measured there."""
    begin = time.monotonic()
    command = host_command(number, scenario, options, fio)
    log = options.output / f"{number}.log"
    with log.open("w") as out:
        status = subprocess.run(command, stdout=out, stderr=out).returncode
    print(f"sim: {scenario.title}: {'done' if status == 0 else 'FAILED'} in {time.monotonic() - begin:.0f} s, {log}",
          file=sys.stderr, flush=True)
    if status:
        return None
    words = [word.replace(f"{TREE}/", "") for word in command]
    return {"title": scenario.title, "run": " ".join(words),
            **json.loads((options.output / f"{number}.json").read_text())}


def write(results, directory):
    (directory / "sim.json").write_text(json.dumps(results, indent=1))
    (directory / "all.md").write_text(all_tables(results["runs"]))
    (directory / "report.md").write_text(report(results))


def run(options):
    options.output = options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    fio = output(TREE / "testbed/fio", "shared") + "/fio"
    for needed in "bench/build", "tests/guest/image", "testbed/emulator":
        output(TREE / needed)
    if options.contestants is None:
        options.contestants = "" if options.full else MAIN
    chosen = {number: scenario for number, scenario in enumerate(plan(options.full))
              if re.search(options.scenarios, scenario.title)}
    with ThreadPoolExecutor(options.jobs) as pool:
        # Those that take longest begin first.
        started = {number: pool.submit(run_scenario, number, scenario, options, fio)
                   for number, scenario in sorted(chosen.items(), key=lambda pair: -pair[1].work)}
        measured = [started[number].result() for number in chosen]
    done = [scenario for scenario in measured if scenario]
    results = {"command": f"make sim{'-full' if options.full else ''}", "costs": os.environ.get("COSTS", ""),
               "scenarios": done, "runs": [one for scenario in done for one in scenario.pop("runs")]}
    if done:
        write(results, options.output)
        print((options.output / "report.md").read_text())
    if len(done) < len(measured):
        sys.exit(f"sim: {len(measured) - len(done)} of {len(measured)} scenarios failed")


def measure(options):
    from bench.sim_host import measure as measure_here  # what only a test host has

    measured = measure_here(plan(options.full)[options.number], options.fio, options.contestants)
    options.output.write_text(json.dumps(measured, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    runner = commands.add_parser("run")
    runner.add_argument("--full", action="store_true", help="every job and disk, not only the main table")
    runner.add_argument("--scenarios", default="", help="those whose titles match")
    runner.add_argument("--contestants", help="those whose names match")
    runner.add_argument("--jobs", type=int, default=os.cpu_count(), help="hosts at a time")
    runner.add_argument("--output", type=Path, default=OUTPUT)
    runner.set_defaults(function=run)
    reporter = commands.add_parser("report")
    reporter.add_argument("--output", type=Path, default=OUTPUT)
    reporter.set_defaults(function=lambda options: write(
        json.loads((options.output / "sim.json").read_text()), options.output))
    measurer = commands.add_parser("measure")
    measurer.add_argument("--full", action="store_true")
    measurer.add_argument("--contestants", default="")
    measurer.add_argument("--output", type=Path, required=True)
    measurer.add_argument("number", type=int, help="of the scenario in the plan")
    measurer.add_argument("fio")
    measurer.set_defaults(function=measure)
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"sim: {failure}")
