# SPDX-License-Identifier: GPL-2.0
"""The QEMU device without a guest; runs in the test host.

tests/qemu/run [TEST...]: all of cases/, or those named.
"""

import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
from tests.qemu.harness import TESTS, make_image
from tests.lib.host import explain, load_module


def main():
    wanted = sys.argv[1:]
    passed = failed = 0
    for case in sorted((HERE / "cases").glob("*.py")):
        importlib.import_module(f"tests.qemu.cases.{case.stem}")
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        os.chdir(place)
        for function in TESTS:
            if wanted and function.__name__ not in wanted:
                continue
            start = time.monotonic()
            try:
                load_module()
                make_image()
                function()
            except Exception as error:
                failed += 1
                print(f"not ok {function.__name__}: {function.__doc__}\n{explain(error)}", flush=True)
            else:
                passed += 1
                print(f"ok {function.__name__}: {function.__doc__} ({time.monotonic() - start:.1f} s)", flush=True)
        os.chdir("/")
    print(f"qemu: {passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
