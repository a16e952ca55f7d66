// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk workers: the submission worker takes requests off the ring and may
 * sleep in the block layer; the completion worker gives ended ones back, unless
 * the submission worker is on a CPU and about to do so.
 */

#include <linux/hrtimer.h>
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>

#include "blk.h"

/* Upper bound of VHOST_SET_VRING_BUSYLOOP_TIMEOUT. */
#define VHOST_BLK_POLL_MAX_US	10000u
/* cpu_relax() between two looks at the ring. */
#define VHOST_BLK_POLL_PAUSES	8
/* Requests that a pause is to bring; for fewer the wake-ups were not many. */
#define VHOST_BLK_PAUSE_REQS	4

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

/* The submission worker leaves its CPU, whether it sleeps or is preempted. */
static void vhost_blk_sched_out(struct preempt_notifier *notifier,
				struct task_struct *next)
{
	struct vhost_blk_queue *q = container_of(notifier,
						 struct vhost_blk_queue,
						 notifier);

	WRITE_ONCE(q->serving, false);
	/* Paired with llist_add() in vhost_blk_req_done(). */
	smp_mb();
	/* The runqueue is locked, so an interrupt has to wake the worker. */
	if (!llist_empty(&q->done))
		irq_work_queue(&q->wake_completer);
}

static void vhost_blk_sched_in(struct preempt_notifier *notifier, int cpu)
{
	struct vhost_blk_queue *q = container_of(notifier,
						 struct vhost_blk_queue,
						 notifier);

	WRITE_ONCE(q->serving, true);
}

static struct preempt_ops vhost_blk_preempt_ops = {
	.sched_in	= vhost_blk_sched_in,
	.sched_out	= vhost_blk_sched_out,
};

/* The queue cannot be stopped meanwhile, as that takes irq_work_sync(). */
static void vhost_blk_wake_completer(struct irq_work *work)
{
	struct vhost_blk_queue *q = container_of(work, struct vhost_blk_queue,
						 wake_completer);

	vhost_blk_task_wake(q->completer);
}

static void vhost_blk_serve_begin(struct vhost_blk_queue *q)
{
	preempt_disable();
	preempt_notifier_register(&q->notifier);
	WRITE_ONCE(q->serving, true);
	preempt_enable();
}

static void vhost_blk_reap(struct vhost_blk_queue *q)
{
	vhost_blk_coalesce_end(&q->coalesce);
	q->unfinished = false;
	vhost_blk_used_reap(q);
}

static void vhost_blk_serve_end(struct vhost_blk_queue *q)
{
	preempt_disable();
	preempt_notifier_unregister(&q->notifier);
	WRITE_ONCE(q->serving, false);
	preempt_enable();
	/* Paired with llist_add() in vhost_blk_req_done(). */
	smp_mb();
	if (!llist_empty(&q->done))
		vhost_blk_reap(q);
}

/* Whether requests that have ended wait to be announced with later ones. */
static bool vhost_blk_coalesces(struct vhost_blk_queue *q, u64 now)
{
	/* No request can come, or one is not to wait. */
	if (READ_ONCE(q->stops) || q->unfinished)
		return false;
	return vhost_blk_coalesce_waits(&q->coalesce, now,
					READ_ONCE(q->blk->coalesce_ns));
}

/* Whether the ring has more requests, as far as that is seen without locks. */
static bool vhost_blk_has_more(struct vhost_blk_queue *q)
{
	return !q->vq.iotlb && vhost_blk_vring_available(q);
}

/* Whether the worker goes on at once, so that what has ended may wait. */
static bool vhost_blk_goes_on(struct vhost_blk_queue *q)
{
	/* Nothing waits while another task wants the CPU, or the worker sleeps. */
	return !need_resched() && single_task_running() &&
	       (q->poll_ns || vhost_blk_has_more(q)) &&
	       vhost_blk_coalesces(q, local_clock());
}

/* Watch the ring and the done list for a while; return true if the ring has work. */
static bool vhost_blk_poll(struct vhost_blk_queue *q, u64 ns)
{
	u64 now, start = local_clock();
	unsigned int i;

	do {
		if (vhost_blk_vring_available(q)) {
			WRITE_ONCE(q->poll_hits, q->poll_hits + 1);
			return true;
		}
		/* The guest needs the ring's cache line, too. */
		for (i = 0; i < VHOST_BLK_POLL_PAUSES; i++)
			cpu_relax();
		now = local_clock();
		if (!llist_empty(&q->done) && !vhost_blk_coalesces(q, now)) {
			vhost_blk_reap(q);
			now = local_clock();
			start = now;
		}
	} while ((now - start < ns || !llist_empty(&q->done)) &&
		 single_task_running() && !need_resched() &&
		 !vhost_blk_task_should_return());
	return false;
}

