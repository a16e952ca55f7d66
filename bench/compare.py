# SPDX-License-Identifier: GPL-2.0
"""Say what changed beyond the noise from one run of the benchmark to another.

Times: vhost-blk divided by each other contestant, in the rounds of each run. It changed where the two ranges have
nothing in common, of all outcomes of a rank test (Mann-Whitney) the clearest; with five rounds each, chance does that
to 8 of 1000 comparisons. Instructions changed where the ranges have nothing in common and the medians are more than
1 % apart.
"""

import argparse
from math import comb

from bench.results import is_ours, read, spread, total

FIGURES = {"iops": "IOPS", "mean": "mean latency", "p99": "p99 latency"}
LEAST = 0.01  # of instructions
CHANCE = 0.05  # above which ranges that lie apart say nothing


def apart(old, new):
    return max(old) < min(new) or max(new) < min(old)


def chance(old, new):
    """That the ranges of equally distributed samples have nothing in common."""
    return 2 / comb(len(old) + len(new), len(new))


def in_both(old, new, what):
    """What is in both; the rest is told."""
    for where, names in (("old", old - new), ("new", new - old)):
        for name in sorted(names):
            print(f"only in the {where} run: {what} {', '.join(name)}")
    return old & new


def time_pairs(results):
    """Backend, job, variant of vhost-blk and other of which there are ratios."""
    return {(*key, job, name, other) for key in results.times for job in results.jobs(key)
            for name in results.contestants(key) if is_ours(name)
            for other in results.contestants(key) if not is_ours(other) and results.ratios(key, job, name, other)}


def compare_times(old, new):
    compared = changed = 0
    expected = 0
    few = set()
    for level, backend, job, name, other in sorted(in_both(time_pairs(old), time_pairs(new), "times of")):
        for figure, title in FIGURES.items():
            before, after = (results.ratios((level, backend), job, name, other, figure) for results in (old, new))
            if chance(before, after) > CHANCE:
                few.add((level, backend, job))
                continue
            compared += 1
            expected += chance(before, after)
            if apart(before, after):
                changed += 1
                better = (min(after) > max(before)) == (figure == "iops")
                print(f"{'better' if better else 'worse '}  {level}, {backend}, {job}: {title} of {name} against"
                      f" {other}  {spread(before)} → {spread(after)}")
    for place in sorted(few):
        print(f"too few rounds to tell: {', '.join(place)}")
    print(f"times: {changed} of {compared} changed; by chance alone it would be about {expected:.1f}")


def executed(results):
    return {(*key, row["job"], row["contestant"]): row
            for key, document in results.instructions.items() for row in document["instructions"]}


def compare_instructions(old, new):
    before, after = executed(old), executed(new)
    both = in_both(before.keys(), after.keys(), "instructions of")
    changed = 0
    for place in sorted(both):
        was, is_now = before[place], after[place]
        change = total(is_now) / total(was) - 1
        if abs(change) > LEAST and apart([was["low"], was["high"]], [is_now["low"], is_now["high"]]):
            changed += 1
            parts = ", ".join(f"{part} {was[part]:.0f} → {is_now[part]:.0f}" for part in ("guest", "kernel", "user")
                              if was[part] or is_now[part])
            print(f"{'better' if change < 0 else 'worse '}  {', '.join(place)}: instructions"
                  f" {total(was):.0f} → {total(is_now):.0f} ({change:+.1%}; {parts})")
    print(f"instructions: {changed} of {len(both)} changed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a run's directory, or one file of its figures")
    parser.add_argument("new")
    options = parser.parse_args()
    old, new = read([options.old]), read([options.new])
    compare_times(old, new)
    compare_instructions(old, new)


if __name__ == "__main__":
    main()
