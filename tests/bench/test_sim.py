# SPDX-License-Identifier: GPL-2.0
"""What bench/sim makes of runs, and what it takes for the limit."""

import json

import pytest

from bench import sim_plan
from bench.contestants import NO_POLLING
from bench.sim_host import per_request, together
from bench.sim_plan import ALONE, full_plan, main_plan
from bench.sim_report import best, by_contestant, limit, losses, main_row, main_table, published, report, rivals
from tests.bench.documents import IOTHREAD, READ, SCENARIO, runs, simulated


def found(**iops):
    return by_contestant(runs(**iops))[SCENARIO, READ]


def test_rivals():
    """vhost-scsi, which cannot poll, is among both."""
    assert set(rivals(found(), True)) == {IOTHREAD, "vhost-scsi"}
    assert set(rivals(found(), False)) == {f"{IOTHREAD}{NO_POLLING}", "vhost-scsi"}
    assert best(found(), True)["contestant"] == IOTHREAD
    assert best(found(), False)["contestant"] == "vhost-scsi"


def test_limit(monkeypatch):
    """At depth 1 the guest's 2 µs, an exit, an entry and an interrupt of 2100 cycles, and the disk's delay."""
    monkeypatch.delenv("COSTS", raising=False)
    assert limit(found(), READ, 0, 1) == pytest.approx(1 / 2.7e-6)
    assert limit(found(), READ, 33000, 1) == pytest.approx(1 / 35.7e-6)
    monkeypatch.setenv("COSTS", "sim-vmexit=4000,sim-wake=1")
    assert limit(found(), READ, 0, 1) == pytest.approx(1 / 3.7e-6)


def test_limit_of_depth():
    """Requests in flight share what the disk takes, until the guest can do no more."""
    deep = {ALONE: {"iops": 500000}}
    assert limit(deep, "4 KiB random read, depth 4", 33000, 1) == pytest.approx(4 / 33e-6)
    assert limit(deep, "4 KiB random read, depth 32", 33000, 1) == 500000
    assert limit(deep, "4 KiB random read, depth 32", 0, 1) == 500000


def test_main_row():
    assert main_row(SCENARIO, READ, found()) == [
        f"{SCENARIO}: {READ}", "150.0", "1.50", IOTHREAD, "0.40", "0.50", "**0.75**", "6.67 (10)", "20000 (30000)",
        "2.00 (2.00)", "1.00 (1.00)", "1.00 (1.00)"]


def test_main_table():
    """Of the full plan, only the rows of the main one."""
    more = runs("1 vCPU, 4 CPUs, xfs")
    assert len(main_table(runs() + more).splitlines()) == 3
    assert "xfs" in main_table(more)


def test_losses():
    lost = list(losses(runs()))
    assert lost == [f"- {SCENARIO}, {READ}, no polling: IOPS 60000 against 80000; p50, µs 16.7 against 12.5;"
                    " p99, µs 16.7 against 12.5; p99.9, µs 16.7 against 12.5; busy cycles 50000 against 37500"]
    assert not list(losses(runs(quiet=90000)))


def test_few_contestants():
    """What was not run is not compared."""
    few = [run for run in runs() if not run["contestant"].endswith(NO_POLLING) and run["contestant"] != "vhost-scsi"]
    assert main_row(SCENARIO, READ, by_contestant(few)[SCENARIO, READ])[6] == "–"
    assert not list(losses(few))
    assert len(main_table(few[1:]).splitlines()) == 2


def test_published():
    deep = "4 KiB random read, depth 128"
    lines = published(runs("1 vCPU, 4 CPUs, 33us", deep)).splitlines()
    assert lines[2].endswith("| 1.00 | 0.50 |")
    assert lines[3].endswith("| 1.66 | 1.50 |")
    assert lines[4].endswith("| 0.89 | not run |")


def test_report():
    page = report(simulated(costs="sim-wake=1"))
    assert "Of `make sim` with COSTS=sim-wake=1" in page
    assert "\n    mkdir a\n    mkdir b\n" in page
    assert page.index("## Where vhost-blk loses") < page.index("## Published figures")


def test_report_again(run, tmp_path):
    """`bench/sim report` makes the same pages of sim.json."""
    (tmp_path / "sim.json").write_text(json.dumps(simulated()))
    assert run("sim", "report", "--output", tmp_path) == ""
    assert (tmp_path / "report.md").read_text() == report(simulated())
    assert f"## {SCENARIO}: {READ}" in (tmp_path / "all.md").read_text()


def test_per_request():
    """Of two CPUs, one was idle in half of 10 ms; there were 1000 requests in them."""
    before = {"time": 0, "idle": 7, "exits": 1, "interrupts": 2, "wakeups": 3}
    after = {"time": 10_000_000, "idle": 5_000_007, "exits": 2001, "interrupts": 1002, "wakeups": 503}
    assert per_request(before, after, 2, 100000) == {"busy": 45000, "exits": 2, "interrupts": 1, "wakeups": 0.5}


def test_together():
    assert together([{"iops": 1, "p99": 5}, {"iops": 2, "p99": 3}]) == {"iops": 3, "p99": 5}


@pytest.mark.parametrize("plan", [main_plan, full_plan])
def test_plan(plan):
    """Titles tell scenarios apart, and say how many rings there are; each job exists."""
    scenarios = plan()
    assert len({scenario.title for scenario in scenarios}) == len(scenarios)
    for scenario in scenarios:
        assert sim_plan.JOBS.keys() >= set(scenario.jobs)
        assert int(scenario.title.split()[0]) == scenario.guests * scenario.queues
