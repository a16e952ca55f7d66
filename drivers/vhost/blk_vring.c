// SPDX-License-Identifier: GPL-2.0
/* vhost-blk vrings: requests are fetched, and waited for or left to the owner. */

#include <linux/ktime.h>
#include <linux/nospec.h>
#include <linux/sched/signal.h>

#include "blk.h"

#define CREATE_TRACE_POINTS
#include "blk_trace.h"

/**
 * vhost_blk_vring_stop - fetch no more requests for a while
 * @q:		the queue
 * @why:	VHOST_BLK_STOP_*
 *
 * Context: vq->mutex held.
 */
void vhost_blk_vring_stop(struct vhost_blk_queue *q, unsigned int why)
{
	lockdep_assert_held(&q->vq.mutex);
	WRITE_ONCE(q->stops, q->stops | why);
}

static void vhost_blk_deny(struct vhost_blk_queue *q)
{
	vq_err(&q->vq, "the guest uses addresses that are not mapped\n");
	vhost_blk_vring_stop(q, VHOST_BLK_STOP_BROKEN);
}

/* End the wait for mappings; a worker that still lacks one asks again. */
static void vhost_blk_stop_waiting(struct vhost_blk_queue *q)
{
	lockdep_assert_held(&q->vq.mutex);
	vhost_blk_iotlb_forget(q);
	WRITE_ONCE(q->stops, q->stops & ~VHOST_BLK_STOP_MAPPING);
	WRITE_ONCE(q->add_waits, false);
	if (q->live && !llist_empty(&q->deferred))
		vhost_blk_task_wake(q->completer);
}

/**
 * vhost_blk_vring_wake - wake the tasks that wait for requests to end
 * @q:		the queue
 *
 * Context: vq->mutex held, which waiters take too.
 */
void vhost_blk_vring_wake(struct vhost_blk_queue *q)
{
	if (wq_has_sleeper(&q->drained))
		wake_up(&q->drained);
}

static void vhost_blk_count_batch(struct vhost_blk_queue *q)
{
	q->stats.batches++;
	if (q->inflight > q->stats.max_inflight)
		q->stats.max_inflight = q->inflight;
}

/**
 * vhost_blk_vring_enter - make the ring accessible
 * @q:		the queue; behind a virtual IOMMU its ring may not be mapped
 *
 * Context: one of the queue's workers, on the owner's memory, vq->mutex held.
 * Return: 0, and vhost_blk_vring_leave() follows; -EAGAIN once the owner has
 *	   been asked for a mapping, and the caller asks no more until
 *	   vhost_blk_vring_reply(); -EFAULT if the ring is corrupt.
 */
int vhost_blk_vring_enter(struct vhost_blk_queue *q)
{
	int err;

	if (likely(!q->vq.iotlb))
		return 0;
	err = vhost_blk_iotlb_enter(q);
	/* What vhost_blk_queue_start() could not do without a mapping. */
	if (!err && !q->accessed) {
		q->accessed = !vhost_vq_init_access(&q->vq);
		if (!q->accessed) {
			vhost_blk_iotlb_leave(q);
			err = -EFAULT;
		}
	}
	if (err && err != -EAGAIN)
		vhost_blk_deny(q);
	return err;
}

/**
 * vhost_blk_vring_leave - end what vhost_blk_vring_enter() began
 * @q:		the queue
 */
void vhost_blk_vring_leave(struct vhost_blk_queue *q)
{
	if (unlikely(q->vq.iotlb))
		vhost_blk_iotlb_leave(q);
}

/* Bytes that a request counts for in the bound of its queue. */
static size_t vhost_blk_weight(const struct vhost_blk_req *req)
{
	return min_t(size_t, req->len, VHOST_BLK_STEP);
}

