/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A model of the device by docs/api.md and the table of errors in
 * docs/design.md. It shares no code with the module.
 */
#ifndef TESTS_FUZZ_MODEL_H
#define TESTS_FUZZ_MODEL_H

#include "vring.h"

#define PIECES_MAX	2048	/* of memory in one request */
#define RANGES_MAX	256	/* in a request's list */
#define NO_STATUS	(-1)

/* A disk as the device sees it. */
struct model_disk {
	uint64_t size;			/* bytes */
	unsigned int block_size;	/* unit of direct I/O */
	bool readonly;
	bool direct;
	struct vhost_blk_limits limits;
};

struct model {
	const struct guest_memory *mem;
	/* Return true if the process may read or write its memory there. */
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
	READS,		/* data from the disk to memory */
	WRITES,		/* data from memory to the disk */
	ZEROES,
	DISCARDS,	/* contents are unspecified afterwards */
	GETS_ID,
};

struct range {
	uint64_t pos, len;	/* bytes */
};

struct expectation {
	bool stops;		/* the ring stops at this chain */
	unsigned int nr_tables;	/* indirect tables; a driver may use one */
	struct piece table;
	unsigned int nr_out, nr_in;
	uint64_t out_len, in_len;
	uint32_t type;
	enum effect effect;
	unsigned int nr_ranges;
	uint64_t data_len;	/* bytes to or from the disk */
	bool partial;		/* fails after some data may have been transferred */
	char *status_at;	/* or NULL */
	int status;		/* NO_STATUS if it cannot be written */
	uint32_t used_len;
	struct range range[RANGES_MAX];
	struct piece piece[PIECES_MAX];	/* readable ones, then writable ones */
};

/* Predict the result of the chain at a head, with the present contents of memory. */
void model_predict(const struct model *m, const struct vq *vq, uint16_t head,
		   struct expectation *e);

/*
 * Return true if pieces have len bytes from an offset on and the process may
 * read or write those. Copies them unless @copy is NULL.
 */
bool model_access(const struct model *m, const struct piece *piece, unsigned int nr, uint64_t from,
		  size_t len, bool write, void *copy);

#endif
