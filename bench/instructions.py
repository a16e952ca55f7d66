# SPDX-License-Identifier: GPL-2.0
"""Print how many instructions a 4 KiB random read of null_blk costs through the rings of vhost-blk and of QEMU's
vhost-user-blk, and directly on the disk."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lib.host import TREE

HERE = TREE / "bench"


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def measure(kernel, rounds):
    """What bench/instructions-host did, and the instructions executed so far at each mark it made."""
    build = output(HERE / "build")
    fio = output(TREE / "testbed/fio", "shared")
    qemu = os.environ.get("QEMU") or output(TREE / "qemu-patches/build") + "/bin/qemu-system-x86_64"
    with tempfile.TemporaryDirectory() as directory:
        # The plugin sees what TCG translates; under KVM it would see nothing.
        environment = os.environ | {"ACCEL": "tcg",
                                    "TESTBED_QEMU_ARGS": f"-plugin {build}/icount.so,out={directory}/marks"}
        subprocess.run([TREE / "testbed/run", "--kernel", kernel, "--timeout", "1800", "--out", directory, "--",
                        HERE / "instructions-host", "--rounds", str(rounds), "--output", f"{directory}/measured",
                        f"{fio}/fio", Path(qemu).with_name("qemu-storage-daemon")],
                       check=True, env=environment, stdout=sys.stderr)
        marks = [[int(count) for count in line.split()] for line in Path(directory, "marks").read_text().splitlines()]
        return json.loads(Path(directory, "measured").read_text()), marks


def samples(runs, marks):
    """For each contestant and job what the kernel and userspace executed per read, in each round."""
    found: dict = {}
    marks = iter(marks)
    for run in runs:
        few, many = [[next(marks) for _ in range(run["marks"])] for _ in run["reads"]]
        executed = [many[-1][part] - many[0][part] - few[-1][part] + few[0][part] for part in (0, 1)]
        reads = run["reads"][1] - run["reads"][0]
        found.setdefault((run["contestant"], run["job"]), []).append([count / reads for count in executed])
    return found


def row(contestant, job, rounds):
    ranked = sorted(rounds, key=sum)
    kernel, user = ranked[(len(ranked) - 1) // 2]
    return {"contestant": contestant, "job": job, "guest": 0, "kernel": kernel, "user": user,
            "low": sum(ranked[0]), "high": sum(ranked[-1])}


def print_table(kernel, rows):
    print(f"Instructions per 4 KiB random read of null_blk, kernel {kernel}")
    print("(the median, what of it the kernel executed, the range)")
    for job in dict.fromkeys(row["job"] for row in rows):
        print(f"\n{job}")
        for row in rows:
            if row["job"] == job:
                print(f"  {row['contestant']:32}{row['kernel'] + row['user']:8.0f}{row['kernel']:8.0f}"
                      f"   {row['low']:.0f}-{row['high']:.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write them as JSON, too")
    options = parser.parse_args()
    measured, marks = measure(os.environ.get("KERNEL", "6.12"), options.rounds)
    if len(marks) != measured.pop("marks"):
        sys.exit("instructions: there are not the marks that were made")
    rows = [row(contestant, job, rounds) for (contestant, job), rounds in samples(measured.pop("runs"), marks).items()]
    print_table(measured["kernel"], rows)
    if options.output:
        options.output.write_text(json.dumps(measured | {"instructions": rows}, indent=1))


if __name__ == "__main__":
    main()