/* Take the next request off the ring; return NULL if there is none. */
static struct vhost_blk_req *vhost_blk_fetch_one(struct vhost_blk_queue *q,
						 bool arm)
{
	struct vhost_virtqueue *vq = &q->vq;
	struct vhost_blk_req *req;
	unsigned int out, in;
	int head;

	do {
		head = vhost_get_vq_desc(vq, q->iov, VHOST_BLK_MAX_IOV, &out,
					 &in, NULL, NULL);
		if (head < 0) {
			vhost_blk_vring_stop(q, head == -EAGAIN ?
						   VHOST_BLK_STOP_MAPPING :
						   VHOST_BLK_STOP_BROKEN);
			return NULL;
		}
		if (head != vq->num)
			break;
		if (!arm || !vhost_enable_notify(&q->blk->dev, vq))
			return NULL;
		vhost_disable_notify(&q->blk->dev, vq);
	} while (true);

	/* The guest chose the index, so speculation must not use it either. */
	req = &q->reqs[array_index_nospec(head, q->num)];
	if (req->state != VHOST_BLK_REQ_FREE) {
		vq_err(vq, "head %d made available twice\n", head);
		vhost_discard_vq_desc(vq, 1, 1);
		vhost_blk_vring_stop(q, VHOST_BLK_STOP_BROKEN);
		return NULL;
	}
	req->start = trace_vhost_blk_complete_enabled() ? ktime_get_ns() : 0;
	if (unlikely(vhost_blk_req_parse(req, out, in))) {
		/* No memory: fetched again when other requests have ended. */
		vhost_discard_vq_desc(vq, 1, 1);
		vhost_blk_vring_stop(q, VHOST_BLK_STOP_STALLED);
		return NULL;
	}
	list_add_tail(&req->node, &q->fetched);
	WRITE_ONCE(q->inflight, q->inflight + 1);
	q->bytes += vhost_blk_weight(req);
	if (unlikely(q->bytes >= VHOST_BLK_MAX_BYTES))
		vhost_blk_vring_stop(q, VHOST_BLK_STOP_STALLED);
	trace_vhost_blk_start(req);
	return req;
}

/* Take requests that were handed back and are to be tried again. */
static unsigned int vhost_blk_fetch_retry(struct vhost_blk_queue *q,
					  struct vhost_blk_req **batch)
{
	struct vhost_blk_req *req, *next;
	unsigned int n = 0;

	list_for_each_entry_safe(req, next, &q->retry, offload_node) {
		list_del_init(&req->offload_node);
		batch[n++] = req;
		if (n == VHOST_BLK_BATCH)
			break;
	}
	return n;
}

/**
 * vhost_blk_vring_fetch - fetch requests
 * @q:		the queue
 * @batch:	room for VHOST_BLK_BATCH requests
 * @arm:	if there are none, have the guest kick for the next, so that the
 *		caller may sleep
 *
 * Context: submission worker, on the owner's memory.
 * Return: the number of requests.
 */
unsigned int vhost_blk_vring_fetch(struct vhost_blk_queue *q,
				   struct vhost_blk_req **batch, bool arm)
{
	struct vhost_virtqueue *vq = &q->vq;
	struct vhost_blk_req *req;
	unsigned int n = 0;

	mutex_lock(&vq->mutex);
	if (!vhost_vq_get_backend(vq))
		goto out_unlock;
	if (unlikely(!list_empty(&q->retry))) {
		n = vhost_blk_fetch_retry(q, batch);
		goto out_unlock;
	}
	if (q->stops)
		goto out_unlock;
	switch (vhost_blk_vring_enter(q)) {
	case 0:
		break;
	case -EAGAIN:
		vhost_blk_vring_stop(q, VHOST_BLK_STOP_MAPPING);
		fallthrough;
	default:
		goto out_unlock;
	}

	vhost_disable_notify(&q->blk->dev, vq);
	while (n < VHOST_BLK_BATCH && !q->stops) {
		req = vhost_blk_fetch_one(q, arm && !n);
		if (!req)
			break;
		batch[n++] = req;
	}
	if (n) {
		q->replies = 0;
		vhost_blk_count_batch(q);
	}
	vhost_blk_vring_leave(q);
out_unlock:
	mutex_unlock(&vq->mutex);
	return n;
}

