/* SPDX-License-Identifier: GPL-2.0 */
/* Types of vhost-blk and the calls between its files. */
#ifndef _VHOST_BLK_H
#define _VHOST_BLK_H

#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/irq_work.h>
#include <linux/llist.h>
#include <linux/mmu_notifier.h>
#include <linux/preempt.h>
#include <linux/rwsem.h>
#include <linux/uio.h>
#include <linux/virtio_blk.h>
#include <linux/vhost_blk.h>
#include <linux/wait.h>

#include "blk_poll.h"
#include "blk_req.h"
#include "compat.h"
#include "vhost.h"

#define VHOST_BLK_MAX_QUEUES	128
#define VHOST_BLK_MAX_RING	1024	/* entries */
/*
 * A chain of VHOST_BLK_MAX_RING descriptors, each of which may cross from one
 * memory region into the next.
 */
#define VHOST_BLK_MAX_IOV	(2 * VHOST_BLK_MAX_RING)
/* Requests fetched, and used entries added, under one hold of vq->mutex. */
#define VHOST_BLK_BATCH		32
/* Bytes after which work that may block checks whether it should go on. */
#define VHOST_BLK_STEP		((u64)SZ_4M)
/* Bytes of requests in flight, after which a queue fetches no more. */
#define VHOST_BLK_MAX_BYTES	SZ_16M
/* Bytes that each queue may keep pinned. */
#define VHOST_BLK_MAX_PINNED	SZ_1G
/* Upper bound of VHOST_BLK_SET_COALESCE. */
#define VHOST_BLK_MAX_COALESCE_US 1000u
/* Threads of a device that do what may block. */
#define VHOST_BLK_MAX_OFFLOAD_TASKS 64

/* Offloaded requests of one kind do not wait for those of another. */
enum vhost_blk_offload_kind {
	VHOST_BLK_OFFLOAD_READ,		/* and flush */
	VHOST_BLK_OFFLOAD_WRITE,	/* also waits while a file system is frozen */
	VHOST_BLK_OFFLOAD_RANGE,	/* discard, write zeroes, secure erase */
	VHOST_BLK_OFFLOAD_KINDS
};

/**
 * struct vhost_blk_offload - the tasks of a device that do what may block
 * @lock:	protects all members and each queue's count of offloads
 * @pending:	requests that wait for a task, by kind
 * @active:	tasks that work on a request, by kind
 * @tasks:	all tasks
 * @idle:	those that wait for a request
 * @nr_tasks:	number of @tasks, including those that are being created
 * @killed:	requests are ended with an error instead
 */
struct vhost_blk_offload {
	spinlock_t lock; /* protects all members */
	struct list_head pending[VHOST_BLK_OFFLOAD_KINDS];
	unsigned int active[VHOST_BLK_OFFLOAD_KINDS];
	struct list_head tasks;
	struct list_head idle;
	unsigned int nr_tasks;
	bool killed;
};

/**
 * struct vhost_blk_backend - the file behind a device
 * @file:	our own reference; NULL while detached
 * @bdev:	the block device, NULL if @file is a regular file
 * @readonly:	@file is not open for writing
 * @direct:	@file is open with O_DIRECT
 * @nowait:	@file can be asked not to block (IOCB_NOWAIT)
 * @async:	reads and writes can be tried by the submission worker: they do not
 *		block, or wait at most for a block device to take them
 * @flush_bio:	a flush is one bio: there is no page cache before @bdev
 * @dsync:	IOCB_DSYNC makes a write durable
 * @dio_mask:	bits that must be clear in the address and the length of each
 *		segment for direct I/O to take it; a hint
 * @wb_err:	errors of writing back the page cache, as of the attach
 * @flush_err:	the first error of a flush of a buffered backend, or 0
 * @fsize:	no byte of a file is written beyond, by RLIMIT_FSIZE of the process
 *		that attached the backend
 * @ioprio:	its I/O priority
 * @limits:	of the requests that carry ranges
 */
struct vhost_blk_backend {
	struct file *file;
	struct block_device *bdev;
	bool readonly;
	bool direct;
	bool nowait;
	bool async;
	bool flush_bio;
	bool dsync;
	unsigned int dio_mask;
	errseq_t wb_err;
	int flush_err;
	u64 fsize;
	u16 ioprio;
	struct vhost_blk_limits limits;
};

