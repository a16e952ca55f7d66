// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk requests: parsed from a descriptor chain, tried without blocking,
 * finished by a helper where that was not enough.
 */

#include <linux/bio.h>
#include <linux/ioprio.h>
#include <linux/slab.h>

#include "blk.h"
#include "blk_trace.h"

/* Largest piece in which misaligned data passes through a bounce buffer. */
#define VHOST_BLK_BOUNCE_BYTES	SZ_64K

static struct vhost_blk_backend *vhost_blk_req_backend(struct vhost_blk_req *req)
{
	return &req->q->blk->backend;
}

/**
 * vhost_blk_in_range - whether a range lies in the backend as large as it is now
 * @be:		the backend
 * @sector:	where the range begins
 * @len:	its length in bytes
 */
bool vhost_blk_in_range(struct vhost_blk_backend *be, u64 sector, u64 len)
{
	u64 size = be->bdev ? bdev_nr_bytes(be->bdev) :
			      i_size_read(be->file->f_mapping->host);

	return sector <= size >> SECTOR_SHIFT &&
	       len <= size - (sector << SECTOR_SHIFT);
}

/**
 * vhost_blk_req_in_range - whether a request may be about a range
 * @req:	the request, being parsed
 * @sector:	where the range begins
 * @len:	its length in bytes
 *
 * Return: true if the range lies in the backend, and the owner itself could
 *	   write there if the request does.
 */
bool vhost_blk_req_in_range(struct vhost_blk_req *req, u64 sector, u64 len)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);

	if (!vhost_blk_in_range(be, sector, len))
		return false;
	return req->type == VIRTIO_BLK_T_IN ||
	       req->type == VIRTIO_BLK_T_DISCARD ||
	       (sector << SECTOR_SHIFT) + len <= be->fsize;
}

/**
 * vhost_blk_req_alloc - get memory for the segments or ranges of a request
 * @req:	the request, being parsed
 * @size:	bytes of them, more than it has room for itself
 *
 * A queue whose owner may have no more memory goes on with one such request at
 * a time.
 *
 * Return: NULL if another request of the queue is that one.
 */
void *vhost_blk_req_alloc(struct vhost_blk_req *req, size_t size)
{
	struct vhost_blk_queue *q = req->q;
	void *p = kvmalloc(size, VHOST_BLK_GFP);

	if (p || q->spare_used)
		return p;
	q->spare_used = true;
	return q->spare;
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
			req->bounce = true;
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
	if (!vhost_blk_req_in_range(req, sector, len))
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
		return vhost_blk_range_parse(req, &iter, in_len);
	default:
		return -EOPNOTSUPP;
	}
}

/**
 * vhost_blk_req_parse - make a request of the chain just fetched
 * @req:	the request of the chain's head
 * @out:	number of device-readable segments in the queue's iov
 * @in:		number of device-writable segments behind them
 *
 * A request that is complete or refused at this point is marked final.  One
 * that has to wait for memory has -ENOMEM as its ret, and nothing was done.
 *
 * Context: submission worker, on the owner's memory, vq->mutex held.
 */
void vhost_blk_req_parse(struct vhost_blk_req *req, unsigned int out,
			 unsigned int in)
{
	const struct iovec *in_iov = req->q->iov + out;
	size_t out_len = iov_length(req->q->iov, out);
	size_t in_len = iov_length(in_iov, in);

	req->type = VHOST_BLK_T_NONE;
	req->pos = 0;
	req->nr_segs = 0;
	req->len = 0;
	req->copied = 0;
	req->status = NULL;
	req->used_len = 0;
	req->final = true;
	req->bounce = false;
	req->dsync = READ_ONCE(req->q->blk->write_through);
	req->ret = -EIO;
	if (!in_len)
		return;

	req->status = in_iov[in - 1].iov_base + in_iov[in - 1].iov_len - 1;
	req->used_len = sizeof(*req->status);
	if (out_len < sizeof(struct virtio_blk_outhdr))
		return;

	req->ret = vhost_blk_parse_type(req, out, in, out_len,
					in_len - sizeof(*req->status));
	if (!req->ret)
		req->final = !req->len && req->type != VIRTIO_BLK_T_FLUSH;
}

/**
 * vhost_blk_init_iocb - set up a synchronous read or write of the backend
 * @iocb:	the kiocb
 * @be:		the backend, attached
 * @pos:	byte offset in the backend
 * @flags:	IOCB_* to add
 */
