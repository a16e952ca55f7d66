# SPDX-License-Identifier: GPL-2.0
"""The tests: qemu, guest and bench in Python, unit and fuzz in C, and what they share in lib."""
