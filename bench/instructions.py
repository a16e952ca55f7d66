# SPDX-License-Identifier: GPL-2.0
"""Count the instructions that a 4 KiB random read of null_blk costs in the test host: `ring` through the rings of
vhost-blk and of QEMU's vhost-user-blk and directly on the disk, `guest` in a guest for guest and host, `profile` by
function of the kernel for vhost-blk. `measure` is what `ring` runs in the test host."""

import argparse
import bisect
import collections
import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from bench import instructions_host
from bench.jobs import random_name
from tests.lib.host import TREE, Failure

KERNEL = os.environ.get("KERNEL", "6.12")
GUEST_JOBS = "|".join(f"^{random_name('read', depth)}$" for depth in (1, 32))
PARTS = ("kernel", "user", "guest")  # as the plugin writes them
PROFILED = 20000  # reads


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@contextmanager
def counted(command, *more):
    """Run a command in a test host whose emulator counts instructions, and give the directory that it and the plugin
    wrote to. command() makes it of the directory that has the built programs, and of that one. The plugin writes the
    file "marks", and those that more names."""
    build = output(TREE / "bench/build")
    with tempfile.TemporaryDirectory() as directory:
        # The plugin sees what TCG translates; under KVM it would see nothing.
        plugin = ",".join([f"-plugin {build}/icount.so", f"out={directory}/marks",
                           *(f"{name}={directory}/{name}" for name in more)])
        subprocess.run([TREE / "testbed/run", "--kernel", KERNEL, "--timeout", "3600", "--out", directory, "--",
                        *command(build, directory)], check=True, stdout=sys.stderr,
                       env=os.environ | {"ACCEL": "tcg", "TESTBED_QEMU_ARGS": plugin})
        yield Path(directory)


def read_marks(directory):
    """Instructions executed so far at each mark, by part."""
    return [[int(count) for count in line.split()] for line in (directory / "marks").read_text().splitlines()]


def ring_samples(runs, marks):
    """For each job and contestant what a read costs, in each round."""
    found: dict = {}
    marks = iter(marks)
    for run in runs:
        few, many = [[next(marks) for _ in range(run["marks"])] for _ in run["reads"]]
        reads = run["reads"][1] - run["reads"][0]
        parts = {name: (many[-1][i] - many[0][i] - few[-1][i] + few[0][i]) / reads for i, name in enumerate(PARTS)}
        found.setdefault((run["job"], run["contestant"]), []).append(parts)
    return found


def guest_samples(counts, marks):
    """The same of runs of bench/guest, each a shorter one of fio and a longer one."""
    found: dict = {}
    for number, run in enumerate(counts):
        shorter_before, shorter_after, before, after = marks[4 * number:4 * number + 4]
        parts = {name: (after[i] - before[i] - (shorter_after[i] - shorter_before[i])) / run["requests"]
                 for i, name in enumerate(PARTS)}
        found.setdefault((run["job"], run["contestant"]), []).append(parts)
    return found


