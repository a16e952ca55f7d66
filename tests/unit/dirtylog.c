// SPDX-License-Identifier: GPL-2.0
/* The dirty log has each page that the device has written to, and no other. */
#define _GNU_SOURCE
#include "unit.h"

#include <stdlib.h>
#include <sys/mman.h>

#define DISK_SIZE	(16 * MIB)
#define LOG_SIZE	(256 * KIB)	/* bytes: a bit for each page below 8 GiB */
#define LOGGED		(FEATURES | BIT64(VHOST_F_LOG_ALL))

static uint8_t expected[LOG_SIZE];

static const enum disk_io file = DISK_FILE;
static const enum disk_io direct = DISK_DIRECT;

static uint8_t *log_new(void)
{
	uint8_t *log = mmap(NULL, LOG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			    0);

	assert_true(log != MAP_FAILED);
	memset(expected, 0, LOG_SIZE);
	return log;
}

static int set_log_base(struct unit *u, const void *base)
{
	uint64_t p = (uintptr_t)base;

	return ioctl(u->dev.fd, VHOST_SET_LOG_BASE, &p);
}

static int set_features(struct unit *u, uint64_t features)
{
	return ioctl(u->dev.fd, VHOST_SET_FEATURES, &features);
}

static void log_ring(struct vq *vq, bool on)
{
	struct vhost_vring_addr addr = {
		.index = vq->index,
		.flags = on ? BIT64(VHOST_VRING_F_LOG) : 0,
		.desc_user_addr = (uintptr_t)vq->desc,
		.avail_user_addr = (uintptr_t)vq->avail,
		.used_user_addr = (uintptr_t)vq->used,
		.log_guest_addr = guest_address(vq->dev->mem, vq->used),
	};

	assert_ok(ioctl(vq->dev->fd, VHOST_SET_VRING_ADDR, &addr));
}

/* Switch logging on or off as QEMU does. */
static void logging(struct unit *u, bool on)
{
	unsigned int i;

	assert_ok(set_features(u, on ? LOGGED : FEATURES));
	for (i = 0; i < u->nr_vqs; i++)
		log_ring(&u->vq[i], on);
}

static uint8_t *start_logging(struct unit *u, unsigned int nr, unsigned int num)
{
	uint8_t *log = log_new();

	unit_start(u, nr, num);
	assert_ok(set_log_base(u, log));
	logging(u, true);
	return log;
}

static void expect_dirty(uint64_t gpa, uint64_t len)
{
	uint64_t page;

	if (!len)
		return;
	for (page = gpa / PAGE; page <= (gpa + len - 1) / PAGE; page++)
		expected[page / 8] |= 1 << page % 8;
}

static void expect_dirty_memory(struct unit *u, const void *p, uint64_t len)
{
	expect_dirty(guest_address(&u->mem, p), len);
}

static void expect_dirty_segments(const struct vq_segment *segment, unsigned int nr)
{
	while (nr--) {
		expect_dirty(segment->addr, segment->len);
		segment++;
	}
}

/* Expect the used rings, which are one page if small and change with each request. */
static void expect_dirty_rings(struct unit *u)
{
	unsigned int i;

	for (i = 0; i < u->nr_vqs; i++)
		expect_dirty_memory(u, u->vq[i].used, 1);
}

static bool logged(const uint8_t *log, uint64_t gpa)
{
	return log[gpa / PAGE / 8] >> gpa / PAGE % 8 & 1;
}

/* Detach, which completes the log, compare it, clear both and attach again. */
static void expect_log(struct unit *u, uint8_t *log)
{
	uint64_t gpa;

	unit_detach(u);
	for (gpa = 0; gpa < LOG_SIZE * 8 * PAGE; gpa += PAGE) {
		if (logged(log, gpa) != logged(expected, gpa))
			fail_msg("page %#llx is %slogged", (unsigned long long)gpa,
				 logged(log, gpa) ? "" : "not ");
	}
	memset(log, 0, LOG_SIZE);
	memset(expected, 0, LOG_SIZE);
	unit_attach(u);
}

