// SPDX-License-Identifier: GPL-2.0
/*
 * Requests with any layout of their descriptors.
 *
 * Bug 5: the header had to fit one descriptor. With VIRTIO_F_ANY_LAYOUT or
 * VIRTIO_F_VERSION_1 a driver may split a request anywhere.
 */
#define _GNU_SOURCE
#include "unit.h"

#include <stdlib.h>

#define DISK_SIZE	(1 * MIB)
#define CHAIN_MAX	64
#define DATA_LEN	PAGE

static const enum disk_io file = DISK_FILE;
static const enum disk_io direct = DISK_DIRECT;

/* Header, data and status of a request, one after the other in memory, to be split. */
struct image {
	struct unit *u;
	char *mem;
	uint32_t type;
	uint32_t data_len;
};

static void image_init(struct image *im, struct unit *u, uint32_t data_len)
{
	im->u = u;
	im->data_len = data_len;
	im->mem = unit_alloc(u, sizeof(struct virtio_blk_outhdr) + data_len + 1);
}

static uint32_t readable_len(const struct image *im)
{
	return sizeof(struct virtio_blk_outhdr) +
	       (im->type == VIRTIO_BLK_T_OUT ? im->data_len : 0);
}

static uint32_t writable_len(const struct image *im)
{
	return 1 + (im->type == VIRTIO_BLK_T_OUT ? 0 : im->data_len);
}

/* Do one request split into segments of the given lengths; 0 ends a list. */
static void run_cut(struct image *im, struct blk_request *req, uint32_t type, uint64_t sector,
		    const uint32_t *out, const uint32_t *in, uint64_t seed)
{
	struct virtio_blk_outhdr *header = (void *)im->mem;
	char *data = (char *)(header + 1), *status = data + im->data_len, *p = im->mem;
	struct vq_segment chain[CHAIN_MAX];
	unsigned int nr_out = 0, nr_in = 0;

	im->type = type;
	header->type = type;
	header->ioprio = 0;
	header->sector = sector;
	*status = (char)STATUS_UNSET;
	if (type == VIRTIO_BLK_T_OUT)
		pattern_fill(data, im->data_len, sector * SECTOR_SIZE, seed);
	else
		memset(data, 0xee, im->data_len);
	for (; *out; p += *out++)
		chain[nr_out++] = unit_segment(im->u, p, *out);
	assert_int_equal(p - im->mem, readable_len(im));
	for (; *in; p += *in++)
		chain[nr_out + nr_in++] = unit_segment(im->u, p, *in);
	assert_int_equal(p - im->mem, readable_len(im) + writable_len(im));

	req->done = false;
	req->status = (uint8_t *)status;
	assert_ok(blk_add_chain(req, chain, nr_out, nr_in));
	vq_submit(req->vq);
	if (type == VIRTIO_BLK_T_OUT) {
		expect_end(req, VIRTIO_BLK_S_OK, 1);
		expect_disk(im->u->disk, sector * SECTOR_SIZE, im->data_len, seed);
	} else {
		expect_end(req, VIRTIO_BLK_S_OK, im->data_len + 1);
		expect_pattern(data, im->data_len, sector * SECTOR_SIZE, seed);
	}
}

static const uint32_t header_cuts[][18] = {
	{ 16 }, { 8, 8 }, { 4, 4, 8 }, { 1, 15 }, { 15, 1 }, { 7, 9 }, { 3, 3, 3, 3, 3, 1 },
	{ 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 },
};

static void split_header(void **state)
{
	static const uint32_t read_rest[] = { DATA_LEN, 1, 0 };
	static const uint32_t write_status[] = { 1, 0 };
	struct unit *u = *state;
	struct image im;
	uint32_t out[20];
	unsigned int i, n;

	start_on_any_disk(u, DISK_SIZE, 1, 64);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	image_init(&im, u, DATA_LEN);
	for (i = 0; i < ARRAY_SIZE(header_cuts); i++) {
		run_cut(&im, &u->req, VIRTIO_BLK_T_IN, 8, header_cuts[i], read_rest, 1);
		memcpy(out, header_cuts[i], sizeof(header_cuts[i]));
		for (n = 0; out[n]; n++)
			;
		out[n] = DATA_LEN;
		out[n + 1] = 0;
		run_cut(&im, &u->req, VIRTIO_BLK_T_OUT, 64, out, write_status, i);
	}
}

