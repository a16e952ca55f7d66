/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels that this module is built for.  The code is
 * written for the newest; this file and compat.c fit older ones to it.
 */
#ifndef _VHOST_BLK_COMPAT_H
#define _VHOST_BLK_COMPAT_H

#include <linux/blkdev.h>
#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/version.h>

#include "vhost.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "vhost-blk needs Linux 6.1 or later"
#endif

/*
 * Stable kernels take changes of these prototypes back, so the function's type
 * tells which one holds, not the version.
 */
typedef int vhost_blk_add_used_old(struct vhost_virtqueue *vq,
				   struct vring_used_elem *heads,
				   unsigned int count);
typedef int vhost_blk_add_used_new(struct vhost_virtqueue *vq,
				   struct vring_used_elem *heads, u16 *nheads,
				   unsigned int count);

static inline int vhost_blk_call_add_used_old(vhost_blk_add_used_old *fn,
					      struct vhost_virtqueue *vq,
					      struct vring_used_elem *heads,
					      u16 *nheads, unsigned int count)
{
	return fn(vq, heads, count);
}

static inline int vhost_blk_call_add_used_new(vhost_blk_add_used_new *fn,
					      struct vhost_virtqueue *vq,
					      struct vring_used_elem *heads,
					      u16 *nheads, unsigned int count)
{
	return fn(vq, heads, nheads, count);
}

#define vhost_add_used_n(vq, heads, nheads, count)			\
	(__builtin_choose_expr(__same_type(vhost_add_used_n,		\
					   vhost_blk_add_used_old),	\
			       vhost_blk_call_add_used_old,		\
			       vhost_blk_call_add_used_new)		\
	 (&vhost_add_used_n, vq, heads, nheads, count))

typedef void vhost_blk_discard_old(struct vhost_virtqueue *vq, int nbufs);
typedef void vhost_blk_discard_new(struct vhost_virtqueue *vq, int nbufs,
				   unsigned int ndesc);

static inline void vhost_blk_call_discard_old(vhost_blk_discard_old *fn,
					      struct vhost_virtqueue *vq,
					      int nbufs, unsigned int ndesc)
{
	fn(vq, nbufs);
}

static inline void vhost_blk_call_discard_new(vhost_blk_discard_new *fn,
					      struct vhost_virtqueue *vq,
					      int nbufs, unsigned int ndesc)
{
	fn(vq, nbufs, ndesc);
}

#define vhost_discard_vq_desc(vq, nbufs, ndesc)				\
	(__builtin_choose_expr(__same_type(vhost_discard_vq_desc,	\
					   vhost_blk_discard_old),	\
			       vhost_blk_call_discard_old,		\
			       vhost_blk_call_discard_new)		\
	 (&vhost_discard_vq_desc, vq, nbufs, ndesc))

struct blk_holder_ops;
typedef int vhost_blk_claim_old(struct block_device *bdev, void *holder);
typedef int vhost_blk_claim_new(struct block_device *bdev, void *holder,
				const struct blk_holder_ops *hops);

static inline int vhost_blk_call_claim_old(vhost_blk_claim_old *fn,
					   struct block_device *bdev,
					   void *holder)
{
	return fn(bdev, holder);
}

static inline int vhost_blk_call_claim_new(vhost_blk_claim_new *fn,
					   struct block_device *bdev,
					   void *holder)
{
	return fn(bdev, holder, NULL);
}

#define vhost_blk_prepare_to_claim(bdev, holder)			\
	(__builtin_choose_expr(__same_type(bd_prepare_to_claim,		\
					   vhost_blk_claim_old),	\
			       vhost_blk_call_claim_old,		\
			       vhost_blk_call_claim_new)		\
	 (&bd_prepare_to_claim, bdev, holder))

typedef __u64 vhost_blk_signal_old(struct eventfd_ctx *ctx, __u64 n);
typedef void vhost_blk_signal_new(struct eventfd_ctx *ctx);

static inline void vhost_blk_call_signal_old(vhost_blk_signal_old *fn,
					     struct eventfd_ctx *ctx)
{
	fn(ctx, 1);
}

static inline void vhost_blk_call_signal_new(vhost_blk_signal_new *fn,
					     struct eventfd_ctx *ctx)
{
	fn(ctx);
}

#define vhost_blk_eventfd_signal(ctx)					\
	(__builtin_choose_expr(__same_type(eventfd_signal,		\
					   vhost_blk_signal_old),	\
			       vhost_blk_call_signal_old,		\
			       vhost_blk_call_signal_new)		\
	 (&eventfd_signal, ctx))

/* Older kernels want cached bios to end outside of interrupts. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define VHOST_BLK_IOCB_CACHE	0
#else
#define VHOST_BLK_IOCB_CACHE	IOCB_ALLOC_CACHE
#endif

/*
 * For what a guest can have allocated: the owner is charged, is not killed for
 * want of memory, and the kernel's log stays empty.
 */
#define VHOST_BLK_GFP	(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/* compat.c */
struct vhost_blk_task;
struct vhost_blk_task *vhost_blk_task_create(bool (*fn)(void *data),
					     void (*killed)(void *data),
					     void *data, const char *name);
void vhost_blk_task_wake(struct vhost_blk_task *task);
bool vhost_blk_task_should_return(void);
void vhost_blk_task_kill(struct vhost_blk_task *task);
void vhost_blk_task_stop(struct vhost_blk_task *task);
pid_t vhost_blk_task_tid(struct vhost_blk_task *task);

#endif /* _VHOST_BLK_COMPAT_H */
