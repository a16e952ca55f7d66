/* SPDX-License-Identifier: GPL-2.0 */
/* A virtual IOMMU that maps all of the guest's memory, and nothing else. */
#ifndef TESTS_FUZZ_IOMMU_H
#define TESTS_FUZZ_IOMMU_H

#include "vring.h"

/* Map all guest memory in a device's IOTLB, and start a thread that fails all misses. */
void iommu_start(struct vhost_blk *dev);

#endif
