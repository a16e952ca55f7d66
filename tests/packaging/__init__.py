# SPDX-License-Identifier: GPL-2.0
"""Tests of building and installing the module."""
