// SPDX-License-Identifier: GPL-2.0
/* vhost-blk requests: parsed from a descriptor chain, checked before anything is done. */

#include <linux/ioprio.h>
#include <linux/slab.h>

#include "blk.h"

/* Whether a range lies in the backend, and the owner itself could write there. */
static bool vhost_blk_req_has(struct vhost_blk_req *req, u64 sector, u64 len)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);

	if (!vhost_blk_backend_has(be, sector, len))
		return false;
	return req->type == VIRTIO_BLK_T_IN ||
	       req->type == VIRTIO_BLK_T_DISCARD ||
	       (sector << SECTOR_SHIFT) + len <= be->fsize;
}

/*
 * Memory for more segments or ranges than a request has room for.  A queue whose
 * owner may have no more memory goes on with one such request at a time; NULL
 * if another request is that one.
 */
static void *vhost_blk_req_alloc(struct vhost_blk_req *req, size_t size)
{
	struct vhost_blk_queue *q = req->q;
	void *p = kvmalloc(size, VHOST_BLK_GFP);

	if (p || q->reserve_used)
		return p;
	q->reserve_used = true;
	return q->reserve;
}

/* Takes req->len bytes of data from the chain, after the first skip bytes. */
static int vhost_blk_req_segs(struct vhost_blk_req *req,
			      const struct iovec *iov, unsigned int nr_iov,
			      size_t skip)
{
	unsigned int dio_mask = vhost_blk_req_backend(req)->dio_mask;
	size_t left = req->len;
	struct iovec *seg;

	while (skip >= iov->iov_len) {
		skip -= iov->iov_len;
		iov++;
		nr_iov--;
	}
	if (nr_iov > VHOST_BLK_INLINE_SEGS) {
		seg = vhost_blk_req_alloc(req, nr_iov * sizeof(*seg));
		if (!seg)
			return -ENOMEM;
		req->segs = seg;
	}

	for (seg = req->segs; left; seg++, iov++) {
		seg->iov_base = iov->iov_base + skip;
		seg->iov_len = min(iov->iov_len - skip, left);
		left -= seg->iov_len;
		skip = 0;
		if (((unsigned long)seg->iov_base | seg->iov_len) & dio_mask)
			req->state = VHOST_BLK_REQ_BOUNCE;
	}
	req->nr_segs = seg - req->segs;
	return 0;
}

static int vhost_blk_parse_rw(struct vhost_blk_req *req,
			      const struct iovec *iov, unsigned int nr_iov,
			      size_t skip, size_t len, u64 sector)
{
	/* The used ring counts bytes in 32 bits. */
	if (!IS_ALIGNED(len, SECTOR_SIZE) || len >= U32_MAX)
		return -EIO;
	if (!vhost_blk_req_has(req, sector, len))
		return -EIO;
	req->pos = sector << SECTOR_SHIFT;
	req->len = len;
	return len ? vhost_blk_req_segs(req, iov, nr_iov, skip) : 0;
}

static int vhost_blk_get_id(struct vhost_blk_req *req, const struct iovec *iov,
			    unsigned int nr_iov, size_t len)
{
	struct iov_iter iter;
	size_t copied;

	len = min_t(size_t, len, VIRTIO_BLK_ID_BYTES);
	iov_iter_init(&iter, ITER_DEST, iov, nr_iov, len);
	copied = copy_to_iter(req->q->blk->serial, len, &iter);
	if (vhost_blk_log(&req->q->vq, iov, nr_iov, copied) || copied != len)
		return -EFAULT;
	req->used_len += len;
	return 0;
}

/*
 * The guest may give a request less priority than the owner has, never more:
 * a Linux guest always says something, which would undo the owner's ionice.
 */
static u16 vhost_blk_ioprio(struct vhost_blk_req *req, u32 hint)
{
	u16 owner = vhost_blk_req_backend(req)->ioprio;

	/* A class and a level, and none of the bits between them. */
	if (hint > IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, IOPRIO_NR_LEVELS - 1) ||
	    IOPRIO_PRIO_DATA(hint) >= IOPRIO_NR_LEVELS)
		return owner;
	/* The lower the value the higher the priority; without a class it is 0. */
	return max_t(u16, owner, hint);
}

/* Nearly every guest's header is in one piece. */
static int vhost_blk_get_header(struct virtio_blk_outhdr *hdr,
				const struct iovec *iov, unsigned int nr_iov,
				size_t len)
{
	struct iov_iter iter;

	if (likely(iov->iov_len >= sizeof(*hdr)))
		return copy_from_user(hdr, iov->iov_base, sizeof(*hdr));
	iov_iter_init(&iter, ITER_SOURCE, iov, nr_iov, len);
	return !copy_from_iter_full(hdr, sizeof(*hdr), &iter);
}