struct layout {
	unsigned int nr;
	struct {
		uint64_t offset;	/* in the test's memory */
		uint32_t len;
	} data[4];
};

static const struct layout layouts[] = {
	{ 1, { { 0, PAGE } } },
	{ 1, { { 0, SECTOR_SIZE } } },
	{ 1, { { PAGE - SECTOR_SIZE, SECTOR_SIZE } } },
	{ 1, { { PAGE - 1, SECTOR_SIZE } } },
	{ 1, { { PAGE - 1, 4 * PAGE } } },
	{ 1, { { 5 * PAGE + 1, SECTOR_SIZE } } },
	{ 1, { { 8 * PAGE, 256 * PAGE } } },
	{ 2, { { 0, PAGE }, { 8 * PAGE, PAGE } } },
	{ 3, { { 16 * PAGE, 100 }, { 9 * PAGE - 1, 2 }, { 3 * PAGE, 410 } } },
	{ 4, { { 7 * PAGE, 1 }, { 5 * PAGE, 1 }, { 3 * PAGE, 1 }, { PAGE, 509 } } },
};

/* Submit a request whose status byte is elsewhere. */
static void submit_apart(struct unit *u, struct blk_request *req, uint32_t type, uint64_t sector,
			 const struct vq_segment *data, unsigned int nr, uint8_t *status)
{
	unsigned int nr_out = type == VIRTIO_BLK_T_OUT ? nr + 1 : 1;
	struct vq_segment segment[8];

	blk_request_prepare(req, type, sector);
	req->status = status;
	*status = STATUS_UNSET;
	segment[0] = unit_segment(u, req->header, sizeof(*req->header));
	memcpy(&segment[1], data, nr * sizeof(*data));
	segment[nr + 1] = unit_segment(u, status, 1);
	assert_ok(blk_add_chain(req, segment, nr_out, nr + 2 - nr_out));
	vq_submit(req->vq);
}

/* Do one request and check its log: what is expected already, the status byte and the ring. */
static void log_one(struct unit *u, uint8_t *log, uint32_t type, uint64_t sector,
		    const struct vq_segment *data, unsigned int nr, int status, uint32_t used_len)
{
	/* The last byte of a page of its own. */
	uint8_t *byte = (uint8_t *)unit_alloc(u, PAGE) + PAGE - 1;

	submit_apart(u, &u->req, type, sector, data, nr, byte);
	expect_end(&u->req, status, used_len);
	expect_dirty_memory(u, byte, 1);
	expect_dirty_rings(u);
	expect_log(u, log);
}

static void data_of_all_layouts(void **state)
{
	struct vq_segment data[4];
	struct unit *u = *state;
	uint8_t *log;
	unsigned int i, j;
	uint32_t len;
	char *memory;

	unit_any_disk(u, DISK_SIZE);
	disk_fill(u->disk, 0, 2 * MIB, 1);
	log = start_logging(u, 1, 16);
	memory = unit_alloc(u, 2 * MIB);
	for (i = 0; i < ARRAY_SIZE(layouts); i++) {
		for (j = 0, len = 0; j < layouts[i].nr; j++) {
			data[j] = unit_segment(u, memory + layouts[i].data[j].offset,
					       layouts[i].data[j].len);
			len += data[j].len;
		}
		/* Read: data, status, ring. */
		expect_dirty_segments(data, j);
		log_one(u, log, VIRTIO_BLK_T_IN, 1, data, j, VIRTIO_BLK_S_OK, len + 1);
		/* Write: status and ring. */
		log_one(u, log, VIRTIO_BLK_T_OUT, 1, data, j, VIRTIO_BLK_S_OK, 1);
	}
}

