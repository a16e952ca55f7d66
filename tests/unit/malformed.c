// SPDX-License-Identifier: GPL-2.0
/* Malformed requests, which fail alone, and corrupt rings, which stop. */
#define _GNU_SOURCE
#include "unit.h"

#include <pthread.h>
#include <stdlib.h>

#define DISK_SIZE	(1 * MIB)
#define NUM		64U
#define ANY_TYPE	VIRTIO_BLK_T_IN

/* The parts of a request. */
struct malformed {
	uint32_t type;
	uint32_t header_len;
	uint32_t readable;	/* data bytes */
	uint32_t writable;
	bool status;		/* there is a status byte */
	int want_status;
	uint32_t want_used;
};

static const struct malformed malformed[] = {
	/* no header, or a short one */
	{ VIRTIO_BLK_T_IN, 0, 0, 0, true, VIRTIO_BLK_S_IOERR, 1 },
	{ VIRTIO_BLK_T_IN, 0, 0, 512, true, VIRTIO_BLK_S_IOERR, 1 },
	{ VIRTIO_BLK_T_IN, 1, 0, 512, true, VIRTIO_BLK_S_IOERR, 1 },
	{ VIRTIO_BLK_T_IN, 8, 0, 512, true, VIRTIO_BLK_S_IOERR, 1 },
	{ VIRTIO_BLK_T_IN, 15, 0, 512, true, VIRTIO_BLK_S_IOERR, 1 },
	{ VIRTIO_BLK_T_FLUSH, 15, 0, 0, true, VIRTIO_BLK_S_IOERR, 1 },
	{ VIRTIO_BLK_T_GET_ID, 4, 0, 20, true, VIRTIO_BLK_S_IOERR, 1 },
	/* no status byte */
	{ VIRTIO_BLK_T_OUT, 16, 512, 0, false, STATUS_UNSET, 0 },
	{ VIRTIO_BLK_T_FLUSH, 16, 0, 0, false, STATUS_UNSET, 0 },
	{ VIRTIO_BLK_T_IN, 16, 0, 0, false, STATUS_UNSET, 0 },
	{ VIRTIO_BLK_T_IN, 16, 512, 0, false, STATUS_UNSET, 0 },
	{ 77, 16, 0, 0, false, STATUS_UNSET, 0 },
	{ VIRTIO_BLK_T_OUT, 3, 0, 0, false, STATUS_UNSET, 0 },
	/* data in the wrong direction */
	{ VIRTIO_BLK_T_IN, 16, 512, 0, true, VIRTIO_BLK_S_IOERR, 1 },
	{ VIRTIO_BLK_T_OUT, 16, 0, 512, true, VIRTIO_BLK_S_IOERR, 1 },
	/* not whole sectors */
	{ VIRTIO_BLK_T_IN, 16, 0, 100, true, VIRTIO_BLK_S_IOERR, 1 },
	{ VIRTIO_BLK_T_OUT, 16, 513, 0, true, VIRTIO_BLK_S_IOERR, 1 },
	/* unknown */
	{ 0x1234, 16, 0, 512, true, VIRTIO_BLK_S_UNSUPP, 1 },
};

static void add_malformed(struct unit *u, struct blk_request *req, const struct malformed *m,
			  char *buf)
{
	struct vq_segment chain[4];
	unsigned int nr_out = 0, nr_in = 0;

	blk_request_prepare(req, m->type, 1);
	if (m->header_len)
		chain[nr_out++] = unit_segment(u, req->header, m->header_len);
	if (m->readable)
		chain[nr_out++] = unit_segment(u, buf, m->readable);
	if (m->writable)
		chain[nr_out + nr_in++] = unit_segment(u, buf, m->writable);
	if (m->status)
		chain[nr_out + nr_in++] = unit_segment(u, req->status, 1);
	assert_ok(blk_add_chain(req, chain, nr_out, nr_in));
}

static void start_on_filled_disk(struct unit *u)
{
	start_on_memfd(u, DISK_SIZE, 2, NUM);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
}