void vhost_blk_init_iocb(struct kiocb *iocb, struct vhost_blk_backend *be,
			 loff_t pos, int flags)
{
	init_sync_kiocb(iocb, be->file);
	iocb->ki_pos = pos;
	/*
	 * Others that have the file open may change its mode meanwhile, but a
	 * flush relies on what it was, and a guest's disk does not grow.
	 */
	iocb->ki_flags &= ~(IOCB_APPEND | IOCB_DIRECT);
	iocb->ki_flags |= (be->direct ? IOCB_DIRECT : 0) | flags;
}

static void vhost_blk_req_iocb(struct kiocb *iocb, struct vhost_blk_req *req)
{
	int flags = 0;

	if (req->type == VIRTIO_BLK_T_OUT)
		flags = IOCB_WRITE | (req->dsync ? IOCB_DSYNC : 0);
	vhost_blk_init_iocb(iocb, vhost_blk_req_backend(req),
			    req->pos + req->copied, flags);
	iocb->ki_ioprio = req->ioprio;
}

static ssize_t vhost_blk_rw_iter(struct kiocb *iocb, struct iov_iter *iter)
{
	const struct file_operations *fop = iocb->ki_filp->f_op;

	return iocb->ki_flags & IOCB_WRITE ? fop->write_iter(iocb, iter) :
					     fop->read_iter(iocb, iter);
}

/* What is still to be transferred, all of it or what one call may move. */
static void vhost_blk_init_iter(struct iov_iter *iter,
				struct vhost_blk_req *req, size_t max)
{
	iov_iter_init(iter, req->type == VIRTIO_BLK_T_OUT ? ITER_SOURCE :
							    ITER_DEST,
		      req->segs, req->nr_segs, req->len);
	iov_iter_advance(iter, req->copied);
	iov_iter_truncate(iter, max);
}

static int vhost_blk_rw_blocking(struct vhost_blk_req *req)
{
	struct iov_iter iter;
	struct kiocb iocb;
	ssize_t n;

	while (req->copied < req->len) {
		vhost_blk_init_iter(&iter, req, MAX_RW_COUNT);
		vhost_blk_req_iocb(&iocb, req);
		n = vhost_blk_rw_iter(&iocb, &iter);
		if (n <= 0)
			return n ?: -EIO;
		req->copied += n;
	}
	return 0;
}

/* One step through the buffer; how many bytes it moved, or an error. */
static ssize_t vhost_blk_bounce_step(struct vhost_blk_req *req,
				     struct iov_iter *data, void *buf,
				     size_t len)
{
	bool write = req->type == VIRTIO_BLK_T_OUT;
	struct bio_vec bvec = {
		.bv_page = virt_to_page(buf),
		.bv_len = len,
	};
	struct iov_iter iter;
	struct kiocb iocb;
	ssize_t n;

	if (write && !copy_from_iter_full(buf, len, data))
		return -EFAULT;
	vhost_blk_req_iocb(&iocb, req);
	iov_iter_bvec(&iter, write ? ITER_SOURCE : ITER_DEST, &bvec, 1, len);
	n = vhost_blk_rw_iter(&iocb, &iter);
	if (n <= 0)
		return n ?: -EIO;
	if (write)
		iov_iter_revert(data, len - n);
	else if (copy_to_iter(buf, n, data) != n)
		return -EFAULT;
	return n;
}

static int vhost_blk_rw_bounce(struct vhost_blk_req *req)
{
	size_t size = min_t(size_t, PAGE_ALIGN(req->len),
			    VHOST_BLK_BOUNCE_BYTES);
	struct iov_iter data;
	ssize_t n = 0;
	void *buf;

	buf = alloc_pages_exact(size, VHOST_BLK_GFP);
	if (!buf) {
		/* Where the owner may have no more, a page is not counted. */
		size = PAGE_SIZE;
		buf = alloc_pages_exact(size, GFP_KERNEL);
		if (!buf)
			return -ENOMEM;
	}

	vhost_blk_init_iter(&data, req, req->len);
	while (req->copied < req->len) {
		n = vhost_blk_bounce_step(req, &data, buf,
					  min(size, req->len - req->copied));
		if (n < 0)
			break;
		req->copied += n;
	}
	free_pages_exact(buf, size);
	return min_t(ssize_t, n, 0);
}