/**
 * vhost_blk_vring_available - look for requests without a lock
 * @q:		the queue, without an IOTLB
 *
 * Context: submission worker, on the owner's memory.
 * Return: true if vhost_blk_vring_fetch() may find some.
 */
bool vhost_blk_vring_available(struct vhost_blk_queue *q)
{
	struct vhost_virtqueue *vq = &q->vq;
	__virtio16 idx;

	/* Whether the queue was quiesced is decided by vhost_blk_vring_fetch(). */
	if (!data_race(vhost_vq_get_backend(vq)) || READ_ONCE(q->stops))
		return false;
	/* So is what cannot be read. */
	return get_user(idx, &READ_ONCE(vq->avail)->idx) ||
	       vhost16_to_cpu(vq, idx) != vq->last_avail_idx;
}

/**
 * vhost_blk_vring_release - let the slot of a request be used again
 * @q:		the queue
 * @req:	the request, answered
 *
 * Context: vq->mutex held.
 */
void vhost_blk_vring_release(struct vhost_blk_queue *q,
			     struct vhost_blk_req *req)
{
	list_del(&req->node);
	q->bytes -= vhost_blk_weight(req);
	vhost_blk_req_release(req);
}

/**
 * vhost_blk_vring_quiesce - fetch no more requests
 * @q:		the queue, started or not
 *
 * Context: process context.
 */
void vhost_blk_vring_quiesce(struct vhost_blk_queue *q)
{
	struct vhost_blk_req *req, *next;

	mutex_lock(&q->vq.mutex);
	vhost_vq_set_backend(&q->vq, NULL);
	vhost_blk_stop_waiting(q);
	/* What was to be tried again goes back to the owner. */
	list_for_each_entry_safe(req, next, &q->retry, offload_node) {
		list_del_init(&req->offload_node);
		req->state = VHOST_BLK_REQ_HANDED_BACK;
		q->nr_waiting++;
		WRITE_ONCE(q->inflight, q->inflight - 1);
	}
	vhost_blk_vring_wake(q);
	mutex_unlock(&q->vq.mutex);
}

/**
 * vhost_blk_vring_reply - go on after the owner replied to an IOTLB miss
 * @q:		the queue that missed a mapping
 * @denied:	there is none, so the ring is as good as corrupt
 *
 * Context: process context, vhost_dev.mutex held.
 */
void vhost_blk_vring_reply(struct vhost_blk_queue *q, bool denied)
{
	struct vhost_virtqueue *vq = &q->vq;

	mutex_lock(&vq->mutex);
	/* A chain that does not fit into the IOTLB would be asked for forever. */
	if ((denied || q->replies++ > 2 * vq->iotlb->limit) &&
	    !(q->stops & VHOST_BLK_STOP_BROKEN))
		vhost_blk_deny(q);
	vhost_blk_stop_waiting(q);
	mutex_unlock(&vq->mutex);

	vhost_blk_kick(q);
}

static bool vhost_blk_overlaps(const void __user *base, size_t len, u64 first,
			       u64 last)
{
	u64 addr = (uintptr_t)base;

	return len && addr <= last && addr + len - 1 >= first;
}

/* Whether a request, in use, touches memory in a range. */
static bool vhost_blk_req_uses(const struct vhost_blk_req *req, u64 first,
			       u64 last)
{
	unsigned int i;

	if (vhost_blk_overlaps(req->status, !!req->status, first, last))
		return true;
	if (vhost_blk_is_range(req))
		return false;
	for (i = 0; i < req->nr_segs; i++)
		if (vhost_blk_overlaps(req->segs[i].iov_base,
				       req->segs[i].iov_len, first, last))
			return true;
	return false;
}