/* The feature that a type needs, and whether the backend can do it. */
static bool vhost_blk_has_range(struct vhost_blk_req *req, bool keep_space,
				int *feature)
{
	struct vhost_blk_limits *limits = &req->q->blk->backend.limits;

	switch (req->type) {
	case VIRTIO_BLK_T_DISCARD:
		*feature = VIRTIO_BLK_F_DISCARD;
		return keep_space || limits->max_discard_sectors;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		*feature = VIRTIO_BLK_F_WRITE_ZEROES;
		return limits->max_write_zeroes_sectors;
	default:
		*feature = VIRTIO_BLK_F_SECURE_ERASE;
		return limits->max_secure_erase_sectors;
	}
}

/* Blocks that must not be cut, as what lies around the range has to stay. */
static u32 vhost_blk_range_block(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = &req->q->blk->backend;

	/* Behind the page cache any sector can be zeroed or left alone. */
	if (be->direct || req->type == VIRTIO_BLK_T_SECURE_ERASE)
		return be->limits.logical_block_size;
	return SECTOR_SIZE;
}

/* Refuse what the owner may know how to do. */
static int vhost_blk_req_fail(struct vhost_blk_req *req, int err)
{
	req->state = VHOST_BLK_REQ_FAILED;
	return err;
}

static int vhost_blk_parse_range(struct vhost_blk_req *req,
				 const struct virtio_blk_discard_write_zeroes *seg,
				 struct vhost_blk_range *range, bool keep_space)
{
	u32 block = vhost_blk_range_block(req) >> SECTOR_SHIFT;
	u32 flags = le32_to_cpu(seg->flags);
	bool unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

	if (flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)
		return -EOPNOTSUPP;
	if (unmap && req->type != VIRTIO_BLK_T_WRITE_ZEROES)
		return -EOPNOTSUPP;

	range->sector = le64_to_cpu(seg->sector);
	range->nr_sectors = le32_to_cpu(seg->num_sectors);
	range->unmap = unmap && !keep_space;
	if ((range->sector | range->nr_sectors) & (block - 1))
		return -EIO;
	if (!vhost_blk_req_has(req, range->sector,
			       (u64)range->nr_sectors << SECTOR_SHIFT))
		return -EIO;
	/* The kernel cuts other ranges at the limits of blocks. */
	if (req->type == VIRTIO_BLK_T_SECURE_ERASE &&
	    range->nr_sectors > vhost_blk_req_backend(req)->limits.max_secure_erase_sectors)
		return -EIO;
	return 0;
}

/* All ranges are checked before the first is touched. */
static int vhost_blk_parse_ranges(struct vhost_blk_req *req,
				  struct iov_iter *list, size_t in_len)
{
	size_t len = iov_iter_count(list), nr, i;
	struct virtio_blk_discard_write_zeroes seg;
	struct vhost_blk_range *ranges;
	bool keep_space, supported;
	int feature, err;

	/* Without DISCARD the backend's space is meant to stay allocated. */
	keep_space = READ_ONCE(req->q->blk->ignore_discards) ||
		     !vhost_has_feature(&req->q->vq, VIRTIO_BLK_F_DISCARD);
	supported = vhost_blk_has_range(req, keep_space, &feature);
	if (!vhost_has_feature(&req->q->vq, feature))
		return vhost_blk_req_fail(req, -EOPNOTSUPP);
	if (in_len || req->q->blk->backend.readonly)
		return -EIO;
	if (!supported)
		return vhost_blk_req_fail(req, -EOPNOTSUPP);
	nr = len / sizeof(seg);
	if (len % sizeof(seg) || nr > VHOST_BLK_MAX_RANGES)
		return -EIO;

	if (nr > VHOST_BLK_INLINE_SEGS) {
		ranges = vhost_blk_req_alloc(req, nr * sizeof(*ranges));
		if (!ranges)
			return -ENOMEM;
		req->ranges = ranges;
	}
	for (i = 0; i < nr; i++) {
		if (!copy_from_iter_full(&seg, sizeof(seg), list))
			return -EFAULT;
		err = vhost_blk_parse_range(req, &seg, &req->ranges[i],
					    keep_space);
		if (err)
			return err;
	}
	/* What is ignored has no data, and so is complete. */
	if (keep_space && req->type == VIRTIO_BLK_T_DISCARD)
		return 0;
	req->nr_segs = nr;
	req->len = len;
	return 0;
}