/* Bug 3: a malformed request left the ring stalled, with notifications off. */
static void malformed_requests_one_by_one(void **state)
{
	struct unit *u = *state;
	unsigned int i;
	char *buf;

	start_on_filled_disk(u);
	buf = unit_alloc(u, 4096);
	memset(buf, 0x77, 4096);
	for (i = 0; i < ARRAY_SIZE(malformed); i++) {
		add_malformed(u, &u->req, &malformed[i], buf);
		vq_submit(&u->vq[0]);
		expect_end(&u->req, malformed[i].want_status, malformed[i].want_used);
		assert_int_equal(buf[0], 0x77);
		expect_alive(u);
	}
	assert_int_equal(event_count(u->vq[0].err), 0);
	expect_disk(u->disk, 0, DISK_SIZE, 1);
}

static void malformed_requests_among_valid_ones(void **state)
{
	enum { NR = 16, ROUNDS = 60 };
	struct unit *u = *state;
	struct blk_request req[NR];
	const struct malformed *kind[NR];
	uint64_t seed = 11;
	unsigned int i, round;
	char *buf, *bad;

	start_on_filled_disk(u);
	for (i = 0; i < NR; i++)
		unit_request(&req[i], &u->vq[0]);
	buf = unit_alloc(u, NR * 512);
	bad = unit_alloc(u, 4096);
	for (round = 0; round < ROUNDS; round++) {
		memset(buf, 0xee, NR * 512);
		for (i = 0; i < NR; i++) {
			struct vq_segment data = unit_segment(u, buf + i * 512, 512);

			kind[i] = NULL;
			if (random_next(&seed) % 2) {
				assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i + round, &data, 1));
			} else {
				kind[i] = &malformed[random_next(&seed) % ARRAY_SIZE(malformed)];
				add_malformed(u, &req[i], kind[i], bad);
			}
		}
		vq_submit(&u->vq[0]);
		for (i = 0; i < NR; i++) {
			if (kind[i]) {
				expect_end(&req[i], kind[i]->want_status, kind[i]->want_used);
				continue;
			}
			expect_end(&req[i], VIRTIO_BLK_S_OK, 513);
			expect_pattern(buf + i * 512, 512, (i + round) * SECTOR_SIZE, 1);
		}
	}
	assert_int_equal(event_count(u->vq[0].err), 0);
	expect_disk(u->disk, 0, DISK_SIZE, 1);
}

/* A request of empty descriptors completes without a status. */
static void empty_request(void **state)
{
	struct unit *u = *state;
	struct vq_segment nothing[2];

	start_on_filled_disk(u);
	blk_request_prepare(&u->req, ANY_TYPE, 0);
	nothing[0] = unit_segment(u, u->req.header, 0);
	nothing[1] = unit_segment(u, u->req.status, 0);
	assert_ok(blk_add_chain(&u->req, nothing, 1, 1));
	vq_submit(&u->vq[0]);
	expect_end(&u->req, STATUS_UNSET, 0);
	expect_alive(u);
}

/* Corrupt a ring to which a valid chain of three descriptors was added at head. */
typedef void corrupt_fn(struct unit *u, struct vq *vq, uint16_t head);

static void add_table(struct unit *u, struct vq *vq, uint16_t head, struct vring_desc **table)
{
	unsigned int i;

	*table = unit_alloc(u, 4096);
	for (i = 0; i < 3; i++) {
		(*table)[i] = vq->desc[(head + i) % vq->num];
		(*table)[i].next = i + 1;
	}
	vq->desc[head].addr = guest_address(&u->mem, *table);
	vq->desc[head].len = 3 * sizeof(**table);
	vq->desc[head].flags = VRING_DESC_F_INDIRECT;
}

static void do_descriptor_points_to_itself(struct unit *u, struct vq *vq, uint16_t head)
{
	(void)u;
	vq->desc[head].next = head;
}