/* Why a queue fetches no requests; bits of vhost_blk_queue.stops. */
enum {
	VHOST_BLK_STOP_BROKEN	= 1,	/* corrupt ring, until the next attach */
	VHOST_BLK_STOP_STALLED	= 2,	/* too much in flight, or no memory */
	VHOST_BLK_STOP_MAPPING	= 4,	/* waits for a reply to an IOTLB miss */
	VHOST_BLK_STOP_PARKED	= 8,	/* handed a request back */
};

/**
 * struct vhost_blk_queue - a virtqueue and its two workers
 * @vq:		the vhost core's part
 * @blk:	the device
 * @index:	number of the virtqueue
 * @num:	number of @reqs
 * @reqs:	one per ring slot; NULL while the queue is stopped
 * @iov:	scratch of vhost_get_vq_desc(), under vq->mutex
 * @reserve:	segments or ranges of the one request that got no memory for them
 * @submitter:	submission worker
 * @completer:	completion worker
 * @live:	both can be woken; an RCU grace period follows before they cannot
 * @drained:	woken when a request has ended that a task waits for
 * @kicked:	the submission worker is to look at the ring
 * @kicks:	times the kick eventfd was written, under that one's lock
 * @done:	requests whose attempt ended, pushed from any context
 * @wake_completer: wakes @completer from the scheduler
 * @serving:	@submitter runs and looks at @done before it leaves its CPU
 * @notifier:	tells that it leaves its CPU
 * @poll_ns:	it polls for so long before it sleeps
 * @idle_since:	when it had no more to do
 * @pause:	how often it pauses; a pause with few requests after it fails
 * @paused:	the last pause is not judged yet
 * @interrupted: it returned with work left, and is not woken to go on
 * @unfinished:	a request that ended is to be offloaded
 * @coalesce:	whether used entries wait for later ones
 * @pins:	cache of pinned pages, NULL if there is none
 * @pin_mask:	number of its sets, less one
 * @pin_clock:	requests that asked for pages of it
 * @pin_epoch:	of the device when @pins were last known to be the owner's pages
 * @pin_used:	entries of @pins that hold a page
 * @submit_wakeups: times @submitter was woken
 * @poll_hits:	times polling found requests
 * @coalesced:	times used entries waited for later ones
 * @pin_misses:	pages pinned anew
 * @complete_wakeups: times @completer was woken
 * @offloads:	requests given to another task, under the pool's lock
 * @fetched:	requests fetched and not yet used, in this order
 * @retry:	requests to be tried again, fetched before others
 * @inflight:	requests fetched, without those that wait for the owner
 * @bytes:	data bytes of all in @fetched, each counted up to VHOST_BLK_STEP
 * @nr_waiting:	requests in @deferred or handed back
 * @stops:	why no requests are fetched, VHOST_BLK_STOP_*
 * @accessed:	the ring is known to be accessible
 * @add_waits:	adding used entries waits for a mapping
 * @reserve_used: a request has @reserve
 * @replies:	to IOTLB misses since the last request was fetched
 * @deferred:	ended requests that wait for a mapping of the used ring
 * @stats:	all other counters
 *
 * Members are grouped by who writes them.
 */
struct vhost_blk_queue {
	struct vhost_virtqueue vq;
	struct vhost_blk *blk;
	unsigned int index;
	unsigned int num;
	struct vhost_blk_req *reqs;
	struct iovec *iov;
	void *reserve;
	struct vhost_blk_task *submitter;
	struct vhost_blk_task *completer;
	bool live;
	wait_queue_head_t drained;

	/* Written by kicks. */
	unsigned long kicked ____cacheline_aligned_in_smp;
	u64 kicks;

	/* Written where an attempt ends. */
	struct llist_head done ____cacheline_aligned_in_smp;
	struct irq_work wake_completer;

