// SPDX-License-Identifier: GPL-2.0
/* vhost-blk virtqueues: the vring on one side, the two workers on the other. */

#include <linux/cgroup.h>
#include <linux/completion.h>
#include <linux/hrtimer.h>
#include <linux/kthread.h>
#include <linux/nospec.h>
#include <linux/sched/clock.h>
#include <linux/sched/stat.h>
#include <linux/slab.h>
#include <uapi/linux/sched/types.h>

#include "blk.h"
#include "compat.h"

#define CREATE_TRACE_POINTS
#include "blk_trace.h"

/**
 * vhost_blk_queue_wake - have the submission worker look at the ring
 * @q:		the queue, started or not
 *
 * Context: any.
 */
void vhost_blk_queue_wake(struct vhost_blk_queue *q)
{
	if (!test_and_set_bit(VHOST_BLK_KICKED, &q->flags)) {
		WRITE_ONCE(q->kicked_at, local_clock());
		rcuwait_wake_up(&q->submit_wait);
	}
}

/* Called in the context of whoever writes the kick eventfd, interrupts off. */
static void vhost_blk_handle_kick(struct vhost_work *work)
{
	struct vhost_poll *poll = container_of(work, struct vhost_poll, work);
	struct vhost_blk_queue *q = container_of(poll, struct vhost_blk_queue,
						 vq.poll);

	WRITE_ONCE(q->kicks, q->kicks + 1);
	vhost_blk_queue_wake(q);
}

/**
 * vhost_blk_queue_done - hand over a request whose attempt has ended
 * @q:		its queue
 * @req:	the request; not to be touched by the caller any more
 *
 * Context: any.
 */
void vhost_blk_queue_done(struct vhost_blk_queue *q, struct vhost_blk_req *req)
{
	bool first;

	/*
	 * Once @req is on the list the other side may finish it and stop the
	 * queue; the grace period in vhost_blk_detach() keeps the workers'
	 * tasks and @q until we are through.
	 */
	rcu_read_lock();
	first = llist_add(&req->done_node, &q->done);
	/*
	 * llist_add() is a full barrier, paired with the one in
	 * vhost_blk_serve(): either we see that the submission worker no longer
	 * serves, or it sees the request.  Who serves may fall asleep over a
	 * submission, with earlier requests on the list.
	 */
	if (READ_ONCE(q->serving) ? !task_is_running(q->submitter) : first)
		rcuwait_wake_up(&q->complete_wait);
	rcu_read_unlock();
}

/*
 * Ends the wait for mappings, in vain or not: what still lacks one will ask for
 * it anew.
 */
static void vhost_blk_queue_stop_waiting(struct vhost_blk_queue *q)
{
	lockdep_assert_held(&q->vq.mutex);
	vhost_blk_iotlb_forget(q);
	q->fetch_waits = false;
	WRITE_ONCE(q->publish_waits, false);
	rcuwait_wake_up(&q->complete_wait);
}

/* A corrupt ring is left alone until the backend is attached anew. */
static void vhost_blk_queue_break(struct vhost_blk_queue *q)
{
	lockdep_assert_held(&q->vq.mutex);
	WRITE_ONCE(q->broken, true);
}

static void vhost_blk_queue_deny(struct vhost_blk_queue *q)
{
	vq_err(&q->vq, "the guest uses addresses that are not mapped\n");
	vhost_blk_queue_break(q);
}

static void vhost_blk_count_batch(struct vhost_blk_queue *q)
{
	lockdep_assert_held(&q->vq.mutex);
	q->stats.batches++;
	if (q->inflight > q->stats.max_inflight)
		q->stats.max_inflight = q->inflight;
}

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

	lockdep_assert_held(&q->vq.mutex);
	stats->requests++;
	if (vhost_blk_req_status(req) == VIRTIO_BLK_S_OK)
		stats->bytes += req->len;
	else
		stats->errors++;
}

/**
 * vhost_blk_queue_resume - go on after the owner answered a miss
 * @q:		the queue that missed a mapping
 * @denied:	there is none: the ring is as good as corrupt
 *
 * Context: process context, vhost_dev.mutex held.
 */
void vhost_blk_queue_resume(struct vhost_blk_queue *q, bool denied)
{
	struct vhost_virtqueue *vq = &q->vq;

	mutex_lock(&vq->mutex);
	/* A chain that does not fit into the IOTLB would be asked for forever. */
	if ((denied || q->answers++ > 2 * vq->iotlb->limit) && !q->broken)
		vhost_blk_queue_deny(q);
	vhost_blk_queue_stop_waiting(q);
	mutex_unlock(&vq->mutex);

	vhost_blk_queue_wake(q);
}

