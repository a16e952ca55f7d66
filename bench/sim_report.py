# SPDX-License-Identifier: GPL-2.0
"""What bench/sim makes of the runs: one page with the main table, and the rest in tables by job."""

import re

from bench.contestants import NO_POLLING, OURS, is_rival
from bench.sim_plan import ALONE, BARE, DELAYS, GHZ, event_costs, main_plan
from tests.lib.host import expect_text

FIGURES = {"iops": "IOPS", "p50": "p50, µs", "p99": "p99, µs", "p99.9": "p99.9, µs", "busy": "busy cycles",
           "exits": "exits", "interrupts": "interrupts", "wakeups": "wake-ups"}
# Of the runs of others that were published: what, how much, where, and the runs here of which the ratio is the same.
PUBLISHED_VHOST_BLK = "[vhost-blk, 2022](http://mail.spinics.net/lists/kvm/msg284570.html)"
PUBLISHED_VHOST_SCSI = "[vhost-scsi, 2021](http://mail.spinics.net/lists/linux-scsi/msg166845.html)"


def by_contestant(runs):
    """The runs of each scenario and job."""
    found: dict = {}
    for run in runs:
        found.setdefault((run["scenario"], run["job"]), {})[run["contestant"]] = run
    return found


def polls(contestant):
    """True if it polls as it is by default."""
    return not contestant.endswith(NO_POLLING)


def rivals(found, polling):
    """The runs of other ways to serve a disk, which poll or do not; vhost-scsi cannot and takes part in both."""
    return {name: run for name, run in found.items() if is_rival(name) and name not in (ALONE, BARE)
            and (name == "vhost-scsi" or polls(name) == polling)}


def best(found, polling):
    """The run with the most IOPS of others, or None without any."""
    return max(rivals(found, polling).values(), key=lambda run: run["iops"], default=None)


def pairs(found):
    """How vhost-blk polls, its run, and the best other's that polls so; of those that were run."""
    for polling, name in ((True, OURS), (False, OURS + NO_POLLING)):
        other = best(found, polling)
        if name in found and other:
            yield polling, found[name], other


def depth_of(job):
    depth = re.search(r"depth (\d+)", job)
    return int(depth[1]) if depth else 1


def limit(found, job, delay, rings):
    """IOPS if the host took no time: those of the guest's own disk, to each request of which depth 1 adds an exit, an
    interrupt and what the disk takes. Deeper ones may share exits and interrupts, and wait for the disk together."""
    alone = found[ALONE]["iops"]
    event = sum(event_costs().values()) / GHZ / 1e9
    if depth_of(job) == 1:
        return rings / (rings / alone + event + delay / 1e9)
    return min(alone, rings * depth_of(job) / (delay / 1e9)) if delay else alone


def rings_of(scenario):
    """How many queues, of all guests, a scenario has by its title."""
    return int(expect_text(r"^(\d+)", scenario)[1])


def table(head, rows):
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def thousands(iops):
    return f"{iops / 1000:.1f}"


def ratio(ours, others, more_is_better=True):
    """Bold where vhost-blk loses."""
    text = f"{ours / others:.2f}"
    return text if (ours >= others) == more_is_better or ours == others else f"**{text}**"


def against(ours, others):
    """A figure of which less is better, beside the other's."""
    text = f"{ours:.0f}" if ours >= 10 else f"{ours:.2f}"
    other = f"{others:.0f}" if others >= 10 else f"{others:.2f}"
    return f"**{text}** ({other})" if ours > others else f"{text} ({other})"


def main_row(scenario, job, found):
    compared = {polling: (ours, other) for polling, ours, other in pairs(found)}
    ours, other = compared[True]
    quiet = ratio(*(run["iops"] for run in compared[False])) if False in compared else "–"
    disk = scenario.rsplit(", ", 1)[1]
    return [f"{scenario}: {job}", thousands(ours["iops"]), ratio(ours["iops"], other["iops"]), other["contestant"],
            f"{ours['iops'] / limit(found, job, DELAYS.get(disk, 0), rings_of(scenario)):.2f}",
            f"{ours['iops'] / found[BARE]['iops']:.2f}",
            quiet,
            *(against(ours[name], other[name]) for name in ("p99.9", "busy", "exits", "interrupts", "wakeups"))]


def main_table(runs):
    """The rows of the main plan; all, if only others were run."""
    main = {(scenario.title, job) for scenario in main_plan() for job in scenario.jobs}
    found = {place: ran for place, ran in by_contestant(runs).items() if any(polling for polling, *_ in pairs(ran))}
    head = ["", "1000 IOPS", "ratio to the best other", "which is", "of the limit", "of bare metal",
            "without polling", *list(FIGURES.values())[3:]]
    return table(head, [main_row(scenario, job, ran) for (scenario, job), ran in found.items()
                        if (scenario, job) in main or not main & found.keys()])