/**
 * vhost_blk_backend_sync - make durable what was written
 * @be:		the backend, attached
 *
 * Context: process context; sleeps.
 * Return: 0 or a negative errno.
 */
int vhost_blk_backend_sync(struct vhost_blk_backend *be)
{
	if (!be->file->f_op->fsync)
		return -EOPNOTSUPP;
	return vfs_fsync(be->file, 1);
}

static int vhost_blk_help_rw(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);
	bool write = req->type == VIRTIO_BLK_T_OUT;
	int err;

	/* Written before the mode changed: only to be made durable. */
	if (req->copied == req->len)
		return vhost_blk_backend_sync(be);
	if (write)
		file_start_write(be->file);
	/* Time has passed since the parser looked. */
	if (!vhost_blk_in_range(be, req->pos >> SECTOR_SHIFT, req->len))
		err = -EIO;
	else if (req->bounce)
		err = vhost_blk_rw_bounce(req);
	else
		err = vhost_blk_rw_blocking(req);
	if (write)
		file_end_write(be->file);
	return err;
}

/* Does the rest of a request and may block for as long as it likes. */
static void vhost_blk_help(struct work_struct *work)
{
	struct vhost_blk_req *req = container_of(work, struct vhost_blk_req,
						 help);
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);
	const struct cred *cred = vhost_blk_backend_assume(be);

	if (req->type == VIRTIO_BLK_T_FLUSH) {
		req->ret = vhost_blk_backend_sync(be);
	} else if (vhost_blk_is_range(req)) {
		req->ret = vhost_blk_range_run(req);
	} else if (vhost_blk_use_mm(req->q->blk)) {
		req->ret = vhost_blk_help_rw(req);
		vhost_blk_unuse_mm(req->q->blk);
	} else {
		req->ret = -EFAULT;
	}
	vhost_blk_backend_unassume(cred);
	req->final = true;
	vhost_blk_queue_done(req->q, req);
}

static void vhost_blk_req_help(struct vhost_blk_req *req)
{
	enum vhost_blk_helper kind = VHOST_BLK_HELP_READ;

	if (req->type == VIRTIO_BLK_T_OUT)
		kind = VHOST_BLK_HELP_WRITE;
	else if (vhost_blk_is_range(req))
		kind = VHOST_BLK_HELP_RANGE;
	queue_work(vhost_blk_req_backend(req)->helpers[kind], &req->help);
}

/* Called in any context, hard interrupts included. */
static void vhost_blk_req_end(struct vhost_blk_req *req, long ret)
{
	req->ret = ret;
	vhost_blk_queue_done(req->q, req);
}

static void vhost_blk_rw_end(struct kiocb *iocb, long ret)
{
	vhost_blk_req_end(container_of(iocb, struct vhost_blk_req, iocb), ret);
}

static void vhost_blk_flush_end(struct bio *bio)
{
	int err = blk_status_to_errno(bio->bi_status);
	struct vhost_blk_req *req = bio->bi_private;

	bio_put(bio);
	vhost_blk_req_end(req, err);
}

static void vhost_blk_submit_flush(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);
	struct bio *bio;

	bio = bio_alloc(be->bdev, 0, REQ_OP_WRITE | REQ_PREFLUSH | REQ_SYNC |
				     (be->nowait ? REQ_NOWAIT : 0), GFP_KERNEL);
	bio->bi_ioprio = req->ioprio;
	bio->bi_private = req;
	bio->bi_end_io = vhost_blk_flush_end;
	submit_bio(bio);
}

/*
 * Freeze protection that the submission worker takes is given back by whoever
 * settles the request, so lockdep is told of the hand-over.
 */
static bool vhost_blk_freeze_protect(struct vhost_blk_req *req)
{
	struct super_block *sb =
		file_inode(vhost_blk_req_backend(req)->file)->i_sb;

	if (!sb_start_write_trylock(sb))
		return false;
	__sb_writers_release(sb, SB_FREEZE_WRITE);
	req->freeze = true;
	return true;
}

static void vhost_blk_freeze_unprotect(struct vhost_blk_req *req)
{
	struct super_block *sb =
		file_inode(vhost_blk_req_backend(req)->file)->i_sb;

	__sb_writers_acquired(sb, SB_FREEZE_WRITE);
	sb_end_write(sb);
	req->freeze = false;
}

