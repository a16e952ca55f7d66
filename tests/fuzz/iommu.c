// SPDX-License-Identifier: GPL-2.0
/* A virtual IOMMU that maps all of the guest's memory, and nothing else. */
#define _GNU_SOURCE
#include "iommu.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

/* Answer each IOTLB miss with an access failure, until the device is closed. */
static void *fail_misses(void *arg)
{
	struct vhost_blk *dev = arg;
	struct vhost_msg msg;

	while (read(dev->fd, &msg, sizeof(msg)) == sizeof(msg)) {
		msg.iotlb.type = VHOST_IOTLB_ACCESS_FAIL;
		if (write(dev->fd, &msg, sizeof(msg)) != sizeof(msg))
			break;
	}
	return NULL;
}

void iommu_start(struct vhost_blk *dev)
{
	const struct guest_memory *mem = dev->mem;
	pthread_t thread;
	unsigned int i;

	for (i = 0; i < mem->nregions; i++) {
		struct vhost_msg msg = {
			.type = VHOST_IOTLB_MSG,
			.iotlb = {
				.iova = mem->region[i].gpa,
				.size = mem->region[i].size,
				.uaddr = (uintptr_t)mem->region[i].host,
				.perm = VHOST_ACCESS_RW,
				.type = VHOST_IOTLB_UPDATE,
			},
		};

		if (write(dev->fd, &msg, sizeof(msg)) != sizeof(msg))
			fuzz_fail("IOTLB: %s", strerror(errno));
	}
	if (pthread_create(&thread, NULL, fail_misses, dev))
		fuzz_fail("no thread");
}