static void data_across_regions(void **state)
{
	struct unit *u = *state;
	struct vq_segment data;
	uint8_t *log;

	unit_any_disk(u, DISK_SIZE);
	/* Contiguous for the guest, but not for the host. */
	assert_ok(guest_memory_add(&u->mem, 0x40000000 + 2 * PAGE, PAGE));
	assert_ok(guest_memory_add(&u->mem, 0x40000000, PAGE));
	assert_ok(guest_memory_add(&u->mem, 0x40000000 + PAGE, PAGE));
	log = start_logging(u, 1, 16);
	data.addr = 0x40000000 + PAGE / 2;
	data.len = 2 * PAGE;
	expect_dirty_segments(&data, 1);
	log_one(u, log, VIRTIO_BLK_T_IN, 0, &data, 1, VIRTIO_BLK_S_OK, data.len + 1);
}

/* Reads into pinned pages are logged. */
static void pinned_pages(void **state)
{
	struct unit *u = *state;
	struct blk_request write;
	struct vq_segment data;
	uint8_t *log;
	unsigned int i;
	char *buf;

	unit_any_disk(u, DISK_SIZE);
	log = start_logging(u, 1, 16);
	unit_detach(u);
	unit_pin_limit(u, MIB);
	unit_attach(u);
	unit_requests(&write, 1, &u->vq[0]);
	buf = (char *)unit_alloc(u, 4 * PAGE) + PAGE / 2;
	data = unit_segment(u, buf, 3 * PAGE);
	for (i = 1; i < 4; i++) {
		/* The write pins them again after the detach of expect_log(). */
		assert_int_equal(unit_io_on(u, &write, VIRTIO_BLK_T_OUT, i, buf, 3 * PAGE),
				 VIRTIO_BLK_S_OK);
		expect_dirty_memory(u, write.status, 1);
		assert_int_equal(unit_stats(u, 0).pin_misses, 4 * i);
		expect_dirty_segments(&data, 1);
		log_one(u, log, VIRTIO_BLK_T_IN, i, &data, 1, VIRTIO_BLK_S_OK, data.len + 1);
		assert_int_equal(unit_stats(u, 0).pin_misses, 4 * i);
	}
}

/* Memory with two guest addresses is dirty at both. */
static void memory_at_two_addresses(void **state)
{
	const uint64_t alias = 0x50000000;
	struct vhost_memory *table;
	struct unit *u = *state;
	struct vq_segment data;
	uint8_t *log;
	char *memory;

	unit_any_disk(u, DISK_SIZE);
	log = start_logging(u, 1, 16);
	memory = unit_alloc(u, 4 * PAGE);
	table = calloc(1, sizeof(*table) + 2 * sizeof(table->regions[0]));
	assert_non_null(table);
	table->nregions = 2;
	table->regions[0].guest_phys_addr = GUEST_GPA;
	table->regions[0].memory_size = GUEST_SIZE;
	table->regions[0].userspace_addr = (uintptr_t)u->mem.region[0].host;
	table->regions[1].guest_phys_addr = alias;
	table->regions[1].memory_size = 2 * PAGE;
	table->regions[1].userspace_addr = (uintptr_t)memory + PAGE;
	/* The table may change while the rings run. */
	assert_ok(ioctl(u->dev.fd, VHOST_SET_MEM_TABLE, table));
	free(table);

	data = unit_segment(u, memory, 2 * PAGE);
	expect_dirty_segments(&data, 1);
	expect_dirty(alias, PAGE);
	log_one(u, log, VIRTIO_BLK_T_IN, 0, &data, 1, VIRTIO_BLK_S_OK, data.len + 1);

	data.addr = alias + PAGE;
	data.len = PAGE;
	expect_dirty_segments(&data, 1);
	expect_dirty_memory(u, memory + 2 * PAGE, PAGE);
	log_one(u, log, VIRTIO_BLK_T_IN, 0, &data, 1, VIRTIO_BLK_S_OK, data.len + 1);
}

