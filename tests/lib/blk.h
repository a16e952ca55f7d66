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
 * Gives a request its guest memory, once. With table_size > 0 it goes through
 * an indirect table of that many descriptors.
 */
int blk_request_init(struct blk_request *req, struct vq *vq, unsigned int table_size);

/* Readies a request that is to be put on the ring by hand. */
void blk_request_prepare(struct blk_request *req, uint32_t type, uint64_t sector);

/* Adds a request; data is readable by the device for OUT and lists of ranges, else writable. */
int blk_add(struct blk_request *req, uint32_t type, uint64_t sector,
	    const struct vq_segment *data, unsigned int nr_data);
/* Adds one whose chain the caller laid out. */
int blk_add_chain(struct blk_request *req, const struct vq_segment *segment,
		  unsigned int nr_out, unsigned int nr_in);

/* Notes all completions there are; returns how many, or -EIO for a bad used id. */
int blk_reap(struct vq *vq);
/* Sleeps until the request has completed: its status, or -errno. */
int blk_wait(struct blk_request *req, int timeout_ms);

/* Data that differs with its byte offset on the disk and with the seed. */
void pattern_fill(void *buf, size_t len, uint64_t offset, uint64_t seed);
/* Offset of the first byte that differs, or -1. */
long pattern_differs(const void *buf, size_t len, uint64_t offset, uint64_t seed);

/* A random number; the state is the seed. */
uint64_t random_next(uint64_t *state);

#endif
