// SPDX-License-Identifier: GPL-2.0
/*
 * The dirty log: which pages of guest memory the device wrote to, for live
 * migration.  The vhost core logs the used ring; data and status bytes are
 * ours.
 */

#include "blk.h"

/* A host address may be seen by the guest at several of its own. */
static int vhost_blk_log_segment(struct vhost_virtqueue *vq,
				 const struct iovec *seg)
{
	u64 first = (uintptr_t)seg->iov_base;
	u64 last = first + seg->iov_len - 1;
	struct vhost_iotlb_map *map;
	struct iovec iov = *seg;
	struct vhost_log log;
	u64 from, to;
	int err;

	/* The core looks the segment up itself, but only with a device IOTLB. */
	if (vq->iotlb)
		return vhost_log_write(vq, NULL, 0, iov.iov_len, &iov, 1);

	list_for_each_entry(map, &vq->umem->list, link) {
		from = max(first, map->addr);
		to = min(last, map->addr + map->size - 1);
		if (from > to)
			continue;
		log.addr = map->start + from - map->addr;
		log.len = to - from + 1;
		err = vhost_log_write(vq, &log, 1, log.len, NULL, 0);
		if (err)
			return err;
	}
	return 0;
}

/**
 * vhost_blk_log - log that guest memory was written, if logging is on
 * @vq:		the virtqueue on whose behalf
 * @iov:	where, in the owner's addresses
 * @nr_iov:	number of segments
 * @len:	bytes written, or that may have been; the segments may be longer
 *
 * What was written before the log was switched on need not be logged, so it is
 * enough to call this at any time after the write and before the request is
 * counted off.
 *
 * Context: on the owner's memory, vq->mutex held.
 * Return: 0, or -EFAULT if the log cannot be written.
 */
int vhost_blk_log(struct vhost_virtqueue *vq, const struct iovec *iov,
		  unsigned int nr_iov, size_t len)
{
	struct iovec seg;
	size_t left;
	int err;

	if (likely(!vhost_has_feature(vq, VHOST_F_LOG_ALL)))
		return 0;

	for (; nr_iov && len; nr_iov--, iov++) {
		left = min(iov->iov_len, len);
		len -= left;
		/* A guest's segment may have a million pages. */
		for (seg.iov_base = iov->iov_base; left;
		     seg.iov_base += seg.iov_len, left -= seg.iov_len) {
			seg.iov_len = min_t(size_t, left, VHOST_BLK_STEP);
			err = vhost_blk_log_segment(vq, &seg);
			if (err)
				return err;
			cond_resched();
		}
	}
	return 0;
}