def rows_of(found):
    """The sample in the middle, with the range of the sums."""
    rows = []
    for (job, contestant), samples in found.items():
        ranked = sorted(samples, key=lambda parts: sum(parts.values()))
        rows.append({"contestant": contestant, "job": job, **ranked[(len(ranked) - 1) // 2],
                     "low": sum(ranked[0].values()), "high": sum(ranked[-1].values())})
    return rows


def finish(options, measured, rows):
    if options.output:
        options.output.write_text(json.dumps({**measured, "instructions": rows}, indent=1))
    print(f"Instructions per request, {measured['backend']}, kernel {measured['kernel']}\n\n"
          "| job | contestant | guest | host's kernel | host's user | all (range) |\n" + "| --- " * 6 + "|")
    for row in rows:
        total = sum(row[part] for part in PARTS)
        print(f"| {row['job']} | {row['contestant']} | {row['guest']:.0f} | {row['kernel']:.0f} | {row['user']:.0f}"
              f" | {total:.0f} ({row['low']:.0f}–{row['high']:.0f}) |")


def ring(options):
    fio = output(TREE / "testbed/fio", "shared")
    qemu = os.environ.get("QEMU") or output(TREE / "qemu-patches/build") + "/bin/qemu-system-x86_64"
    with counted(lambda build, directory: [
            TREE / "bench/instructions", "measure", "--rounds", str(options.rounds), "--output",
            f"{directory}/measured", f"{fio}/fio", Path(qemu).with_name("qemu-storage-daemon")]) as directory:
        measured, marks = json.loads((directory / "measured").read_text()), read_marks(directory)
    if len(marks) != measured.pop("marks"):
        raise Failure("there are not the marks that were made")
    finish(options, measured, rows_of(ring_samples(measured.pop("runs"), marks)))


def guest(options):
    output(TREE / "tests/guest/image")
    with counted(lambda build, directory: [
            TREE / "bench/guest", "--output", f"{directory}/guest.json", "--mark", f"{build}/mark", "--rounds", "0",
            "--jobs", GUEST_JOBS, "--counts", str(options.rounds), "--requests", str(options.requests),
            "--contestants", options.contestants]) as directory:
        measured, marks = json.loads((directory / "guest.json").read_text()), read_marks(directory)
    if len(marks) != 4 * len(measured["counts"]):
        raise Failure("marks and measurements do not match")
    finish(options, measured, rows_of(guest_samples(measured["counts"], marks)))


def marked_counts(path):
    """For each mark the instructions executed so far, by the address of the block of code."""
    counts: list[dict] = [{}]
    for line in path.read_text().splitlines():
        if line == "mark":
            counts.append({})
        else:
            address, count = line.split()
            counts[-1][int(address, 16)] = int(count)
    return counts[:-1]


def functions(directory):
    """Instructions executed between the two marks, by function."""
    symbols = sorted((int(words[0], 16), words[2]) for words in map(str.split, (directory / "symbols").open())
                     if words[1] in "tTwW")
    starts = [address for address, _ in symbols]
    before, after = marked_counts(directory / "profile")
    found: collections.Counter = collections.Counter()
    for address, count in after.items():
        # The program is one place.
        name = symbols[bisect.bisect(starts, address) - 1][1] if address else "(the driver, in userspace)"
        found[name] += count - before.get(address, 0)
    return found


def profile(options):
    with counted(lambda build, directory: [
            "sh", "-c", f"{TREE}/tests/lib/load-module && modprobe null_blk && {build}/ringcount /dev/nullb0"
            f" {options.depth} {PROFILED} && cat /proc/kallsyms >{directory}/symbols"], "profile") as directory:
        found = functions(directory)
    print(f"Instructions per read, kernel {KERNEL}, depth {options.depth}: {sum(found.values()) / PROFILED:.0f}")
    for name, count in found.most_common():
        if count / PROFILED < options.least:
            break
        print(f"{count / PROFILED:8.1f}  {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    for function in ring, guest:
        command = commands.add_parser(function.__name__)
        command.add_argument("--rounds", type=int, default=5)
        command.add_argument("--output", type=Path, help="write them as JSON, too")
        command.set_defaults(function=function)
    command.add_argument("--requests", type=int, default=2000)
    command.add_argument("--contestants", default="", help="those whose names match")
    command = commands.add_parser("profile")
    command.add_argument("--depth", type=int, default=1, help="reads in flight")
    command.add_argument("--least", type=float, default=10, help="instructions per read of which a function is shown")
    command.set_defaults(function=profile)
    command = commands.add_parser("measure")
    command.add_argument("--rounds", type=int, required=True)
    command.add_argument("--output", type=Path, required=True)
    command.add_argument("fio")
    command.add_argument("storage_daemon")
    command.set_defaults(function=instructions_host.measure)
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"instructions: {failure}")
