# SPDX-License-Identifier: GPL-2.0
"""What the benchmarks wrote, read back."""

import json
import sys
from pathlib import Path
from statistics import median

OURS = "vhost-blk"


def is_ours(contestant):
    """vhost-blk, or a variant of it."""
    return contestant.split(",")[0] == OURS


def is_rival(contestant):
    """Another way to serve a guest's disk, rather than something that vhost-blk is compared with to explain it."""
    return not contestant.startswith(OURS)


def spread(values):
    """The median, and the range where there is one."""
    if not values:
        return "–"
    low, high = min(values), max(values)
    return f"{median(values):.2f}" + (f" ({low:.2f}–{high:.2f})" if len(values) > 1 else "")


def total(row):
    return row["guest"] + row["kernel"] + row["user"]


class Results:
    """Documents in memory: times and instructions, each by level and backend."""

    def __init__(self, documents):
        self.times: dict = {}
        self.instructions: dict = {}
        for document in documents:
            kind = self.instructions if "instructions" in document else self.times
            key = document["level"], document["backend"]
            if key in kind:
                sys.exit(f"two documents of {' level, '.join(key)}")
            kind[key] = document

    @property
    def documents(self):
        return [*self.times.values(), *self.instructions.values()]

    def samples(self, key, job, contestant, figure):
        """By round."""
        runs = self.times[key]["runs"] if key in self.times else []
        return {run["round"]: run[figure] for run in runs if (run["job"], run["contestant"]) == (job, contestant)}

    def ratios(self, key, job, contestant, other, figure="iops"):
        """Of each round in which both did the job: interleaved pairs."""
        ours, others = (self.samples(key, job, name, figure) for name in (contestant, other))
        return [ours[number] / others[number] for number in sorted(ours.keys() & others.keys())]

    def best_rival(self, key, job):
        rivals = {name: median(samples.values()) for name in self.contestants(key) if is_rival(name)
                  if (samples := self.samples(key, job, name, "iops"))}
        return max(rivals, key=lambda name: rivals[name], default=None)

    def contestants(self, key):
        runs = self.times[key]["runs"] if key in self.times else []
        return list(dict.fromkeys(run["contestant"] for run in runs))

    def jobs(self, key):
        return list(dict.fromkeys(run["job"] for run in self.times[key]["runs"]))

    @staticmethod
    def counts(document):
        """Per I/O, by job and contestant: what was counted, the median of the times it was."""
        found: dict = {}
        for row in document.get("counts", []):
            counters = found.setdefault(row["job"], {}).setdefault(row["contestant"], {})
            for name, count in row.items():
                if name not in ("job", "contestant", "round", "requests"):
                    counters.setdefault(name, []).append(count)
        return {job: {who: {name: median(counts) for name, counts in counters.items()}
                      for who, counters in rows.items()}
                for job, rows in found.items()}

    def executed(self, key, job):
        """The rows of instructions of a job, by contestant."""
        rows = self.instructions[key]["instructions"] if key in self.instructions else []
        return {row["contestant"]: row for row in rows if row["job"] == job}


def read(paths):
    files = [file for path in map(Path, paths) for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not files:
        sys.exit(f"no results in {' '.join(map(str, paths))}")
    return Results([json.loads(file.read_text()) for file in files])
