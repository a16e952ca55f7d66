// SPDX-License-Identifier: GPL-2.0
/* Rings: sizes, wrap-around, full rings, and several rings. */
#define _GNU_SOURCE
#include "unit.h"

#include <stdlib.h>

#define DISK_SIZE	(4 * MIB)
#define SECTORS		(DISK_SIZE / SECTOR_SIZE)

/* Keep a ring full with sector reads until nr have completed, and check each. */
static void read_many(struct unit *u, struct vq *vq, struct blk_request *req, uint8_t *buf,
		      unsigned int nr)
{
	unsigned int started = 0, ended = 0, i;
	uint64_t sector[1024];

	for (i = 0; i < vq->num; i++) {
		req[i].done = true;
		*req[i].status = STATUS_UNSET;
	}
	while (ended < nr) {
		for (i = 0; i < vq->num && started < nr; i++) {
			struct vq_segment data = unit_segment(u, buf + i * SECTOR_SIZE, SECTOR_SIZE);

			if (!req[i].done)
				continue;
			sector[i] = started++ % SECTORS;
			assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, sector[i], &data, 1));
			req[i].done = false;
		}
		vq_submit(vq);
		assert_ok(vq_wait(vq, TIMEOUT_MS));
		assert_ok(blk_reap(vq));
		for (i = 0; i < vq->num; i++) {
			if (!req[i].done || *req[i].status == STATUS_UNSET)
				continue;
			assert_int_equal(*req[i].status, VIRTIO_BLK_S_OK);
			assert_int_equal(req[i].used_len, SECTOR_SIZE + 1);
			expect_pattern(buf + i * SECTOR_SIZE, SECTOR_SIZE,
				       sector[i] * SECTOR_SIZE, 1);
			*req[i].status = STATUS_UNSET;
			ended++;
		}
	}
	assert_int_equal(vq->nr_free, vq->num);
	assert_int_equal(vq_used_idx(vq), vq->avail_idx);
}

static struct blk_request *alloc_requests(unsigned int nr, struct vq *vq)
{
	struct blk_request *req = calloc(nr, sizeof(*req));

	assert_non_null(req);
	unit_requests(req, nr, vq);
	return req;
}

static void make_filled_disk(struct unit *u)
{
	unit_memfd(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
}

/* All sizes, one after the other on the same device. */
static void ring_of_every_size(void **state)
{
	struct unit *u = *state;
	struct blk_request *req;
	unsigned int num;
	uint8_t *buf;

	make_filled_disk(u);
	unit_open(u, FEATURES);
	assert_ok(vq_setup(&u->vq[0], &u->dev, 0, 1024));
	req = alloc_requests(1024, &u->vq[0]);
	buf = unit_alloc(u, 1024 * SECTOR_SIZE);
	for (num = 1; num <= 1024; num *= 2) {
		vq_free(&u->vq[0]);
		assert_ok(vq_setup(&u->vq[0], &u->dev, 0, num));
		unit_attach(u);
		read_many(u, &u->vq[0], req, buf, 3 * num + 7);
		unit_detach(u);
		assert_int_equal(vq_get_base(&u->vq[0]), 3 * num + 7);
	}
	free(req);
}

/* The size shrinks and grows, so that pools of the old size cannot be reused. */
static void ring_size_changes_between_attaches(void **state)
{
	static const unsigned int nums[] = { 8, 1024, 2, 256, 1, 512, 4 };
	struct unit *u = *state;
	struct blk_request *req;
	unsigned int i;
	uint8_t *buf;

	make_filled_disk(u);
	unit_open(u, FEATURES);
	assert_ok(vq_setup(&u->vq[0], &u->dev, 0, 1024));
	req = alloc_requests(1024, &u->vq[0]);
	buf = unit_alloc(u, 1024 * SECTOR_SIZE);
	for (i = 0; i < ARRAY_SIZE(nums); i++) {
		vq_free(&u->vq[0]);
		assert_ok(vq_setup(&u->vq[0], &u->dev, 0, nums[i]));
		unit_attach(u);
		read_many(u, &u->vq[0], req, buf, nums[i] + 3);
		unit_detach(u);
	}
	free(req);
}

/* Both indices and the event index pass 65535. */
static void index_wraps_around(void **state)
{
	static const uint16_t base[] = { 65535, 65530, 65500, 32760 };
	struct unit *u = *state;
	struct blk_request req[8];
	unsigned int i;
	uint8_t *buf;

	make_filled_disk(u);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 8);
	unit_requests(req, 8, &u->vq[0]);
	buf = unit_alloc(u, 8 * SECTOR_SIZE);
	for (i = 0; i < ARRAY_SIZE(base); i++) {
		assert_ok(vq_restart(&u->vq[0], base[i]));
		unit_attach(u);
		read_many(u, &u->vq[0], req, buf, 100);
		unit_detach(u);
		assert_int_equal(vq_get_base(&u->vq[0]), (uint16_t)(base[i] + 100));
	}
}

