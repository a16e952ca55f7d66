// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk I/O: a request is submitted without waiting for it, and completed or
 * offloaded when that attempt has ended.
 */

#include <linux/bio.h>
#include <linux/uaccess.h>

#include "blk.h"
#include "blk_trace.h"

/* Called in any context, hard interrupts included. */
static void vhost_blk_rw_end(struct kiocb *iocb, long ret)
{
	struct vhost_blk_req *req = container_of(iocb, struct vhost_blk_req,
						 iocb);
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);

	/* A freeze of the file system does not wait for a worker. */
	if ((iocb->ki_flags & IOCB_WRITE) && !be->bdev) {
		__sb_writers_acquired(file_inode(be->file)->i_sb,
				      SB_FREEZE_WRITE);
		sb_end_write(file_inode(be->file)->i_sb);
	}
	req->ret = ret;
	vhost_blk_req_done(req);
}

/*
 * Freeze protection for an attempt.  Another context gives it back, and lockdep
 * is told of the hand-over.
 */
static bool vhost_blk_freeze_protect(struct vhost_blk_backend *be)
{
	struct super_block *sb = file_inode(be->file)->i_sb;

	if (!sb_start_write_trylock(sb))
		return false;
	__sb_writers_release(sb, SB_FREEZE_WRITE);
	return true;
}

static void vhost_blk_submit_rw(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);
	bool write = req->type == VIRTIO_BLK_T_OUT;
	struct kiocb *iocb = &req->iocb;
	struct iov_iter iter;
	ssize_t ret;

	if (write && !be->bdev && !vhost_blk_freeze_protect(be)) {
		vhost_blk_offload(req, VHOST_BLK_REQ_BLOCKING);
		return;
	}

	req->state = VHOST_BLK_REQ_ASYNC;
	vhost_blk_req_iocb(iocb, req);
	iocb->ki_complete = vhost_blk_rw_end;
	iocb->ki_flags |= VHOST_BLK_IOCB_CACHE;
	if (be->nowait)
		iocb->ki_flags |= IOCB_NOWAIT;
	/* The page cache copies, and needs nothing pinned. */
	if (!be->direct || !vhost_blk_pin_iter(req, &iter))
		vhost_blk_req_iter(&iter, req, req->len);
	ret = vhost_blk_backend_rw(iocb, &iter);
	if (ret == -EIOCBQUEUED)
		return;
	/* What is left to be done does not wait for other completions. */
	if (ret < (ssize_t)req->len)
		req->q->unfinished = true;
	vhost_blk_rw_end(iocb, ret);
}

static void vhost_blk_flush_end(struct bio *bio)
{
	struct vhost_blk_req *req = bio->bi_private;

	req->ret = blk_status_to_errno(bio->bi_status);
	bio_put(bio);
	vhost_blk_req_done(req);
}

static void vhost_blk_submit_flush(struct vhost_blk_req *req)
{
	struct bio *bio = bio_alloc(vhost_blk_req_backend(req)->bdev, 0,
				    REQ_OP_WRITE | REQ_PREFLUSH | REQ_SYNC,
				    GFP_KERNEL);

	req->state = VHOST_BLK_REQ_ASYNC;
	bio->bi_ioprio = req->ioprio;
	bio->bi_private = req;
	bio->bi_end_io = vhost_blk_flush_end;
	submit_bio(bio);
}

/*
 * Whether an attempt would block.  A durable write into the page cache waits for
 * the disk, even where it is asked not to block, and a large request is not to
 * have all its bios allocated at once.
 */
static bool vhost_blk_blocks(const struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);

	return !be->async || req->len > VHOST_BLK_STEP ||
	       (req->dsync && req->type == VIRTIO_BLK_T_OUT && !be->direct);
}

/**
 * vhost_blk_io_submit - start a parsed request
 * @req:	the request; it may be finished and its slot reused on return
 *
 * Context: submission worker, on the owner's memory, under a block plug.
 */
