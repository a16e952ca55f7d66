/* SPDX-License-Identifier: GPL-2.0 */
/* Types of vhost-blk and the calls between its files. */
#ifndef _VHOST_BLK_H
#define _VHOST_BLK_H

#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/llist.h>
#include <linux/memcontrol.h>
#include <linux/mmu_notifier.h>
#include <linux/rcuwait.h>
#include <linux/rwsem.h>
#include <linux/sched/mm.h>
#include <linux/uio.h>
#include <linux/virtio_blk.h>
#include <linux/vhost_blk.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "vhost.h"

#define VHOST_BLK_MAX_QUEUES	128
#define VHOST_BLK_MAX_RING	1024	/* entries */
/*
 * A chain of VHOST_BLK_MAX_RING descriptors, of which each may cross from one
 * memory region into the next.
 */
#define VHOST_BLK_MAX_IOV	(2 * VHOST_BLK_MAX_RING)
/* Requests fetched, and used entries written, under one hold of vq->mutex. */
#define VHOST_BLK_BATCH		32
/* Segments or ranges that a request holds without an allocation. */
#define VHOST_BLK_INLINE_SEGS	8
/*
 * For what a guest can have allocated: the owner is charged for it, who is
 * neither killed for want of memory nor fills the kernel's log.
 */
#define VHOST_BLK_GFP	(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)
/* Type of a request whose header could not be read. */
#define VHOST_BLK_T_NONE	U32_MAX
/* Ranges in a request: the most that a Linux guest merges into one. */
#define VHOST_BLK_MAX_RANGES	256

/*
 * Bounds of VHOST_SET_VRING_BUSYLOOP_TIMEOUT: a dead owner's memory is kept for
 * so long after its last request, and no guest answers faster than the minimum.
 */
#define VHOST_BLK_POLL_MAX_US	10000u
#define VHOST_BLK_POLL_MIN_NS	((u64)4 * NSEC_PER_USEC)
/* cpu_relax() between two looks at the ring. */
#define VHOST_BLK_POLL_PAUSES	8

/* Requests submitted before the guest is told of those that completed. */
#define VHOST_BLK_HOLD_MAX	16u
/* Most times in turn that these are not tried because they did not pay. */
#define VHOST_BLK_HOLD_BACKOFF	1023u
#define VHOST_BLK_GIVE_WAY_BACKOFF 63u

/* Times that serving a batch takes, for which a guest is left its CPU. */
#define VHOST_BLK_GIVE_WAY_MOST 8u

/* Requests over which it is measured how long one takes. */
#define VHOST_BLK_NAP_REQS	32u
/* What a nap lasts: so many of them, and no longer than that. */
#define VHOST_BLK_NAP_PACES	4u
#define VHOST_BLK_NAP_MAX_US	4000u
/* Measures for which it is believed that the guest has several in flight. */
#define VHOST_BLK_NAP_SEVERAL	16u
/* So many in turn that bring no two requests are the last for now. */
#define VHOST_BLK_NAP_POOR	4u
/* Measures with naps until there is one without them again. */
#define VHOST_BLK_NAP_MEASURES	256u
/* Most measures in turn after which naps are not tried. */
#define VHOST_BLK_NAP_BACKOFF	63u

/* Bytes that each queue may keep pinned. */
#define VHOST_BLK_MAX_PINNED	SZ_1G

struct vhost_blk_pin;
struct vhost_blk_queue;

/* Helpers of one kind do not wait for those of another. */
enum vhost_blk_helper {
	VHOST_BLK_HELP_READ,	/* and flush */
	VHOST_BLK_HELP_WRITE,	/* also waits while a file system is frozen */
	VHOST_BLK_HELP_RANGE,	/* discard, write zeroes, secure erase */
	VHOST_BLK_HELPERS
};