static void do_chain_loops(struct unit *u, struct vq *vq, uint16_t head)
{
	uint16_t second = vq->desc[head].next;

	(void)u;
	vq->desc[second].flags |= VRING_DESC_F_NEXT;
	vq->desc[second].flags &= ~VRING_DESC_F_WRITE;
	vq->desc[second].next = head;
}

static void do_writable_chain_loops(struct unit *u, struct vq *vq, uint16_t head)
{
	uint16_t second = vq->desc[head].next, third = vq->desc[second].next;

	(void)u;
	vq->desc[third].flags |= VRING_DESC_F_NEXT;
	vq->desc[third].next = second;
}

static void do_next_is_the_ring_size(struct unit *u, struct vq *vq, uint16_t head)
{
	(void)u;
	vq->desc[head].next = vq->num;
}

static void do_next_is_65535(struct unit *u, struct vq *vq, uint16_t head)
{
	(void)u;
	vq->desc[head].next = 65535;
}

/* Bug 1: a u16 head swallowed the error of the fetch and indexed the request array with it. */
static void do_head_is_the_ring_size(struct unit *u, struct vq *vq, uint16_t head)
{
	(void)u;
	(void)head;
	vq->avail->ring[(vq->avail_idx - 1) % vq->num] = vq->num;
}

static void do_head_is_65535(struct unit *u, struct vq *vq, uint16_t head)
{
	(void)u;
	(void)head;
	vq->avail->ring[(vq->avail_idx - 1) % vq->num] = 65535;
}

static void do_available_index_jumps(struct unit *u, struct vq *vq, uint16_t head)
{
	(void)u;
	(void)head;
	vq->avail_idx += vq->num + 1;
}

static void do_address_is_in_no_region(struct unit *u, struct vq *vq, uint16_t head)
{
	(void)u;
	vq->desc[vq->desc[head].next].addr = 0x1000;
}

static void do_header_is_in_no_region(struct unit *u, struct vq *vq, uint16_t head)
{
	(void)u;
	vq->desc[head].addr = GUEST_GPA - 16;
}

static void do_buffer_exceeds_its_region(struct unit *u, struct vq *vq, uint16_t head)
{
	(void)u;
	vq->desc[vq->desc[head].next].addr = GUEST_GPA + GUEST_SIZE - 256;
}

static void do_buffer_wraps_around(struct unit *u, struct vq *vq, uint16_t head)
{
	(void)u;
	vq->desc[vq->desc[head].next].addr = UINT64_MAX - 255;
}

static void do_buffer_is_four_gigabytes(struct unit *u, struct vq *vq, uint16_t head)
{
	(void)u;
	vq->desc[vq->desc[head].next].len = UINT32_MAX;
}

static void do_readable_after_writable(struct unit *u, struct vq *vq, uint16_t head)
{
	uint16_t second = vq->desc[head].next;

	(void)u;
	vq->desc[vq->desc[second].next].flags &= ~VRING_DESC_F_WRITE;
}

static void do_table_is_in_no_region(struct unit *u, struct vq *vq, uint16_t head)
{
	struct vring_desc *table;

	add_table(u, vq, head, &table);
	vq->desc[head].addr = 0x1000;
}

static void do_table_length_is_invalid(struct unit *u, struct vq *vq, uint16_t head)
{
	struct vring_desc *table;

	add_table(u, vq, head, &table);
	vq->desc[head].len = 3 * sizeof(*table) - 1;
}

static void do_table_is_empty(struct unit *u, struct vq *vq, uint16_t head)
{
	struct vring_desc *table;

	add_table(u, vq, head, &table);
	vq->desc[head].len = 0;
}

static void do_table_is_nested(struct unit *u, struct vq *vq, uint16_t head)
{
	struct vring_desc *table;

	add_table(u, vq, head, &table);
	table[1].addr = guest_address(&u->mem, table);
	table[1].len = 3 * sizeof(*table);
	table[1].flags |= VRING_DESC_F_INDIRECT;
}

static void do_table_has_no_end(struct unit *u, struct vq *vq, uint16_t head)
{
	struct vring_desc *table;

	add_table(u, vq, head, &table);
	table[2].flags |= VRING_DESC_F_NEXT;
	table[2].next = 1;
}

