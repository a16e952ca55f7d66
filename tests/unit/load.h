/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Verified I/O on one queue. Requests may fail: the load keeps track of what the
 * disk may hold then.
 */
#ifndef TESTS_UNIT_LOAD_H
#define TESTS_UNIT_LOAD_H

#include "unit.h"

#define LOAD_DEPTH	16U
#define LOAD_SLOTS	64U		/* extents of the disk; one request at a time uses one */
#define LOAD_SLOT	(8 * KIB)
#define LOAD_SIZE	(LOAD_SLOTS * LOAD_SLOT)

struct load {
	struct unit *u;
	struct vq *vq;
	uint64_t first;			/* sector on the disk */
	uint64_t seed;
	unsigned int types;		/* of the enum below */
	uint8_t *buf;
	struct blk_request req[LOAD_DEPTH];
	struct virtio_blk_discard_write_zeroes *range[LOAD_DEPTH];
	struct {
		bool busy;
		uint32_t type;
		unsigned int slot, version;
		uint8_t *data;
	} now[LOAD_DEPTH];		/* in flight */
	struct {
		/* Each sector holds one of these versions, or zeroes if they are allowed. */
		unsigned int least, most;
		bool zeroes;
	} slot[LOAD_SLOTS];
	unsigned int version;		/* of the last write */
	unsigned int ok, failed;	/* completed requests */
};

/* The load is of the first types of READ, WRITE; FLUSH; WRITE_ZEROES; DISCARD. */
enum { LOAD_READS_WRITES = 2, LOAD_FLUSHES, LOAD_ZEROES, LOAD_ALL };

/* Prepare a load on LOAD_SIZE bytes of zeroes at sector first. The ring exceeds LOAD_DEPTH. */
void load_init(struct load *l, struct unit *u, unsigned int queue, uint64_t first,
	       unsigned int types);
/* Check completed requests, submit new ones, and wait up to 100 ms for a completion. */
void load_step(struct load *l);
/* Run the load until its counter ok or failed has grown by more. */
void load_until(struct load *l, const unsigned int *count, unsigned int more);
/* Run the load while another thread calls a function, which must return 0, and a little longer. */
void load_during(struct load *l, int (*fn)(void *arg), void *arg);
/* Forget what was in flight when the ring was set up anew: it may have been done or not. */
void load_forget(struct load *l);
/* Wait for what is in flight. */
void load_drain(struct load *l);
/* Read and check all slots. */
void load_verify(struct load *l);
/* Drain the load, check that no request failed, and verify. */
void load_expect_ok(struct load *l);

#endif