def losses(runs):
    """Where vhost-blk is behind the best other of the same polling, in words."""
    for (scenario, job), found in by_contestant(runs).items():
        for polling, ours, other in pairs(found):
            worse = [f"{title} {number(ours[figure])} against {number(other[figure])}"
                     for figure, title in FIGURES.items()
                     if (ours[figure] < other[figure]) == (figure == "iops") and ours[figure] != other[figure]]
            if worse:
                yield f"- {scenario}, {job}{'' if polling else NO_POLLING}: {'; '.join(worse)}"


def all_tables(runs):
    """Every contestant of each scenario and job, with its ratio to the best other of the same polling."""
    parts = []
    for (scenario, job), found in by_contestant(runs).items():
        rows = []
        for name, run in found.items():
            other = best(found, polls(name))
            rows.append([name, *(number(run[figure]) if figure in run else "–" for figure in FIGURES),
                         f"{run['iops'] / other['iops']:.2f}" if other and name not in (ALONE, BARE) else "–"])
        parts.append(f"## {scenario}: {job}\n\n" + table(["", *FIGURES.values(), "ratio"], rows))
    return "\n".join(parts)


def published(runs):
    """Ratios that others measured on hardware, and the same here, where it was run."""
    found = by_contestant(runs)

    def iops(scenario, job, contestant):
        return found.get((scenario, job), {}).get(contestant, {}).get("iops")

    one, four = "1 vCPU, 4 CPUs", "4 vCPUs, 4 queues, 8 CPUs"
    deep = "4 KiB random read, depth 128"
    iothread = "virtio-blk aio=native"
    rows = [
        (PUBLISHED_VHOST_BLK, "SSD, depth 128: vhost-blk over its host", 95.6 / 95.8,
         iops(f"{one}, 33us", deep, OURS), iops(f"{one}, 33us", deep, BARE)),
        (PUBLISHED_VHOST_BLK, "SSD, depth 128: vhost-blk over virtio-blk", 95.6 / 57.5,
         iops(f"{one}, 33us", deep, OURS), iops(f"{one}, 33us", deep, iothread)),
        (PUBLISHED_VHOST_BLK, "RAM disk, depth 128, 1 vCPU: vhost-blk over virtio-blk", 110 / 123,
         iops(f"{one}, null_blk", deep, OURS), iops(f"{one}, null_blk", deep, iothread)),
        (PUBLISHED_VHOST_BLK, "RAM disk, depth 128, 4 vCPUs and queues: vhost-blk over virtio-blk", 576 / 158,
         iops(f"{four}, null_blk", deep, OURS), iops(f"{four}, null_blk", deep, iothread)),
        (PUBLISHED_VHOST_BLK, "RAM disk, depth 128: vhost-blk with 4 vCPUs over 1", 576 / 110,
         iops(f"{four}, null_blk", deep, OURS), iops(f"{one}, null_blk", deep, OURS)),
        (PUBLISHED_VHOST_SCSI, "depth 128, one worker: vhost-scsi with 4 jobs over 1", 510 / 84,
         iops(f"{four}, null_blk", deep, "vhost-scsi"), iops(f"{one}, null_blk", deep, "vhost-scsi")),
    ]
    return table(["published", "figure", "there", "here"],
                 [[where, what, f"{there:.2f}", f"{a / b:.2f}" if a and b else "not run"]
                  for where, what, there, a, b in rows])


def report(results):
    """One page of Markdown."""
    runs = results["runs"]
    costs = f" with COSTS={results['costs']}" if results["costs"] else ""
    commands: dict[str, str] = {}
    for scenario in results["scenarios"]:
        commands = scenario["commands"] | commands
    lost = list(losses(runs)) or ["Nowhere."]
    where = sorted({scenario["kernel"] for scenario in results["scenarios"]})
    return "\n".join([
        f"# vhost-blk next to the others on a simulated host of {GHZ} GHz, kernel {', '.join(where)}\n",
        f"Of `{results['command']}`{costs}; docs/simulator.md says what is simulated. Bold: vhost-blk loses."
        " The last five columns have the best other's figure in brackets; the last four are for each request."
        " The limit is what the guest reached if the host took no time; bare metal is fio with io_uring in the host.\n",
        main_table(runs),
        "## Where vhost-blk loses\n", *lost, "",
        "## Published figures\n", published(runs),
        "## How\n",
        *(f"- {name}: `{command}`" for name, command in commands.items()), "",
        *(f"Host of \"{scenario['title']}\": `{scenario['run']}`\n" for scenario in results["scenarios"]),
        *(f"What serves {name}:\n\n" + "".join(f"    {line}\n" for line in command.splitlines())
          for name, command in results["scenarios"][0]["servers"].items()),
        f"A guest:\n\n    {results['scenarios'][0]['guest']}\n",
        f"Bare metal:\n\n    {results['scenarios'][0]['bare']}\n",
        *(f"fio, {name}:\n\n    {command}\n" for name, command in results["scenarios"][0]["fio"].items()),
    ])