static void large_requests(void **state)
{
	static struct vq_segment data[600];
	struct unit *u = *state;
	struct blk_request req;
	unsigned int i;
	uint8_t *log;
	char *memory;

	unit_any_disk(u, DISK_SIZE);
	log = start_logging(u, 1, 16);
	memory = unit_alloc(u, 2 * ARRAY_SIZE(data) * PAGE);
	assert_ok(blk_request_init(&req, &u->vq[0], ARRAY_SIZE(data) + 2));
	for (i = 0; i < ARRAY_SIZE(data); i++)
		data[i] = unit_segment(u, memory + 2 * i * PAGE, PAGE);
	assert_ok(blk_add(&req, VIRTIO_BLK_T_IN, 0, data, ARRAY_SIZE(data)));
	vq_submit(&u->vq[0]);
	expect_end(&req, VIRTIO_BLK_S_OK, ARRAY_SIZE(data) * PAGE + 1);
	expect_dirty_segments(data, ARRAY_SIZE(data));
	expect_dirty_memory(u, req.status, 1);
	expect_dirty_rings(u);
	expect_log(u, log);
}

static void requests_that_write_the_status_only(void **state)
{
	struct unit *u = *state;
	struct vq_segment data;
	uint8_t *log;

	unit_any_disk(u, DISK_SIZE);
	log = start_logging(u, 1, 16);
	data = unit_segment(u, unit_alloc(u, PAGE), PAGE);
	log_one(u, log, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, VIRTIO_BLK_S_OK, 1);
	log_one(u, log, 0xabcd, 0, &data, 1, VIRTIO_BLK_S_UNSUPP, 1);
	log_one(u, log, VIRTIO_BLK_T_IN, DISK_SIZE, &data, 1, VIRTIO_BLK_S_IOERR, 1);
	data.len = 100;
	log_one(u, log, VIRTIO_BLK_T_IN, 0, &data, 1, VIRTIO_BLK_S_IOERR, 1);
}

static void serial_number(void **state)
{
	struct vq_segment data[2];
	struct unit *u = *state;
	uint8_t *log;
	char *memory;

	unit_any_disk(u, DISK_SIZE);
	log = start_logging(u, 1, 16);
	memory = unit_alloc(u, 4 * PAGE);

	/* 20 bytes in two segments on three pages; the rest of the buffer is not written to. */
	data[0] = unit_segment(u, memory + PAGE - 3, 10);
	data[1] = unit_segment(u, memory + 2 * PAGE, 2 * PAGE);
	expect_dirty_segments(data, 1);
	expect_dirty(data[1].addr, 10);
	log_one(u, log, VIRTIO_BLK_T_GET_ID, 0, data, 2, VIRTIO_BLK_S_OK, VIRTIO_BLK_ID_BYTES + 1);
}

/* The second half of the data is on bad sectors. */
static void reads_that_fail(void **state)
{
	struct null_blk spec = { .size_mib = 16 };
	char null[BACKEND_PATH_MAX], table[256];
	struct unit *u = *state;
	struct vq_segment data;
	uint8_t *log;

	assert_ok(backend_null(null, &spec));
	snprintf(table, sizeof(table), "0 8 linear %s 0\n8 8 error\n", null);
	assert_ok(backend_dm(u->path, table));
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
	log = start_logging(u, 1, 16);
	data = unit_segment(u, unit_alloc(u, 2 * PAGE), 2 * PAGE);
	expect_dirty_segments(&data, 1);
	log_one(u, log, VIRTIO_BLK_T_IN, 0, &data, 1, VIRTIO_BLK_S_IOERR, 1);
}

static void used_ring_of_several_pages(void **state)
{
	struct unit *u = *state;
	unsigned int i;
	uint8_t *log;

	unit_any_disk(u, DISK_SIZE);
	log = start_logging(u, 1, 1024);
	/* Entry 511 crosses from the first page, which the index is on, to the second. */
	for (i = 0; i < 512; i++)
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	unit_detach(u);
	assert_true(logged(log, guest_address(&u->mem, u->vq[0].used)));
	assert_true(logged(log, guest_address(&u->mem, (char *)u->vq[0].used + PAGE)));
	/* The event index follows the last entry. */
	assert_true(logged(log, guest_address(&u->mem, (void *)vq_avail_event_word(&u->vq[0]))));
	expect_dirty_memory(u, u->vq[0].used, 3 * PAGE);
	expect_dirty_memory(u, u->req.status, 1);
	expect_log(u, log);
}

