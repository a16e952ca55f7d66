/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What docs/api.md and the table of errors in docs/design.md make of a chain of
 * descriptors: a reading of the ring that shares no code with the module.
 */
#ifndef TESTS_FUZZ_MODEL_H
#define TESTS_FUZZ_MODEL_H

#include "vring.h"

#define PIECES_MAX	2048	/* that the device takes in one request */
#define RANGES_MAX	256	/* in a request's list */
#define NO_STATUS	(-1)

/* A disk as the device sees it. */
struct model_disk {
	uint64_t size;			/* bytes */
	unsigned int block_size;	/* that I/O must be whole blocks of */
	bool readonly;
	bool direct;
	struct vhost_blk_limits limits;
};

struct model {
	const struct guest_memory *mem;
	/* Whether the process may read or write memory of its own. */
	bool (*allowed)(const char *host, size_t len, bool write);
	const struct model_disk *disk;
	uint64_t features;
	uint8_t serial[VIRTIO_BLK_ID_BYTES];
};

struct piece {
	char *host;
	uint32_t len;
};

enum effect {
	NOTHING,
	READS,		/* data comes from the disk */
	WRITES,		/* and goes to it */
	ZEROES,
	DISCARDS,	/* which leaves anything */
	GETS_ID,
};

struct range {
	uint64_t pos, len;	/* bytes */
};

struct verdict {
	bool stops;		/* the ring, at this chain */
	unsigned int nr_tables;	/* indirect tables, of which one is a legal number */
	struct piece table;
	unsigned int nr_out, nr_in;
	uint64_t out_len, in_len;
	uint32_t type;
	enum effect effect;
	unsigned int nr_ranges;
	uint64_t data_len;	/* bytes to or from the disk */
	bool partial;		/* fails somewhere on its way */
	char *status_at;	/* NULL: there is none */
	int status;		/* NO_STATUS: none can be written */
	uint32_t used_len;
	struct range range[RANGES_MAX];
	struct piece piece[PIECES_MAX];	/* those to read, then those to write */
};

/* What becomes of the chain at a head, with the memory as it is now. */
void model_judge(const struct model *m, const struct vq *vq, uint16_t head, struct verdict *v);

/*
 * Whether the process may read or write len bytes of pieces from an offset on,
 * and they are there; copies them if there is a place for them.
 */
bool model_touch(const struct model *m, const struct piece *piece, unsigned int nr, uint64_t from,
		 size_t len, bool write, void *copy);

#endif