	/* Written by the submission worker. */
	bool serving ____cacheline_aligned_in_smp;
	struct preempt_notifier notifier;
	u64 poll_ns;
	u64 idle_since;
	struct vhost_blk_backoff pause;
	bool paused;
	bool interrupted;
	bool unfinished;
	struct vhost_blk_coalesce_state coalesce;
	struct vhost_blk_pin *pins;
	unsigned int pin_mask;
	u32 pin_clock;
	int pin_epoch;
	struct list_head pin_used;
	u64 submit_wakeups;
	u64 poll_hits;
	u64 coalesced;
	u64 pin_misses;

	/* Written by the completion worker. */
	u64 complete_wakeups ____cacheline_aligned_in_smp;

	/* Written by both, under vq->mutex; offloads under the pool's lock. */
	u64 offloads ____cacheline_aligned_in_smp;
	struct list_head fetched;
	struct list_head retry;
	unsigned int inflight;
	size_t bytes;
	unsigned int nr_waiting;
	unsigned int stops;
	bool accessed;
	bool add_waits;
	bool reserve_used;
	unsigned int replies;
	struct llist_head deferred;
	struct vhost_blk_stats stats;
};

/**
 * struct vhost_blk - an opened /dev/vhost-blk
 * @dev:	the vhost core's part; @dev.mutex serialises all ioctls
 * @iotlb_lock:	held for reading while a ring is accessed through @dev.iotlb,
 *		for writing while that is changed; nests inside vq->mutex
 * @backend:	what is attached
 * @offload:	tasks that do what may block
 * @hand_back:	signalled when a request is handed back; NULL for not at all;
 *		changed only while detached
 * @serial:	answer to VIRTIO_BLK_T_GET_ID, changed only while detached
 * @write_through: a write is durable before it completes; changed at any time
 * @ignore_discards: no space is freed; changed at any time
 * @coalesce_ns: bound of notification coalescing; changed at any time
 * @quiesced:	no requests are fetched until VHOST_BLK_RESUME; offloaded ranges
 *		are left to the owner if it takes them
 * @killed:	the owner is killed or exits: steps of offloaded requests end
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
	struct vhost_blk_offload offload;
	struct eventfd_ctx *hand_back;
	u8 serial[VIRTIO_BLK_ID_BYTES];
	bool write_through;
	bool ignore_discards;
	u64 coalesce_ns;
	bool quiesced;
	bool killed;
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

#define vhost_blk_for_each_queue(blk, q) \
	for ((q) = (blk)->queues; (q) < (blk)->queues + VHOST_BLK_MAX_QUEUES; \
	     (q)++)

static inline struct vhost_blk_backend *
vhost_blk_req_backend(const struct vhost_blk_req *req)
{
	return &req->q->blk->backend;
}

/* Have the submission worker look at the ring; in any context. */
static inline void vhost_blk_kick(struct vhost_blk_queue *q)
{
	if (test_and_set_bit(0, &q->kicked))
		return;
	rcu_read_lock();
	/* Paired with vhost_blk_workers_start(). */
	if (smp_load_acquire(&q->live))
		vhost_blk_task_wake(q->submitter);
	rcu_read_unlock();
}

/* blk_dev.c */
int vhost_blk_attach(struct vhost_blk *blk, int fd);
void vhost_blk_detach(struct vhost_blk *blk);
int vhost_blk_quiesce(struct vhost_blk *blk);
int vhost_blk_resume(struct vhost_blk *blk, bool retry);
void vhost_blk_kill(struct vhost_blk *blk);
int vhost_blk_ack_features(struct vhost_blk *blk, u64 features);

/* blk_mem.c */
long vhost_blk_set_mem_table(struct vhost_blk *blk, void __user *argp);
int vhost_blk_msg(struct vhost_dev *dev, u32 asid, struct vhost_iotlb_msg *msg);

/* blk_queue.c */
void vhost_blk_queue_init(struct vhost_blk_queue *q, struct vhost_blk *blk,
			  unsigned int index);
int vhost_blk_queue_start(struct vhost_blk_queue *q);
int vhost_blk_queue_drain(struct vhost_blk_queue *q);
int vhost_blk_queue_can_resume(struct vhost_blk_queue *q);
int vhost_blk_queue_resume(struct vhost_blk_queue *q, bool retry);
void vhost_blk_queue_stop(struct vhost_blk_queue *q);
void vhost_blk_queue_free(struct vhost_blk_queue *q);
int vhost_blk_queue_stats(struct vhost_blk_queue *q,
			  struct vhost_blk_stats *stats);
