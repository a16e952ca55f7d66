// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk waiting: how long a submission worker polls its ring, and whether
 * used entries wait for later ones.  Decisions only: no ring, no lock, no clock.
 */

#include <linux/kernel.h>

#include "blk_poll.h"

/* Shorter than the reaction time of any guest. */
#define VHOST_BLK_POLL_MIN_NS		((u64)4000)
/* Upper bound of waits in turn that do not begin. */
#define VHOST_BLK_COALESCE_BACKOFF	1023u

/**
 * vhost_blk_poll_adapt - choose how long to poll, after a kick ended a sleep
 * @poll_ns:	how long the worker polled before it slept
 * @idle_ns:	how long it had nothing to do
 * @max_ns:	upper bound, set by the owner
 *
 * Return: twice as long if that would have saved the kick, else half as long.
 */
u64 vhost_blk_poll_adapt(u64 poll_ns, u64 idle_ns, u64 max_ns)
{
	if (!max_ns)
		return 0;
	if (idle_ns < max_ns)
		return min(max(2 * poll_ns, VHOST_BLK_POLL_MIN_NS), max_ns);
	return poll_ns > VHOST_BLK_POLL_MIN_NS ? poll_ns / 2 : 0;
}

/**
 * vhost_blk_coalesce_batch - take note of a batch of requests
 * @c:		the queue's state
 * @nr:		requests in the batch
 * @inflight:	requests in flight, including these
 *
 * Return: true if used entries waited, which saved a signal.
 */
bool vhost_blk_coalesce_batch(struct vhost_blk_coalesce_state *c,
			      unsigned int nr, unsigned int inflight)
{
	c->several = nr > 1 || inflight > nr;
	if (c->deadline)
		c->won = true;
	return c->deadline;
}

/**
 * vhost_blk_coalesce_waits - decide whether used entries wait
 * @c:		the queue's state
 * @now:	the time, in ns
 * @bound_ns:	how long the first of them may wait; 0 for not at all
 *
 * A guest with one request in flight waits for its answer.  A guest that made
 * no further request during a wait is left alone for ever longer.
 *
 * Return: true if they wait; false if they are added now, and
 *	   vhost_blk_coalesce_end() follows.
 */
bool vhost_blk_coalesce_waits(struct vhost_blk_coalesce_state *c, u64 now,
			      u64 bound_ns)
{
	if (c->deadline)
		return now < c->deadline;
	if (!bound_ns || !c->several)
		return false;
	if (c->skip) {
		c->skip--;
		return false;
	}
	c->deadline = now + bound_ns;
	c->won = false;
	return true;
}

/**
 * vhost_blk_coalesce_end - take note that no used entry waits any more
 * @c:		the queue's state
 */
void vhost_blk_coalesce_end(struct vhost_blk_coalesce_state *c)
{
	if (!c->deadline)
		return;
	c->backoff = c->won ? 0 : min(2 * c->backoff + 1,
				      VHOST_BLK_COALESCE_BACKOFF);
	c->skip = c->backoff;
	c->deadline = 0;
}
