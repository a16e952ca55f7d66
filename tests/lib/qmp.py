# SPDX-License-Identifier: GPL-2.0
"""QEMU's control socket."""

import json
import socket
from contextlib import contextmanager

from tests.lib.host import Failure, expect_soon, wait_until


class Refused(Failure):
    """QEMU refused a command; the text is its error."""


@contextmanager
def as_failure(evidence):
    """Make a Failure with evidence() of an error of a socket to QEMU, such as silence or an end that is gone."""
    try:
        yield
    except OSError as error:
        raise Failure(f"QEMU: {error}{evidence()}") from None


class Qmp:
    """Speaks QMP over a connected socket; evidence() tells what a person wants to know when QEMU is gone."""

    def __init__(self, connection, evidence):
        self.socket, self.evidence = connection, evidence
        self.stream = connection.makefile()
        self.events = []

    def negotiate(self):
        self._receive()
        self.execute("qmp_capabilities")

    def close(self):
        self.stream.close()
        self.socket.close()

    def _receive(self):
        with as_failure(self.evidence):
            line = self.stream.readline()
        if not line:
            raise Failure(f"QEMU ended{self.evidence()}")
        return json.loads(line)

    def execute(self, command, arguments=None, fd=None):
        """Run a command, sending a file descriptor along if there is one, and return its answer."""
        text = json.dumps({"execute": command, "arguments": arguments or {}})
        with as_failure(self.evidence):
            socket.send_fds(self.socket, [text.encode()], [] if fd is None else [fd])
        while True:
            answer = self._receive()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise Refused(answer["error"]["desc"])
            else:
                return answer["return"]

    def wait_event(self, name, **data):
        """Wait for the next event of that name and with at least that data."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if event["event"] == name and data.items() <= event.get("data", {}).items():
                    return
            self.events.append(self._receive())

    def wait_migration(self, wanted):
        """Wait until the migration is in that state, and return what QEMU tells of it."""
        states = {wanted, "failed", "completed", "cancelled"}
        found = wait_until(lambda: (now := self.execute("query-migrate")).get("status") in states and now,
                           lambda: f"no state {wanted} of the migration{self.evidence()}")
        if found["status"] != wanted:
            raise Failure(f"migration: {found} instead of {wanted}{self.evidence()}")
        return found

    def wait_running(self):
        expect_soon("status", lambda: self.execute("query-status")["status"], "running")
