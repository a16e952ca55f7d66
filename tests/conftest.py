# SPDX-License-Identifier: GPL-2.0
"""How pytest reports: lines for each test as it ends, as tests/check reads them, and at last the counts of the lane."""

from collections import Counter

import pytest

from tests.lib.host import Failure


def pytest_addoption(parser):
    parser.addoption("--lane", default="tests", help="the name before the counts and the tests")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    # pytest's own reporter is for a terminal, and shows failures only at the end.
    if not config.option.collectonly:
        config.pluginmanager.unregister(name="terminalreporter")
        config.pluginmanager.register(LaneReporter(config.option.lane))


def test_name(item):
    """MODULE.FUNCTION[PARAMETERS], without the "test_" of either."""
    return f"{item.module.__name__.rpartition('.')[2].removeprefix('test_')}.{item.name.removeprefix('test_')}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    report.name, report.title = test_name(item), item.function.__doc__
    if call.excinfo and call.excinfo.errisinstance(Failure):
        # The text says all; a traceback is for what nobody expected.
        report.longrepr = str(call.excinfo.value)


class LaneReporter:
    def __init__(self, lane):
        self.lane = lane
        self.counts: Counter = Counter()
        self.seconds = 0.0
        self.outcome = "passed"

    def pytest_runtest_logreport(self, report):
        """Add up a test's set-up, call and tear-down, and print its line after the last of them."""
        name = f"{self.lane}:{report.name}"
        self.seconds += report.duration
        if report.failed:
            print(report.longreprtext, flush=True)
        if not report.passed:
            self.outcome = report.outcome
        if report.skipped:
            print(f"SKIP {name}: {report.longrepr[2].removeprefix('Skipped: ')}", flush=True)
        if report.when != "teardown":
            return
        if self.outcome != "skipped":
            word = {"passed": "ok", "failed": "not ok"}[self.outcome]
            title = f": {report.title}" if report.title else ""
            print(f"{word} {name}{title}\nTIME {self.seconds:.2f} {name}", flush=True)
        self.counts[self.outcome] += 1
        self.seconds, self.outcome = 0.0, "passed"

    def pytest_collectreport(self, report):
        if report.failed:
            print(f"not ok {self.lane}:{report.nodeid}\n{report.longreprtext}", flush=True)
            self.counts["failed"] += 1

    def pytest_internalerror(self, excrepr):
        print(excrepr, flush=True)
        self.counts["failed"] += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self):
        counts = ", ".join(f"{self.counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))
        print(f"{self.lane}: {counts}", flush=True)