static void vhost_blk_submit_rw(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);
	struct kiocb *iocb = &req->iocb;
	struct iov_iter iter;
	ssize_t ret;

	if (req->type == VIRTIO_BLK_T_OUT && !be->bdev &&
	    !vhost_blk_freeze_protect(req)) {
		vhost_blk_req_help(req);
		return;
	}

	vhost_blk_req_iocb(iocb, req);
	iocb->ki_complete = vhost_blk_rw_end;
	iocb->ki_flags |= VHOST_BLK_IOCB_CACHE;
	if (be->nowait)
		iocb->ki_flags |= IOCB_NOWAIT;
	/* The page cache copies, and needs nothing pinned. */
	if (!be->direct || !vhost_blk_pin_iter(req, &iter))
		vhost_blk_init_iter(&iter, req, MAX_RW_COUNT);
	ret = vhost_blk_rw_iter(iocb, &iter);
	if (ret != -EIOCBQUEUED)
		vhost_blk_rw_end(iocb, ret);
}

/*
 * A durable write into the page cache waits for the disk, even where it was
 * asked not to block.
 */
static bool vhost_blk_sync_blocks(struct vhost_blk_req *req)
{
	return req->dsync && req->type == VIRTIO_BLK_T_OUT &&
	       !vhost_blk_req_backend(req)->direct;
}

/**
 * vhost_blk_req_submit - start a parsed request
 * @req:	the request; it may be finished and reused on return
 *
 * Context: submission worker, on the owner's memory, under a block plug.
 */
void vhost_blk_req_submit(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);

	if (req->final) {
		vhost_blk_queue_done(req->q, req);
		return;
	}

	trace_vhost_blk_submit(req);
	if (req->type == VIRTIO_BLK_T_FLUSH && be->flush_bio)
		vhost_blk_submit_flush(req);
	else if (req->type == VIRTIO_BLK_T_FLUSH || vhost_blk_is_range(req) ||
		 req->bounce || !be->async || vhost_blk_sync_blocks(req))
		vhost_blk_req_help(req);
	else
		vhost_blk_submit_rw(req);
}

/* Whether the attempt left something for the helper to do. */
static bool vhost_blk_needs_help(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);

	switch (req->ret) {
	case -EAGAIN:
		return true;
	case -EOPNOTSUPP:
		/* Some file systems say so to an attempt that must not block. */
		return be->nowait;
	case -EINVAL:
		/* Direct I/O with stricter rules than dio_mask knows. */
		req->bounce = be->direct && req->type != VIRTIO_BLK_T_FLUSH;
		return req->bounce;
	default:
		return req->ret >= 0 && req->copied < req->len;
	}
}

/*
 * Whether the request wrote data that is not durable, while the device came to
 * be in write-through mode.  See vhost_blk_set_write_cache().
 */
static bool vhost_blk_needs_sync(struct vhost_blk_req *req)
{
	return req->ret >= 0 && req->type == VIRTIO_BLK_T_OUT && !req->dsync &&
	       req->len && READ_ONCE(req->q->blk->write_through);
}

/**
 * vhost_blk_req_settle - see what an ended attempt means for the request
 * @req:	the request, off the done list
 *
 * Context: one of the queue's workers, on the owner's memory unless that is
 *	    gone.
 * Return: true if the request is finished, its status written and its used_len
 *	   right; false if a helper goes on with it.
 */
bool vhost_blk_req_settle(struct vhost_blk_req *req)
{
	u8 status;

	if (req->freeze)
		vhost_blk_freeze_unprotect(req);
	vhost_blk_pin_release(req);

	if (!req->final) {
		if (req->ret > 0)
			req->copied += req->ret;
		if (vhost_blk_needs_help(req)) {
			vhost_blk_req_help(req);
			return false;
		}
	}
	if (unlikely(vhost_blk_needs_sync(req))) {
		req->dsync = true;
		vhost_blk_req_help(req);
		return false;
	}

	status = vhost_blk_req_status(req);
	if (status != VIRTIO_BLK_S_OK)
		req->used_len = min_t(u32, req->used_len, sizeof(status));
	if (!current->mm || !req->status || put_user(status, req->status))
		req->used_len = 0;
	return true;
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
	if (req->segs == req->q->spare)
		req->q->spare_used = false;
	else if (req->segs != req->inline_segs)
		kvfree(req->segs);
	req->segs = req->inline_segs;
	req->inflight = false;
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
	INIT_WORK(&req->help, vhost_blk_help);
}
