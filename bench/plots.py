# SPDX-License-Identifier: GPL-2.0
"""The report's pictures, as SVG that is the same for the same figures. A picture of a single point is not made."""

from statistics import median

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator

from bench.jobs import random_name
from bench.results import OURS, is_ours

plt.switch_backend("svg")
matplotlib.rcParams.update({
    # Text stays text, so that the files are small; no random names, so that they can be compared.
    "svg.fonttype": "none", "svg.hashsalt": "vhost-blk",
    "font.family": "sans-serif", "axes.grid": True, "grid.color": "0.9", "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "figure.facecolor": "white",
})

DEPTHS = (1, 4, 32, 128)
QUEUES = (1, 2, 4, 8, 16)
# Each with a colour of its own, whether the others are there or not.
PARTS = {"guest": ("guest", "C2"), "kernel": ("host kernel", "C0"), "user": ("host user", "C1")}


def save(figure, path):
    figure.savefig(path, metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    plt.close(figure)


def line(axes, points, name):
    """Medians, and the ranges as thin lines; points are lists of samples by their place."""
    middle = {x: median(samples) for x, samples in points.items()}
    below = [middle[x] - min(samples) for x, samples in points.items()]
    above = [max(samples) - middle[x] for x, samples in points.items()]
    axes.errorbar(list(middle), list(middle.values()), yerr=[below, above], label=name, marker="o", markersize=4,
                  elinewidth=0.7, capsize=2, linewidth=2.4 if is_ours(name) else 1.2)


def plot_lines(path, lines, title, across, upwards):
    """True if there was something to plot."""
    if not any(len(points) > 1 for points in lines.values()):
        return False
    places = sorted({x for points in lines.values() for x in points})
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, points in lines.items():
        line(axes, points, name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [str(x) for x in places])
    axes.set(title=title, xlabel=across, ylabel=upwards, yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(bbox_to_anchor=(1.02, 1), loc="upper left", fontsize="small")
    save(figure, path)
    return True


def by_place(places, samples):
    return {x: found for x in places if (found := list(samples(x)))}


def latency(results, key, path):
    lines = {name: by_place(DEPTHS, lambda depth: results.samples(
                 key, random_name("read", depth), name, "mean").values())
             for name in results.contestants(key)}
    return plot_lines(path, lines, "4 KiB random read: mean completion latency", "requests in flight", "µs")


def queues(results, key, path):
    lines = {name: by_place(QUEUES, lambda number: results.ratios(key, random_name("read", 32, number), OURS, name))
             for name in results.contestants(key) if not is_ours(name)}
    return plot_lines(path, lines, "4 KiB random read, depth 32: IOPS of vhost-blk divided by those of …", "queues",
                      "ratio")


def instructions(results, key, path):
    rows = results.instructions[key]["instructions"]
    jobs = list(dict.fromkeys(row["job"] for row in rows))
    heights = [sum(row["job"] == job for row in rows) for job in jobs]
    figure, panels = plt.subplots(len(jobs), sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights},
                                  figsize=(7, 0.8 * len(jobs) + 0.32 * len(rows)))
    for job, axes in zip(jobs, panels[:, 0]):
        found = results.executed(key, job)
        left = [0] * len(found)
        for part, (name, colour) in PARTS.items():
            if not any(row[part] for row in rows):
                continue
            widths = [row[part] for row in found.values()]
            axes.barh(list(found), widths, left=left, label=name, color=colour, height=0.7)
            left = [start + width for start, width in zip(left, widths)]
        axes.invert_yaxis()
        axes.set_title(job, loc="left", fontsize="medium")
        axes.grid(axis="y", visible=False)
    axes.set_xlabel("instructions per I/O")
    panels[0, 0].legend(bbox_to_anchor=(1.02, 1), loc="upper left", fontsize="small")
    figure.tight_layout()
    save(figure, path)
