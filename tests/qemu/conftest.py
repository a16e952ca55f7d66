# SPDX-License-Identifier: GPL-2.0
"""What each test of the QEMU device finds."""

import os
from tempfile import TemporaryDirectory

import pytest

from tests.lib.host import load_module
from tests.qemu.harness import make_image


@pytest.fixture(autouse=True)
def directory(monkeypatch):
    """A current directory of the test's own that holds disk.raw, with the module loaded."""
    load_module()
    with TemporaryDirectory() as place:
        # For a QEMU without rights.
        os.chmod(place, 0o755)
        with monkeypatch.context() as patch:
            patch.chdir(place)
            make_image()
            yield