static void do_table_entry_in_no_region(struct unit *u, struct vq *vq, uint16_t head)
{
	struct vring_desc *table;

	add_table(u, vq, head, &table);
	table[1].addr = 0x1000;
}

static void do_table_readable_after_writable(struct unit *u, struct vq *vq, uint16_t head)
{
	struct vring_desc *table;

	add_table(u, vq, head, &table);
	table[2].flags &= ~VRING_DESC_F_WRITE;
}

#define CORRUPTIONS(X) \
	X(descriptor_points_to_itself) X(chain_loops) X(writable_chain_loops) \
	X(next_is_the_ring_size) X(next_is_65535) X(head_is_the_ring_size) \
	X(head_is_65535) X(available_index_jumps) X(address_is_in_no_region) \
	X(header_is_in_no_region) X(buffer_exceeds_its_region) X(buffer_wraps_around) \
	X(buffer_is_four_gigabytes) X(readable_after_writable) X(table_is_in_no_region) \
	X(table_length_is_invalid) X(table_is_empty) X(table_is_nested) \
	X(table_has_no_end) X(table_entry_in_no_region) \
	X(table_readable_after_writable)

#define CORRUPT(how) static corrupt_fn *const how = do_##how;
CORRUPTIONS(CORRUPT)

/*
 * A corrupt ring signals its error eventfd and is not processed until the next
 * attach. The other ring of the device and other devices are not affected.
 */
static void ring_stops(void **state)
{
	struct unit *u = *state;
	corrupt_fn *corrupt = *(corrupt_fn *const *)u->param;
	struct vhost_blk other;
	struct vq other_vq;
	struct blk_request second, elsewhere;
	struct vq_segment data;
	char *buf;
	int head;

	start_on_filled_disk(u);
	assert_ok(vhost_blk_open(&other, &u->mem, FEATURES));
	assert_ok(vq_setup(&other_vq, &other, 0, NUM));
	assert_ok(vhost_blk_attach(&other, u->disk));
	unit_request(&elsewhere, &other_vq);
	unit_request(&second, &u->vq[1]);
	buf = unit_alloc(u, 512);
	data = unit_segment(u, buf, 512);
	expect_alive(u);

	assert_ok(blk_add(&u->req, VIRTIO_BLK_T_IN, 0, &data, 1));
	head = u->vq[0].avail->ring[(u->vq[0].avail_idx - 1) % NUM];
	corrupt(u, &u->vq[0], head);
	vq_publish(&u->vq[0]);
	vq_kick(&u->vq[0]);
	expect_ring_stopped(&u->vq[0]);
	assert_int_equal(vq_used_idx(&u->vq[0]), 1);

	assert_int_equal(unit_io_on(u, &second, VIRTIO_BLK_T_IN, 1, buf, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(event_count(u->vq[1].err), 0);
	assert_int_equal(unit_io_on(u, &elsewhere, VIRTIO_BLK_T_IN, 1, buf, 512),
			 VIRTIO_BLK_S_OK);
	vhost_blk_close(&other);
	vq_free(&other_vq);

	unit_detach(u);
	expect_workers(getpid(), 0);
	assert_ok(vq_restart(&u->vq[0], 0));
	unit_attach(u);
	expect_alive(u);
	expect_alive(u);
	assert_int_equal(event_count(u->vq[0].err), 0);
}

/* Count the new messages in the kernel's log. */
static unsigned int new_messages(int kmsg)
{
	char message[8192];
	unsigned int nr = 0;
	ssize_t ret;

	do {
		ret = read(kmsg, message, sizeof(message) - 1);
		nr += ret > 0;
		/* With EPIPE messages were overwritten before they were read. */
		assert_false(ret < 0 && errno == EPIPE);
	} while (ret > 0);
	return nr;
}

static int open_kmsg(void)
{
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	assert_ok(kmsg);
	assert_ok(lseek(kmsg, 0, SEEK_END));
	return kmsg;
}

/* Errors of the guest do not write to the host's log. */
static void kernel_log_does_not_grow(void **state)
{
	/* Twice the messages that the test tolerates, of each kind of error. */
	enum { ROUNDS = 20, REQUESTS = ROUNDS * ARRAY_SIZE(malformed) };
#define POINTER_TO(how)	do_##how,
	static corrupt_fn *const all[] = { CORRUPTIONS(POINTER_TO) };
	struct unit *u = *state;
	struct blk_request req[ARRAY_SIZE(all)];
	struct vq_segment data;
	unsigned int i, round;
	int kmsg, head;
	struct vq *vq;
	char *buf;

	unit_memfd(u, DISK_SIZE);
	unit_start(u, ARRAY_SIZE(all), NUM);
	for (i = 0; i < ARRAY_SIZE(all); i++)
		unit_request(&req[i], &u->vq[i]);
	kmsg = open_kmsg();
	buf = unit_alloc(u, 4096);
	data = unit_segment(u, buf, 512);
	for (i = 0; i < REQUESTS; i++) {
		const struct malformed *m = &malformed[i % ARRAY_SIZE(malformed)];

		add_malformed(u, &u->req, m, buf);
		vq_submit(&u->vq[0]);
		expect_end(&u->req, m->want_status, m->want_used);
	}
	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < ARRAY_SIZE(all); i++) {
			vq = &u->vq[i];
			assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, 0, &data, 1));
			head = vq->avail->ring[(vq->avail_idx - 1) % NUM];
			all[i](u, vq, head);
			vq_publish(vq);
			vq_kick(vq);
		}
		for (i = 0; i < ARRAY_SIZE(all); i++)
			assert_ok(event_wait(u->vq[i].err, TIMEOUT_MS));
		unit_detach(u);
		for (i = 0; i < ARRAY_SIZE(all); i++)
			assert_ok(vq_restart(&u->vq[i], 0));
		unit_attach(u);
	}
	expect_alive(u);
	/* Other parts of the kernel may log something. */
	assert_in_range(new_messages(kmsg), 0, 9);
	close(kmsg);
}