/*
 * Makes the ring accessible, which behind a virtual IOMMU it may not be.  Who
 * has to wait asked for a mapping once and does not ask again until the answer,
 * see vhost_blk_queue_resume().
 */
static bool vhost_blk_enter(struct vhost_blk_queue *q, bool *waits)
{
	int err;

	if (likely(!q->vq.iotlb))
		return true;
	if (*waits)
		return false;
	err = vhost_blk_iotlb_enter(q);
	if (err) {
		if (err == -EAGAIN)
			WRITE_ONCE(*waits, true);
		else
			vhost_blk_queue_deny(q);
		return false;
	}
	/* What vhost_blk_queue_start() could not do without a mapping. */
	if (!q->accessed && vhost_vq_init_access(&q->vq)) {
		vhost_blk_iotlb_leave(q);
		vhost_blk_queue_deny(q);
		return false;
	}
	q->accessed = true;
	return true;
}

static void vhost_blk_leave(struct vhost_blk_queue *q)
{
	if (unlikely(q->vq.iotlb))
		vhost_blk_iotlb_leave(q);
}

/* There is no memory for a request: it is taken anew when others have ended. */
static void vhost_blk_unfetch(struct vhost_blk_queue *q,
			      struct vhost_blk_req *req)
{
	vhost_discard_vq_desc(&q->vq, 1, 1);
	req->inflight = false;
	WRITE_ONCE(q->inflight, q->inflight - 1);
	WRITE_ONCE(q->starved, true);
}

/*
 * Takes up to VHOST_BLK_BATCH requests; none means there is nothing to do.
 * Who is going to sleep over that arms the ring: the guest is told to kick.
 */
static unsigned int vhost_blk_fetch(struct vhost_blk_queue *q,
				    struct vhost_blk_req **batch, bool arm)
{
	struct vhost_virtqueue *vq = &q->vq;
	struct vhost_blk_req *req;
	unsigned int out, in, n = 0;
	int head;

	mutex_lock(&vq->mutex);
	if (!vhost_vq_get_backend(vq) || q->broken || q->starved ||
	    !vhost_blk_enter(q, &q->fetch_waits))
		goto out_unlock;

	vhost_disable_notify(&q->blk->dev, vq);
	while (n < VHOST_BLK_BATCH) {
		head = vhost_get_vq_desc(vq, q->iov, VHOST_BLK_MAX_IOV,
					 &out, &in, NULL, NULL);
		if (head < 0) {
			if (head == -EAGAIN)
				q->fetch_waits = true;
			else
				vhost_blk_queue_break(q);
			break;
		}
		if (head == vq->num) {
			if (n || !arm || !vhost_enable_notify(&q->blk->dev, vq))
				break;
			vhost_disable_notify(&q->blk->dev, vq);
			continue;
		}

		/* The guest chose it: nothing is read beyond, not even ahead. */
		req = &q->reqs[array_index_nospec(head, vq->num)];
		if (req->inflight) {
			vq_err(vq, "head %d made available twice\n", head);
			vhost_discard_vq_desc(vq, 1, 1);
			vhost_blk_queue_break(q);
			break;
		}
		req->inflight = true;
		WRITE_ONCE(q->inflight, q->inflight + 1);
		req->start = trace_vhost_blk_complete_enabled() ?
			     ktime_get_ns() : 0;
		vhost_blk_req_parse(req, out, in);
		if (unlikely(req->ret == -ENOMEM)) {
			vhost_blk_unfetch(q, req);
			break;
		}
		trace_vhost_blk_start(req);
		batch[n++] = req;
	}
	if (n) {
		q->answers = 0;
		vhost_blk_count_batch(q);
	}
	vhost_blk_leave(q);
out_unlock:
	mutex_unlock(&vq->mutex);
	return n;
}

/*
 * Logs what the requests wrote.  The migration must not leave behind what the
 * guest is told of, so a log that cannot be written is an error of the ring.
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
 * Whether the guest asks for a signal of what was published since it was asked
 * last.  The core's vhost_signal() decides alike, but keeps its answer to
 * itself, and counting signals takes the answer.
 */