/* Whether a request may still touch memory of the owner in a range. */
static bool vhost_blk_vring_uses(struct vhost_blk_queue *q, u64 first, u64 last)
{
	struct vhost_blk_req *req;
	bool uses = false;

	mutex_lock(&q->vq.mutex);
	list_for_each_entry(req, &q->fetched, node) {
		/* Paired with the release in vhost_blk_io_complete(). */
		if (smp_load_acquire(&req->state) == VHOST_BLK_REQ_ANSWERED ||
		    !vhost_blk_req_uses(req, first, last))
			continue;
		if (req->state != VHOST_BLK_REQ_HANDED_BACK) {
			uses = true;
			break;
		}
		/* The owner has it, so it is not tried again. */
		req->type = VHOST_BLK_T_NONE;
		req->status = NULL;
	}
	mutex_unlock(&q->vq.mutex);
	return uses;
}

/**
 * vhost_blk_vring_wait_unused - wait until no request uses a range of memory
 * @q:		the queue, started or not; requests fetched from now on do not
 * @first:	the range's first address
 * @last:	its last address
 *
 * Context: process context, vhost_dev.mutex held.
 * Return: 0, or -EINTR if the caller is killed.
 */
int vhost_blk_vring_wait_unused(struct vhost_blk_queue *q, u64 first, u64 last)
{
	DEFINE_WAIT_FUNC(wait, woken_wake_function);
	int err = 0;

	if (!q->reqs)
		return 0;
	add_wait_queue(&q->drained, &wait);
	while (vhost_blk_vring_uses(q, first, last)) {
		if (fatal_signal_pending(current)) {
			err = -EINTR;
			break;
		}
		wait_woken(&wait, TASK_KILLABLE, MAX_SCHEDULE_TIMEOUT);
	}
	remove_wait_queue(&q->drained, &wait);
	return err;
}

/**
 * vhost_blk_vring_take_back - go on with the requests that were handed back
 * @q:		the queue, quiesced and drained
 * @retry:	try them again, in the order fetched; else the owner has answered
 *		them
 *
 * Context: process context, vhost_dev.mutex held.
 */
void vhost_blk_vring_take_back(struct vhost_blk_queue *q, bool retry)
{
	struct vhost_blk_req *req, *next;

	mutex_lock(&q->vq.mutex);
	list_for_each_entry_safe(req, next, &q->fetched, node) {
		if (req->state != VHOST_BLK_REQ_HANDED_BACK)
			continue;
		q->nr_waiting--;
		if (!retry) {
			vhost_blk_vring_release(q, req);
			continue;
		}
		vhost_blk_req_again(req);
		list_add_tail(&req->offload_node, &q->retry);
		WRITE_ONCE(q->inflight, q->inflight + 1);
	}
	mutex_unlock(&q->vq.mutex);
}

/**
 * vhost_blk_vring_forget - release the requests that wait for the owner
 * @q:		the queue, drained, quiesced or stopped
 *
 * Context: process context, vhost_dev.mutex held.
 */
void vhost_blk_vring_forget(struct vhost_blk_queue *q)
{
	struct vhost_blk_req *req, *next;

	mutex_lock(&q->vq.mutex);
	list_for_each_entry_safe(req, next, &q->fetched, node)
		vhost_blk_vring_release(q, req);
	INIT_LIST_HEAD(&q->retry);
	init_llist_head(&q->deferred);
	q->nr_waiting = 0;
	mutex_unlock(&q->vq.mutex);
}

/**
 * vhost_blk_vring_list - list the requests that were handed back
 * @q:		the queue, quiesced and drained
 * @heads:	where to put the heads of their chains, in the order fetched
 * @nr:		in: room in @heads; out: number of the requests
 *
 * Context: process context, vhost_dev.mutex held.
 * Return: 0 or -EFAULT.
 */
int vhost_blk_vring_list(struct vhost_blk_queue *q, u16 __user *heads, u32 *nr)
{
	struct vhost_blk_req *req;
	u32 n = 0;
	int err = 0;

	mutex_lock(&q->vq.mutex);
	list_for_each_entry(req, &q->fetched, node) {
		if (req->state != VHOST_BLK_REQ_HANDED_BACK)
			continue;
		if (n < *nr && put_user(req->head, heads + n)) {
			err = -EFAULT;
			break;
		}
		n++;
	}
	*nr = n;
	mutex_unlock(&q->vq.mutex);
	return err;
}