static const int cached, direct = O_DIRECT;

/* The kernel logs errors of the disk, with a rate limit. */
static void disk_errors_in_the_log_are_rate_limited(void **state)
{
	enum { REQUESTS = 1000 };
	struct null_blk spec = { .size_mib = 1, .bad_sectors = 512 };
	static const uint32_t type[] = {
		VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH,
		VIRTIO_BLK_T_WRITE_ZEROES,
	};
	struct unit *u = *state;
	int64_t begin = now_ms();
	unsigned int i, nr, errors = 0;
	char *buf;
	int kmsg;

	unit_null(u, &spec, O_RDWR | *(const int *)u->param);
	unit_start_with(u, RANGE_FEATURES, 1, NUM);
	kmsg = open_kmsg();
	buf = unit_alloc(u, 4096);
	for (i = 0; i < REQUESTS; i++) {
		if (type[i % 4] == VIRTIO_BLK_T_WRITE_ZEROES)
			errors += !!unit_range(u, type[i % 4], 8, 8, 0);
		else
			errors += !!unit_io(u, type[i % 4], 8, buf, 4096);
	}
	nr = new_messages(kmsg);
	print_message("%u messages of %u errors\n", nr, errors);
	assert_true(errors >= REQUESTS / 4);
	/* Each rate limit is ten messages in five seconds. */
	assert_in_range(nr, 0, 60 * (2 + (now_ms() - begin) / 5000));
	close(kmsg);
}

/* A head that is made available again before it was used would be completed twice. */
static void head_twice_in_flight(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct vq_segment data;
	char *buf;
	int head;

	unit_slow(u, 300);
	unit_start(u, 1, NUM);
	buf = unit_alloc(u, 512);
	data = unit_segment(u, buf, 512);
	head = blk_add(&u->req, VIRTIO_BLK_T_IN, 0, &data, 1);
	assert_ok(head);
	vq_push(vq, head);
	vq_submit(vq);
	/* The first one completes. */
	expect_end(&u->req, VIRTIO_BLK_S_OK, 513);
	expect_ring_stopped(vq);
	assert_int_equal(vq_used_idx(vq), 1);
	unit_detach(u);
	assert_ok(vq_restart(vq, 0));
	unit_attach(u);
	expect_alive(u);
}

