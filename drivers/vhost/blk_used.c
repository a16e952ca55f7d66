// SPDX-License-Identifier: GPL-2.0
/* vhost-blk used rings: ended requests are given back, and the guest is signalled. */

#include "blk.h"
#include "blk_trace.h"

static unsigned int vhost_blk_stats_type(u32 type)
{
	switch (type) {
	case VIRTIO_BLK_T_IN:
		return VHOST_BLK_STATS_READ;
	case VIRTIO_BLK_T_OUT:
		return VHOST_BLK_STATS_WRITE;
	case VIRTIO_BLK_T_FLUSH:
		return VHOST_BLK_STATS_FLUSH;
	case VIRTIO_BLK_T_DISCARD:
		return VHOST_BLK_STATS_DISCARD;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return VHOST_BLK_STATS_WRITE_ZEROES;
	case VIRTIO_BLK_T_SECURE_ERASE:
		return VHOST_BLK_STATS_SECURE_ERASE;
	default:
		return VHOST_BLK_STATS_OTHER;
	}
}

static void vhost_blk_count_req(struct vhost_blk_queue *q,
				const struct vhost_blk_req *req)
{
	struct vhost_blk_type_stats *stats =
		&q->stats.type[vhost_blk_stats_type(req->type)];

	stats->requests++;
	if (vhost_blk_req_status(req) == VIRTIO_BLK_S_OK)
		stats->bytes += req->len;
	else
		stats->errors++;
}

/*
 * Log what the requests wrote.  A migration must not lose what the guest is told
 * of, so a log that cannot be written is an error of the ring.
 */
static int vhost_blk_log_batch(struct vhost_blk_queue *q,
			       struct vhost_blk_req **reqs, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (vhost_blk_req_log(reqs[i])) {
			vq_err(&q->vq, "cannot write the dirty log\n");
			return -EFAULT;
		}
	}
	return 0;
}

/*
 * The available ring where the owner has it; NULL if the IOTLB has no entry
 * for all of it.
 */
static vring_avail_t __user *vhost_blk_avail(struct vhost_virtqueue *vq)
{
	const struct vhost_iotlb_map *map = vq->meta_iotlb[VHOST_ADDR_AVAIL];
	u64 addr = (uintptr_t)vq->avail;

	if (!vq->iotlb)
		return vq->avail;
	return map ? u64_to_user_ptr(map->addr + addr - map->start) : NULL;
}

/*
 * Whether the guest asks for a signal of what was added since it was asked last.
 * The core's vhost_signal() decides alike, but does not tell, and counting
 * signals takes the answer.
 */
static bool vhost_blk_signal_wanted(struct vhost_virtqueue *vq)
{
	u16 old = vq->signalled_used, new = vq->last_used_idx;
	bool old_valid = vq->signalled_used_valid;
	vring_avail_t __user *avail;
	__virtio16 word;

	/*
	 * The used index is written before the guest's wish is read; paired with
	 * the barrier of a guest that writes its wish and then reads the index.
	 */
	smp_mb();
	if (vhost_has_feature(vq, VIRTIO_F_NOTIFY_ON_EMPTY) &&
	    vq->avail_idx == vq->last_avail_idx)
		return true;

	avail = vhost_blk_avail(vq);
	if (!avail)
		return true;
	if (!vhost_has_feature(vq, VIRTIO_RING_F_EVENT_IDX))
		return get_user(word, &avail->flags) ||
		       !(vhost16_to_cpu(vq, word) & VRING_AVAIL_F_NO_INTERRUPT);

	vq->signalled_used = new;
	vq->signalled_used_valid = true;
	/* The used event lies behind the ring. */
	if (!old_valid || get_user(word, &avail->ring[vq->num]))
		return true;
	return vring_need_event(vhost16_to_cpu(vq, word), new, old);
}

static void vhost_blk_signal(struct vhost_blk_queue *q,
			     const struct vhost_blk_req *last)
{
	struct vhost_virtqueue *vq = &q->vq;

	if (!vq->call_ctx.ctx)
		return;
	if (!vhost_blk_signal_wanted(vq)) {
		q->stats.signals_suppressed++;
		return;
	}
	q->stats.signals++;
	trace_vhost_blk_signal(last);
	vhost_blk_eventfd_signal(vq->call_ctx.ctx);
}

static void vhost_blk_defer(struct vhost_blk_queue *q,
			    struct vhost_blk_req **reqs, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		llist_add(&reqs[i]->done_node, &q->deferred);
	q->nr_waiting += n;
	WRITE_ONCE(q->inflight, q->inflight - n);
	vhost_blk_vring_wake(q);
}

/* Add used entries for answered requests and signal the guest once. */
static void vhost_blk_add_used(struct vhost_blk_queue *q,
			       struct vhost_blk_req **reqs, unsigned int n)
{
	struct vring_used_elem used[VHOST_BLK_BATCH];
	struct vhost_virtqueue *vq = &q->vq;
	int log = 0, err = -EFAULT;
	unsigned int i;

	for (i = 0; i < n; i++) {
		used[i].id = cpu_to_vhost32(vq, reqs[i]->head);
		used[i].len = cpu_to_vhost32(vq, reqs[i]->used_len);
	}