/* On stock kernels more requests than 16-bit indices. */
static void more_requests_than_indices(void **state)
{
	enum { NUM = 128 };
	unsigned int nr = 66000 / unit_slower();
	struct unit *u = *state;
	struct blk_request *req;
	uint8_t *buf;

	make_filled_disk(u);
	unit_start(u, 1, NUM);
	req = alloc_requests(NUM, &u->vq[0]);
	buf = unit_alloc(u, NUM * SECTOR_SIZE);
	read_many(u, &u->vq[0], req, buf, nr);
	unit_detach(u);
	assert_int_equal(vq_get_base(&u->vq[0]), nr % 65536);
	free(req);
}

/* 1024 requests in flight on a slow disk: each completes exactly once. */
static void full_ring_in_flight(void **state)
{
	enum { NUM = 1024 };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct blk_request *req;
	unsigned int i;
	uint8_t *buf;

	unit_slow(u, 100);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start(u, 1, NUM);
	req = alloc_requests(NUM, vq);
	buf = unit_alloc(u, NUM * SECTOR_SIZE);
	for (i = 0; i < NUM; i++) {
		struct vq_segment data = unit_segment(u, buf + i * SECTOR_SIZE, SECTOR_SIZE);

		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i, &data, 1));
	}
	assert_int_equal(vq->nr_free, 0);
	vq_submit(vq);
	for (i = 0; i < NUM; i++) {
		expect_end(&req[i], VIRTIO_BLK_S_OK, SECTOR_SIZE + 1);
		expect_pattern(buf + i * SECTOR_SIZE, SECTOR_SIZE, i * SECTOR_SIZE, 1);
	}
	assert_int_equal(vq->nr_free, NUM);
	ASSERT_NEVER(vq_used_idx(vq) != NUM);
	free(req);
}

/* Reads, writes, flushes, GET_ID and an unknown type in flight together. */
static void all_types_at_once(void **state)
{
	enum { NUM = 128, ROUNDS = 10 };
	static const uint32_t types[] = {
		VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, 99,
	};
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct blk_request req[NUM];
	unsigned int i, round;
	uint8_t *buf;

	make_filled_disk(u);
	unit_start(u, 1, NUM);
	unit_requests(req, NUM, vq);
	buf = unit_alloc(u, NUM * SECTOR_SIZE);
	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < NUM; i++) {
			uint32_t type = types[(i + round) % ARRAY_SIZE(types)];
			uint8_t *p = buf + i * SECTOR_SIZE;
			struct vq_segment data = unit_segment(u, p, SECTOR_SIZE);

			pattern_fill(p, SECTOR_SIZE, i * SECTOR_SIZE, 1);
			assert_ok(blk_add(&req[i], type, i, &data, type != VIRTIO_BLK_T_FLUSH));
		}
		vq_submit(vq);
		for (i = 0; i < NUM; i++) {
			switch (req[i].header->type) {
			case VIRTIO_BLK_T_IN:
				expect_end(&req[i], VIRTIO_BLK_S_OK, SECTOR_SIZE + 1);
				break;
			case VIRTIO_BLK_T_GET_ID:
				expect_end(&req[i], VIRTIO_BLK_S_OK, VIRTIO_BLK_ID_BYTES + 1);
				break;
			case 99:
				expect_end(&req[i], VIRTIO_BLK_S_UNSUPP, 1);
				break;
			default:
				expect_end(&req[i], VIRTIO_BLK_S_OK, 1);
			}
		}
	}
	expect_disk(u->disk, 0, DISK_SIZE, 1);
}

/*
 * Bug 10: a completion worker wrote the used ring without vq->mutex. Half of
 * these requests complete when they are fetched, half when the disk completes
 * them, so that both workers add used entries at the same time.
 */
