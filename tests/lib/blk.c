// SPDX-License-Identifier: GPL-2.0
/* virtio-blk requests on a vring, and the data that tests put into them. */
#define _GNU_SOURCE
#include "blk.h"

#include <errno.h>
#include <string.h>

#define SEGMENTS_MAX	1024

int blk_request_init(struct blk_request *req, struct vq *vq, unsigned int table_size)
{
	struct guest_memory *mem = vq->dev->mem;

	memset(req, 0, sizeof(*req));
	req->vq = vq;
	req->header = guest_alloc(mem, 0, sizeof(*req->header) + 1, sizeof(*req->header));
	if (!req->header)
		return -ENOMEM;
	req->status = (uint8_t *)(req->header + 1);
	if (table_size) {
		req->table_size = table_size;
		req->table = guest_alloc(mem, 0, table_size * sizeof(*req->table),
					 sizeof(*req->table));
		if (!req->table)
			return -ENOMEM;
	}
	return 0;
}

void blk_request_prepare(struct blk_request *req, uint32_t type, uint64_t sector)
{
	req->header->type = type;
	req->header->ioprio = 0;
	req->header->sector = sector;
	*req->status = STATUS_UNSET;
	req->done = false;
	req->used_len = 0;
}

int blk_add_chain(struct blk_request *req, const struct vq_segment *segment,
		  unsigned int nr_out, unsigned int nr_in)
{
	if (req->table_size)
		return vq_add_indirect(req->vq, req->table, segment, nr_out, nr_in, req);
	return vq_add(req->vq, segment, nr_out, nr_in, req);
}

static bool data_is_readable(uint32_t type)
{
	return type == VIRTIO_BLK_T_OUT || type == VIRTIO_BLK_T_DISCARD ||
	       type == VIRTIO_BLK_T_WRITE_ZEROES || type == VIRTIO_BLK_T_SECURE_ERASE;
}

int blk_add(struct blk_request *req, uint32_t type, uint64_t sector,
	    const struct vq_segment *data, unsigned int nr_data)
{
	const struct guest_memory *mem = req->vq->dev->mem;
	struct vq_segment segment[SEGMENTS_MAX];
	unsigned int nr_out = data_is_readable(type) ? nr_data + 1 : 1;

	if (nr_data > SEGMENTS_MAX - 2)
		return -E2BIG;
	blk_request_prepare(req, type, sector);
	segment[0].addr = guest_address(mem, req->header);
	segment[0].len = sizeof(*req->header);
	memcpy(&segment[1], data, nr_data * sizeof(*data));
	segment[nr_data + 1].addr = segment[0].addr + sizeof(*req->header);
	segment[nr_data + 1].len = 1;
	return blk_add_chain(req, segment, nr_out, nr_data + 2 - nr_out);
}

int blk_reap(struct vq *vq)
{
	struct vring_used_elem elem;
	struct blk_request *req;
	void *cookie;
	int nr = 0;

	while (vq_take(vq, &elem, &cookie)) {
		if (!cookie)
			return -EIO;
		req = cookie;
		req->done = true;
		req->used_len = elem.len;
		nr++;
	}
	return nr;
}

int blk_wait(struct blk_request *req, int timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;
	int ret;

	for (;;) {
		ret = blk_reap(req->vq);
		if (ret < 0)
			return ret;
		if (req->done)
			return *req->status;
		ret = vq_wait(req->vq, end - now_ms());
		if (ret)
			return ret;
	}
}

uint64_t random_next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static uint64_t pattern_word(uint64_t offset, uint64_t seed)
{
	return (offset / 8 + 1) * 0x9e3779b97f4a7c15ULL ^ seed;
}

/* Both functions below take a word at a time, and bytes at an unaligned start and end. */
static size_t pattern_step(uint64_t offset, size_t len)
{
	return offset % 8 || len < 8 ? 1 : 8;
}

void pattern_fill(void *buf, size_t len, uint64_t offset, uint64_t seed)
{
	char *p = buf;
	size_t step;

	for (; len; p += step, offset += step, len -= step) {
		uint64_t word = pattern_word(offset, seed);

		step = pattern_step(offset, len);
		if (step == sizeof(word))
			memcpy(p, &word, sizeof(word));
		else
			*p = ((char *)&word)[offset % 8];
	}
}

long pattern_differs(const void *buf, size_t len, uint64_t offset, uint64_t seed)
{
	const char *p = buf;
	size_t at, step, i;

	for (at = 0; at < len; at += step) {
		uint64_t word = pattern_word(offset + at, seed);
		const char *expected = (char *)&word + (offset + at) % 8;

		step = pattern_step(offset + at, len - at);
		if (step == sizeof(word) && !memcmp(p + at, &word, sizeof(word)))
			continue;
		for (i = 0; i < step; i++)
			if (p[at + i] != expected[i])
				return at + i;
	}
	return -1;
}