void vhost_blk_queue_reset_stats(struct vhost_blk_queue *q);

/* blk_worker.c */
void vhost_blk_workers_init(struct vhost_blk_queue *q);
int vhost_blk_workers_start(struct vhost_blk_queue *q);
void vhost_blk_workers_kill(struct vhost_blk_queue *q);
void vhost_blk_workers_stop(struct vhost_blk_queue *q);

/* blk_used.c */
bool vhost_blk_used_can_reap(struct vhost_blk_queue *q);
void vhost_blk_used_reap(struct vhost_blk_queue *q);

/* blk_vring.c */
unsigned int vhost_blk_vring_fetch(struct vhost_blk_queue *q,
				   struct vhost_blk_req **batch, bool arm);
bool vhost_blk_vring_available(struct vhost_blk_queue *q);
int vhost_blk_vring_enter(struct vhost_blk_queue *q);
void vhost_blk_vring_leave(struct vhost_blk_queue *q);
void vhost_blk_vring_stop(struct vhost_blk_queue *q, unsigned int why);
void vhost_blk_vring_wake(struct vhost_blk_queue *q);
void vhost_blk_vring_release(struct vhost_blk_queue *q,
			     struct vhost_blk_req *req);
void vhost_blk_vring_quiesce(struct vhost_blk_queue *q);
void vhost_blk_vring_reply(struct vhost_blk_queue *q, bool denied);
int vhost_blk_vring_wait_unused(struct vhost_blk_queue *q, u64 first, u64 last);
void vhost_blk_vring_take_back(struct vhost_blk_queue *q, bool retry);
void vhost_blk_vring_forget(struct vhost_blk_queue *q);
int vhost_blk_vring_list(struct vhost_blk_queue *q, u16 __user *heads, u32 *nr);

/* blk_iotlb.c */
int vhost_blk_iotlb_enter(struct vhost_blk_queue *q);
void vhost_blk_iotlb_leave(struct vhost_blk_queue *q);
void vhost_blk_iotlb_forget(struct vhost_blk_queue *q);
int vhost_blk_iotlb_set(struct vhost_blk *blk, bool enable);
bool vhost_blk_iotlb_valid(struct vhost_iotlb_msg *msg);
bool vhost_blk_iotlb_remove(struct vhost_blk *blk, struct vhost_iotlb_msg *msg,
			    u64 *first, u64 *last);
int vhost_blk_iotlb_update(struct vhost_blk *blk, struct vhost_iotlb_msg *msg);
void vhost_blk_iotlb_asked(struct vhost_blk *blk, struct vhost_iotlb_msg *msg,
			   unsigned long *asked);

/* blk_log.c */
int vhost_blk_log(struct vhost_virtqueue *vq, const struct iovec *iov,
		  unsigned int nr_iov, size_t len);

/* blk_offload.c */
void vhost_blk_offload_init(struct vhost_blk_offload *pool);
void vhost_blk_offload(struct vhost_blk_req *req,
		       enum vhost_blk_req_state state);
void vhost_blk_offload_kill(struct vhost_blk_offload *pool);
void vhost_blk_offload_stop(struct vhost_blk_offload *pool);

/* blk_range.c */
int vhost_blk_range_step(struct vhost_blk_req *req);

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

/* blk_backend.c */
int vhost_blk_backend_open(struct vhost_blk_backend *be, int fd);
void vhost_blk_backend_close(struct vhost_blk_backend *be);
int vhost_blk_backend_limits(int fd, struct vhost_blk_limits *limits);
bool vhost_blk_backend_has(struct vhost_blk_backend *be, u64 sector, u64 len);
int vhost_blk_backend_sync(struct vhost_blk_backend *be);
void vhost_blk_backend_iocb(struct kiocb *iocb, struct vhost_blk_backend *be,
			    loff_t pos, int flags);
ssize_t vhost_blk_backend_rw(struct kiocb *iocb, struct iov_iter *iter);

#endif /* _VHOST_BLK_H */