static void used_ring_has_two_writers(void **state)
{
	enum { DEPTH = 256, TOTAL = 20000 };
	struct null_blk spec = { .size_mib = 4, .delay_us = 20 };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	unsigned int i, started = 0, ended = 0;
	struct blk_request *req;
	struct vq_segment data;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	unit_start(u, 1, DEPTH);
	req = alloc_requests(DEPTH, vq);
	data = unit_segment(u, unit_alloc(u, SECTOR_SIZE), SECTOR_SIZE);
	for (i = 0; i < DEPTH; i++)
		req[i].done = true;
	while (ended < TOTAL) {
		for (i = 0; i < DEPTH && started < TOTAL; i++) {
			if (!req[i].done)
				continue;
			assert_ok(blk_add(&req[i], i % 2 ? VIRTIO_BLK_T_IN : 99, i, &data, 1));
			if (++started % 4 == 0)
				vq_submit(vq);
		}
		vq_submit(vq);
		assert_ok(vq_wait(vq, TIMEOUT_MS));
		i = blk_reap(vq);
		assert_ok((int)i);
		ended += i;
	}
	assert_int_equal(vq->nr_free, DEPTH);
	assert_int_equal(vq_used_idx(vq), TOTAL);
	for (i = 0; i < DEPTH; i++) {
		assert_int_equal(*req[i].status, i % 2 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(req[i].used_len, i % 2 ? SECTOR_SIZE + 1 : 1);
	}
	free(req);
}

static const unsigned int one = 1, two = 2, eight = 8, all = VQS_MAX;

/* Each ring writes and reads its own part of the disk, all at the same time. */
static void rings_run_in_parallel(void **state)
{
	enum { PART = 16 * KIB };
	struct unit *u = *state;
	unsigned int nr = *(const unsigned int *)u->param, i;
	struct blk_request *req;
	uint8_t *buf;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, nr, 16);
	unit_attach(u);
	expect_workers(getpid(), 2 * nr);
	req = calloc(nr, sizeof(*req));
	assert_non_null(req);
	buf = unit_alloc(u, nr * PART);
	for (i = 0; i < nr; i++) {
		unit_requests(&req[i], 1, &u->vq[i]);
		pattern_fill(buf + i * PART, PART, i * PART, 2);
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_OUT, i * PART / SECTOR_SIZE,
				buf + i * PART, PART);
	}
	for (i = 0; i < nr; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, 1);
	expect_disk(u->disk, 0, nr * PART, 2);
	memset(buf, 0, nr * PART);
	for (i = 0; i < nr; i++)
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i * PART / SECTOR_SIZE,
				buf + i * PART, PART);
	for (i = 0; i < nr; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PART + 1);
	expect_pattern(buf, nr * PART, 0, 2);
	unit_detach(u);
	for (i = 0; i < nr; i++)
		assert_int_equal(vq_get_base(&u->vq[i]), 2);
	expect_workers(getpid(), 0);
	free(req);
}

/* Rings need not be the first ones. Those that are not set up have no workers. */
static void only_rings_that_are_set_up_run(void **state)
{
	static const unsigned int index[] = { 2, 5, 127 };
	struct unit *u = *state;
	struct blk_request req[3];
	unsigned int i;
	uint8_t *buf;

	make_filled_disk(u);
	unit_open(u, FEATURES);
	for (i = 0; i < 3; i++) {
		assert_ok(vq_setup(&u->vq[i], &u->dev, index[i], 8 << i));
		unit_request(&req[i], &u->vq[i]);
	}
	unit_attach(u);
	expect_workers(getpid(), 6);
	buf = unit_alloc(u, 3 * 4096);
	for (i = 0; i < 3; i++) {
		assert_int_equal(unit_io_on(u, &req[i], VIRTIO_BLK_T_IN, i, buf, 4096),
				 VIRTIO_BLK_S_OK);
		expect_pattern(buf, 4096, i * SECTOR_SIZE, 1);
	}
}

/* A ring that is set up while others run is processed after the next attach. */
static void ring_set_up_after_attach_is_not_processed(void **state)
{
	struct unit *u = *state;
	struct blk_request late;
	struct vq *vq = &u->vq[1];
	uint8_t *buf;

	make_filled_disk(u);
	unit_start(u, 1, 16);
	assert_ok(vq_setup(vq, &u->dev, 1, 16));
	unit_request(&late, vq);
	buf = unit_alloc(u, 4096);
	unit_submit_one(u, &late, VIRTIO_BLK_T_IN, 0, buf, 4096);
	vq_kick(vq);
	ASSERT_NEVER(vq_used_idx(vq) || event_count(vq->err));
	expect_alive(u);
	unit_detach(u);
	unit_attach(u);
	expect_end(&late, VIRTIO_BLK_S_OK, 4097);
	expect_alive(u);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(ring_of_every_size),
		TEST(ring_size_changes_between_attaches),
		TEST(index_wraps_around),
		TEST(more_requests_than_indices),
		TEST(full_ring_in_flight),
		TEST(all_types_at_once),
		TEST(used_ring_has_two_writers),
		TEST_ON(rings_run_in_parallel, one),
		TEST_ON(rings_run_in_parallel, two),
		TEST_ON(rings_run_in_parallel, eight),
		TEST_ON(rings_run_in_parallel, all),
		TEST(only_rings_that_are_set_up_run),
		TEST(ring_set_up_after_attach_is_not_processed),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