static void requests_in_flight_at_switch_on(void **state)
{
	struct unit *u = *state;
	struct vq_segment data;
	uint8_t *log, *status;

	unit_suspendable(u, DISK_SIZE);
	unit_start(u, 1, 16);
	log = log_new();
	data = unit_segment(u, unit_alloc(u, 2 * PAGE), 2 * PAGE);
	status = unit_alloc(u, PAGE);
	unit_suspend(u, u->path);
	submit_apart(u, &u->req, VIRTIO_BLK_T_IN, 0, &data, 1, status);
	expect_inflight(u, 0, 1);
	assert_ok(set_log_base(u, log));
	logging(u, true);
	assert_int_equal(*status, STATUS_UNSET);
	unit_resume(u);
	expect_end(&u->req, VIRTIO_BLK_S_OK, data.len + 1);
	expect_dirty_segments(&data, 1);
	expect_dirty_memory(u, status, 1);
	expect_dirty_rings(u);
	expect_log(u, log);
}

static void each_ring_logs(void **state)
{
	struct blk_request req[8];
	struct unit *u = *state;
	unsigned int i;
	uint8_t *log;
	char *memory;

	unit_any_disk(u, DISK_SIZE);
	log = start_logging(u, ARRAY_SIZE(req), 16);
	memory = unit_alloc(u, 2 * ARRAY_SIZE(req) * PAGE);
	for (i = 0; i < ARRAY_SIZE(req); i++) {
		unit_request(&req[i], &u->vq[i]);
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i, memory + 2 * i * PAGE, PAGE);
	}
	for (i = 0; i < ARRAY_SIZE(req); i++) {
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
		expect_dirty_memory(u, memory + 2 * i * PAGE, PAGE);
		expect_dirty_memory(u, req[i].status, 1);
	}
	expect_dirty_rings(u);
	expect_log(u, log);
}

/* QEMU sets another log when memory is added. The two together have all pages. */
static void log_moves_while_requests_run(void **state)
{
	struct blk_request req[64];
	struct unit *u = *state;
	unsigned int i, round;
	uint8_t *log, *other;
	uint64_t seed = 7;
	char *memory;

	unit_any_disk(u, DISK_SIZE);
	log = start_logging(u, 1, ARRAY_SIZE(req));
	other = log_new();
	memory = unit_alloc(u, 16 * MIB);
	unit_requests(req, ARRAY_SIZE(req), &u->vq[0]);
	for (round = 0; round < 20; round++) {
		for (i = 0; i < ARRAY_SIZE(req); i++) {
			size_t at = random_next(&seed) % 4000 * PAGE;
			struct vq_segment data = unit_segment(u, memory + at, 3 * PAGE);

			assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i, &data, 1));
			expect_dirty_segments(&data, 1);
			expect_dirty_memory(u, req[i].status, 1);
		}
		vq_submit(&u->vq[0]);
		for (i = 0; i < 8; i++)
			assert_ok(set_log_base(u, i % 2 ? log : other));
		for (i = 0; i < ARRAY_SIZE(req); i++)
			expect_end(&req[i], VIRTIO_BLK_S_OK, 3 * PAGE + 1);
	}
	unit_detach(u);
	for (i = 0; i < LOG_SIZE; i++)
		log[i] |= other[i];
	expect_dirty_rings(u);
	expect_log(u, log);
}

static void nothing_while_it_is_off(void **state)
{
	static const uint8_t none[LOG_SIZE];
	struct unit *u = *state;
	uint8_t *log = log_new();
	char *buf;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	buf = unit_alloc(u, MIB);
	assert_ok(set_log_base(u, log));
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, MIB), VIRTIO_BLK_S_OK);
	unit_detach(u);
	expect_equal(log, none, LOG_SIZE);

	/* Nor after a cancelled migration. */
	unit_attach(u);
	logging(u, true);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, MIB), VIRTIO_BLK_S_OK);
	logging(u, false);
	assert_memory_not_equal(log, none, LOG_SIZE);
	memset(log, 0, LOG_SIZE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, MIB), VIRTIO_BLK_S_OK);
	unit_detach(u);
	expect_equal(log, none, LOG_SIZE);
}

