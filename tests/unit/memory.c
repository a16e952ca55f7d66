// SPDX-License-Identifier: GPL-2.0
/* Guest memory: several regions, changes of the memory table, and faults. */
#define _GNU_SOURCE
#include "unit.h"

#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define DISK_SIZE	(8 * MIB)

static const enum disk_io file = DISK_FILE;
static const enum disk_io direct = DISK_DIRECT;

static void start_on_filled_disk(struct unit *u)
{
	start_on_any_disk(u, DISK_SIZE, 1, 64);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
}

static void buffers_in_other_regions(void **state)
{
	static const uint64_t gpa[] = { 0, 0x10000, 0xc0000000, 0x7ffffff00000ULL };
	struct unit *u = *state;
	unsigned int i;
	char *buf;
	int region;

	for (i = 0; i < ARRAY_SIZE(gpa); i++) {
		region = guest_memory_add(&u->mem, gpa[i], 64 * KIB);
		assert_ok(region);
	}
	start_on_filled_disk(u);
	for (i = 0; i < ARRAY_SIZE(gpa); i++) {
		buf = guest_alloc(&u->mem, 1 + i, 64 * KIB, PAGE);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 3, buf, 64 * KIB), VIRTIO_BLK_S_OK);
		expect_pattern(buf, 64 * KIB, 3 * SECTOR_SIZE, 1);
		pattern_fill(buf, 64 * KIB, MIB, i);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, MIB / SECTOR_SIZE, buf, 64 * KIB),
				 VIRTIO_BLK_S_OK);
		expect_disk(u->disk, MIB, 64 * KIB, i);
	}
}

/* Regions contiguous for the guest but not for the host: one descriptor may cover several. */
static void buffer_across_regions(void **state)
{
	enum { PART = 32 * 1024 };
	struct unit *u = *state;
	struct vq_segment data;
	char *part[3];
	unsigned int i;

	for (i = 0; i < 3; i++) {
		/* The region in between makes the host addresses not contiguous. */
		assert_ok(guest_memory_add(&u->mem, 0x10000000 + i * PART, PART));
		assert_ok(guest_memory_add(&u->mem, 0x20000000 + i * PART, PART));
		part[i] = u->mem.region[1 + 2 * i].host;
	}
	start_on_filled_disk(u);
	data.addr = 0x10000000 + 100;
	data.len = 3 * PART - 1024;
	assert_ok(blk_add(&u->req, VIRTIO_BLK_T_IN, 2, &data, 1));
	vq_submit(&u->vq[0]);
	expect_end(&u->req, VIRTIO_BLK_S_OK, data.len + 1);
	expect_pattern(part[0] + 100, PART - 100, 1024, 1);
	expect_pattern(part[1], PART, 1024 + PART - 100, 1);
	expect_pattern(part[2], PART - 924, 1024 + 2 * PART - 100, 1);
	assert_int_equal(part[0][99], 0);
	assert_int_equal(part[2][PART - 924], 0);

	pattern_fill(part[0] + 100, PART - 100, MIB, 2);
	pattern_fill(part[1], PART, MIB + PART - 100, 2);
	pattern_fill(part[2], PART - 924, MIB + 2 * PART - 100, 2);
	assert_ok(blk_add(&u->req, VIRTIO_BLK_T_OUT, MIB / SECTOR_SIZE, &data, 1));
	vq_submit(&u->vq[0]);
	expect_end(&u->req, VIRTIO_BLK_S_OK, 1);
	expect_disk(u->disk, MIB, data.len, 2);
}

static void maximum_number_of_regions(void **state)
{
	struct unit *u = *state;
	unsigned int i;

	for (i = 1; i < GUEST_REGIONS_MAX; i++)
		assert_ok(guest_memory_add(&u->mem, i * 0x1000000ULL, 4 * PAGE));
	start_on_filled_disk(u);
	for (i = 1; i < GUEST_REGIONS_MAX; i++) {
		char *buf = guest_alloc(&u->mem, i, 4 * PAGE, PAGE);

		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, i, buf, 4 * PAGE), VIRTIO_BLK_S_OK);
		expect_pattern(buf, 4 * PAGE, i * SECTOR_SIZE, 1);
	}
}