void vhost_blk_io_submit(struct vhost_blk_req *req)
{
	switch (req->state) {
	case VHOST_BLK_REQ_READY:
	case VHOST_BLK_REQ_BOUNCE:
		trace_vhost_blk_submit(req);
		break;
	default:
		vhost_blk_req_done(req);
		return;
	}

	if (req->state == VHOST_BLK_REQ_BOUNCE)
		vhost_blk_offload(req, VHOST_BLK_REQ_BOUNCE);
	else if (vhost_blk_is_range(req))
		vhost_blk_offload(req, VHOST_BLK_REQ_RANGES);
	else if (req->type != VIRTIO_BLK_T_FLUSH && vhost_blk_blocks(req))
		vhost_blk_offload(req, VHOST_BLK_REQ_BLOCKING);
	else if (req->type != VIRTIO_BLK_T_FLUSH)
		vhost_blk_submit_rw(req);
	else if (vhost_blk_req_backend(req)->flush_bio)
		vhost_blk_submit_flush(req);
	else
		vhost_blk_offload(req, VHOST_BLK_REQ_SYNC);
}

/* What follows an attempt that has ended. */
static enum vhost_blk_req_state vhost_blk_next_state(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);
	bool flush = req->type == VIRTIO_BLK_T_FLUSH;

	if (likely(req->ret >= 0)) {
		req->copied += req->ret;
		return req->copied < req->len ? VHOST_BLK_REQ_BLOCKING :
						VHOST_BLK_REQ_ENDED;
	}
	switch (req->ret) {
	case -EAGAIN:
	case -EINTR:
	case -ERESTARTSYS:
		return flush ? VHOST_BLK_REQ_SYNC : VHOST_BLK_REQ_BLOCKING;
	case -EOPNOTSUPP:
		/* Some file systems say so to an attempt that must not block. */
		return be->nowait ? VHOST_BLK_REQ_BLOCKING :
				    VHOST_BLK_REQ_FAILED;
	case -EINVAL:
		/* Direct I/O with stricter rules than dio_mask knows. */
		return be->direct && !flush ? VHOST_BLK_REQ_BOUNCE :
					      VHOST_BLK_REQ_FAILED;
	default:
		return VHOST_BLK_REQ_FAILED;
	}
}

/*
 * Whether the request wrote data that is not durable, and the device is in
 * write-through mode by now.  See vhost_blk_set_write_cache().
 */
static bool vhost_blk_needs_sync(const struct vhost_blk_req *req)
{
	return req->ret >= 0 && req->type == VIRTIO_BLK_T_OUT && !req->dsync &&
	       req->len && READ_ONCE(req->q->blk->write_through);
}

/**
 * vhost_blk_io_answer - write the status of a request
 * @req:	the request, ended
 * @wait:	wait for a page that is missing, however long that takes
 *
 * Context: process context, on the owner's memory unless that is gone.
 * Return: false if a page is missing and was not waited for.
 */
bool vhost_blk_io_answer(struct vhost_blk_req *req, bool wait)
{
	u8 status = vhost_blk_req_status(req);
	int err = -EFAULT;

	if (current->mm && req->status) {
		if (!wait)
			pagefault_disable();
		err = put_user(status, req->status);
		if (!wait)
			pagefault_enable();
		if (unlikely(err) && !wait)
			return false;
	}
	if (status != VIRTIO_BLK_S_OK)
		req->used_len = min_t(u32, req->used_len, sizeof(status));
	if (err)
		req->used_len = 0;
	/* After the last access to guest memory. */
	smp_store_release(&req->state, VHOST_BLK_REQ_ANSWERED);
	return true;
}

/**
 * vhost_blk_io_complete - see what an ended attempt means for the request
 * @req:	the request, off the done list
 *
 * Context: one of the queue's workers, on the owner's memory unless that is
 *	    gone; does not sleep.
 * Return: VHOST_BLK_REQ_ANSWERED, and @req->used_len is right,
 *	   VHOST_BLK_REQ_FAILED if it is to be handed back, or what is to be
 *	   offloaded.  That is the state of the request, too.
 */
enum vhost_blk_req_state vhost_blk_io_complete(struct vhost_blk_req *req)
{
	vhost_blk_pin_release(req);
	if (req->state == VHOST_BLK_REQ_ASYNC)
		req->state = vhost_blk_next_state(req);
	if (unlikely(vhost_blk_needs_sync(req)) &&
	    req->state == VHOST_BLK_REQ_ENDED)
		req->state = VHOST_BLK_REQ_SYNC;
	if (req->state == VHOST_BLK_REQ_FAILED && !req->q->blk->hand_back)
		req->state = VHOST_BLK_REQ_ENDED;
	if (req->state == VHOST_BLK_REQ_ENDED &&
	    !vhost_blk_io_answer(req, false))
		req->state = VHOST_BLK_REQ_LATE;
	return req->state;
}
