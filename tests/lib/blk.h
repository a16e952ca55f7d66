/* SPDX-License-Identifier: GPL-2.0 */
/* virtio-blk requests on a vring, and the data that tests put into them. */
#ifndef TESTS_LIB_BLK_H
#define TESTS_LIB_BLK_H

#include "vring.h"

#define SECTOR_SIZE	512
#define STATUS_UNSET	0xa5	/* what the status byte holds until the device writes it */

struct blk_request {
	struct vq *vq;
	struct virtio_blk_outhdr *header;
	uint8_t *status;
	struct vring_desc *table;	/* indirect; room for table_size descriptors */
	unsigned int table_size;
	bool done;
	uint32_t used_len;
};

/*
 * Allocate a request's guest memory, once. With table_size > 0 it goes through
 * an indirect table of that many descriptors.
 */
int blk_request_init(struct blk_request *req, struct vq *vq, unsigned int table_size);

/* Prepare a request for a chain of the caller's own. */
void blk_request_prepare(struct blk_request *req, uint32_t type, uint64_t sector);

/* Add a request; data is readable by the device for OUT and lists of ranges, else writable. */
int blk_add(struct blk_request *req, uint32_t type, uint64_t sector,
	    const struct vq_segment *data, unsigned int nr_data);
/* Add a prepared request with the caller's chain. */
int blk_add_chain(struct blk_request *req, const struct vq_segment *segment,
		  unsigned int nr_out, unsigned int nr_in);

/* Take all used entries; return their number, or -EIO for a bad used id. */
int blk_reap(struct vq *vq);
/* Sleep until the request has completed; return its status, or -errno. */
int blk_wait(struct blk_request *req, int timeout_ms);

/* Fill a buffer with data that depends on its byte offset on the disk and on the seed. */
void pattern_fill(void *buf, size_t len, uint64_t offset, uint64_t seed);
/* Return the offset of the first byte that differs, or -1. */
long pattern_differs(const void *buf, size_t len, uint64_t offset, uint64_t seed);

/* Return a random number; the initial state is the seed. */
uint64_t random_next(uint64_t *state);

#endif