/**
 * struct vhost_blk_backend - the file behind a device
 * @file:	our own reference; NULL while detached
 * @bdev:	the block device, NULL if @file is a regular file
 * @readonly:	@file is not open for writing
 * @direct:	@file is open with O_DIRECT
 * @nowait:	@file can be asked not to block (IOCB_NOWAIT)
 * @async:	reads and writes can be tried without a helper: they do not block,
 *		or wait at most for a block device to take them
 * @flush_bio:	a flush is one bio: no page cache lies between us and @bdev
 * @dio_mask:	bits that must be clear in the address and the length of each
 *		segment for direct I/O to take it
 * @fsize:	no byte of a file is written beyond, by RLIMIT_FSIZE of the process
 *		that attached the backend
 * @ioprio:	its I/O priority
 * @limits:	of the requests that carry ranges
 * @helpers:	run what may block, see vhost_blk_req_help()
 * @blkcg_css:	its block cgroup
 * @memcg:	its memory cgroup, NULL if there are none
 * @cred:	its credentials, which all work on @file is done with
 */
struct vhost_blk_backend {
	struct file *file;
	struct block_device *bdev;
	bool readonly;
	bool direct;
	bool nowait;
	bool async;
	bool flush_bio;
	unsigned int dio_mask;
	u64 fsize;
	u16 ioprio;
	struct vhost_blk_limits limits;
	struct workqueue_struct *helpers[VHOST_BLK_HELPERS];
	struct cgroup_subsys_state *blkcg_css;
	struct mem_cgroup *memcg;
	const struct cred *cred;
};

/**
 * struct vhost_blk_range - a part of the backend to discard, zero or erase
 * @sector:	its first sector
 * @nr_sectors:	their number
 * @unmap:	its space may be freed
 */
struct vhost_blk_range {
	u64 sector;
	u32 nr_sectors;
	bool unmap;
};

/**
 * struct vhost_blk_req - one request, preallocated for each ring slot
 * @iocb:	the asynchronous attempt
 * @done_node:	link in the done list of @q
 * @help:	runs what the asynchronous attempt left over
 * @q:		the queue it came from
 * @segs:	data segments: @inline_segs, or an allocation if there are more, see
 *		vhost_blk_req_alloc()
 * @ranges:	the same for requests that carry ranges instead of data
 * @nr_segs:	number of @segs or @ranges
 * @pos:	byte offset in the backend
 * @len:	data bytes asked for, or bytes of the list of ranges
 * @copied:	data bytes transferred so far
 * @status:	the status byte in guest memory, NULL if there is none
 * @ret:	bytes moved by the last attempt, or a negative errno
 * @used_len:	bytes written to device-writable buffers if all goes well
 * @head:	index of the chain's first descriptor
 * @type:	VIRTIO_BLK_T_*, or VHOST_BLK_T_NONE
 * @ioprio:	I/O priority
 * @start:	when it was taken off the ring, in ns; 0 if nobody asks
 * @inflight:	fetched and not yet in the used ring; under vq->mutex
 * @final:	@ret is the last word on the request
 * @bounce:	direct I/O cannot take @segs as they are
 * @dsync:	data is durable before the request completes: the device was in
 *		write-through mode when it was fetched, or is by now
 * @freeze:	holds freeze protection of the backend's file system
 * @nr_pins:	number of @pins and @bvecs in use
 * @inline_segs: room for the common request
 * @inline_ranges: the same for ranges
 * @pins:	pinned pages that hold its data while the attempt lasts
 * @bvecs:	the data in them
 */
struct vhost_blk_req {
	struct kiocb iocb;
	struct llist_node done_node;
	struct work_struct help;
	struct vhost_blk_queue *q;
	union {
		struct iovec *segs;
		struct vhost_blk_range *ranges;
	};
	unsigned int nr_segs;
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
	bool inflight;
	bool final;
	bool bounce;
	bool dsync;
	bool freeze;
	u8 nr_pins;
	union {
		struct iovec inline_segs[VHOST_BLK_INLINE_SEGS];
		struct vhost_blk_range inline_ranges[VHOST_BLK_INLINE_SEGS];
	};
	struct vhost_blk_pin *pins[VHOST_BLK_INLINE_SEGS];
	struct bio_vec bvecs[VHOST_BLK_INLINE_SEGS];
};

