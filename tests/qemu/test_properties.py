# SPDX-License-Identifier: GPL-2.0
"""Properties out of range, and what the geometry becomes."""

from tests.lib.host import expect
from tests.lib.machine import Qtest
from tests.qemu.harness import add_device, disk, driven, node, refused

BLOCK_SIZE = "{} must be a power of 2 between 512 and 2097152"

KIB_BLOCKS = {"logical_block_size": 1024, "physical_block_size": 1024}

# name: (what is beside it, values out of range, the error)
OUT_OF_RANGE: dict[str, tuple[dict, tuple, str]] = {
    "num-queues": ({}, (0,), "num-queues property must be larger than 0"),
    "queue-size": ({}, (0, 2), "invalid queue-size property .{}., must be > 2"),
    "logical_block_size": ({}, (256, 1000, 4 << 20), BLOCK_SIZE.format("logical_block_size")),
    "physical_block_size": ({}, (256, 1000, 4 << 20), BLOCK_SIZE.format("physical_block_size")),
    "min_io_size": (KIB_BLOCKS, (512, 1536), "min_io_size must be a multiple of logical_block_size"),
    "opt_io_size": (KIB_BLOCKS, (512, 1536), "opt_io_size must be a multiple of logical_block_size"),
    "cyls": ({"heads": 1, "secs": 1}, (0, 65536), "cyls must be between 1 and 65535"),
    "heads": ({"cyls": 1, "secs": 1}, (0, 256), "heads must be between 1 and 255"),
    "secs": ({"cyls": 1, "heads": 1}, (0, 256), "secs must be between 1 and 255"),
}


def test_out_of_range():
    """each property out of range is refused with its name and range"""
    with Qtest(*node()) as machine:
        for name, (beside, values, error) in OUT_OF_RANGE.items():
            for value in values:
                with refused(error.format(value)):
                    add_device(machine, **beside, **{name: value})
        # Nothing of all that may have kept the node.
        add_device(machine)


def test_related_sizes():
    """sizes that do not fit one another are refused by name"""
    with Qtest(*node()) as machine:
        with refused("logical_block_size > physical_block_size not supported"):
            add_device(machine, logical_block_size=4096, physical_block_size=512)
        with refused("min_io_size must not exceed 65535 logical blocks"):
            add_device(machine, min_io_size=512 * 65536)
        for name in "min_io_size", "opt_io_size":
            with refused(f"virtio-blk-device.{name} doesn't take value 4294967296 .maximum: 4294967295"):
                add_device(machine, **{name: 1 << 32})


def test_wrong_type():
    """a value of the wrong type, or too large for any property, is refused by name"""
    with Qtest(*node()) as machine:
        for name, value in {"num-queues": 65536, "queue-size": -1, "cyls": 1 << 32, "bootindex": 1 << 31,
                            "logical_block_size": -1, "serial": 1}.items():
            with refused(name):
                add_device(machine, **{name: value})
        add_device(machine)


def test_same_bootindex():
    """a bootindex that another device has is refused"""
    with Qtest(*node(), "-blockdev", "driver=null-co,node-name=other",
               "-device", "virtio-blk-pci,drive=other,bootindex=3") as machine:
        with refused("bootindex 3 has already been used"):
            add_device(machine, bootindex=3)
        add_device(machine, bootindex=4)


def test_geometry():
    """cyls, heads and secs are the geometry in the configuration space"""
    with driven(*node(), *disk(",cyls=20,heads=3,secs=17")) as (_, driver):
        expect("geometry", [driver.config(2, 16), driver.config(1, 18), driver.config(1, 19)], [20, 3, 17])