/* The memory table changes while the device is detached, as after a reboot. */
static void table_changes_while_stopped(void **state)
{
	struct unit *u = *state;
	unsigned int i;
	char *buf, *old;

	assert_ok(guest_memory_add(&u->mem, 0x10000000, MIB));
	assert_ok(guest_memory_add(&u->mem, 0x30000000, MIB));
	start_on_filled_disk(u);
	old = u->mem.region[1].host;
	for (i = 0; i < 4; i++) {
		uint64_t gpa = u->mem.region[1].gpa;

		unit_detach(u);
		u->mem.region[1].gpa = u->mem.region[2].gpa;
		u->mem.region[2].gpa = gpa;
		assert_ok(vhost_blk_set_memory(&u->dev));
		unit_attach(u);
		buf = u->mem.region[1 + i % 2].host;
		memset(buf, 0, MIB);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, i, buf, MIB), VIRTIO_BLK_S_OK);
		expect_pattern(buf, MIB, i * SECTOR_SIZE, 1);
	}
	/* A removed region cannot be accessed. */
	unit_detach(u);
	u->mem.nregions = 1;
	assert_ok(vhost_blk_set_memory(&u->dev));
	u->mem.nregions = 3;
	memset(old, 0xee, PAGE);
	unit_attach(u);
	unit_submit_one(u, &u->req, VIRTIO_BLK_T_IN, 0, old, PAGE);
	expect_ring_stopped(&u->vq[0]);
	assert_int_equal((uint8_t)old[0], 0xee);
}

/* The memory table changes while the device runs, as when memory is plugged in. */
static void table_changes_while_running(void **state)
{
	struct unit *u = *state;
	unsigned int i;
	char *buf;

	start_on_filled_disk(u);
	for (i = 0; i < 10; i++) {
		expect_alive(u);
		assert_ok(guest_memory_add(&u->mem, 0x10000000 + i * MIB, 64 * KIB));
		assert_ok(vhost_blk_set_memory(&u->dev));
		buf = u->mem.region[1 + i].host;
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, i, buf, 64 * KIB), VIRTIO_BLK_S_OK);
		expect_pattern(buf, 64 * KIB, i * SECTOR_SIZE, 1);
	}
}

/* Guest memory may be private anonymous memory. */
static void anonymous_memory(void **state)
{
	struct guest_region *region;
	struct unit *u = *state;

	assert_ok(guest_memory_add(&u->mem, 0x10000000, 2 * MIB));
	region = &u->mem.region[1];
	assert_ptr_equal(mmap(region->host, region->size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), region->host);
	start_on_filled_disk(u);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 5, region->host, 2 * MIB), VIRTIO_BLK_S_OK);
	expect_pattern(region->host, 2 * MIB, 5 * SECTOR_SIZE, 1);
	pattern_fill(region->host, 2 * MIB, 0, 2);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, region->host, 2 * MIB),
			 VIRTIO_BLK_S_OK);
	expect_disk(u->disk, 0, 2 * MIB, 2);
}

static void make_inaccessible(void *p, size_t len)
{
	assert_ok(mprotect(p, len, PROT_NONE));
}

static void make_accessible(void *p, size_t len)
{
	assert_ok(mprotect(p, len, PROT_READ | PROT_WRITE));
}