/* Virtio 1.2, 5.2.6: a request whose layout is legal, any way it is cut up. */
static int vhost_blk_parse_type(struct vhost_blk_req *req, unsigned int out,
				unsigned int in, size_t out_len, size_t in_len)
{
	struct vhost_virtqueue *vq = &req->q->vq;
	const struct iovec *out_iov = req->q->iov;
	const struct iovec *in_iov = out_iov + out;
	struct virtio_blk_outhdr hdr;
	struct iov_iter iter;
	u64 sector;

	if (vhost_blk_get_header(&hdr, out_iov, out, out_len))
		return -EIO;
	out_len -= sizeof(hdr);
	req->type = vhost32_to_cpu(vq, hdr.type);
	req->ioprio = vhost_blk_ioprio(req, vhost32_to_cpu(vq, hdr.ioprio));
	req->dsync = vhost_blk_req_backend(req)->dsync &&
		     READ_ONCE(req->q->blk->write_through);
	sector = vhost64_to_cpu(vq, hdr.sector);

	switch (req->type) {
	case VIRTIO_BLK_T_IN:
		if (out_len)
			return -EIO;
		req->used_len += in_len;
		return vhost_blk_parse_rw(req, in_iov, in, 0, in_len, sector);
	case VIRTIO_BLK_T_OUT:
		if (in_len || vhost_blk_req_backend(req)->readonly)
			return -EIO;
		return vhost_blk_parse_rw(req, out_iov, out, sizeof(hdr),
					  out_len, sector);
	case VIRTIO_BLK_T_FLUSH:
		return 0;
	case VIRTIO_BLK_T_GET_ID:
		if (out_len)
			return -EIO;
		return vhost_blk_get_id(req, in_iov, in, in_len);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
	case VIRTIO_BLK_T_SECURE_ERASE:
		iov_iter_init(&iter, ITER_SOURCE, out_iov, out,
			      sizeof(hdr) + out_len);
		iov_iter_advance(&iter, sizeof(hdr));
		return vhost_blk_parse_ranges(req, &iter, in_len);
	default:
		return vhost_blk_req_fail(req, -EOPNOTSUPP);
	}
}

/**
 * vhost_blk_req_parse - make a request of the chain just fetched
 * @req:	the request of the chain's head
 * @out:	number of device-readable segments in the queue's iov
 * @in:		number of device-writable segments behind them
 *
 * The state of a request that is complete or malformed is VHOST_BLK_REQ_ENDED, and
 * that of one that is not supported VHOST_BLK_REQ_FAILED.
 *
 * Context: submission worker, on the owner's memory, vq->mutex held.
 * Return: 0, or -ENOMEM if the request has to wait for memory; nothing was done
 *	   then.
 */
int vhost_blk_req_parse(struct vhost_blk_req *req, unsigned int out,
			unsigned int in)
{
	const struct iovec *in_iov = req->q->iov + out;
	size_t out_len = iov_length(req->q->iov, out);
	size_t in_len = iov_length(in_iov, in);

	req->type = VHOST_BLK_T_NONE;
	req->state = VHOST_BLK_REQ_READY;
	req->pos = 0;
	req->nr_segs = 0;
	req->len = 0;
	req->copied = 0;
	req->status = NULL;
	req->used_len = 0;
	req->ret = -EIO;
	if (in_len) {
		in_len -= sizeof(*req->status);
		req->status = in_iov[in - 1].iov_base +
			      in_iov[in - 1].iov_len - 1;
		req->used_len = sizeof(*req->status);
		if (out_len >= sizeof(struct virtio_blk_outhdr))
			req->ret = vhost_blk_parse_type(req, out, in, out_len,
							in_len);
	}
	if (unlikely(req->ret == -ENOMEM)) {
		req->state = VHOST_BLK_REQ_FREE;
		return -ENOMEM;
	}
	/* Parsing itself says so of what somebody else may know how to do. */
	if (req->state == VHOST_BLK_REQ_FAILED)
		return 0;
	if (req->ret || (!req->len && req->type != VIRTIO_BLK_T_FLUSH))
		req->state = VHOST_BLK_REQ_ENDED;
	return 0;
}

/**
 * vhost_blk_req_again - have a request tried again that was handed back
 * @req:	the request
 *
 * Ranges that were worked on are not worked on again.
 *
 * Context: vq->mutex held.
 */
