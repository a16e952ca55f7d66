/* SPDX-License-Identifier: GPL-2.0 */
/* The driver's side of vhost-user, for devices of other processes. */
#ifndef BENCH_FIO_VHOST_USER_H
#define BENCH_FIO_VHOST_USER_H

#include "vring.h"

/*
 * Connects to the device that listens at a socket, sets features and memory
 * table. Its queues are set up and used as those of /dev/vhost-blk; it has its
 * disk already, so that there is nothing to attach. At most 8 regions.
 */
int vhost_user_open(struct vhost_blk *dev, struct guest_memory *mem, uint64_t features,
		    const char *path);

#endif
