/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels this module is built for.  The code speaks
 * to the newest; older ones are fitted to it here, and nowhere else.
 */
#ifndef _VHOST_BLK_COMPAT_H
#define _VHOST_BLK_COMPAT_H

#include <linux/blkdev.h>
#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/version.h>

#include "vhost.h"

/* Arguments for VIRTIO_F_IN_ORDER: descriptors of each used buffer. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
static inline int vhost_blk_add_used_n(struct vhost_virtqueue *vq,
				       struct vring_used_elem *heads,
				       u16 *nheads, unsigned int count)
{
	return vhost_add_used_n(vq, heads, count);
}

#define vhost_add_used_n vhost_blk_add_used_n
#endif

/* The same: descriptors of all buffers that are given back. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
static inline void vhost_blk_discard_vq_desc(struct vhost_virtqueue *vq,
					     int nbuf, unsigned int ndesc)
{
	vhost_discard_vq_desc(vq, nbuf);
}

#define vhost_discard_vq_desc vhost_blk_discard_vq_desc
#endif

/* Callbacks for the holder of a claimed block device. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
static inline int vhost_blk_prepare_to_claim(struct block_device *bdev,
					     void *holder, const void *hops)
{
	return bd_prepare_to_claim(bdev, holder);
}

#define bd_prepare_to_claim vhost_blk_prepare_to_claim
#endif

/* Older kernels want cached bios to end outside of interrupts. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define VHOST_BLK_IOCB_CACHE	0
#else
#define VHOST_BLK_IOCB_CACHE	IOCB_ALLOC_CACHE
#endif

/* Not by the kernel's name: vhost.h calls that one the old way. */
static inline void vhost_blk_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx, 1);
#else
	eventfd_signal(ctx);
#endif
}

#endif /* _VHOST_BLK_COMPAT_H */