void vhost_blk_req_again(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);

	req->state = VHOST_BLK_REQ_READY;
	req->ret = 0;
	req->dsync = be->dsync && READ_ONCE(req->q->blk->write_through);
	switch (req->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		req->copied = 0;
		break;
	case VIRTIO_BLK_T_FLUSH:
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
	case VIRTIO_BLK_T_SECURE_ERASE:
		/* Parsing refused it. */
		if (!req->nr_segs)
			req->ret = vhost_blk_req_fail(req, -EOPNOTSUPP);
		break;
	case VHOST_BLK_T_NONE:
		/* Its memory has gone. */
		req->state = VHOST_BLK_REQ_ENDED;
		req->ret = -EFAULT;
		break;
	default:
		req->state = VHOST_BLK_REQ_FAILED;
		req->ret = -EOPNOTSUPP;
	}
}

/**
 * vhost_blk_req_iter - describe the data that is still to be transferred
 * @iter:	the iterator
 * @req:	the request, a read or a write
 * @max:	the most bytes
 */
void vhost_blk_req_iter(struct iov_iter *iter, struct vhost_blk_req *req,
			size_t max)
{
	iov_iter_init(iter, req->type == VIRTIO_BLK_T_OUT ? ITER_SOURCE :
							    ITER_DEST,
		      req->segs, req->nr_segs, req->len);
	iov_iter_advance(iter, req->copied);
	iov_iter_truncate(iter, max);
}

/**
 * vhost_blk_req_iocb - set up a kiocb for that data, synchronous at first
 * @iocb:	the kiocb
 * @req:	the request, a read or a write
 */
void vhost_blk_req_iocb(struct kiocb *iocb, struct vhost_blk_req *req)
{
	int flags = 0;

	if (req->type == VIRTIO_BLK_T_OUT)
		flags = IOCB_WRITE | (req->dsync ? IOCB_DSYNC : 0);
	vhost_blk_backend_iocb(iocb, vhost_blk_req_backend(req),
			       req->pos + req->copied, flags);
	iocb->ki_ioprio = req->ioprio;
}

/**
 * vhost_blk_req_done - hand over a request whose attempt has ended
 * @req:	the request; not to be touched by the caller any more
 *
 * Context: any.
 */
void vhost_blk_req_done(struct vhost_blk_req *req)
{
	struct vhost_blk_queue *q = req->q;
	bool first;

	/*
	 * Once the request is on the list the other side may finish it and stop
	 * the queue; the grace period in vhost_blk_detach() keeps the workers
	 * until this one is through.
	 */
	rcu_read_lock();
	first = llist_add(&req->done_node, &q->done);
	/*
	 * llist_add() is a full barrier, paired with those that follow a change
	 * of @serving: either the submission worker is seen to have left its
	 * CPU, or it sees the request.
	 */
	if (first && !READ_ONCE(q->serving))
		vhost_blk_task_wake(q->completer);
	rcu_read_unlock();
}

/**
 * vhost_blk_req_log - log what a finished request wrote to guest memory
 * @req:	the request, settled
 *
 * A read that failed may have written any of its data.
 *
 * Context: on the owner's memory, vq->mutex held.
 * Return: 0, or -EFAULT if the log cannot be written.
 */
int vhost_blk_req_log(struct vhost_blk_req *req)
{
	struct iovec status = {
		.iov_base = req->status,
		.iov_len = sizeof(*req->status),
	};
	struct vhost_virtqueue *vq = &req->q->vq;
	int err;

	if (req->nr_segs && req->type == VIRTIO_BLK_T_IN) {
		err = vhost_blk_log(vq, req->segs, req->nr_segs, req->len);
		if (err)
			return err;
	}
	return vhost_blk_log(vq, &status, !!req->status, sizeof(*req->status));
}

/**
 * vhost_blk_req_release - give back what a finished request took
 * @req:	the request
 *
 * Context: vq->mutex held: then its slot may be used again.
 */
void vhost_blk_req_release(struct vhost_blk_req *req)
{
	if (req->segs == req->q->reserve)
		req->q->reserve_used = false;
	else if (req->segs != req->inline_segs)
		kvfree(req->segs);
	req->segs = req->inline_segs;
	req->state = VHOST_BLK_REQ_FREE;
}

/**
 * vhost_blk_req_init - set up the request of a ring slot
 * @req:	the request, zeroed
 * @q:		its queue
 * @head:	the slot
 */
void vhost_blk_req_init(struct vhost_blk_req *req, struct vhost_blk_queue *q,
			u16 head)
{
	req->q = q;
	req->head = head;
	req->segs = req->inline_segs;
	INIT_LIST_HEAD(&req->offload_node);
}