/* Requests that were fetched before the ring stopped complete once. */
static void requests_before_the_corruption_complete(void **state)
{
	enum { NR = 8 };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct blk_request req[NR];
	struct vq_segment data;
	unsigned int i;

	unit_slow(u, 200);
	unit_start(u, 1, NUM);
	unit_requests(req, NR, vq);
	data = unit_segment(u, unit_alloc(u, 512), 512);
	for (i = 0; i < NR; i++)
		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i, &data, 1));
	vq_push(vq, 65535);
	vq_submit(vq);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, 513);
	expect_ring_stopped(vq);
	assert_int_equal(vq_used_idx(vq), NR);
	unit_detach(u);
	assert_int_equal(vq_get_base(vq), NR);
}

static void corruption_without_an_error_eventfd(void **state)
{
	struct vhost_vring_file none = { .index = 0, .fd = VHOST_FILE_UNBIND };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];

	start_on_filled_disk(u);
	assert_ok(ioctl(u->dev.fd, VHOST_SET_VRING_ERR, &none));
	vq_push(vq, 65535);
	vq_submit(vq);
	ASSERT_NEVER(vq_used_idx(vq));
	unit_detach(u);
	assert_ok(vq_restart(vq, 0));
	unit_attach(u);
	expect_alive(u);
}

/* The device fails the request or stops the ring. */
static void chain_beyond_the_limit(void **state)
{
	enum { SEGMENTS = 5000 };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct vring_desc *table;
	struct vring_used_elem elem;
	uint64_t buf;
	unsigned int i;
	void *cookie;

	start_on_filled_disk(u);
	table = unit_alloc(u, SEGMENTS * sizeof(*table));
	buf = guest_address(&u->mem, unit_alloc(u, 4096));
	blk_request_prepare(&u->req, VIRTIO_BLK_T_IN, 0);
	for (i = 0; i < SEGMENTS; i++) {
		table[i].addr = buf;
		table[i].len = 512;
		table[i].flags = VRING_DESC_F_NEXT | VRING_DESC_F_WRITE;
		table[i].next = i + 1;
	}
	table[0].addr = guest_address(&u->mem, u->req.header);
	table[0].len = 16;
	table[0].flags = VRING_DESC_F_NEXT;
	table[SEGMENTS - 1].addr = guest_address(&u->mem, u->req.status);
	table[SEGMENTS - 1].len = 1;
	table[SEGMENTS - 1].flags = VRING_DESC_F_WRITE;
	vq->desc[9].addr = guest_address(&u->mem, table);
	vq->desc[9].len = SEGMENTS * sizeof(*table);
	vq->desc[9].flags = VRING_DESC_F_INDIRECT;
	vq_push(vq, 9);
	vq_submit(vq);
	WAIT_UNTIL(!event_wait(vq->err, 0) || vq_take(vq, &elem, &cookie));
	unit_detach(u);
	assert_ok(vq_restart(vq, 0));
	unit_attach(u);
	expect_alive(u);
}

struct flipper {
	struct virtio_blk_outhdr *header;
	volatile int stop;
};

static void *flip_header(void *arg)
{
	struct flipper *f = arg;
	volatile struct virtio_blk_outhdr *header = f->header;

	while (!f->stop) {
		header->sector = UINT64_MAX / 512;
		header->type = VIRTIO_BLK_T_OUT;
		header->sector = DISK_SIZE / SECTOR_SIZE;
		header->type = VIRTIO_BLK_T_IN;
		header->sector = 1;
	}
	return NULL;
}

