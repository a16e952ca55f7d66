# SPDX-License-Identifier: GPL-2.0
"""QEMU's control socket."""

import json
import socket

from host import Failure


class Refused(Failure):
    """QEMU refused a command; the text is its error."""


class Qmp:
    """Speaks QMP over a connected socket; evidence() tells what a person wants to know when QEMU is gone."""

    def __init__(self, connection, evidence):
        self.socket, self.evidence = connection, evidence
        self.socket.settimeout(60)
        self.stream = connection.makefile("rw")
        self.events = []

    def negotiate(self):
        self._receive()
        self.execute("qmp_capabilities")

    def close(self):
        self.stream.close()
        self.socket.close()

    def _receive(self):
        line = self.stream.readline()
        if not line:
            raise Failure(f"QEMU ended: {self.evidence()}")
        return json.loads(line)

    def execute(self, command, arguments=None, fd=None):
        """Run a command, sending a file descriptor along if there is one, and return its answer."""
        text = json.dumps({"execute": command, "arguments": arguments or {}})
        if fd is None:
            self.stream.write(text)
            self.stream.flush()
        else:
            socket.send_fds(self.socket, [text.encode()], [fd])
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
