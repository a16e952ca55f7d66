// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk waiting: how long a submission worker polls its ring, and whether
 * used entries wait for later ones.  Decisions only: no ring, no lock, no clock.
 */

#include <linux/kernel.h>

#include "blk_poll.h"

/* Shorter than the reaction time of any guest. */
#define VHOST_BLK_POLL_MIN_NS		((u64)4000)
/* Tries skipped in turn, at most: failures then do not reach the 99.9th percentile. */
#define VHOST_BLK_BACKOFF_MAX		8191u
/* After so many waits up to the limit, one wait looks for a higher limit. */
#define VHOST_BLK_COALESCE_LIMITED	64

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
 * vhost_blk_backoff_tries - decide whether something is tried
 * @b:		how often
 *
 * Return: true if it is tried, and vhost_blk_backoff_end() follows.
 */
bool vhost_blk_backoff_tries(struct vhost_blk_backoff *b)
{
	if (!b->skip)
		return true;
	b->skip--;
	return false;
}

/**
 * vhost_blk_backoff_end - take note of a try
 * @b:		how often it is tried
 * @failed:	it brought nothing
 */
void vhost_blk_backoff_end(struct vhost_blk_backoff *b, bool failed)
{
	b->last = failed ? min(2 * b->last + 1, VHOST_BLK_BACKOFF_MAX) : 0;
	b->skip = b->last;
}

/**
 * vhost_blk_coalesce_gap - how long a guest may take to make its next request
 * @bound_ns:	how long a used entry may wait
 *
 * Return: the time after which the guest is taken to wait for answers, in ns.
 */
u64 vhost_blk_coalesce_gap(u64 bound_ns)
{
	return bound_ns / 2;
}

/**
 * vhost_blk_coalesce_batch - take note that requests came
 * @c:		the queue's state
 * @nr:		their number
 * @now:	the time, in ns
 *
 * Return: true if used entries waited, which saved a signal.
 */
bool vhost_blk_coalesce_batch(struct vhost_blk_coalesce_state *c,
			      unsigned int nr, u64 now)
{
	if (!c->deadline)
		return false;
	c->last = now;
	c->nr += nr;
	return true;
}

/* Whether a wait goes on. */
static bool vhost_blk_coalesce_goes_on(struct vhost_blk_coalesce_state *c,
				       u64 now, u64 bound_ns)
{
	if (now >= c->deadline)
		return false;
	if (c->limit && c->nr >= c->limit) {
		c->limited++;
		return false;
	}
	if (now - c->last < vhost_blk_coalesce_gap(bound_ns))
		return true;
	c->limit = c->nr;
	c->limited = 0;
	return false;
}

/**
 * vhost_blk_coalesce_waits - decide whether used entries wait
 * @c:		the queue's state
 * @now:	the time, in ns
 * @bound_ns:	how long the first of them may wait; 0 for not at all
 *
 * The ring does not show how many requests a guest has in flight: with a fast
 * disk, a slow guest with many requests looks like one that waits for each answer.
 * Only a wait tells.  Waits that tell of a single request become rare.
 *
 * Return: true if they wait; false if they are added now, and
 *	   vhost_blk_coalesce_end() follows.
 */
bool vhost_blk_coalesce_waits(struct vhost_blk_coalesce_state *c, u64 now,
			      u64 bound_ns)
{
	if (c->deadline)
		return vhost_blk_coalesce_goes_on(c, now, bound_ns);
	if (!bound_ns)
		return false;
	if (!vhost_blk_backoff_tries(&c->backoff))
		return false;
	if (c->limited == VHOST_BLK_COALESCE_LIMITED)
		c->limit = 0;
	c->deadline = now + bound_ns;
	c->last = now;
	c->nr = 0;
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
	vhost_blk_backoff_end(&c->backoff, !c->nr);
	c->deadline = 0;
}