static unsigned int vhost_blk_next(struct vhost_blk_queue *q,
				   struct vhost_blk_req **batch)
{
	unsigned int n;
	u64 ns;

	while ((ns = min(q->poll_ns, vhost_blk_poll_max_ns(q)))) {
		n = vhost_blk_vring_fetch(q, batch, false);
		if (n)
			return n;
		if (!vhost_blk_poll(q, ns))
			break;
	}
	return vhost_blk_vring_fetch(q, batch, true);
}

static void vhost_blk_submit_batch(struct vhost_blk_queue *q,
				   struct vhost_blk_req **batch, unsigned int n)
{
	struct vhost_blk_coalesce_state *c = &q->coalesce;
	struct blk_plug plug;
	unsigned int i;

	if (q->paused)
		vhost_blk_backoff_end(&q->pause, n < VHOST_BLK_PAUSE_REQS);
	q->paused = false;
	/* The completion worker may have ended the wait. */
	if (llist_empty(&q->done))
		c->deadline = 0;
	vhost_blk_pin_check(q);
	blk_start_plug(&plug);
	for (i = 0; i < n; i++) {
		vhost_blk_io_submit(batch[i]);
		if (c->deadline && local_clock() >= c->deadline)
			vhost_blk_reap(q);
	}
	blk_finish_plug(&plug);
	/* The time that submission takes is not the guest's. */
	if (vhost_blk_coalesce_batch(c, n, local_clock()))
		WRITE_ONCE(q->coalesced, q->coalesced + 1);
}

/* Serve the ring until it is empty and guest notifications are enabled. */
static void vhost_blk_serve(struct vhost_blk_queue *q)
{
	struct vhost_blk_req *batch[VHOST_BLK_BATCH];
	unsigned int n;

	vhost_blk_serve_begin(q);
	vhost_blk_pin_check(q);
	while ((n = vhost_blk_next(q, batch))) {
		vhost_blk_submit_batch(q, batch, n);
		if (!llist_empty(&q->done) && !vhost_blk_goes_on(q))
			vhost_blk_reap(q);
		cond_resched();
		if (vhost_blk_task_should_return()) {
			/* Go on after that. */
			set_bit(0, &q->kicked);
			q->interrupted = true;
			break;
		}
	}
	vhost_blk_serve_end(q);
}

/*
 * Let other tasks run for a moment, after a wake-up.  Where CPUs are short, the
 * wake-up may have taken the CPU from the virtual CPU that kicked and was about to
 * make more requests.  Their number after the pause tells whether it did.  A yield
 * would let only tasks of the same cgroup run, for as long as they like.  A worker
 * with another policy does not pause; the owner chose that policy.
 */
static void vhost_blk_give_way(struct vhost_blk_queue *q)
{
	u64 ns = vhost_blk_coalesce_gap(READ_ONCE(q->blk->coalesce_ns));
	ktime_t pause = ns_to_ktime(ns);

	if (!ns || single_task_running() || current->policy != SCHED_NORMAL ||
	    !vhost_blk_backoff_tries(&q->pause))
		return;
	/* A kick does not wake the worker, as q->kicked is still set. */
	set_current_state(TASK_IDLE);
	schedule_hrtimeout_range(&pause, 0, HRTIMER_MODE_REL);
	q->paused = true;
}

static void vhost_blk_woken(struct vhost_blk_queue *q)
{
	u64 idle_ns = local_clock() - q->idle_since;

	WRITE_ONCE(q->submit_wakeups, q->submit_wakeups + 1);
	vhost_blk_give_way(q);
	q->poll_ns = vhost_blk_poll_adapt(q->poll_ns, idle_ns,
					  vhost_blk_poll_max_ns(q));
}

