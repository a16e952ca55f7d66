# SPDX-License-Identifier: GPL-2.0
"""Print how many instructions a 4 KiB random read of null_blk costs guest and host, by contestant of bench/guest."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lib.host import TREE, expect_text

KERNEL = os.environ.get("KERNEL", "6.12")
JOBS = "^4 KiB random read, depth (1|32)$"
PARTS = ("kernel", "user", "guest")  # as the plugin writes them


def measure(out, arguments):
    """The counted runs of bench/guest, and what the plugin wrote at each mark."""
    subprocess.run(TREE / "tests/guest/image", check=True, stdout=subprocess.DEVNULL)
    build = subprocess.run(TREE / "bench/build", check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
    # The plugin sees what TCG translates; under KVM it would see nothing.
    environment = {**os.environ, "ACCEL": "tcg", "TESTBED_QEMU_ARGS": f"-plugin {build}/icount.so,out={out}/marks"}
    command = [TREE / "testbed/run", "--kernel", KERNEL, "--timeout", "3600", "--out", out, "--", TREE / "bench/guest",
               "--output", f"{out}/guest.json", "--mark", f"{build}/mark", "--rounds", "0", "--jobs", JOBS, *arguments]
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    marks = [[int(word) for word in line.split()] for line in Path(out, "marks").read_text().splitlines()]
    measured = json.loads(Path(out, "guest.json").read_text())
    if len(marks) != 4 * len(measured["counts"]):
        sys.exit("guest-instructions: marks and measurements do not match")
    return measured, marks


def by_request(measured, marks):
    """By job and contestant, the parts of a request's instructions, once for each time they were counted."""
    found: dict = {}
    for number, run in enumerate(measured["counts"]):
        # Of a shorter run of fio and of a longer one.
        shorter_before, shorter_after, before, after = marks[4 * number:4 * number + 4]
        parts = {name: (after[i] - before[i] - (shorter_after[i] - shorter_before[i])) / run["requests"]
                 for i, name in enumerate(PARTS)}
        found.setdefault((run["job"], run["contestant"]), []).append(parts)
    return found


def summary(samples):
    """The sample in the middle, with the range of the sums."""
    samples = sorted(samples, key=lambda parts: sum(parts.values()))
    return {**samples[(len(samples) - 1) // 2], "low": sum(samples[0].values()), "high": sum(samples[-1].values())}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="for a JSON document of them")
    parser.add_argument("--counts", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--contestants", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        measured, marks = measure(out, ["--counts", str(options.counts), "--requests", str(options.requests),
                                        "--contestants", options.contestants])
    rows = [{"contestant": contestant, "job": job, "depth": int(expect_text(r"depth (\d+)", job)[1]),
             **summary(samples)}
            for (job, contestant), samples in by_request(measured, marks).items()]
    if options.output:
        options.output.write_text(json.dumps({**measured, "instructions": rows}, indent=1))
    print(f"Instructions per request, {measured['backend']}, kernel {measured['kernel']}\n\n"
          "| job | contestant | guest | host's kernel | host's user | all (range) |\n" + "| --- " * 6 + "|")
    for row in rows:
        total = sum(row[part] for part in PARTS)
        print(f"| {row['job']} | {row['contestant']} | {row['guest']:.0f} | {row['kernel']:.0f} | {row['user']:.0f}"
              f" | {total:.0f} ({row['low']:.0f}–{row['high']:.0f}) |")


if __name__ == "__main__":
    main()