static void data_shares_descriptors(void **state)
{
	static const uint32_t header[] = { 16, 0 }, status[] = { 1, 0 };
	static const uint32_t all_out[] = { 16 + DATA_LEN, 0 };
	static const uint32_t part_out[] = { 10, 6 + 100, DATA_LEN - 100, 0 };
	static const uint32_t all_in[] = { DATA_LEN + 1, 0 };
	static const uint32_t part_in[] = { 1, DATA_LEN - 2, 2, 0 };
	struct unit *u = *state;
	struct image im;

	start_on_any_disk(u, DISK_SIZE, 1, 64);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	image_init(&im, u, DATA_LEN);
	run_cut(&im, &u->req, VIRTIO_BLK_T_IN, 8, header, all_in, 1);
	run_cut(&im, &u->req, VIRTIO_BLK_T_IN, 9, header, part_in, 1);
	run_cut(&im, &u->req, VIRTIO_BLK_T_OUT, 8, all_out, status, 2);
	run_cut(&im, &u->req, VIRTIO_BLK_T_OUT, 9, part_out, status, 3);
}

/* Split len at random into at most max segments. */
static void cut_randomly(uint32_t *cut, uint32_t len, unsigned int max, uint64_t *seed)
{
	unsigned int nr = 0;

	while (len && nr + 1 < max) {
		uint32_t part = 1 + random_next(seed) % (random_next(seed) % 2 ? 20 : len);

		cut[nr] = part < len ? part : len;
		len -= cut[nr++];
	}
	if (len)
		cut[nr++] = len;
	cut[nr] = 0;
}

static void random_cuts(struct unit *u, unsigned int table_size)
{
	struct blk_request req;
	struct image im;
	uint64_t seed = 7;
	unsigned int i;

	start_on_any_disk(u, DISK_SIZE, 1, 128);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	assert_ok(blk_request_init(&req, &u->vq[0], table_size));
	image_init(&im, u, DATA_LEN);
	for (i = 0; i < 150; i++) {
		uint32_t out[CHAIN_MAX / 2 + 1], in[CHAIN_MAX / 2 + 1];

		im.type = i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
		cut_randomly(out, readable_len(&im), CHAIN_MAX / 2, &seed);
		cut_randomly(in, writable_len(&im), CHAIN_MAX / 2, &seed);
		run_cut(&im, &req, im.type, i % 2 ? 1000 + i : i, out, in, i % 2 ? i : 1);
	}
}

static void random_cuts_on_the_ring(void **state)
{
	random_cuts(*state, 0);
}

static void random_cuts_in_a_table(void **state)
{
	random_cuts(*state, CHAIN_MAX);
}

/* A driver may put single descriptors before the one that has the table. */
static void table_at_the_end_of_a_chain(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct vring_desc *table;
	struct vring_used_elem elem;
	void *cookie;
	char *buf;

	start_on_memfd(u, DISK_SIZE, 1, 64);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	buf = unit_alloc(u, PAGE);
	table = unit_alloc(u, PAGE);
	blk_request_prepare(&u->req, VIRTIO_BLK_T_IN, 2);
	vq->desc[5].addr = guest_address(&u->mem, u->req.header);
	vq->desc[5].len = 16;
	vq->desc[5].flags = VRING_DESC_F_NEXT;
	vq->desc[5].next = 40;
	vq->desc[40].addr = guest_address(&u->mem, table);
	vq->desc[40].len = 2 * sizeof(*table);
	vq->desc[40].flags = VRING_DESC_F_INDIRECT;
	table[0].addr = guest_address(&u->mem, buf);
	table[0].len = PAGE;
	table[0].flags = VRING_DESC_F_WRITE | VRING_DESC_F_NEXT;
	table[0].next = 1;
	table[1].addr = guest_address(&u->mem, u->req.status);
	table[1].len = 1;
	table[1].flags = VRING_DESC_F_WRITE;
	vq_push(vq, 5);
	vq_submit(vq);
	assert_ok(vq_wait(vq, TIMEOUT_MS));
	assert_true(vq_take(vq, &elem, &cookie));
	assert_int_equal(elem.id, 5);
	assert_int_equal(elem.len, PAGE + 1);
	assert_int_equal(*u->req.status, VIRTIO_BLK_S_OK);
	expect_pattern(buf, PAGE, 1024, 1);
}