static bool vhost_blk_submit(void *data)
{
	struct vhost_blk_queue *q = data;

	if (!test_bit(0, &q->kicked)) {
		q->interrupted = false;
		return false;
	}
	__set_current_state(TASK_RUNNING);
	if (!q->interrupted)
		vhost_blk_woken(q);
	q->interrupted = false;
	/* The ring is read after the kick was taken. */
	if (!test_and_clear_bit(0, &q->kicked))
		return true;
	vhost_blk_serve(q);
	q->paused = false;
	q->idle_since = local_clock();
	return true;
}

/* The owner is gone: begin no more work. */
static void vhost_blk_killed(struct vhost_blk_queue *q)
{
	WRITE_ONCE(q->blk->killed, true);
	vhost_blk_offload_kill(&q->blk->offload);
	vhost_blk_vring_quiesce(q);
}

static void vhost_blk_submit_killed(void *data)
{
	struct vhost_blk_queue *q = data;

	vhost_blk_killed(q);
	vhost_blk_pin_flush(q);
}

static bool vhost_blk_complete(void *data)
{
	struct vhost_blk_queue *q = data;

	if (!vhost_blk_used_can_reap(q))
		return false;
	__set_current_state(TASK_RUNNING);
	WRITE_ONCE(q->complete_wakeups, q->complete_wakeups + 1);
	vhost_blk_used_reap(q);
	cond_resched();
	return true;
}

/* The device may stay open, so the worker completes all requests in flight. */
static void vhost_blk_complete_killed(void *data)
{
	struct vhost_blk_queue *q = data;

	vhost_blk_killed(q);
	for (;;) {
		vhost_blk_used_reap(q);
		if (!READ_ONCE(q->inflight))
			break;
		wait_event_idle(q->drained, !llist_empty(&q->done) ||
				!READ_ONCE(q->inflight));
	}
}

static struct vhost_blk_task *
vhost_blk_worker_create(struct vhost_blk_queue *q, bool (*fn)(void *data),
			void (*killed)(void *data), char role)
{
	char name[TASK_COMM_LEN];

	snprintf(name, sizeof(name), "vhost-%d-%c%u", task_tgid_nr(current),
		 role, q->index);
	return vhost_blk_task_create(fn, killed, q, name);
}

/**
 * vhost_blk_workers_init - set up what workers need
 * @q:		the queue, zeroed
 */
void vhost_blk_workers_init(struct vhost_blk_queue *q)
{
	preempt_notifier_init(&q->notifier, &vhost_blk_preempt_ops);
	init_irq_work(&q->wake_completer, vhost_blk_wake_completer);
}

/**
 * vhost_blk_workers_start - create the workers of a queue
 * @q:		the queue, with requests and without a backend
 *
 * Context: process context of the owner, vhost_dev.mutex held.
 * Return: 0, or what creating a task gives.
 */
int vhost_blk_workers_start(struct vhost_blk_queue *q)
{
	struct vhost_blk_task *task;

	preempt_notifier_inc();
	task = vhost_blk_worker_create(q, vhost_blk_submit,
				       vhost_blk_submit_killed, 's');
	if (IS_ERR(task))
		goto err_notifier;
	q->submitter = task;
	task = vhost_blk_worker_create(q, vhost_blk_complete,
				       vhost_blk_complete_killed, 'c');
	if (IS_ERR(task))
		goto err_submitter;
	q->completer = task;
	/* After both are set. */
	smp_store_release(&q->live, true);
	/* A kick before that has not woken the worker; the next one has to. */
	smp_mb__before_atomic();
	clear_bit(0, &q->kicked);
	return 0;

err_submitter:
	vhost_blk_task_stop(q->submitter);
err_notifier:
	preempt_notifier_dec();
	return PTR_ERR(task);
}

/**
 * vhost_blk_workers_kill - end the killable waits of a queue's workers
 * @q:		the queue, started, quiesced
 *
 * Context: the owner exits or was killed.
 */
void vhost_blk_workers_kill(struct vhost_blk_queue *q)
{
	vhost_blk_task_kill(q->submitter);
	vhost_blk_task_kill(q->completer);
}

/**
 * vhost_blk_workers_stop - end the workers of a queue
 * @q:		the queue, started, quiesced and drained
 *
 * Context: process context, vhost_dev.mutex held, an RCU grace period after
 *	    @q->live became false.
 */
void vhost_blk_workers_stop(struct vhost_blk_queue *q)
{
	vhost_blk_task_stop(q->submitter);
	irq_work_sync(&q->wake_completer);
	vhost_blk_task_stop(q->completer);
	preempt_notifier_dec();
}