static bool vhost_blk_signal_wanted(struct vhost_virtqueue *vq)
{
	u16 old = vq->signalled_used, new = vq->last_used_idx;
	bool old_valid = vq->signalled_used_valid;
	vring_avail_t __user *avail;
	__virtio16 word;

	/*
	 * The used index is out before the guest's wish is read; paired with
	 * the barrier of a guest that says what it wants and then looks.
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
		q->stats.signals_saved++;
		return;
	}
	q->stats.signals++;
	trace_vhost_blk_signal(last);
	vhost_blk_eventfd_signal(vq->call_ctx.ctx);
}

/* Gives finished requests back to the guest and signals it once. */
static void vhost_blk_publish(struct vhost_blk_queue *q,
			      struct vhost_blk_req **reqs, unsigned int n)
{
	struct vring_used_elem used[VHOST_BLK_BATCH];
	struct vhost_virtqueue *vq = &q->vq;
	bool entered = false;
	unsigned int i;
	int err = 0;

	for (i = 0; i < n; i++) {
		used[i].id = cpu_to_vhost32(vq, reqs[i]->head);
		used[i].len = cpu_to_vhost32(vq, reqs[i]->used_len);
	}

	mutex_lock(&vq->mutex);
	/* Without the owner's memory there is nobody to tell. */
	if (current->mm) {
		entered = vhost_blk_enter(q, &q->publish_waits);
		/* Who detaches, or has broken the ring, is not waited for. */
		if (!entered && vhost_vq_get_backend(vq) && !q->broken) {
			for (i = 0; i < n; i++)
				llist_add(&reqs[i]->done_node, &q->unpublished);
			goto out_unlock;
		}
		if (vhost_has_feature(vq, VHOST_F_LOG_ALL))
			err = vhost_blk_log_batch(q, reqs, n);
	}
	/* Before the guest can see the used entry and offer the head again. */
	for (i = 0; i < n; i++) {
		vhost_blk_count_req(q, reqs[i]);
		trace_vhost_blk_complete(reqs[i]);
		vhost_blk_req_release(reqs[i]);
	}
	if (unlikely(q->starved)) {
		WRITE_ONCE(q->starved, false);
		vhost_blk_queue_wake(q);
	}
	if (entered) {
		if (err || vhost_add_used_n(vq, used, NULL, n))
			vhost_blk_queue_break(q);
		else
			vhost_blk_signal(q, reqs[n - 1]);
		vhost_blk_leave(q);
	}
	WRITE_ONCE(q->inflight, q->inflight - n);
	if (!q->inflight && !vhost_vq_get_backend(vq))
		wake_up(&q->drained);
out_unlock:
	mutex_unlock(&vq->mutex);
}

/* Whether requests waited for a mapping of the used ring that is there now. */
static bool vhost_blk_can_publish(struct vhost_blk_queue *q)
{
	return unlikely(!llist_empty(&q->unpublished)) &&
	       !READ_ONCE(q->publish_waits);
}

static void vhost_blk_publish_waiting(struct vhost_blk_queue *q)
{
	struct vhost_blk_req *reqs[VHOST_BLK_BATCH];
	struct vhost_blk_req *req, *next;
	unsigned int n = 0;

	llist_for_each_entry_safe(req, next, llist_del_all(&q->unpublished),
				  done_node) {
		reqs[n++] = req;
		if (n == VHOST_BLK_BATCH) {
			vhost_blk_publish(q, reqs, n);
			n = 0;
		}
	}
	if (n)
		vhost_blk_publish(q, reqs, n);
}

/* Finishes what is on the done list; both workers may be here at once. */
static void vhost_blk_reap(struct vhost_blk_queue *q)
{
	struct vhost_blk_req *finished[VHOST_BLK_BATCH];
	struct vhost_blk_req *req, *next;
	struct llist_node *done;
	unsigned int n = 0;

	if (vhost_blk_can_publish(q))
		vhost_blk_publish_waiting(q);
	done = llist_reverse_order(llist_del_all(&q->done));
	llist_for_each_entry_safe(req, next, done, done_node) {
		if (!vhost_blk_req_settle(req))
			continue;
		finished[n++] = req;
		if (n == VHOST_BLK_BATCH) {
			vhost_blk_publish(q, finished, n);
			n = 0;
		}
	}
	if (n)
		vhost_blk_publish(q, finished, n);
}

/* The most time to poll for, whatever the owner set. */
static u64 vhost_blk_poll_max_ns(struct vhost_blk_queue *q)
{
	u32 us;

	/* Behind a virtual IOMMU the ring cannot be looked at without locks. */
	if (q->vq.iotlb)
		return 0;
	/* The core may write it meanwhile, and either value will do. */
	us = data_race(READ_ONCE(q->vq.busyloop_timeout));
	return NSEC_PER_USEC * (u64)min(us, VHOST_BLK_POLL_MAX_US);
}

/*
 * Called when a kick woke the submission worker: had polling a bit longer saved
 * that, it does so next time; if the guest pauses for longer than the owner
 * would have us poll, it polls less, in the end not at all.
 */
static void vhost_blk_adapt_poll(struct vhost_blk_queue *q)
{
	u64 max = vhost_blk_poll_max_ns(q);

	if (!max)
		q->poll_ns = 0;
	else if (local_clock() - q->idle_since < max)
		q->poll_ns = min(max(2 * q->poll_ns, VHOST_BLK_POLL_MIN_NS),
				 max);
	else if (q->poll_ns <= VHOST_BLK_POLL_MIN_NS)
		q->poll_ns = 0;
	else
		q->poll_ns /= 2;
}

/* A look at the ring without its lock, for the one worker that takes from it. */
static bool vhost_blk_is_available(struct vhost_blk_queue *q)
{
	struct vhost_virtqueue *vq = &q->vq;
	__virtio16 idx;

	/* That the queue was quiesced is vhost_blk_fetch()'s to see for sure. */
	if (!data_race(vhost_vq_get_backend(vq)) || READ_ONCE(q->broken) ||
	    READ_ONCE(q->starved))
		return false;
	/* What cannot be read is vhost_blk_fetch()'s to find out. */
	return get_user(idx, &READ_ONCE(vq->avail)->idx) ||
	       vhost16_to_cpu(vq, idx) != vq->last_avail_idx;
}

/* What does not pay is tried again ever more seldom. */
static bool vhost_blk_may_try(struct vhost_blk_backoff *backoff)
{
	if (!backoff->skip)
		return true;
	backoff->skip--;
	return false;
}

static void vhost_blk_tried(struct vhost_blk_backoff *backoff, bool won,
			    unsigned int most)
{
	backoff->last = won ? 0 : min(2 * backoff->last + 1, most);
	backoff->skip = backoff->last;
}

static void vhost_blk_set_policy(struct vhost_blk_queue *q, bool give_way)
{
	struct sched_attr attr = {
		.size = sizeof(attr),
		.sched_policy = give_way ? SCHED_BATCH : SCHED_NORMAL,
		.sched_nice = task_nice(current),
	};

	/* What an administrator chose stays. */
	if (current->policy != (q->gives_way ? SCHED_BATCH : SCHED_NORMAL)) {
		q->gives_way = false;
		return;
	}
	if (q->gives_way != give_way && !sched_setattr_nocheck(current, &attr))
		q->gives_way = give_way;
}

/*
 * Called before the submission worker sleeps.  Where no CPU is idle, its wake-up
 * would take one from a virtual CPU, perhaps from the one that kicked: for each
 * request anew, though the guest was about to make more.  A worker that is
 * scheduled as a batch job waits until the virtual CPU has nothing to do, or has
 * had its share.
 */
static void vhost_blk_choose_policy(struct vhost_blk_queue *q)
{
	bool give_way = vhost_blk_poll_max_ns(q) && !q->nap.on &&
			vhost_blk_may_try(&q->give_way);

	vhost_blk_set_policy(q, give_way);
}

/*
 * Called when the submission worker has served the requests it found when it
 * came to run.  They are worth a wait of some times what serving them takes:
 * one that is longer saves the guest little.
 */
static void vhost_blk_gave_way(struct vhost_blk_queue *q, unsigned int n,
			       u64 start)
{
	u64 late = start - READ_ONCE(q->kicked_at);
	u64 served = local_clock() - start;

	vhost_blk_tried(&q->give_way,
			n > 1 && late <= VHOST_BLK_GIVE_WAY_MOST * served,
			VHOST_BLK_GIVE_WAY_BACKOFF);
}

/*
 * Whether the guest should be told of what has completed a moment later, for
 * then it may hear of more at once.  That pays while it goes on making requests
 * meanwhile.  Where it does not it waits for an answer.  And who might sleep in
 * the next submission holds nothing back: nobody else would tell the guest.
 */
static bool vhost_blk_may_hold(struct vhost_blk_queue *q)
{
	return q->blk->backend.nowait && q->poll_ns && !q->nap.on &&
	       q->unreaped < VHOST_BLK_HOLD_MAX && vhost_blk_may_try(&q->hold);
}

static void vhost_blk_end_hold(struct vhost_blk_queue *q)
{
	vhost_blk_tried(&q->hold, q->hold_won, VHOST_BLK_HOLD_BACKOFF);
	q->hold_won = false;
	q->unreaped = 0;
}

/* Watches the ring and the done list for a while; true if the ring has work. */
static bool vhost_blk_poll(struct vhost_blk_queue *q, u64 ns)
{
	u64 hold = vhost_blk_poll_max_ns(q) / 2;
	u64 idle, start = local_clock();
	unsigned int i;

	do {
		if (vhost_blk_is_available(q)) {
			WRITE_ONCE(q->polled, q->polled + 1);
			q->hold_won |= !!q->unreaped;
			return true;
		}
		/* Whoever writes the ring wants its cache line too. */
		for (i = 0; i < VHOST_BLK_POLL_PAUSES; i++)
			cpu_relax();
		idle = local_clock() - start;
		if (!llist_empty(&q->done) && (!q->unreaped || idle >= hold)) {
			if (q->unreaped)
				vhost_blk_end_hold(q);
			vhost_blk_reap(q);
			start = local_clock();
			idle = 0;
		}
		/* Who was preempted by this worker's wake-up asks for nothing. */
	} while ((idle < ns || !llist_empty(&q->done)) &&
		 single_task_running() && !need_resched() &&
		 !kthread_should_stop());
	return false;
}

static void vhost_blk_set_nap(struct vhost_blk_queue *q, u64 ns)
{
	q->nap.us = min_t(u64, div_u64(VHOST_BLK_NAP_PACES * ns, NSEC_PER_USEC),
			  VHOST_BLK_NAP_MAX_US);
}

/* The guest may have paused during a measure, so two are looked at. */
static void vhost_blk_try_nap(struct vhost_blk_queue *q, u64 ns)
{
	struct vhost_blk_nap *nap = &q->nap;
	u64 last = nap->kicked_ns;

	nap->kicked_ns = ns;
	if (!last || !nap->several || !vhost_blk_may_try(&nap->backoff))
		return;
	nap->kicked_ns = min(last, ns);
	nap->on = true;
	/* Who gives way would wait for its CPU after each nap, too. */
	vhost_blk_set_policy(q, false);
	nap->poor = 0;
	nap->left = VHOST_BLK_NAP_MEASURES;
	vhost_blk_set_nap(q, nap->kicked_ns);
}

static void vhost_blk_end_nap(struct vhost_blk_queue *q)
{
	q->nap.on = false;
	q->nap.kicked_ns = 0;
}

/* It has to be worth more than what one measure differs from the next. */
static void vhost_blk_judge_nap(struct vhost_blk_queue *q, u64 ns)
{
	struct vhost_blk_nap *nap = &q->nap;
	bool won = ns + ns / 8 < nap->kicked_ns;

	vhost_blk_tried(&nap->backoff, won, VHOST_BLK_NAP_BACKOFF);
	nap->left--;
	if (won && nap->left)
		vhost_blk_set_nap(q, ns);
	else
		vhost_blk_end_nap(q);
}

/*
 * Called when the submission worker has served requests.  A guest that has
 * several in flight, and for which exits are dear, pays for a kick and a signal
 * with nearly each.  Where it gets more done if the worker looks at the ring by
 * a timer it is not told to kick.
 */
static void vhost_blk_pace(struct vhost_blk_queue *q, unsigned int n)
{
	struct vhost_blk_nap *nap = &q->nap;
	u64 now, ns;

	if (n > 1)
		nap->several = VHOST_BLK_NAP_SEVERAL;
	nap->nr += n;
	if (nap->nr < VHOST_BLK_NAP_REQS)
		return;
	now = local_clock();
	ns = div_u64(now - nap->since, nap->nr);
	if (nap->on)
		vhost_blk_judge_nap(q, ns);
	else
		vhost_blk_try_nap(q, ns);
	nap->since = now;
	nap->nr = 0;
	nap->several -= !!nap->several;
}

/* Sleeps for a nap; false if there is something to reap instead. */
static bool vhost_blk_doze(struct vhost_blk_queue *q)
{
	ktime_t time = ns_to_ktime(NSEC_PER_USEC * (u64)q->nap.us);
	bool empty;

	/*
	 * A full barrier, paired with llist_add() in vhost_blk_queue_done():
	 * either we see the request, or it is seen that we do not run.
	 */
	set_current_state(TASK_IDLE);
	empty = llist_empty(&q->done);
	if (empty)
		schedule_hrtimeout_range(&time, NSEC_PER_USEC * (q->nap.us / 8),
					 HRTIMER_MODE_REL);
	__set_current_state(TASK_RUNNING);
	return empty;
}

/* Naps, unless the ring has work; some naps may bring little. */
static unsigned int vhost_blk_nap(struct vhost_blk_queue *q,
				  struct vhost_blk_req **batch)
{
	struct vhost_blk_nap *nap = &q->nap;
	unsigned int n;

	if (!vhost_blk_is_available(q)) {
		while (!vhost_blk_doze(q))
			vhost_blk_reap(q);
		nap->poor++;
	}
	n = vhost_blk_fetch(q, batch, false);
	if (n)
		WRITE_ONCE(q->polled, q->polled + 1);
	if (n > 1)
		nap->poor = 0;
	if (nap->poor == VHOST_BLK_NAP_POOR) {
		vhost_blk_end_nap(q);
		if (nap->left == VHOST_BLK_NAP_MEASURES)
			vhost_blk_tried(&nap->backoff, false,
					VHOST_BLK_NAP_BACKOFF);
	}
	return n;
}

static unsigned int vhost_blk_next(struct vhost_blk_queue *q,
				   struct vhost_blk_req **batch)
{
	unsigned int n;
	u64 ns;

	/* Who never sleeps for long still sees that the owner wants less. */
	if (!vhost_blk_poll_max_ns(q))
		vhost_blk_end_nap(q);
	if (q->nap.on) {
		n = vhost_blk_nap(q, batch);
		return n ?: vhost_blk_fetch(q, batch, true);
	}

	while ((ns = min(q->poll_ns, vhost_blk_poll_max_ns(q)))) {
		n = vhost_blk_fetch(q, batch, false);
		if (n)
			return n;
		if (!vhost_blk_poll(q, ns))
			break;
	}
	return vhost_blk_fetch(q, batch, true);
}

/* Serves the ring until it is empty and the guest was told to kick again. */
static void vhost_blk_serve(struct vhost_blk_queue *q)
{
	struct vhost_blk_req *batch[VHOST_BLK_BATCH];
	bool gave_way = q->gives_way;
	u64 start = local_clock();
	struct blk_plug plug;
	unsigned int i, n;

	WRITE_ONCE(q->serving, true);
	vhost_blk_pin_check(q);
	while ((n = vhost_blk_next(q, batch))) {
		vhost_blk_pin_check(q);
		blk_start_plug(&plug);
		for (i = 0; i < n; i++)
			vhost_blk_req_submit(batch[i]);
		blk_finish_plug(&plug);
		if (gave_way)
			vhost_blk_gave_way(q, n, start);
		gave_way = false;
		q->unreaped += n;
		vhost_blk_pace(q, n);
		/* Nothing is held back while another task runs. */
		if (need_resched() || !vhost_blk_may_hold(q)) {
			vhost_blk_reap(q);
			q->unreaped = 0;
		}
		cond_resched();
	}
	WRITE_ONCE(q->serving, false);
	/* Paired with llist_add() in vhost_blk_queue_done(). */
	smp_mb();
	if (!llist_empty(&q->done))
		vhost_blk_reap(q);
	q->unreaped = 0;
}

static int vhost_blk_submitter(void *data)
{
	struct vhost_blk_queue *q = data;
	const struct cred *cred = vhost_blk_backend_assume(&q->blk->backend);

	while (!kthread_should_stop()) {
		vhost_blk_choose_policy(q);
		rcuwait_wait_event(&q->submit_wait,
				   test_bit(VHOST_BLK_KICKED, &q->flags) ||
				   kthread_should_stop(), TASK_IDLE);
		WRITE_ONCE(q->submit_wakeups, q->submit_wakeups + 1);
		vhost_blk_adapt_poll(q);
		/* The ring is read after the kick was taken. */
		if (!test_and_clear_bit(VHOST_BLK_KICKED, &q->flags))
			continue;
		if (!vhost_blk_use_mm(q->blk)) {
			vhost_blk_pin_flush(q);
			continue;
		}
		vhost_blk_serve(q);
		vhost_blk_unuse_mm(q->blk);
		q->idle_since = local_clock();
	}
	vhost_blk_backend_unassume(cred);
	return 0;
}

static int vhost_blk_completer(void *data)
{
	struct vhost_blk_queue *q = data;
	const struct cred *cred = vhost_blk_backend_assume(&q->blk->backend);

	while (!kthread_should_stop()) {
		rcuwait_wait_event(&q->complete_wait,
				   !llist_empty(&q->done) ||
				   vhost_blk_can_publish(q) ||
				   kthread_should_stop(), TASK_IDLE);
		WRITE_ONCE(q->complete_wakeups, q->complete_wakeups + 1);
		if (vhost_blk_use_mm(q->blk)) {
			vhost_blk_reap(q);
			vhost_blk_unuse_mm(q->blk);
		} else {
			vhost_blk_reap(q);
		}
		cond_resched();
	}
	vhost_blk_backend_unassume(cred);
	return 0;
}

/* What a new worker is told, on the stack of the task that starts it. */
struct vhost_blk_job {
	struct vhost_blk_queue *q;
	int (*fn)(void *q);
	struct task_struct *owner;
	struct completion joined;
	int err;
};

/*
 * A worker joins its owner's cgroups by itself: moving a kernel thread between
 * cpusets takes CAP_SYS_NICE, which the owner need not have.
 */
static int vhost_blk_work(void *data)
{
	struct vhost_blk_job *job = data;
	struct vhost_blk_queue *q = job->q;
	int (*fn)(void *) = job->fn;

	job->err = cgroup_attach_task_all(job->owner, current);
	complete(&job->joined);
	/* @job is gone.  On an error fn() finds no work and is stopped. */
	return fn(q);
}

static struct task_struct *vhost_blk_create_thread(struct vhost_blk_queue *q,
						   int (*fn)(void *), char role)
{
	/*
	 * A virtual CPU's thread may start the queue, and managers pin those
	 * by cgroups of their own.
	 */
	struct vhost_blk_job job = {
		.q = q, .fn = fn, .owner = current->group_leader,
	};
	struct task_struct *task;

	init_completion(&job.joined);
	task = kthread_run(vhost_blk_work, &job, "vhost-%d-%c%u",
			   task_tgid_nr(current), role, q->index);
	if (IS_ERR(task))
		return task;
	wait_for_completion(&job.joined);
	if (job.err) {
		kthread_stop(task);
		return ERR_PTR(job.err);
	}
	return task;
}

/*
 * The CPUs that a thread just made may have.  Joining a cpuset gave it those of
 * the cpuset; in the root cpuset a thread may go everywhere.
 */
static const struct cpumask *vhost_blk_allowed_cpus(struct task_struct *task)
{
#ifdef CONFIG_CPUSETS
	struct cgroup_subsys_state *css;
	bool root;

	rcu_read_lock();
	css = task_css(task, cpuset_cgrp_id);
	root = !css->parent;
	rcu_read_unlock();
	if (!root)
		return task->cpus_ptr;
#endif
	return cpu_online_mask;
}

static struct task_struct *vhost_blk_worker(struct vhost_blk_queue *q,
					    int (*fn)(void *), char role)
{
	const struct cpumask *cpus = current->group_leader->cpus_ptr;
	struct task_struct *task = vhost_blk_create_thread(q, fn, role);

	if (IS_ERR(task))
		return task;
	/* CPUs may have gone since they were chosen. */
	if (q->affinity &&
	    cpumask_subset(q->affinity, vhost_blk_allowed_cpus(task)))
		cpus = q->affinity;
	set_user_nice(task, task_nice(current->group_leader));
	/* If even the owner's have gone, the scheduler's choice is as good. */
	set_cpus_allowed_ptr(task, cpus);
	return task;
}

static int vhost_blk_idle(void *data)
{
	for (;;) {
		set_current_state(TASK_IDLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

/* A thread that does nothing finds out which CPUs the owner's cpuset has. */
static int vhost_blk_check_cpus(struct vhost_blk_queue *q,
				const struct cpumask *cpus)
{
	struct task_struct *task = vhost_blk_create_thread(q, vhost_blk_idle,
							   'p');
	bool allowed;

	if (IS_ERR(task))
		return PTR_ERR(task);
	allowed = cpumask_subset(cpus, cpu_online_mask) &&
		  cpumask_subset(cpus, vhost_blk_allowed_cpus(task));
	kthread_stop(task);
	return allowed ? 0 : -EINVAL;
}

/**
 * vhost_blk_queue_place - bind the workers to CPUs
 * @q:		the queue, started or not
 * @cpus:	their CPUs, from now on the queue's own; NULL for the owner's
 *
 * Context: process context of the owner, vhost_dev.mutex held.
 * Return: 0, or -EINVAL if there is no such CPU online or the owner's cpuset
 *	   does not have it; or what creating a kernel thread gives.
 */
int vhost_blk_queue_place(struct vhost_blk_queue *q, struct cpumask *cpus)
{
	const struct cpumask *now = cpus ?: current->group_leader->cpus_ptr;
	int err;

	if (cpus) {
		if (cpumask_empty(cpus))
			return -EINVAL;
		err = vhost_blk_check_cpus(q, cpus);
		if (err)
			return err;
	}
	if (q->reqs) {
		err = set_cpus_allowed_ptr(q->submitter, now) ?:
		      set_cpus_allowed_ptr(q->completer, now);
		if (err)
			return err;
	}
	kfree(q->affinity);
	q->affinity = cpus;
	return 0;
}

static int vhost_blk_start_workers(struct vhost_blk_queue *q)
{
	struct task_struct *task;

	task = vhost_blk_worker(q, vhost_blk_submitter, 's');
	if (IS_ERR(task))
		return PTR_ERR(task);
	q->submitter = task;

	task = vhost_blk_worker(q, vhost_blk_completer, 'c');
	if (IS_ERR(task)) {
		kthread_stop(q->submitter);
		q->submitter = NULL;
		return PTR_ERR(task);
	}
	q->completer = task;
	return 0;
}

static void vhost_blk_free_pool(struct vhost_blk_queue *q)
{
	kvfree(q->reqs);
	q->reqs = NULL;
	kvfree(q->iov);
	q->iov = NULL;
	kvfree(q->spare);
	q->spare = NULL;
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
	q->spare = kvmalloc_array(VHOST_BLK_MAX_IOV, sizeof(*q->iov),
				  GFP_KERNEL_ACCOUNT);
	q->vq.indirect = kmalloc_array(UIO_MAXIOV, sizeof(*q->vq.indirect),
				       GFP_KERNEL_ACCOUNT);
	if (!q->reqs || !q->iov || !q->spare || !q->vq.indirect) {
		vhost_blk_free_pool(q);
		return -ENOMEM;
	}
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
	rcuwait_init(&q->submit_wait);
	rcuwait_init(&q->complete_wait);
	init_llist_head(&q->done);
	init_llist_head(&q->unpublished);
	init_waitqueue_head(&q->drained);
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
 *	   a kernel thread gives.
 */
int vhost_blk_queue_start(struct vhost_blk_queue *q)
{
	struct vhost_virtqueue *vq = &q->vq;
	int err;

	if (vq->num > VHOST_BLK_MAX_RING)
		return -EINVAL;
	err = vhost_blk_alloc_pool(q, vq->num);
	if (err)
		return err;
	err = vhost_blk_pin_start(q);
	if (err)
		goto err_pool;
	err = vhost_blk_start_workers(q);
	if (err)
		goto err_pins;

	mutex_lock(&vq->mutex);
	WRITE_ONCE(q->broken, false);
	q->fetch_waits = false;
	WRITE_ONCE(q->publish_waits, false);
	WRITE_ONCE(q->starved, false);
	q->answers = 0;
	q->accessed = !vq->iotlb;
	vhost_vq_set_backend(vq, q);
	/* Behind a virtual IOMMU the used ring may not be mapped yet. */
	err = q->accessed ? vhost_vq_init_access(vq) : 0;
	if (err)
		vhost_vq_set_backend(vq, NULL);
	mutex_unlock(&vq->mutex);
	if (err)
		goto err_workers;

	vhost_blk_queue_wake(q);
	return 0;

err_workers:
	kthread_stop(q->submitter);
	kthread_stop(q->completer);
	q->submitter = NULL;
	q->completer = NULL;
err_pins:
	vhost_blk_pin_stop(q);
err_pool:
	vhost_blk_free_pool(q);
	return err;
}

/**
 * vhost_blk_queue_quiesce - accept no more requests
 * @q:		the queue, started or not
 *
 * Context: process context, vhost_dev.mutex held.
 */
void vhost_blk_queue_quiesce(struct vhost_blk_queue *q)
{
	mutex_lock(&q->vq.mutex);
	vhost_vq_set_backend(&q->vq, NULL);
	vhost_blk_queue_stop_waiting(q);
	mutex_unlock(&q->vq.mutex);
}

/**
 * vhost_blk_queue_stop - complete what was accepted, then stop the workers
 * @q:		the queue, quiesced, started or not
 *
 * Context: process context, vhost_dev.mutex held.  Sleeps until the backend
 *	    has answered every request; one who is killed meanwhile does not
 *	    wait for all the ranges that a guest can ask for.
 */
void vhost_blk_queue_stop(struct vhost_blk_queue *q)
{
	if (!q->reqs)
		return;

	if (wait_event_killable(q->drained, !READ_ONCE(q->inflight))) {
		WRITE_ONCE(q->blk->dying, true);
		wait_event(q->drained, !READ_ONCE(q->inflight));
	}
	kthread_stop(q->submitter);
	kthread_stop(q->completer);
}

/**
 * vhost_blk_queue_free - give back what vhost_blk_queue_start() took
 * @q:		the queue, stopped, no helper of it running any more
 *
 * Context: process context, vhost_dev.mutex held, an RCU grace period after
 *	    vhost_blk_queue_stop().
 */
void vhost_blk_queue_free(struct vhost_blk_queue *q)
{
	q->submitter = NULL;
	q->completer = NULL;
	vhost_blk_pin_stop(q);
	vhost_blk_free_pool(q);
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
	stats->inflight = q->inflight;
	mutex_unlock(&q->vq.mutex);
	stats->index = index;
	stats->kicks = READ_ONCE(q->kicks);
	stats->submit_wakeups = READ_ONCE(q->submit_wakeups);
	stats->complete_wakeups = READ_ONCE(q->complete_wakeups);
	stats->polled = READ_ONCE(q->polled);
	stats->pin_misses = READ_ONCE(q->pin_misses);
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
	WRITE_ONCE(q->polled, 0);
	WRITE_ONCE(q->pin_misses, 0);
}