/* Chains with their descriptors in random order. */
static void descriptors_in_any_order(void **state)
{
	enum { NUM = 64, ROUNDS = 20 };
	struct unit *u = *state;
	struct blk_request req[NUM / 4];
	struct vq *vq = &u->vq[0];
	uint64_t seed = 3;
	unsigned int i, round;
	char *buf;

	start_on_memfd(u, DISK_SIZE, 1, NUM);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	for (i = 0; i < ARRAY_SIZE(req); i++)
		unit_request(&req[i], vq);
	buf = unit_alloc(u, ARRAY_SIZE(req) * PAGE);
	for (round = 0; round < ROUNDS; round++) {
		uint16_t order[NUM];

		assert_int_equal(vq->nr_free, NUM);
		for (i = 0; i < NUM; i++)
			order[i] = i;
		for (i = NUM - 1; i; i--) {
			unsigned int other = random_next(&seed) % (i + 1);
			uint16_t d = order[i];

			order[i] = order[other];
			order[other] = d;
		}
		vq->free_head = order[0];
		for (i = 0; i < NUM; i++)
			vq->next[order[i]] = i + 1 < NUM ? order[i + 1] : NUM;
		memset(buf, 0, ARRAY_SIZE(req) * PAGE);
		for (i = 0; i < ARRAY_SIZE(req); i++) {
			struct vq_segment data[2];

			data[0] = unit_segment(u, buf + i * PAGE, 1000);
			data[1] = unit_segment(u, buf + i * PAGE + 1000, 3096);
			assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i * 9, data, 2));
		}
		vq_submit(vq);
		for (i = 0; i < ARRAY_SIZE(req); i++) {
			expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
			expect_pattern(buf + i * PAGE, PAGE, i * 9 * SECTOR_SIZE, 1);
		}
	}
}

/* Descriptors without data anywhere in a chain. */
static void empty_descriptors(void **state)
{
	struct unit *u = *state;
	struct vq_segment chain[7];
	char *buf;

	start_on_any_disk(u, DISK_SIZE, 1, 64);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	buf = unit_alloc(u, PAGE);
	blk_request_prepare(&u->req, VIRTIO_BLK_T_IN, 4);
	chain[0] = unit_segment(u, buf, 0);
	chain[1] = unit_segment(u, u->req.header, 16);
	chain[2] = unit_segment(u, buf, 0);
	chain[3] = unit_segment(u, buf, PAGE);
	chain[4] = unit_segment(u, buf, 0);
	chain[5] = unit_segment(u, u->req.status, 1);
	chain[6] = unit_segment(u, buf, 0);
	assert_ok(blk_add_chain(&u->req, chain, 3, 4));
	vq_submit(&u->vq[0]);
	expect_end(&u->req, VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf, PAGE, 4 * SECTOR_SIZE, 1);
}

/* A legacy driver that has negotiated no feature. */
static void legacy_ring_without_features(void **state)
{
	struct unit *u = *state;
	char *buf;

	unit_any_disk(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_open(u, 0);
	unit_vqs(u, 1, 64);
	unit_attach(u);
	buf = unit_alloc(u, 65536);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 4, buf, 65536), VIRTIO_BLK_S_OK);
	expect_pattern(buf, 65536, 4 * SECTOR_SIZE, 1);
	pattern_fill(buf, 65536, 0, 2);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 65536), VIRTIO_BLK_S_OK);
	expect_disk(u->disk, 0, 65536, 2);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_ON(split_header, file),
		TEST_ON(split_header, direct),
		TEST_ON(data_shares_descriptors, file),
		TEST_ON(data_shares_descriptors, direct),
		TEST_ON(random_cuts_on_the_ring, file),
		TEST_ON(random_cuts_on_the_ring, direct),
		TEST_ON(random_cuts_in_a_table, file),
		TEST_ON(random_cuts_in_a_table, direct),
		TEST(table_at_the_end_of_a_chain),
		TEST(descriptors_in_any_order),
		TEST_ON(empty_descriptors, file),
		TEST_ON(empty_descriptors, direct),
		TEST_ON(legacy_ring_without_features, file),
		TEST_ON(legacy_ring_without_features, direct),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
