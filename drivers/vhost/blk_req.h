/* SPDX-License-Identifier: GPL-2.0 */
/* A request of vhost-blk and what is done with one. */
#ifndef _VHOST_BLK_REQ_H
#define _VHOST_BLK_REQ_H

#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/llist.h>
#include <linux/uio.h>
#include <linux/virtio_blk.h>

/* Segments or ranges that a request holds without an allocation. */
#define VHOST_BLK_INLINE_SEGS	8
/* Ranges of a request: the most that a Linux guest merges into one. */
#define VHOST_BLK_MAX_RANGES	256
/* Type of a request whose header could not be read. */
#define VHOST_BLK_T_NONE	U32_MAX

struct vhost_blk_pin;
struct vhost_blk_queue;

/**
 * struct vhost_blk_range - a part of the backend to discard, zero or erase
 * @sector:	its first sector that is still to be worked on
 * @nr_sectors:	the number of those
 * @unmap:	its space may be freed
 */
struct vhost_blk_range {
	u64 sector;
	u32 nr_sectors;
	bool unmap;
};

/**
 * enum vhost_blk_req_state - what happens to a request
 * @VHOST_BLK_REQ_FREE:		its slot is not in use
 * @VHOST_BLK_REQ_READY:	parsed, not submitted
 * @VHOST_BLK_REQ_ASYNC:	the backend has it
 * @VHOST_BLK_REQ_BLOCKING:	offloaded: reads or writes the guest's memory
 * @VHOST_BLK_REQ_BOUNCE:	offloaded: the same through a bounce buffer
 * @VHOST_BLK_REQ_BUFFERED:	offloaded: the same through the page cache
 * @VHOST_BLK_REQ_SYNC:		offloaded: makes data durable
 * @VHOST_BLK_REQ_RANGES:	offloaded: works on its ranges
 * @VHOST_BLK_REQ_LATE:		offloaded: its status waits for a missing page
 * @VHOST_BLK_REQ_FAILED:	the backend failed it, or its type is unknown
 * @VHOST_BLK_REQ_ENDED:	its status is known
 * @VHOST_BLK_REQ_ANSWERED:	its status is written; guest memory other than the
 *				ring is not touched any more
 * @VHOST_BLK_REQ_HANDED_BACK:	left to the owner
 */
enum vhost_blk_req_state {
	VHOST_BLK_REQ_FREE,
	VHOST_BLK_REQ_READY,
	VHOST_BLK_REQ_ASYNC,
	VHOST_BLK_REQ_BLOCKING,
	VHOST_BLK_REQ_BOUNCE,
	VHOST_BLK_REQ_BUFFERED,
	VHOST_BLK_REQ_SYNC,
	VHOST_BLK_REQ_RANGES,
	VHOST_BLK_REQ_LATE,
	VHOST_BLK_REQ_FAILED,
	VHOST_BLK_REQ_ENDED,
	VHOST_BLK_REQ_ANSWERED,
	VHOST_BLK_REQ_HANDED_BACK,
};

/**
 * struct vhost_blk_req - one request, preallocated for each ring slot
 * @iocb:	the asynchronous attempt
 * @done_node:	link in the queue's done or deferred list
 * @node:	link in the queue's list of fetched requests, under vq->mutex
 * @offload_node: link in the list of pending requests, or in the queue's list of
 *		requests to try again
 * @q:		the queue it came from
 * @segs:	data segments: @inline_segs, or an allocation if there are more, see
 *		vhost_blk_req_alloc()
 * @ranges:	the same for requests that carry ranges instead of data
 * @nr_segs:	number of @segs or @ranges
 * @state:	what happens to it
 * @pos:	byte offset in the backend
 * @len:	data bytes asked for, or bytes of the list of ranges
 * @copied:	data bytes transferred, or ranges worked on, so far
 * @status:	the status byte in guest memory, NULL if there is none
 * @ret:	bytes moved by the last attempt, or a negative errno
 * @used_len:	bytes written to device-writable buffers if it succeeds
 * @head:	index of the chain's first descriptor
 * @type:	VIRTIO_BLK_T_*, or VHOST_BLK_T_NONE
 * @ioprio:	I/O priority
 * @start:	when it was fetched, in ns; 0 unless that is traced
 * @dsync:	its data is durable when the attempt has ended
 * @nr_pins:	number of @pins and @bvecs in use
 * @inline_segs: room for the common request
 * @inline_ranges: the same for ranges
 * @pins:	pinned pages that hold its data while the attempt lasts
 * @bvecs:	the data in them
 */
struct vhost_blk_req {
	struct kiocb iocb;
	struct llist_node done_node;
	struct list_head node;
	struct list_head offload_node;
	struct vhost_blk_queue *q;
	union {
		struct iovec *segs;
		struct vhost_blk_range *ranges;
	};
	unsigned int nr_segs;
	enum vhost_blk_req_state state;
	loff_t pos;
	size_t len;
	size_t copied;
	u8 __user *status;
	ssize_t ret;
	u32 used_len;
	u32 type;
	u64 start;
	u16 head;
	u16 ioprio;
	bool dsync;
	u8 nr_pins;
	union {
		struct iovec inline_segs[VHOST_BLK_INLINE_SEGS];
		struct vhost_blk_range inline_ranges[VHOST_BLK_INLINE_SEGS];
	};
	struct vhost_blk_pin *pins[VHOST_BLK_INLINE_SEGS];
	struct bio_vec bvecs[VHOST_BLK_INLINE_SEGS];
};

/* The status byte that tells how the request ended. */
static inline u8 vhost_blk_req_status(const struct vhost_blk_req *req)
{
	if (likely(req->ret >= 0))
		return VIRTIO_BLK_S_OK;
	return req->ret == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP :
					 VIRTIO_BLK_S_IOERR;
}

static inline bool vhost_blk_is_range(const struct vhost_blk_req *req)
{
	return req->type == VIRTIO_BLK_T_DISCARD ||
	       req->type == VIRTIO_BLK_T_WRITE_ZEROES ||
	       req->type == VIRTIO_BLK_T_SECURE_ERASE;
}

/* blk_io.c */
void vhost_blk_io_submit(struct vhost_blk_req *req);
bool vhost_blk_io_answer(struct vhost_blk_req *req, bool wait);
enum vhost_blk_req_state vhost_blk_io_complete(struct vhost_blk_req *req);

/* blk_req.c */
void vhost_blk_req_init(struct vhost_blk_req *req, struct vhost_blk_queue *q,
			u16 head);
int vhost_blk_req_parse(struct vhost_blk_req *req, unsigned int out,
			unsigned int in);
int vhost_blk_req_log(struct vhost_blk_req *req);
void vhost_blk_req_release(struct vhost_blk_req *req);
void vhost_blk_req_iter(struct iov_iter *iter, struct vhost_blk_req *req,
			size_t max);
void vhost_blk_req_iocb(struct kiocb *iocb, struct vhost_blk_req *req);
void vhost_blk_req_done(struct vhost_blk_req *req);
void vhost_blk_req_again(struct vhost_blk_req *req);

#endif /* _VHOST_BLK_REQ_H */