static void features_change_only_for_logging(void **state)
{
	struct unit *u = *state;
	uint8_t *log = log_new();
	unsigned int bit;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	assert_ok(set_log_base(u, log));
	for (bit = VIRTIO_BLK_F_SEG_MAX; bit <= VIRTIO_F_VERSION_1; bit++) {
		uint64_t offered;

		assert_ok(ioctl(u->dev.fd, VHOST_GET_FEATURES, &offered));
		if (!(offered & BIT64(bit)) || bit == VHOST_F_LOG_ALL)
			continue;
		assert_errno(set_features(u, FEATURES ^ BIT64(bit)), EBUSY);
		assert_errno(set_features(u, LOGGED ^ BIT64(bit)), EBUSY);
	}
	assert_ok(set_features(u, FEATURES));
	assert_ok(set_features(u, LOGGED));
	assert_ok(set_features(u, LOGGED));
	expect_alive(u);
	assert_ok(set_features(u, FEATURES));
	expect_alive(u);
}

static void bad_logs_are_refused(void **state)
{
	void *beyond = (void *)0x7ffffffff000;	/* the last page below the kernel's */
	struct unit *u = *state;
	uint8_t *log = log_new();

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	/* While logging is off the log's base is not checked. */
	assert_ok(set_log_base(u, beyond));
	assert_errno(set_features(u, LOGGED), EFAULT);
	expect_alive(u);
	assert_ok(set_log_base(u, log));
	assert_ok(set_features(u, LOGGED));
	assert_errno(set_log_base(u, beyond), EFAULT);
	expect_alive(u);

	unit_detach(u);
	assert_ok(set_log_base(u, beyond));
	assert_int_equal(vhost_blk_attach(&u->dev, u->disk), -EFAULT);
	assert_ok(set_log_base(u, log));
	unit_attach(u);
	expect_alive(u);
}

/* Writes that cannot be logged stop the ring. */
static void log_is_unmapped(void **state)
{
	struct unit *u = *state;
	uint8_t *log;
	char *buf;

	unit_any_disk(u, DISK_SIZE);
	log = start_logging(u, 1, 16);
	buf = unit_alloc(u, PAGE);
	expect_alive(u);
	log_ring(&u->vq[0], false);
	assert_ok(munmap(log, LOG_SIZE));
	unit_submit_one(u, &u->req, VIRTIO_BLK_T_IN, 0, buf, PAGE);
	expect_ring_stopped(&u->vq[0]);
	assert_int_equal(u->vq[0].used_idx, vq_used_idx(&u->vq[0]));

	logging(u, false);
	unit_detach(u);
	assert_ok(vq_restart(&u->vq[0], 0));
	unit_attach(u);
	expect_alive(u);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_ON(data_of_all_layouts, file),
		TEST_ON(data_of_all_layouts, direct),
		TEST_ON(data_across_regions, file),
		TEST_ON(data_across_regions, direct),
		TEST_ON(pinned_pages, direct),
		TEST_ON(memory_at_two_addresses, direct),
		TEST_ON(large_requests, file),
		TEST_ON(large_requests, direct),
		TEST_ON(requests_that_write_the_status_only, direct),
		TEST_ON(serial_number, file),
		TEST(reads_that_fail),
		TEST_ON(used_ring_of_several_pages, file),
		TEST(requests_in_flight_at_switch_on),
		TEST_ON(each_ring_logs, direct),
		TEST_ON(log_moves_while_requests_run, file),
		TEST_ON(log_moves_while_requests_run, direct),
		TEST_ON(nothing_while_it_is_off, direct),
		TEST_ON(features_change_only_for_logging, file),
		TEST_ON(bad_logs_are_refused, file),
		TEST_ON(log_is_unmapped, direct),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
