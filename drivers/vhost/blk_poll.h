/* SPDX-License-Identifier: GPL-2.0 */
/* Decisions of vhost-blk workers: they take numbers, so that a test can build them alone. */
#ifndef _VHOST_BLK_POLL_H
#define _VHOST_BLK_POLL_H

#include <linux/types.h>

/**
 * struct vhost_blk_coalesce_state - whether used entries wait for later ones
 * @deadline:	when they are added at the latest, in ns; 0 if none waits
 * @last:	when the last request came, or the wait began
 * @nr:		requests that came while used entries waited
 * @limit:	as many as the guest can make without an answer; 0 if not known
 * @limited:	waits that ended at @limit
 * @skip:	waits that are not to begin
 * @backoff:	their number after a wait during which no request came
 */
struct vhost_blk_coalesce_state {
	u64 deadline;
	u64 last;
	unsigned int nr;
	unsigned int limit;
	unsigned int limited;
	unsigned int skip;
	unsigned int backoff;
};

u64 vhost_blk_poll_adapt(u64 poll_ns, u64 idle_ns, u64 max_ns);
bool vhost_blk_coalesce_batch(struct vhost_blk_coalesce_state *c,
			      unsigned int nr, u64 now);
bool vhost_blk_coalesce_waits(struct vhost_blk_coalesce_state *c, u64 now,
			      u64 bound_ns);
void vhost_blk_coalesce_end(struct vhost_blk_coalesce_state *c);

#endif