/**
 * struct vhost_blk_backoff - something that may pay, and how often to try it
 * @skip:	times not to try it
 * @last:	times it was last time
 */
struct vhost_blk_backoff {
	unsigned int skip;
	unsigned int last;
};

/**
 * struct vhost_blk_nap - looking at the ring by a timer instead of being kicked
 * @on:		done, until it does not pay any more
 * @us:		length of a nap
 * @poor:	naps in turn that brought one request or none
 * @left:	measures until kicks are measured again
 * @nr:		requests in the present measure
 * @since:	its begin
 * @several:	measures since requests were there at once, counted down
 * @kicked_ns:	what a request took when the guest was told to kick; 0 if that is
 *		not known yet
 * @backoff:	when to try
 */
struct vhost_blk_nap {
	bool on;
	unsigned int us;
	unsigned int poor;
	unsigned int left;
	unsigned int nr;
	u64 since;
	unsigned int several;
	u64 kicked_ns;
	struct vhost_blk_backoff backoff;
};

/**
 * struct vhost_blk_queue - a virtqueue and its two workers
 * @vq:		the vhost core's part
 * @blk:	the device
 * @index:	number of the virtqueue
 * @reqs:	one per ring slot; NULL while the queue is stopped
 * @iov:	scratch of vhost_get_vq_desc(), under vq->mutex
 * @spare:	segments or ranges of the one request that got no memory for them
 * @spare_used:	it is taken, under vq->mutex
 * @starved:	the next request has to wait until one in flight gives memory
 *		back, changed under vq->mutex
 * @submitter:	submission worker
 * @completer:	completion worker
 * @submit_wait: where @submitter sleeps
 * @complete_wait: where @completer sleeps
 * @flags:	bit numbers VHOST_BLK_KICKED
 * @serving:	@submitter is awake and will look at @done before it sleeps
 * @poll_ns:	@submitter polls for so long before it sleeps, its own
 * @idle_since:	when it had no more to do, its own
 * @unreaped:	requests submitted since @submitter looked at @done, its own
 * @hold:	when to hold completions back, @submitter's own
 * @hold_won:	requests came while completions were held back, @submitter's own
 * @give_way:	when not to take the CPU from whoever kicks, @submitter's own
 * @gives_way:	@submitter is scheduled that way, its own
 * @nap:	when not to have the guest kick, @submitter's own
 * @kicked_at:	when VHOST_BLK_KICKED was set last
 * @done:	requests whose attempt ended, pushed from any context
 * @inflight:	requests fetched and not yet used, under vq->mutex
 * @broken:	the ring is corrupt and not served, under vq->mutex
 * @accessed:	the ring is known to be accessible, under vq->mutex
 * @fetch_waits: fetching waits for a mapping, under vq->mutex
 * @answers:	to misses since the last request was fetched, under vq->mutex
 * @publish_waits: publishing waits for a mapping, changed under vq->mutex
 * @unpublished: finished requests that wait for it
 * @drained:	woken when a stopping queue has no request in flight
 * @pins:	cache of pinned pages, NULL if there is none
 * @pin_mask:	number of its sets, less one
 * @pin_clock:	requests that asked for pages of it, @submitter's own
 * @pin_epoch:	of the device when @pins were last known to be the owner's
 *		pages, @submitter's own
 * @affinity:	CPUs for the workers, NULL for those of the owner; under
 *		vhost_dev.mutex
 * @kicks:	times the kick eventfd was written, under that one's lock
 * @submit_wakeups: times @submitter was woken, written by it alone
 * @complete_wakeups: times @completer was woken, written by it alone
 * @polled:	times polling found requests, written by @submitter alone
 * @pin_misses:	pages pinned anew, written by @submitter alone
 * @stats:	all other counters, under vq->mutex
 */