	mutex_lock(&vq->mutex);
	/* Without the owner's memory there is no ring. */
	if (current->mm) {
		err = q->add_waits ? -EAGAIN : vhost_blk_vring_enter(q);
		if (err == -EAGAIN && !(q->stops & VHOST_BLK_STOP_BROKEN)) {
			WRITE_ONCE(q->add_waits, true);
			vhost_blk_defer(q, reqs, n);
			goto out_unlock;
		}
		if (vhost_has_feature(vq, VHOST_F_LOG_ALL))
			log = vhost_blk_log_batch(q, reqs, n);
	}
	/* Before the guest can see the used entry and offer the head again. */
	for (i = 0; i < n; i++) {
		vhost_blk_count_req(q, reqs[i]);
		trace_vhost_blk_complete(reqs[i]);
		vhost_blk_vring_release(q, reqs[i]);
	}
	if (!err) {
		if (log || vhost_add_used_n(vq, used, NULL, n))
			vhost_blk_vring_stop(q, VHOST_BLK_STOP_BROKEN);
		else
			vhost_blk_signal(q, reqs[n - 1]);
		vhost_blk_vring_leave(q);
	}
	WRITE_ONCE(q->inflight, q->inflight - n);
	if (unlikely(q->stops & VHOST_BLK_STOP_STALLED) &&
	    q->bytes < VHOST_BLK_MAX_BYTES) {
		WRITE_ONCE(q->stops, q->stops & ~VHOST_BLK_STOP_STALLED);
		vhost_blk_kick(q);
	}
	vhost_blk_vring_wake(q);
out_unlock:
	mutex_unlock(&vq->mutex);
}

/* Leave a request to the owner. */
static void vhost_blk_hand_back(struct vhost_blk_queue *q,
				struct vhost_blk_req *req)
{
	mutex_lock(&q->vq.mutex);
	/* Some of a read may be in guest memory. */
	if (current->mm && vhost_has_feature(&q->vq, VHOST_F_LOG_ALL) &&
	    vhost_blk_log_batch(q, &req, 1))
		vhost_blk_vring_stop(q, VHOST_BLK_STOP_BROKEN);
	req->state = VHOST_BLK_REQ_HANDED_BACK;
	q->stats.handed_back++;
	q->nr_waiting++;
	vhost_blk_vring_stop(q, VHOST_BLK_STOP_PARKED);
	WRITE_ONCE(q->inflight, q->inflight - 1);
	vhost_blk_vring_wake(q);
	mutex_unlock(&q->vq.mutex);
	vhost_blk_eventfd_signal(q->blk->hand_back);
}

/* Whether requests waited for a mapping of the used ring that is there now. */
static bool vhost_blk_can_add_deferred(struct vhost_blk_queue *q)
{
	if (likely(llist_empty(&q->deferred)) || READ_ONCE(q->add_waits))
		return false;
	/* vhost_blk_add_deferred() looks again, under vq->mutex. */
	return data_race(vhost_vq_get_backend(&q->vq));
}

static void vhost_blk_add_deferred(struct vhost_blk_queue *q)
{
	struct vhost_blk_req *reqs[VHOST_BLK_BATCH];
	struct vhost_blk_req *req, *next;
	struct llist_node *deferred = NULL;
	unsigned int n = 0;

	mutex_lock(&q->vq.mutex);
	/* While the queue is quiesced its indices stand still. */
	if (vhost_vq_get_backend(&q->vq))
		deferred = llist_del_all(&q->deferred);
	llist_for_each_entry(req, deferred, done_node)
		n++;
	q->nr_waiting -= n;
	WRITE_ONCE(q->inflight, q->inflight + n);
	mutex_unlock(&q->vq.mutex);

	n = 0;
	llist_for_each_entry_safe(req, next, deferred, done_node) {
		reqs[n++] = req;
		if (n == VHOST_BLK_BATCH) {
			vhost_blk_add_used(q, reqs, n);
			n = 0;
		}
	}
	if (n)
		vhost_blk_add_used(q, reqs, n);
}

/**
 * vhost_blk_used_can_reap - look for requests to complete
 * @q:		the queue
 *
 * Context: any.
 * Return: true if vhost_blk_used_reap() has something to do.
 */
bool vhost_blk_used_can_reap(struct vhost_blk_queue *q)
{
	return !llist_empty(&q->done) || vhost_blk_can_add_deferred(q);
}

/**
 * vhost_blk_used_reap - complete the requests whose attempt has ended
 * @q:		the queue
 *
 * Context: one of the queue's workers, on the owner's memory unless that is
 *	    gone.  Both workers may be here at the same time.
 */
void vhost_blk_used_reap(struct vhost_blk_queue *q)
{
	struct vhost_blk_req *answered[VHOST_BLK_BATCH];
	struct llist_node *done, *unfinished = NULL;
	struct vhost_blk_req *req, *next;
	unsigned int n = 0;

	if (vhost_blk_can_add_deferred(q))
		vhost_blk_add_deferred(q);
	done = llist_reverse_order(llist_del_all(&q->done));
	llist_for_each_entry_safe(req, next, done, done_node) {
		switch (vhost_blk_io_complete(req)) {
		case VHOST_BLK_REQ_ANSWERED:
			answered[n++] = req;
			break;
		case VHOST_BLK_REQ_FAILED:
			vhost_blk_hand_back(q, req);
			break;
		default:
			req->done_node.next = unfinished;
			unfinished = &req->done_node;
		}
		if (n == VHOST_BLK_BATCH) {
			vhost_blk_add_used(q, answered, n);
			n = 0;
		}
	}
	if (n)
		vhost_blk_add_used(q, answered, n);
	/* This may wait for a thread or, without one, for the disk. */
	unfinished = llist_reverse_order(unfinished);
	llist_for_each_entry_safe(req, next, unfinished, done_node)
		vhost_blk_offload(req, req->state);
}