/* The first, a middle or the last page of the data is inaccessible, or all are. */
static void fault_in_data(void **state)
{
	static const struct {
		unsigned int first, nr;
	} fault[] = { { 0, 1 }, { 7, 1 }, { 15, 1 }, { 0, 16 } };
	struct unit *u = *state;
	unsigned int i;
	char *buf;

	start_on_filled_disk(u);
	buf = unit_alloc(u, 16 * PAGE);
	for (i = 0; i < ARRAY_SIZE(fault); i++) {
		make_inaccessible(buf + fault[i].first * PAGE, fault[i].nr * PAGE);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, 16 * PAGE),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(u->req.used_len, 1);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 16 * PAGE),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(u->req.used_len, 1);
		/* The same with a buffer that is misaligned for direct I/O. */
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf + 3, 16 * PAGE - 512),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf + 3, 16 * PAGE - 512),
				 VIRTIO_BLK_S_IOERR);
		make_accessible(buf + fault[i].first * PAGE, fault[i].nr * PAGE);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 64, buf, 16 * PAGE),
				 VIRTIO_BLK_S_OK);
		expect_pattern(buf + PAGE, 15 * PAGE, 64 * SECTOR_SIZE + PAGE, 1);
		/* The contents after the failed writes are unspecified. */
		disk_fill(u->disk, 0, 16 * PAGE, 1);
	}
	munmap(buf + 4 * PAGE, PAGE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, 16 * PAGE), VIRTIO_BLK_S_IOERR);
	expect_alive(u);
	assert_int_equal(event_count(u->vq[0].err), 0);
}

static void data_page_is_read_only(void **state)
{
	struct unit *u = *state;
	char *buf;

	start_on_filled_disk(u);
	buf = unit_alloc(u, 4 * PAGE);
	pattern_fill(buf, 4 * PAGE, 0, 2);
	assert_ok(mprotect(buf, 4 * PAGE, PROT_READ));
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 4 * PAGE), VIRTIO_BLK_S_OK);
	expect_disk(u->disk, 0, 4 * PAGE, 2);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 64, buf, 4 * PAGE), VIRTIO_BLK_S_IOERR);
	assert_int_equal(u->req.used_len, 1);
	expect_pattern(buf, 4 * PAGE, 0, 2);
	expect_alive(u);
}

static void fault_in_header(void **state)
{
	struct unit *u = *state;
	struct vq_segment chain[3];
	char *page, *buf;

	start_on_filled_disk(u);
	page = unit_alloc(u, PAGE);
	buf = unit_alloc(u, 512);
	make_inaccessible(page, PAGE);
	blk_request_prepare(&u->req, VIRTIO_BLK_T_IN, 0);
	chain[0] = unit_segment(u, page, 16);
	chain[1] = unit_segment(u, buf, 512);
	chain[2] = unit_segment(u, u->req.status, 1);
	assert_ok(blk_add_chain(&u->req, chain, 1, 2));
	vq_submit(&u->vq[0]);
	expect_end(&u->req, VIRTIO_BLK_S_IOERR, 1);
	expect_alive(u);
}

/*
 * Bug 4: a fault at the status byte leaked the in-flight count, so that close
 * and SET_FEATURES hung.
 */
static void fault_in_status_byte(void **state)
{
	static const uint32_t type[] = {
		VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, 99,
	};
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct vq_segment chain[3];
	char *page, *buf;
	unsigned int i;

	start_on_filled_disk(u);
	page = unit_alloc(u, PAGE);
	buf = unit_alloc(u, 512);
	make_inaccessible(page, PAGE);
	for (i = 0; i < ARRAY_SIZE(type); i++) {
		unsigned int nr_out = type[i] == VIRTIO_BLK_T_OUT ? 2 : 1;

		blk_request_prepare(&u->req, type[i], 0);
		chain[0] = unit_segment(u, u->req.header, 16);
		chain[1] = unit_segment(u, buf, 512);
		chain[2] = unit_segment(u, page, 1);
		assert_ok(blk_add_chain(&u->req, chain, nr_out, 3 - nr_out));
		vq_submit(vq);
		/* The device adds a used entry, but cannot write the status. */
		assert_int_equal(blk_wait(&u->req, TIMEOUT_MS), STATUS_UNSET);
		expect_alive(u);
	}
	unit_detach(u);
	assert_int_equal(vq_get_base(vq), 2 * ARRAY_SIZE(type));
	assert_ok(ioctl(u->dev.fd, VHOST_SET_FEATURES, &u->dev.features));
	unit_attach(u);
	expect_alive(u);
}