struct vhost_blk_queue {
	struct vhost_virtqueue vq;
	struct vhost_blk *blk;
	unsigned int index;
	struct vhost_blk_req *reqs;
	struct iovec *iov;
	void *spare;
	bool spare_used;
	bool starved;
	struct task_struct *submitter;
	struct task_struct *completer;
	struct rcuwait submit_wait;
	struct rcuwait complete_wait;
	unsigned long flags;
	bool serving;
	u64 poll_ns;
	u64 idle_since;
	unsigned int unreaped;
	struct vhost_blk_backoff hold;
	bool hold_won;
	struct vhost_blk_backoff give_way;
	bool gives_way;
	struct vhost_blk_nap nap;
	u64 kicked_at;
	struct llist_head done;
	unsigned int inflight;
	bool broken;
	bool accessed;
	bool fetch_waits;
	bool publish_waits;
	unsigned int answers;
	struct llist_head unpublished;
	wait_queue_head_t drained;
	struct vhost_blk_pin *pins;
	unsigned int pin_mask;
	u32 pin_clock;
	int pin_epoch;
	struct cpumask *affinity;
	u64 kicks;
	u64 submit_wakeups;
	u64 complete_wakeups;
	u64 polled;
	u64 pin_misses;
	struct vhost_blk_stats stats;
};

#define VHOST_BLK_KICKED	0

/**
 * struct vhost_blk - an opened /dev/vhost-blk
 * @dev:	the vhost core's part; @dev.mutex serialises all ioctls
 * @iotlb_lock:	held for reading while a ring is accessed through @dev.iotlb,
 *		for writing while that is changed; nests inside vq->mutex
 * @backend:	what is attached
 * @serial:	answer to VIRTIO_BLK_T_GET_ID, changed only while detached
 * @write_through: a write is durable before it completes; changed at any time
 * @dying:	who detaches is killed or exits: ranges that are not worked on yet
 *		are dropped
 * @pin_limit:	pages that each queue may keep pinned; if there are any,
 *		@pin_notifier is registered
 * @pin_rlimit:	pages that the owner may have pinned
 * @pin_notifier: tells of changes of the owner's mappings
 * @pin_epoch:	their number, as far as they matter
 * @pin_lock:	of @pin_start and @pin_end
 * @pin_start:	no page below this address is pinned
 * @pin_end:	no page from this address on is
 * @vqs:	the array that the vhost core wants
 * @queues:	the virtqueues
 */
struct vhost_blk {
	struct vhost_dev dev;
	struct rw_semaphore iotlb_lock;
	struct vhost_blk_backend backend;
	u8 serial[VIRTIO_BLK_ID_BYTES];
	bool write_through;
	bool dying;
	unsigned int pin_limit;
	s64 pin_rlimit;
	struct mmu_notifier pin_notifier;
	atomic_t pin_epoch;
	spinlock_t pin_lock; /* of pin_start and pin_end */
	unsigned long pin_start;
	unsigned long pin_end;
	struct vhost_virtqueue *vqs[VHOST_BLK_MAX_QUEUES];
	struct vhost_blk_queue queues[VHOST_BLK_MAX_QUEUES];
};

/* The status byte that tells how the request ended. */
static inline u8 vhost_blk_req_status(const struct vhost_blk_req *req)
{
	if (likely(req->ret >= 0))
		return VIRTIO_BLK_S_OK;
	return req->ret == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP :
					 VIRTIO_BLK_S_IOERR;
}

/*
 * Lets a kernel thread work on the owner's memory; false if that is gone.  It
 * is borrowed for a stretch of work and not kept while asleep, so that an open
 * device does not hold the memory of a dead owner.
 */
static inline bool vhost_blk_use_mm(struct vhost_blk *blk)
{
	if (!mmget_not_zero(blk->dev.mm))
		return false;
	kthread_use_mm(blk->dev.mm);
	return true;
}

static inline void vhost_blk_unuse_mm(struct vhost_blk *blk)
{
	kthread_unuse_mm(blk->dev.mm);
	mmput(blk->dev.mm);
}

/* blk.c */
const struct cred *vhost_blk_backend_assume(struct vhost_blk_backend *be);
void vhost_blk_backend_unassume(const struct cred *cred);

