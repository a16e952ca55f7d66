/* SPDX-License-Identifier: GPL-2.0 */
/* A load of verified requests on one queue, of which some may fail: it knows what the disk may hold. */
#ifndef TESTS_UNIT_LOAD_H
#define TESTS_UNIT_LOAD_H

#include "unit.h"

#define LOAD_DEPTH	16U
#define LOAD_SLOTS	64U		/* places on the disk, of which each request has its own */
#define LOAD_SLOT	(8 * KIB)
#define LOAD_SIZE	(LOAD_SLOTS * LOAD_SLOT)

struct load {
	struct unit *u;
	struct vq *vq;
	uint64_t first;			/* sector on the disk */
	uint64_t seed;
	unsigned int types;		/* how many of those in load.c it is of */
	uint8_t *buf;
	struct blk_request req[LOAD_DEPTH];
	struct virtio_blk_discard_write_zeroes *range[LOAD_DEPTH];
	struct {
		bool busy;
		uint32_t type;
		unsigned int slot, version;
		uint8_t *data;
	} now[LOAD_DEPTH];
	struct {
		/* Each sector is of one of these versions, or zeroes where they are allowed. */
		unsigned int least, most;
		bool zeroes;
	} slot[LOAD_SLOTS];
	unsigned int version;		/* the last one written */
	unsigned int ok, failed;	/* requests that have ended */
};

/* What the load is of, the first ones of the list. */
enum { LOAD_READS_WRITES = 2, LOAD_FLUSHES, LOAD_ZEROES, LOAD_ALL };

/* Readies a load on a part of the disk that holds zeroes, for a ring of more entries than its depth. */
void load_init(struct load *l, struct unit *u, unsigned int queue, uint64_t first,
	       unsigned int types);
/* Looks at what has ended, and keeps LOAD_DEPTH requests in flight; sleeps for a moment if nothing ends. */
void load_turn(struct load *l);
/* Goes on until a counter of the load has grown by more. */
void load_until(struct load *l, const unsigned int *count, unsigned int more);
/* Goes on beside a function of another thread, which must return 0, until that has ended and some requests more. */
void load_beside(struct load *l, int (*strike)(void *arg), void *arg);
/* The ring was set up anew: what was in flight will not end, and may have been done or not. */
void load_forget(struct load *l);
/* Waits for what is in flight. */
void load_end(struct load *l);
/* Reads all slots, whose requests must succeed. */
void load_verify(struct load *l);
/* Ends the load, of whose requests none may have failed, and reads all slots. */
void load_expect_ok(struct load *l);

#endif