/* A device whose rings fault can be detached. */
static void fault_in_descriptors(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct vq_segment none = { 0 };

	start_on_memfd(u, DISK_SIZE, 1, 256);
	/* Add the request while the ring is accessible. */
	assert_ok(blk_add(&u->req, VIRTIO_BLK_T_FLUSH, 0, &none, 0));
	make_inaccessible(vq->desc, PAGE);
	vq_submit(vq);
	expect_ring_stopped(vq);
	unit_detach(u);
	make_accessible(vq->desc, PAGE);
	assert_ok(vq_restart(vq, 0));
	unit_attach(u);
	expect_alive(u);
}

static void fault_in_used_ring(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct vq_segment none = { 0 };

	start_on_memfd(u, DISK_SIZE, 1, 256);
	assert_ok(blk_add(&u->req, VIRTIO_BLK_T_FLUSH, 0, &none, 0));
	make_inaccessible(vq->used, PAGE);
	vq_publish(vq);
	vq_kick(vq);
	WAIT_UNTIL(unit_stats(u, 0).type[VHOST_BLK_STATS_FLUSH].requests);
	unit_detach(u);
	expect_workers(getpid(), 0);
	make_accessible(vq->used, PAGE);
	assert_ok(vq_restart(vq, 0));
	unit_attach(u);
	expect_alive(u);
}

static void fault_in_available_ring(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	char *page;

	start_on_memfd(u, DISK_SIZE, 1, 256);
	page = (char *)((uintptr_t)vq->avail & ~(PAGE - 1));
	assert_true(page >= (char *)(vq->desc + 256));
	make_inaccessible(page, PAGE);
	vq_kick(vq);
	expect_ring_stopped(vq);
	unit_detach(u);
	expect_workers(getpid(), 0);
	make_accessible(page, PAGE);
	assert_ok(vq_restart(vq, 0));
	unit_attach(u);
	expect_alive(u);
}

static void close_with_memory_unmapped(void **state)
{
	struct unit *u = *state;
	struct vq_segment data;
	char *buf;

	unit_suspendable(u, DISK_SIZE);
	unit_start(u, 1, 64);
	buf = unit_alloc(u, 4 * PAGE);
	data = unit_segment(u, buf, 4 * PAGE);
	unit_suspend(u, u->path);
	assert_ok(blk_add(&u->req, VIRTIO_BLK_T_IN, 0, &data, 1));
	vq_submit(&u->vq[0]);
	expect_inflight(u, 0, 1);
	guest_memory_free(&u->mem);
	unit_resume_soon(u);
	vhost_blk_close(&u->dev);
	expect_workers(getpid(), 0);
}

/*
 * Bug 9: pages leaked when fewer pages than requested could be pinned. Each round
 * leaked the 4 MiB before the inaccessible page.
 */
static void partial_pinning_leaks_no_pages(void **state)
{
	enum { ROUNDS = 12, PAGES = 1024 };
	struct unit *u = *state;
	struct guest_region *region;
	long before, after;
	unsigned int i;

	assert_ok(guest_memory_add(&u->mem, 0x10000000, PAGES * PAGE));
	region = &u->mem.region[1];
	start_on_filled_disk(u);
	before = available_kib();
	for (i = 0; i < ROUNDS; i++) {
		/* Map new pages, because a leak keeps the old ones. */
		assert_ptr_equal(mmap(region->host, region->size, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
				 region->host);
		memset(region->host, 1, region->size);
		make_inaccessible(region->host + (PAGES - 1) * PAGE, PAGE);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, region->host, PAGES * PAGE),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, region->host, PAGES * PAGE),
				 VIRTIO_BLK_S_IOERR);
	}
	munmap(region->host, region->size);
	after = available_kib();
	print_message("available before %ld KiB, after %ld KiB\n", before, after);
	/* The kernel keeps some free pages of its own for each CPU. */
	assert_true(before - after < ROUNDS * PAGES * 4 / 2);
	expect_alive(u);
}

/* A read in flight, and the parts of it that are in the region that goes. */
struct in_flight {
	bool direct;
	unsigned int offset;		/* of the data within a page */
	bool status_only;
	bool moves;			/* the region is at another address afterwards */
};