/* blk_iotlb.c */
int vhost_blk_iotlb_enter(struct vhost_blk_queue *q);
void vhost_blk_iotlb_leave(struct vhost_blk_queue *q);
void vhost_blk_iotlb_forget(struct vhost_blk_queue *q);
int vhost_blk_iotlb_set(struct vhost_blk *blk, bool enable);
int vhost_blk_iotlb_msg(struct vhost_dev *dev, u32 asid,
			struct vhost_iotlb_msg *msg);

/* blk_log.c */
int vhost_blk_log(struct vhost_virtqueue *vq, const struct iovec *iov,
		  unsigned int nr_iov, size_t len);

/* blk_pin.c */
int vhost_blk_pin_set_limit(struct vhost_blk *blk, unsigned int pages);
int vhost_blk_pin_start(struct vhost_blk_queue *q);
void vhost_blk_pin_stop(struct vhost_blk_queue *q);
void vhost_blk_pin_check(struct vhost_blk_queue *q);
void vhost_blk_pin_flush(struct vhost_blk_queue *q);
void vhost_blk_pin_stale(struct vhost_blk *blk, unsigned long start,
			 unsigned long end);
bool vhost_blk_pin_iter(struct vhost_blk_req *req, struct iov_iter *iter);
void vhost_blk_pin_release(struct vhost_blk_req *req);

/* blk_queue.c */
void vhost_blk_queue_init(struct vhost_blk_queue *q, struct vhost_blk *blk,
			  unsigned int index);
int vhost_blk_queue_start(struct vhost_blk_queue *q);
void vhost_blk_queue_quiesce(struct vhost_blk_queue *q);
void vhost_blk_queue_stop(struct vhost_blk_queue *q);
void vhost_blk_queue_free(struct vhost_blk_queue *q);
void vhost_blk_queue_done(struct vhost_blk_queue *q, struct vhost_blk_req *req);
void vhost_blk_queue_wake(struct vhost_blk_queue *q);
void vhost_blk_queue_resume(struct vhost_blk_queue *q, bool denied);
int vhost_blk_queue_place(struct vhost_blk_queue *q, struct cpumask *cpus);
int vhost_blk_queue_stats(struct vhost_blk_queue *q,
			  struct vhost_blk_stats *stats);
void vhost_blk_queue_reset_stats(struct vhost_blk_queue *q);

/* blk_req.c */
void vhost_blk_req_init(struct vhost_blk_req *req, struct vhost_blk_queue *q,
			u16 head);
void *vhost_blk_req_alloc(struct vhost_blk_req *req, size_t size);
void vhost_blk_req_parse(struct vhost_blk_req *req, unsigned int out,
			 unsigned int in);
void vhost_blk_req_submit(struct vhost_blk_req *req);
bool vhost_blk_req_settle(struct vhost_blk_req *req);
int vhost_blk_req_log(struct vhost_blk_req *req);
void vhost_blk_req_release(struct vhost_blk_req *req);
int vhost_blk_backend_sync(struct vhost_blk_backend *be);
bool vhost_blk_in_range(struct vhost_blk_backend *be, u64 sector, u64 len);
bool vhost_blk_req_in_range(struct vhost_blk_req *req, u64 sector, u64 len);
void vhost_blk_init_iocb(struct kiocb *iocb, struct vhost_blk_backend *be,
			 loff_t pos, int flags);

/* blk_range.c */
void vhost_blk_get_limits(struct file *file, struct vhost_blk_limits *limits);
int vhost_blk_range_parse(struct vhost_blk_req *req, struct iov_iter *list,
			  size_t in_len);
int vhost_blk_range_run(struct vhost_blk_req *req);

static inline bool vhost_blk_is_range(struct vhost_blk_req *req)
{
	return req->type == VIRTIO_BLK_T_DISCARD ||
	       req->type == VIRTIO_BLK_T_WRITE_ZEROES ||
	       req->type == VIRTIO_BLK_T_SECURE_ERASE;
}

#endif /* _VHOST_BLK_H */
