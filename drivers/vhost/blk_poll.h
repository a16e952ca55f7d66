/* SPDX-License-Identifier: GPL-2.0 */
/* Decisions of vhost-blk workers: they take numbers, so that a test can build them alone. */
#ifndef _VHOST_BLK_POLL_H
#define _VHOST_BLK_POLL_H

#include <linux/types.h>

/**
 * struct vhost_blk_coalesce_state - whether used entries wait for later ones
 * @deadline:	when they are added at the latest, in ns; 0 if none waits
 * @several:	the guest has several requests in flight
 * @won:	requests came while used entries waited
 * @skip:	waits that are not to begin
 * @backoff:	their number after the last wait during which no request came
 */
struct vhost_blk_coalesce_state {
	u64 deadline;
	bool several;
	bool won;
	unsigned int skip;
	unsigned int backoff;
};

u64 vhost_blk_poll_adapt(u64 poll_ns, u64 idle_ns, u64 max_ns);
bool vhost_blk_coalesce_batch(struct vhost_blk_coalesce_state *c,
			      unsigned int nr, unsigned int inflight);
bool vhost_blk_coalesce_waits(struct vhost_blk_coalesce_state *c, u64 now,
			      u64 bound_ns);
void vhost_blk_coalesce_end(struct vhost_blk_coalesce_state *c);

#endif