static const struct in_flight aligned_data = { .direct = true };
static const struct in_flight moved_data = { .direct = true, .moves = true };
static const struct in_flight misaligned_data = { .direct = true, .offset = 3 };
static const struct in_flight status = { .direct = true, .status_only = true };
static const struct in_flight cached_data = { .direct = false };

#define REGION_GPA	0x10000000
#define REGION_SIZE	(64 * KIB)

/* Open a disk of pattern 1 that hangs, with nothing of it in the page cache. */
static void open_hanging_disk(struct unit *u, bool direct)
{
	char device[BACKEND_PATH_MAX];

	if (direct) {
		unit_suspendable(u, DISK_SIZE);
		disk_fill(u->disk, 0, REGION_SIZE, 1);
		unit_suspend(u, u->path);
		return;
	}
	unit_suspendable_file(u, device);
	unit_disk(u, u->path, O_RDWR);
	disk_fill(u->disk, 0, REGION_SIZE, 1);
	assert_ok(fsync(u->disk));
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_DONTNEED), 0);
	unit_suspend(u, device);
}

static int set_memory(struct unit *u)
{
	return vhost_blk_set_memory(&u->dev);
}

/* Start on a hanging disk, with a second region and a read of 4 pages in flight. */
static char *start_with_read_in_flight(struct unit *u, const struct in_flight *f)
{
	char *region, *data;

	assert_ok(guest_memory_add(&u->mem, REGION_GPA, REGION_SIZE));
	region = u->mem.region[1].host;
	data = f->status_only ? unit_alloc(u, 4 * PAGE) : region + f->offset;
	open_hanging_disk(u, f->direct);
	unit_start(u, 1, 16);
	if (f->status_only) {
		struct vq_segment chain[3] = {
			unit_segment(u, u->req.header, sizeof(*u->req.header)),
			unit_segment(u, data, 4 * PAGE),
			unit_segment(u, region + 1234, 1),
		};

		u->req.status = (uint8_t *)region + 1234;
		blk_request_prepare(&u->req, VIRTIO_BLK_T_IN, 0);
		assert_ok(blk_add_chain(&u->req, chain, 1, 2));
		vq_submit(&u->vq[0]);
	} else {
		unit_submit_one(u, &u->req, VIRTIO_BLK_T_IN, 0, data, 4 * PAGE);
	}
	expect_inflight(u, 0, 1);
	return data;
}

/*
 * The owner may use the addresses of a region for something else when the table
 * without it is set: requests in flight do not write to it any more.
 */
static void region_goes_with_a_read_in_flight(void **state)
{
	struct unit *u = *state;
	const struct in_flight *f = u->param;
	char *data = start_with_read_in_flight(u, f);
	char *region = u->mem.region[1].host, *other, *taken;
	bool early;

	if (f->moves) {
		other = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_true(other != MAP_FAILED);
		u->mem.region[1].host = other;
	} else {
		u->mem.nregions = 1;
	}
	unit_call(u, set_memory);
	early = wait_until(unit_call_returned(u), QUIET_MS);
	if (!early) {
		unit_resume(u);
		WAIT_UNTIL(unit_call_returned(u));
		expect_end(&u->req, VIRTIO_BLK_S_OK, 4 * PAGE + 1);
		expect_pattern(data, 4 * PAGE, 0, 1);
	}
	assert_ok(unit_call_join(u));

	taken = mmap(region, REGION_SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	assert_ptr_equal(taken, region);
	memset(taken, 0xee, REGION_SIZE);
	if (early) {
		size_t i, nr = 0;

		unit_resume(u);
		WAIT_UNTIL(vq_used_idx(&u->vq[0]) == 1);
		for (i = 0; i < REGION_SIZE; i++)
			nr += (uint8_t)taken[i] != 0xee;
		fail_msg("the table was set with a read in flight, which overwrote %zu bytes", nr);
	}
	unit_request(&u->req, &u->vq[0]);
	expect_alive(u);
	assert_true((uint8_t)taken[0] == 0xee && !memcmp(taken, taken + 1, REGION_SIZE - 1));
}

/* Memory that is added needs to wait for nothing. */
static void region_comes_with_a_read_in_flight(void **state)
{
	struct unit *u = *state;
	struct blk_request get_id;
	char *data = start_with_read_in_flight(u, &aligned_data);

	assert_ok(guest_memory_add(&u->mem, 2 * REGION_GPA, REGION_SIZE));
	unit_call(u, set_memory);
	WAIT_UNTIL(unit_call_returned(u));
	assert_ok(unit_call_join(u));
	unit_requests(&get_id, 1, &u->vq[0]);
	assert_int_equal(unit_io_on(u, &get_id, VIRTIO_BLK_T_GET_ID, 0, u->mem.region[2].host,
				    VIRTIO_BLK_ID_BYTES), VIRTIO_BLK_S_OK);
	assert_false(u->req.done);
	unit_resume(u);
	expect_end(&u->req, VIRTIO_BLK_S_OK, 4 * PAGE + 1);
	expect_pattern(data, 4 * PAGE, 0, 1);
}

static int userfault = -1;

/* Let accesses to a page that is not there wait for supply_page(). */
static void watch_page(void *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register area = {
		.range = { .start = (uintptr_t)page, .len = PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	userfault = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	assert_ok(userfault);
	assert_ok(ioctl(userfault, UFFDIO_API, &api));
	assert_ok(ioctl(userfault, UFFDIO_REGISTER, &area));
}

static void supply_page(void *page, const void *contents)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)page, .src = (uintptr_t)contents, .len = PAGE,
	};

	assert_ok(ioctl(userfault, UFFDIO_COPY, &copy));
}

