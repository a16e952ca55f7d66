/* SPDX-License-Identifier: GPL-2.0 */
/* The driver's side of vhost-user, for devices of other processes. */
#ifndef BENCH_FIO_VHOST_USER_H
#define BENCH_FIO_VHOST_USER_H

#include "vring.h"

/*
 * Connects to the device that listens at a socket, sets features and memory
 * table. All of vring.h that takes a device works on it, but for
 * vhost_blk_attach(): such a device has its disk already.
 */
int vhost_user_open(struct vhost_blk *dev, struct guest_memory *mem, uint64_t features,
		    const char *path);

#endif
