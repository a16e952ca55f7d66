# SPDX-License-Identifier: GPL-2.0
"""What measuring at ring level and in a guest have in common: fio's part, and the daemon that serves vhost-user."""

import json
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from tests.lib.host import Failure, wait_until

SECONDS = 1  # that fio measures, after half as many that it does not
PERCENTILES = (50, 99, 99.9)
TIMED = ["--time_based", f"--runtime={SECONDS}", f"--ramp_time={SECONDS * 500:.0f}ms"]


def fio_options(queues):
    """What else fio is told, to have a job for each queue, and to give what fio_figures() understands."""
    return ["--direct=1", "--thread", f"--numjobs={queues}", "--group_reporting", "--unified_rw_reporting=1",
            "--percentile_list=" + ":".join(map(str, PERCENTILES)), "--output-format=json"]


def fio_figures(mixed):
    """What fio measured of all directions together: IOPS, and completion latencies in µs."""
    latency = mixed["clat_ns"]
    return {"iops": mixed["iops"], "mean": latency["mean"] / 1000,
            **{f"p{percent:g}": latency["percentile"][f"{percent:.6f}"] / 1000 for percent in PERCENTILES}}


def run_fio(command):
    """What fio measures on the host itself."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return fio_figures(json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]["mixed"])


@contextmanager
def storage_daemon(program, disk, queues, iothread=""):
    """A vhost-user-blk export of the disk by an iothread of these properties: its socket, its process, and the command
    that made it."""
    driver = "host_device" if Path(disk).is_block_device() else "file"
    with tempfile.TemporaryDirectory() as directory:
        address = f"{directory}/vhost-user"
        command = [program,
                   "--blockdev", f"driver={driver},node-name=disk,filename={disk},cache.direct=on,aio=io_uring",
                   "--object", f"iothread,id=iothread{iothread}",
                   "--export", "type=vhost-user-blk,id=export,node-name=disk,iothread=iothread,writable=on"
                   f",num-queues={queues},addr.type=unix,addr.path={address}"]
        process = subprocess.Popen(command)
        try:
            wait_until(lambda: process.poll() is not None or Path(address).exists(),
                       lambda: "qemu-storage-daemon does not listen")
            if process.poll() is not None:
                raise Failure(f"qemu-storage-daemon ended: {process.returncode}")
            yield address, process, command
        finally:
            process.kill()
            process.wait()
