/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* User API of /dev/vhost-blk, on top of the vhost ioctls of linux/vhost.h. */
#ifndef _UAPI_LINUX_VHOST_BLK_H
#define _UAPI_LINUX_VHOST_BLK_H

#include <linux/types.h>
#include <linux/vhost.h>
#include <linux/virtio_blk.h>

/*
 * Attach a backend, or detach it with fd -1.
 *
 * index must be 0: one backend serves all virtqueues.  fd is an opened block
 * device or regular file; its open mode decides whether it is read-only and
 * whether I/O is direct.  Queues whose vring is set up at this moment are
 * started and kicked once.  Detaching returns when every accepted request has
 * completed and its used entry is written.
 */
#define VHOST_BLK_SET_BACKEND	_IOW(VHOST_VIRTIO, 0x50, \
				     struct vhost_vring_file)

/* The same call under the number that clients of the 2022 series use. */
#define VHOST_BLK_SET_BACKEND_COMPAT _IOW(VHOST_VIRTIO, 0xFF, \
					  struct vhost_vring_file)

/**
 * struct vhost_blk_serial - what VIRTIO_BLK_T_GET_ID returns
 * @serial:	the serial number, padded with NULs
 * @reserved:	must be 0
 */
struct vhost_blk_serial {
	__u8 serial[VIRTIO_BLK_ID_BYTES];
	__u32 reserved;
};

/* Set the serial number, while no backend is attached; all NULs at first. */
#define VHOST_BLK_SET_SERIAL	_IOW(VHOST_VIRTIO, 0x51, \
				     struct vhost_blk_serial)

#endif /* _UAPI_LINUX_VHOST_BLK_H */