/* The device uses the header that it has checked, although the guest changes it. */
static void header_changes_while_parsed(void **state)
{
	struct unit *u = *state;
	struct flipper f = { 0 };
	pthread_t thread;
	unsigned int i;
	char *buf;

	start_on_filled_disk(u);
	f.header = u->req.header;
	buf = unit_alloc(u, 512);
	assert_int_equal(pthread_create(&thread, NULL, flip_header, &f), 0);
	for (i = 0; i < 1000; i++) {
		int status = unit_io(u, VIRTIO_BLK_T_IN, 1, buf, 512);

		if (status != VIRTIO_BLK_S_OK && status != VIRTIO_BLK_S_IOERR)
			break;
	}
	f.stop = 1;
	pthread_join(thread, NULL);
	assert_int_equal(i, 1000);
	assert_int_equal(backend_size(u->disk), DISK_SIZE);
	expect_disk(u->disk, 0, DISK_SIZE, 1);
	expect_alive(u);
}

/* Random descriptors. Half of their fields are valid, so that some chains are processed. */
static void random_rings(void **state)
{
	enum { ROUNDS = 60, SCRATCH = 64 * 1024 };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct vring_desc *desc, *table;
	struct virtio_blk_outhdr *header;
	uint64_t seed = now_ms();
	unsigned int round, i;
	char *scratch;

	start_on_filled_disk(u);
	unit_detach(u);
	print_message("seed %llu\n", (unsigned long long)seed);
	scratch = unit_alloc(u, SCRATCH);
	table = unit_alloc(u, NUM * sizeof(*table));
	header = unit_alloc(u, NUM * sizeof(*header));
	for (round = 0; round < ROUNDS; round++) {
		assert_ok(vq_restart(vq, random_next(&seed)));
		for (i = 0; i < NUM; i++) {
			header[i].type = random_next(&seed) % 12;
			header[i].sector = random_next(&seed) % (DISK_SIZE / SECTOR_SIZE + 9);
		}
		for (i = 0; i < 2 * NUM; i++) {
			uint64_t r = random_next(&seed);
			char *p = scratch + r % (SCRATCH / 2);

			desc = i < NUM ? &vq->desc[i] : &table[i - NUM];
			desc->addr = guest_address(&u->mem, r & BIT64(40) ?
						   (void *)&header[r % NUM] : p);
			desc->len = r & BIT64(41) ? 16 : (r >> 42) % 8 * 512 + (r >> 45) % 2;
			desc->flags = (r >> 50) % 4;
			desc->next = r & BIT64(52) ? (i + 1) % NUM : (r >> 53) % (NUM + 1);
			if ((r >> 56) % 8 == 0) {
				desc->addr = guest_address(&u->mem, table);
				desc->len = (1 + r % 8) * sizeof(*table);
				desc->flags |= VRING_DESC_F_INDIRECT;
			}
			if ((r >> 59) == 0)
				desc->addr = random_next(&seed);
		}
		unit_attach(u);
		for (i = random_next(&seed) % NUM; i; i--)
			vq_push(vq, random_next(&seed) % (NUM + (round % 8 == 0)));
		vq_publish(vq);
		vq_kick(vq);
		if (round % 2)
			usleep(2000);
		unit_detach(u);
	}
	assert_int_equal(backend_size(u->disk), DISK_SIZE);
	assert_ok(vq_restart(vq, 0));
	unit_attach(u);
	expect_alive(u);
}

#define TEST_RING_STOPS(how)	TEST_ON(ring_stops, how),

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(malformed_requests_one_by_one),
		TEST(malformed_requests_among_valid_ones),
		TEST(empty_request),
		CORRUPTIONS(TEST_RING_STOPS)
		TEST(kernel_log_does_not_grow),
		TEST_ON(disk_errors_in_the_log_are_rate_limited, cached),
		TEST_ON(disk_errors_in_the_log_are_rate_limited, direct),
		TEST(head_twice_in_flight),
		TEST(requests_before_the_corruption_complete),
		TEST(corruption_without_an_error_eventfd),
		TEST(chain_beyond_the_limit),
		TEST(header_changes_while_parsed),
		TEST(random_rings),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
