/* SPDX-License-Identifier: GPL-2.0 */
/* Decisions of vhost-blk workers: they take numbers, so that a test can build them alone. */
#ifndef _VHOST_BLK_POLL_H
#define _VHOST_BLK_POLL_H

#include <linux/types.h>

/**
 * struct vhost_blk_backoff - how often something is tried that may fail
 * @skip:	tries still to be skipped
 * @last:	tries to be skipped after the last one
 */
struct vhost_blk_backoff {
	unsigned int skip;
	unsigned int last;
};

/**
 * struct vhost_blk_coalesce_state - whether used entries wait for later ones
 * @deadline:	when they are added at the latest, in ns; 0 if none waits
 * @last:	when the last request came, or the wait began
 * @nr:		requests that came while used entries waited
 * @limit:	requests that the guest can make without an answer; 0 if not known
 * @limited:	waits that ended at @limit
 * @backoff:	how often used entries wait; a wait without a request fails
 */
struct vhost_blk_coalesce_state {
	u64 deadline;
	u64 last;
	unsigned int nr;
	unsigned int limit;
	unsigned int limited;
	struct vhost_blk_backoff backoff;
};

bool vhost_blk_backoff_tries(struct vhost_blk_backoff *b);
void vhost_blk_backoff_end(struct vhost_blk_backoff *b, bool failed);
u64 vhost_blk_poll_adapt(u64 poll_ns, u64 idle_ns, u64 max_ns);
u64 vhost_blk_coalesce_gap(u64 bound_ns);
bool vhost_blk_coalesce_batch(struct vhost_blk_coalesce_state *c,
			      unsigned int nr, u64 now);
bool vhost_blk_coalesce_waits(struct vhost_blk_coalesce_state *c, u64 now,
			      u64 bound_ns);
void vhost_blk_coalesce_end(struct vhost_blk_coalesce_state *c);

#endif
