/* SPDX-License-Identifier: GPL-2.0 */
/* A second device with an ordinary guest, which must work whatever happens to others. */
#ifndef TESTS_FUZZ_SECOND_DEVICE_H
#define TESTS_FUZZ_SECOND_DEVICE_H

#include "blk.h"
#include "fuzz.h"

struct second_device {
	struct guest_memory mem;
	struct vhost_blk dev;
	struct vq vq;
	struct blk_request req;
	char *buf;
};

/* Start on an open device that has no owner. The caller closes it. */
void second_device_start(struct second_device *s, int device);
/* Write data to a random sector and read it back. */
void second_device_verify(struct second_device *s, struct dice *d);
/* Detach and reset the owner. */
void second_device_stop(struct second_device *s);

#endif
