// SPDX-License-Identifier: GPL-2.0
/* vhost-blk queues: what a virtqueue has while it is served, start to stop. */

#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "blk.h"

/* Called in the context of a write to the kick eventfd, interrupts off. */
static void vhost_blk_handle_kick(struct vhost_work *work)
{
	struct vhost_poll *poll = container_of(work, struct vhost_poll, work);
	struct vhost_blk_queue *q = container_of(poll, struct vhost_blk_queue,
						 vq.poll);

	WRITE_ONCE(q->kicks, q->kicks + 1);
	vhost_blk_kick(q);
}

static void vhost_blk_free_pool(struct vhost_blk_queue *q)
{
	kvfree(q->reqs);
	q->reqs = NULL;
	kvfree(q->iov);
	q->iov = NULL;
	kvfree(q->reserve);
	q->reserve = NULL;
	kfree(q->vq.indirect);
	q->vq.indirect = NULL;
}

static int vhost_blk_alloc_pool(struct vhost_blk_queue *q, unsigned int num)
{
	unsigned int i;

	BUILD_BUG_ON(VHOST_BLK_MAX_RANGES * sizeof(struct vhost_blk_range) >
		     VHOST_BLK_MAX_IOV * sizeof(struct iovec));
	q->reqs = kvcalloc(num, sizeof(*q->reqs), GFP_KERNEL_ACCOUNT);
	q->iov = kvmalloc_array(VHOST_BLK_MAX_IOV, sizeof(*q->iov),
				GFP_KERNEL_ACCOUNT);
	q->reserve = kvmalloc_array(VHOST_BLK_MAX_IOV, sizeof(*q->iov),
				    GFP_KERNEL_ACCOUNT);
	q->vq.indirect = kmalloc_array(UIO_MAXIOV, sizeof(*q->vq.indirect),
				       GFP_KERNEL_ACCOUNT);
	if (!q->reqs || !q->iov || !q->reserve || !q->vq.indirect) {
		vhost_blk_free_pool(q);
		return -ENOMEM;
	}
	q->num = num;
	for (i = 0; i < num; i++)
		vhost_blk_req_init(&q->reqs[i], q, i);
	return 0;
}

/**
 * vhost_blk_queue_init - set up a stopped queue
 * @q:		the queue, zeroed
 * @blk:	its device
 * @index:	its number
 */
void vhost_blk_queue_init(struct vhost_blk_queue *q, struct vhost_blk *blk,
			  unsigned int index)
{
	q->blk = blk;
	q->index = index;
	q->vq.handle_kick = vhost_blk_handle_kick;
	init_llist_head(&q->done);
	init_llist_head(&q->deferred);
	INIT_LIST_HEAD(&q->fetched);
	INIT_LIST_HEAD(&q->retry);
	INIT_LIST_HEAD(&q->pin_used);
	init_waitqueue_head(&q->drained);
	vhost_blk_workers_init(q);
}

/* Let the workers serve the ring, with the indices that it has now. */
static int vhost_blk_queue_serve(struct vhost_blk_queue *q)
{
	struct vhost_virtqueue *vq = &q->vq;
	int err;

	mutex_lock(&vq->mutex);
	/* A worker that is killed sets this before it stops the queue. */
	if (READ_ONCE(q->blk->killed)) {
		mutex_unlock(&vq->mutex);
		return -EINTR;
	}
	/* The owner has dealt with all else that stopped the queue. */
	WRITE_ONCE(q->stops, q->stops & VHOST_BLK_STOP_BROKEN);
	q->accessed = !vq->iotlb;
	vhost_vq_set_backend(vq, q);
	/* Behind a virtual IOMMU the used ring may not be mapped yet. */
	err = q->accessed ? vhost_vq_init_access(vq) : 0;
	if (err)
		vhost_vq_set_backend(vq, NULL);
	mutex_unlock(&vq->mutex);
	return err;
}

/**
 * vhost_blk_queue_start - start serving a queue whose vring is set up
 * @q:		the queue
 *
 * Requests that are already available are served without a kick.
 *
 * Context: process context of the owner, vhost_dev.mutex held, which keeps
 *	    the size of the ring as it is.
 * Return: 0, or -EINVAL for a ring of more than VHOST_BLK_MAX_RING entries,
 *	   -EFAULT if the used ring cannot be read, -ENOMEM, or what creating
 *	   a task gives.
 */
int vhost_blk_queue_start(struct vhost_blk_queue *q)
{
	int err;

	if (q->vq.num > VHOST_BLK_MAX_RING)
		return -EINVAL;
	err = vhost_blk_alloc_pool(q, q->vq.num);
	if (err)
		return err;
	err = vhost_blk_pin_start(q);
	if (err)
		goto err_pool;
	WRITE_ONCE(q->stops, 0);
	WRITE_ONCE(q->add_waits, false);
	q->replies = 0;
	/* What was learnt of another guest, perhaps. */
	memset(&q->coalesce, 0, sizeof(q->coalesce));
	q->poll_ns = 0;
	memset(&q->pause, 0, sizeof(q->pause));
	q->paused = false;
	q->unfinished = false;
	err = vhost_blk_workers_start(q);
	if (err)
		goto err_pins;
	/* From here on vhost_blk_queue_stop() has to follow. */
	err = vhost_blk_queue_serve(q);
	if (!err)
		vhost_blk_kick(q);
	return err;

err_pins:
	vhost_blk_pin_stop(q);
err_pool:
	vhost_blk_free_pool(q);
	return err;
}

