# SPDX-License-Identifier: GPL-2.0
"""QEMU's own tests of the device."""