static int userfault_teardown(void **state)
{
	/* This ends the accesses that wait. */
	close(userfault);
	return unit_teardown(state);
}

struct page_user {
	uint32_t type;
	int flags;			/* of the open disk */
};

static const struct page_user cached_read = { VIRTIO_BLK_T_IN, 0 };
static const struct page_user cached_write = { VIRTIO_BLK_T_OUT, 0 };
static const struct page_user direct_read = { VIRTIO_BLK_T_IN, O_DIRECT };
static const struct page_user direct_write = { VIRTIO_BLK_T_OUT, O_DIRECT };

/*
 * A request whose page arrives late, as in a postcopy migration, does not hold up
 * the used entry of a request before it in the same batch.
 */
static void missing_page(void **state)
{
	struct unit *u = *state;
	const struct page_user *user = u->param;
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };
	struct blk_request get_id;
	struct vq_segment data;
	char *page, *contents;

	unit_null(u, &spec, O_RDWR | user->flags);
	disk_fill(u->disk, 0, PAGE, 1);
	unit_start(u, 1, 16);
	unit_requests(&get_id, 1, &u->vq[0]);
	data = unit_segment(u, unit_alloc(u, VIRTIO_BLK_ID_BYTES), VIRTIO_BLK_ID_BYTES);
	page = unit_alloc(u, PAGE);
	contents = aligned_alloc(PAGE, PAGE);
	assert_non_null(contents);
	pattern_fill(contents, PAGE, 0, 2);
	watch_page(page);

	assert_ok(blk_add(&get_id, VIRTIO_BLK_T_GET_ID, 0, &data, 1));
	data = unit_segment(u, page, PAGE);
	assert_ok(blk_add(&u->req, user->type, 0, &data, 1));
	vq_submit(&u->vq[0]);
	assert_int_equal(event_wait(userfault, TIMEOUT_MS), 0);
	expect_end(&get_id, VIRTIO_BLK_S_OK, VIRTIO_BLK_ID_BYTES + 1);
	assert_false(u->req.done);

	supply_page(page, contents);
	free(contents);
	expect_end(&u->req, VIRTIO_BLK_S_OK, user->type == VIRTIO_BLK_T_IN ? PAGE + 1 : 1);
	if (user->type == VIRTIO_BLK_T_IN)
		expect_pattern(page, PAGE, 0, 1);
	else
		expect_disk(u->disk, 0, PAGE, 2);
}

/*
 * The same for the page of a status byte. The submission worker does not wait for it,
 * but goes on with the next requests.
 */