/**
 * vhost_blk_queue_drain - wait until what was fetched is used or waits
 * @q:		the queue, quiesced, started or not
 *
 * Context: process context, vhost_dev.mutex held.
 * Return: 0, or -EINTR if the caller is killed.
 */
int vhost_blk_queue_drain(struct vhost_blk_queue *q)
{
	return wait_event_killable(q->drained, !READ_ONCE(q->inflight)) ?
	       -EINTR : 0;
}

/**
 * vhost_blk_queue_can_resume - whether the ring can be served with what there is
 * @q:		the queue, quiesced, started or not
 *
 * Context: process context, vhost_dev.mutex held.
 * Return: 0, -EINVAL if its size has changed, or -EFAULT if it is not set up.
 */
int vhost_blk_queue_can_resume(struct vhost_blk_queue *q)
{
	__virtio16 idx;

	if (!q->reqs)
		return 0;
	if (q->vq.num != q->num)
		return -EINVAL;
	if (!vhost_vq_is_setup(&q->vq))
		return -EFAULT;
	/* The rest of resuming then cannot fail. */
	if (!q->vq.iotlb &&
	    copy_from_user(&idx, &q->vq.used->idx, sizeof(idx)))
		return -EFAULT;
	return 0;
}

/**
 * vhost_blk_queue_resume - serve a quiesced queue again
 * @q:		the queue, quiesced and drained, started or not
 * @retry:	try again what was handed back, which else the owner has answered
 *
 * Context: process context of the owner, vhost_dev.mutex held.
 * Return: 0, or -EFAULT if the used ring cannot be read.
 */
int vhost_blk_queue_resume(struct vhost_blk_queue *q, bool retry)
{
	int err;

	if (!q->reqs)
		return 0;
	vhost_blk_vring_take_back(q, retry);
	err = vhost_blk_queue_serve(q);
	if (err)
		return err;
	vhost_blk_kick(q);
	/* Their mapping may have come meanwhile. */
	if (!llist_empty(&q->deferred))
		vhost_blk_task_wake(q->completer);
	return 0;
}

/**
 * vhost_blk_queue_stop - end the workers
 * @q:		the queue, quiesced and drained, started or not
 *
 * Context: process context, vhost_dev.mutex held, an RCU grace period after
 *	    @q->live became false.
 */
void vhost_blk_queue_stop(struct vhost_blk_queue *q)
{
	if (q->reqs)
		vhost_blk_workers_stop(q);
}

/**
 * vhost_blk_queue_free - give back what vhost_blk_queue_start() took
 * @q:		the queue, stopped, no task of the device running any more
 *
 * Context: process context, vhost_dev.mutex held.
 */
void vhost_blk_queue_free(struct vhost_blk_queue *q)
{
	if (!q->reqs)
		return;
	vhost_blk_vring_forget(q);
	vhost_blk_pin_stop(q);
	vhost_blk_free_pool(q);
}

static void vhost_blk_queue_tids(struct vhost_blk_queue *q,
				 struct vhost_blk_stats *stats)
{
	rcu_read_lock();
	/* Paired with vhost_blk_workers_start(). */
	if (smp_load_acquire(&q->live)) {
		stats->submit_tid = vhost_blk_task_tid(q->submitter);
		stats->complete_tid = vhost_blk_task_tid(q->completer);
	}
	rcu_read_unlock();
}

/**
 * vhost_blk_queue_stats - read a queue's counters
 * @q:		the queue, started or not
 * @stats:	where to; its index and reserved stay as they are
 *
 * Context: process context, any process.
 * Return: 0, or -EINTR if that is killed.
 */
int vhost_blk_queue_stats(struct vhost_blk_queue *q,
			  struct vhost_blk_stats *stats)
{
	u32 index = stats->index;

	/* The owner decides how long an access to its memory takes. */
	if (mutex_lock_killable(&q->vq.mutex))
		return -EINTR;
	*stats = q->stats;
	stats->inflight = q->inflight + q->nr_waiting;
	mutex_unlock(&q->vq.mutex);
	stats->index = index;
	stats->kicks = READ_ONCE(q->kicks);
	stats->submit_wakeups = READ_ONCE(q->submit_wakeups);
	stats->complete_wakeups = READ_ONCE(q->complete_wakeups);
	stats->poll_hits = READ_ONCE(q->poll_hits);
	stats->pin_misses = READ_ONCE(q->pin_misses);
	stats->signals_coalesced = READ_ONCE(q->coalesced);
	stats->offloads = READ_ONCE(q->offloads);
	vhost_blk_queue_tids(q, stats);
	return 0;
}

/**
 * vhost_blk_queue_reset_stats - let a queue's counters begin anew
 * @q:		the queue, stopped and not kicked any more
 *
 * Context: process context, vhost_dev.mutex held.
 */
void vhost_blk_queue_reset_stats(struct vhost_blk_queue *q)
{
	mutex_lock(&q->vq.mutex);
	memset(&q->stats, 0, sizeof(q->stats));
	mutex_unlock(&q->vq.mutex);
	WRITE_ONCE(q->kicks, 0);
	WRITE_ONCE(q->submit_wakeups, 0);
	WRITE_ONCE(q->complete_wakeups, 0);
	WRITE_ONCE(q->poll_hits, 0);
	WRITE_ONCE(q->pin_misses, 0);
	WRITE_ONCE(q->coalesced, 0);
	WRITE_ONCE(q->offloads, 0);
}
