# SPDX-License-Identifier: GPL-2.0
"""Write what the benchmarks measured as Markdown with pictures: first what vhost-blk is to reach and what it does, then
vhost-blk against each other contestant, then how each was run."""

import argparse
import re
from pathlib import Path
from statistics import median

from bench import plots
from bench.results import OURS, is_ours, read, spread, total
from bench.targets import targets

LATENCIES = {"mean": "Mean", "p50": "Median", "p99": "99th percentile of", "p99.9": "99.9th percentile of"}
EXECUTED = ("guest", "kernel", "user")
MEMORY = {"slab": "slab", "mapped": "mapped, as stacks are", "percpu": "per CPU"}


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def title(key):
    level, backend = key
    return f"{level.capitalize()} level, {backend}"


def file_name(what, key):
    return re.sub(r"[^a-z0-9_]+", "-", f"{what}-{'-'.join(key)}") + ".svg"


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def ratio_cell(values, more_is_better):
    text = spread(values)
    if values and (median(values) < 1) == more_is_better and median(values) != 1:
        text = f"**{text}**"
    return text


def ratio_table(results, key, figure):
    """A row for each job, and for each variant of vhost-blk."""
    names = results.contestants(key)
    others = [name for name in names if not is_ours(name)]
    variants = [name for name in names if is_ours(name)]
    best = key[0] != "ring"  # where there is one rival only
    rows = []
    for job in results.jobs(key):
        for variant in variants:
            against = [*others, results.best_rival(key, job)] if best else others
            cells = [ratio_cell(results.ratios(key, job, variant, other, figure), figure == "iops")
                     for other in against]
            if any(cell != "–" for cell in cells):
                rows.append([job + variant.removeprefix(OURS), *cells])
    return table(["job", *others] + (["the best of the others in IOPS"] if best else []), rows)


def median_table(results, key, figure):
    names = results.contestants(key)
    rows = []
    for job in results.jobs(key):
        samples = [list(results.samples(key, job, name, figure).values()) for name in names]
        rows.append([job, *(number(median(found)) if found else "–" for found in samples)])
    return table(["job", *names], rows)


def picture(directory, plot, results, key, alternative):
    name = file_name(plot.__name__, key)
    return f"![{alternative}]({name})\n" if plot(results, key, directory / name) is not False else None


def target_section(results):
    words = {None: "not measured", True: "yes", False: "**no**"}
    rows = [[target.what, f"{'≥' if target.at_least else '≤'} {target.goal:.2f}", spread(target.values),
             words[target.reached], target.beside] for target in targets(results)]
    yield "## What vhost-blk is to reach\n"
    yield table(["figure", "target", "measured", "reached", "beside it"], rows)


def counts_part(results, document):
    for job, rows in results.counts(document).items():
        names = list(dict.fromkeys(name for counters in rows.values() for name in counters))
        yield f"### Counted per I/O: {job}\n"
        yield table(["contestant", *(name.replace("_", " ") for name in names)],
                    [[who, *(f"{counters[name]:.2f}" for name in names)] for who, counters in rows.items()])


def times_section(directory, results, key):
    document = results.times[key]
    rounds = 1 + max(run["round"] for run in document["runs"])
    yield f"## {title(key)}\n"
    yield (f"What vhost-blk has, divided by what the other has: the median of {rounds} interleaved pairs, and their"
           " range. Bold: vhost-blk loses. Completion latency is fio's: it begins where the submission ends, which on a"
           " disk that completes at once is after the work for those without a ring.\n")
    yield f"### IOPS\n\n{ratio_table(results, key, 'iops')}"
    yield picture(directory, plots.queues, results, key, "IOPS ratio against queues")
    for figure, name in LATENCIES.items():
        yield f"### {name} completion latency\n\n{ratio_table(results, key, figure)}"
    yield picture(directory, plots.latency, results, key, "Latency against depth")
    yield f"### IOPS themselves, medians\n\n{median_table(results, key, 'iops')}"
    yield from counts_part(results, document)


def instructions_section(directory, results, key):
    document = results.instructions[key]
    yield f"## Instructions per I/O: {title(key)}\n"
    yield picture(directory, plots.instructions, results, key, "Instructions per I/O")
    for job in dict.fromkeys(row["job"] for row in document["instructions"]):
        lines = [[who, *(f"{row[part]:.0f}" for part in EXECUTED),
                  f"{total(row):.0f} ({row['low']:.0f}–{row['high']:.0f})"]
                 for who, row in results.executed(key, job).items()]
        yield f"### {job}\n"
        yield table(["contestant", "guest", "host kernel", "host user", "all (range)"], lines)
    yield from counts_part(results, document)


def memory_section(results):
    for key, document in results.times.items():
        found: dict = {}
        for sample in document.get("memory", []):
            found.setdefault(sample["contestant"], []).append({part: sample[part] for part in MEMORY})
        if found:
            yield f"## Memory of the host's kernel, KiB for each started queue: {title(key)}\n"
            yield table(["contestant", *MEMORY.values(), "all (range)"],
                        [[who, *(f"{median(sample[part] for sample in samples):.0f}" for part in MEMORY),
                          spread([sum(sample.values()) for sample in samples])] for who, samples in found.items()])


def how_section(results):
    yield "## How\n"
    for what, kind in (("times", results.times), ("instructions", results.instructions)):
        for key, document in kind.items():
            yield f"### {title(key)}: {what}\n"
            for name, command in document.get("commands", {}).items():
                yield f"{name}:\n\n    {command}\n"
            for name, command in document.get("servers", {}).items():
                yield f"What serves {name}:\n\n" + "".join(f"    {line}\n" for line in command.splitlines())
            for queues, command in document.get("guests", {}).items():
                yield f"The guest with {queues} queues:\n\n    {command}\n"
            jobs = document.get("jobs", {})
            if jobs:
                yield table(["job", "JOB", "QUEUES"],
                            [[name, f"`{job.get('command', job['options'])}`", job["queues"]]
                             for name, job in jobs.items()])
            for missing in document.get("left_out", []):
                yield f"No {missing['contestant']} in {missing['job']}: {missing['why']}.\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="the directory of the report")
    parser.add_argument("results", nargs="+", help="files of figures, and directories of such")
    options = parser.parse_args()
    results = read(options.results)
    options.output.mkdir(parents=True, exist_ok=True)
    kernels = dict.fromkeys(document["kernel"] for document in results.documents)
    hosts = dict.fromkeys(document["host"] for document in results.documents if "host" in document)
    parts = [f"# vhost-blk next to the others, kernel {', '.join(kernels)}\n",
             *(f"Test host: {host}.\n" for host in hosts), *target_section(results)]
    for key in results.times:
        parts += times_section(options.output, results, key)
    for key in results.instructions:
        parts += instructions_section(options.output, results, key)
    parts += memory_section(results)
    parts += how_section(results)
    (options.output / "report.md").write_text("\n".join(part for part in parts if part is not None))


if __name__ == "__main__":
    main()