static void missing_status_page(void **state)
{
	struct unit *u = *state;
	struct blk_request late, get_id;
	struct vq_segment data, chain[3];
	char *id, *page, *contents;

	unit_memfd(u, DISK_SIZE);
	unit_start(u, 1, 16);
	unit_requests(&get_id, 1, &u->vq[0]);
	unit_requests(&late, 1, &u->vq[0]);
	id = unit_alloc(u, VIRTIO_BLK_ID_BYTES);
	data = unit_segment(u, id, VIRTIO_BLK_ID_BYTES);
	page = unit_alloc(u, PAGE);
	contents = aligned_alloc(PAGE, PAGE);
	assert_non_null(contents);
	memset(contents, STATUS_UNSET, PAGE);
	watch_page(page);

	blk_request_prepare(&late, VIRTIO_BLK_T_GET_ID, 0);
	chain[0] = unit_segment(u, late.header, 16);
	chain[1] = data;
	chain[2] = unit_segment(u, page, 1);
	assert_ok(blk_add_chain(&late, chain, 1, 2));
	assert_ok(blk_add(&get_id, VIRTIO_BLK_T_GET_ID, 0, &data, 1));
	vq_submit(&u->vq[0]);
	assert_int_equal(event_wait(userfault, TIMEOUT_MS), 0);
	expect_end(&get_id, VIRTIO_BLK_S_OK, VIRTIO_BLK_ID_BYTES + 1);
	assert_false(late.done);
	assert_int_equal(unit_io_on(u, &get_id, VIRTIO_BLK_T_GET_ID, 0, id, VIRTIO_BLK_ID_BYTES),
			 VIRTIO_BLK_S_OK);
	assert_false(late.done);

	supply_page(page, contents);
	free(contents);
	blk_wait(&late, TIMEOUT_MS);
	assert_int_equal(late.used_len, VIRTIO_BLK_ID_BYTES + 1);
	assert_int_equal(*page, VIRTIO_BLK_S_OK);
}

int main(int argc, char **argv)
{
#define TEST_FAULT(fn)	{ #fn, fn, unit_setup, userfault_teardown, NULL }
#define TEST_FAULT_ON(fn, p) \
	{ #fn "_on_" #p, fn, unit_setup, userfault_teardown, (void *)&(p) }
	const struct CMUnitTest tests[] = {
		TEST_ON(buffers_in_other_regions, file),
		TEST_ON(buffers_in_other_regions, direct),
		TEST_ON(buffer_across_regions, file),
		TEST_ON(buffer_across_regions, direct),
		TEST_ON(maximum_number_of_regions, file),
		TEST_ON(table_changes_while_stopped, file),
		TEST_ON(table_changes_while_running, direct),
		TEST_ON(anonymous_memory, file),
		TEST_ON(anonymous_memory, direct),
		TEST_ON(fault_in_data, file),
		TEST_ON(fault_in_data, direct),
		TEST_ON(data_page_is_read_only, file),
		TEST_ON(data_page_is_read_only, direct),
		TEST_ON(fault_in_header, file),
		TEST_ON(fault_in_status_byte, file),
		TEST_ON(fault_in_status_byte, direct),
		TEST(fault_in_descriptors),
		TEST(fault_in_used_ring),
		TEST(fault_in_available_ring),
		TEST(close_with_memory_unmapped),
		TEST_ON(partial_pinning_leaks_no_pages, file),
		TEST_ON(partial_pinning_leaks_no_pages, direct),
		TEST_ON(region_goes_with_a_read_in_flight, aligned_data),
		TEST_ON(region_goes_with_a_read_in_flight, moved_data),
		TEST_ON(region_goes_with_a_read_in_flight, misaligned_data),
		TEST_ON(region_goes_with_a_read_in_flight, status),
		TEST_ON(region_goes_with_a_read_in_flight, cached_data),
		TEST(region_comes_with_a_read_in_flight),
		TEST_FAULT_ON(missing_page, cached_read),
		TEST_FAULT_ON(missing_page, cached_write),
		TEST_FAULT_ON(missing_page, direct_read),
		TEST_FAULT_ON(missing_page, direct_write),
		TEST_FAULT(missing_status_page),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
