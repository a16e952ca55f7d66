// SPDX-License-Identifier: GPL-2.0
/*
 * The cache of pinned pages: it has the guest's pages, they are accounted and
 * limited, and they are unpinned.
 */
#define _GNU_SOURCE
#include "unit.h"

#include <sys/mman.h>
#include <sys/resource.h>

#define DISK_SIZE	(8 * MIB)
#define GIB		(1024 * MIB)
#define SET		8	/* pages of the smallest cache */
#define LIMIT		(4 * MIB)
#define POLL_US		10000
#define DATA_GPA	0x10000000ULL

static void start_on_disk(struct unit *u, uint64_t limit, unsigned int nr)
{
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_open(u, FEATURES);
	unit_pin_limit(u, limit);
	unit_vqs(u, nr, 64);
	unit_attach(u);
}

static void start_with_limit(struct unit *u, uint64_t limit)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	start_on_disk(u, limit, 1);
}

/* Return the number of pages that are accounted as pinned to this process. */
static long pinned(void)
{
	long kib = -1;
	char line[128];
	FILE *f;

	f = fopen("/proc/self/status", "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) && sscanf(line, "VmPin: %ld", &kib) != 1)
		;
	fclose(f);
	assert_true(kib >= 0);
	return kib * KIB / PAGE;
}

static void expect_pinned(long nr)
{
	long got;

	if (!wait_until((got = pinned()) == nr, TIMEOUT_MS))
		fail_msg("%ld pages are pinned, expected %ld", got, nr);
}

static uint64_t misses(struct unit *u)
{
	return unit_stats(u, 0).pin_misses;
}

static void expect_read(struct unit *u, uint64_t sector, void *buf, uint32_t len)
{
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, sector, buf, len), VIRTIO_BLK_S_OK);
	expect_pattern(buf, len, sector * SECTOR_SIZE, 1);
}

/* Read one sector into each page. */
static void read_into_pages(struct unit *u, char *buf, unsigned int first, unsigned int nr)
{
	for (; nr; nr--, first++)
		expect_read(u, first, buf + first * PAGE, SECTOR_SIZE);
}

static void invalid_calls_change_nothing(void **state)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };
	struct vhost_blk_pin_limit limit = { .bytes = MIB };
	struct unit *u = *state;
	pid_t pid;

	u->dev.fd = open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC);
	assert_ok(u->dev.fd);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_PIN_LIMIT, &limit), EPERM);
	close(u->dev.fd);

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	unit_open(u, FEATURES);
	unit_pin_limit(u, GIB);
	unit_pin_limit(u, LIMIT);
	limit.bytes = GIB + 1;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_PIN_LIMIT, &limit), EINVAL);
	limit.bytes = UINT64_MAX;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_PIN_LIMIT, &limit), EINVAL);
	limit.bytes = 0;
	limit.reserved = 1;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_PIN_LIMIT, &limit), EINVAL);
	limit.reserved = 0;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_PIN_LIMIT, NULL), EFAULT);
	pid = child_fork();
	if (!pid)
		_exit(ioctl(u->dev.fd, VHOST_BLK_SET_PIN_LIMIT, &limit) != -1 || errno != EPERM);
	assert_int_equal(child_wait(pid), 0);
	unit_vqs(u, 1, 16);
	unit_attach(u);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_PIN_LIMIT, &limit), EBUSY);
	expect_alive(u);
	expect_pinned(1);

	unit_detach(u);
	unit_pin_limit(u, 0);
	unit_attach(u);
	expect_alive(u);
	assert_int_equal(pinned(), 0);
}

static void pins_nothing_by_default(void **state)
{
	struct unit *u = *state;

	start_with_limit(u, 0);
	read_into_pages(u, unit_alloc(u, 16 * PAGE), 0, 16);
	assert_int_equal(misses(u), 0);
	assert_int_equal(pinned(), 0);
}

static void pinned_pages_are_reused(void **state)
{
	struct unit *u = *state;
	unsigned int i;
	char *buf;

	start_with_limit(u, LIMIT);
	buf = unit_alloc(u, 16 * PAGE);
	for (i = 0; i < 3; i++) {
		expect_read(u, i, buf, 4 * PAGE);
		assert_int_equal(misses(u), 4);
		expect_pinned(4);
	}
	pattern_fill(buf, 4 * PAGE, 0, 2);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 4 * PAGE), VIRTIO_BLK_S_OK);
	expect_disk(u->disk, 0, 4 * PAGE, 2);
	assert_int_equal(misses(u), 4);
	/* Two of these three pages are in the cache. */
	expect_read(u, 64, buf + 2 * PAGE, 3 * PAGE);
	assert_int_equal(misses(u), 5);
	expect_pinned(5);
}

static void buffered_io_pins_nothing(void **state)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };
	struct unit *u = *state;

	unit_null(u, &spec, O_RDWR);
	start_on_disk(u, LIMIT, 1);
	read_into_pages(u, unit_alloc(u, 16 * PAGE), 0, 16);
	assert_int_equal(misses(u), 0);
	assert_int_equal(pinned(), 0);
}

static void large_requests_bypass_the_cache(void **state)
{
	struct unit *u = *state;
	char *buf;

	start_with_limit(u, LIMIT);
	buf = unit_alloc(u, 17 * PAGE);
	expect_read(u, 3, buf, 9 * PAGE);
	expect_read(u, 3, buf, 16 * PAGE);
	expect_pinned(0);
	expect_read(u, 3, buf, 8 * PAGE);
	expect_pinned(8);
}

static void limit_holds(void **state)
{
	struct unit *u = *state;
	unsigned int i;
	char *buf;

	start_with_limit(u, 2 * SET * PAGE);
	buf = unit_alloc(u, 100 * PAGE);
	for (i = 0; i < 100; i++) {
		read_into_pages(u, buf, i, 1);
		assert_true(pinned() <= 2 * SET);
	}
	assert_int_equal(pinned(), 2 * SET);
}

/* The size of the cache is rounded down to whole sets. */
static void limit_below_a_set_disables_pinning(void **state)
{
	struct unit *u = *state;

	start_with_limit(u, SET * PAGE - 1);
	read_into_pages(u, unit_alloc(u, 16 * PAGE), 0, 16);
	assert_int_equal(pinned(), 0);
}

static void least_recently_used_is_evicted(void **state)
{
	struct unit *u = *state;
	char *buf;

	start_with_limit(u, SET * PAGE);
	buf = unit_alloc(u, (SET + 1) * PAGE);
	read_into_pages(u, buf, 0, SET);
	read_into_pages(u, buf, 0, 1);
	assert_int_equal(misses(u), SET);
	/* It replaces the second page. */
	read_into_pages(u, buf, SET, 1);
	assert_int_equal(misses(u), SET + 1);
	read_into_pages(u, buf, 0, 1);
	read_into_pages(u, buf, 2, SET - 2);
	assert_int_equal(misses(u), SET + 1);
	read_into_pages(u, buf, 1, 1);
	assert_int_equal(misses(u), SET + 2);
	assert_int_equal(pinned(), SET);
}

/* Changes of memory by the owner, while the guest uses it. */
enum change { DISCARD_SHARED, DISCARD_PRIVATE, MAP_OVER, MOVE_AWAY, TABLE };
static const enum change discarding = DISCARD_SHARED, discarding_private = DISCARD_PRIVATE,
			 mapping_over = MAP_OVER, moving_away = MOVE_AWAY, table = TABLE;

static void *map_anonymous(void *at, size_t len)
{
	void *p = mmap(at, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

/* Allocate memory for data that can change in that way. */
static char *data_memory(struct unit *u, enum change change, size_t len)
{
	int region = guest_memory_add(&u->mem, DATA_GPA, len);

	assert_ok(region);
	if (change == DISCARD_PRIVATE)
		map_anonymous(u->mem.region[region].host, len);
	return guest_alloc(&u->mem, region, len, PAGE);
}

static void do_change(struct unit *u, enum change change, char *p, size_t len)
{
	switch (change) {
	case DISCARD_SHARED:
		assert_ok(madvise(p, len, MADV_REMOVE));
		break;
	case DISCARD_PRIVATE:
		assert_ok(madvise(p, len, MADV_DONTNEED));
		break;
	case MAP_OVER:
		map_anonymous(p, len);
		break;
	case MOVE_AWAY:
		assert_ptr_not_equal(mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
					    map_anonymous(NULL, len)), MAP_FAILED);
		map_anonymous(p, len);
		break;
	case TABLE:
		assert_ok(vhost_blk_set_memory(&u->dev));
		break;
	}
}

static void idle_device_unpins_after(void **state)
{
	struct unit *u = *state;
	enum change change = *(const enum change *)u->param;
	unsigned int i;
	char *buf;

	buf = data_memory(u, change, 8 * PAGE);
	start_with_limit(u, LIMIT);
	for (i = 0; i < 3; i++) {
		expect_read(u, i, buf, 4 * PAGE);
		expect_pinned(4);
		do_change(u, change, buf, 8 * PAGE);
		expect_pinned(0);
	}
}

static void guest_sees_its_data_after(void **state)
{
	struct unit *u = *state;
	enum change change = *(const enum change *)u->param;
	unsigned int i;
	char *buf;

	buf = data_memory(u, change, 8 * PAGE);
	start_with_limit(u, LIMIT);
	for (i = 0; i < 50; i++) {
		expect_read(u, i, buf, 8 * PAGE);
		do_change(u, change, buf, 8 * PAGE);
		/* Either this process or the device faults the new page in. */
		if (i % 2)
			memset(buf, i, 8 * PAGE);
		expect_read(u, 100 + i, buf, 8 * PAGE);
		do_change(u, change, buf, 8 * PAGE);
		pattern_fill(buf, 8 * PAGE, 4 * MIB, i);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 4 * MIB / SECTOR_SIZE, buf, 8 * PAGE),
				 VIRTIO_BLK_S_OK);
		expect_disk(u->disk, 4 * MIB, 8 * PAGE, i);
	}
	assert_true(misses(u) >= 2 * 50 * 8);
}

/* Change the page between two reads. Return true if the worker found the second one by polling. */
static bool second_read_is_poll_hit(struct unit *u, enum change change, char *buf)
{
	struct vhost_blk_stats before, after;

	expect_read(u, 0, buf, PAGE);
	before = unit_stats(u, 0);
	do_change(u, change, buf, PAGE);
	expect_read(u, 8, buf, PAGE);
	after = unit_stats(u, 0);
	return after.poll_hits != before.poll_hits && after.submit_wakeups == before.submit_wakeups;
}

/* The worker does not sleep before it finds the next request. */
static void guest_sees_its_data_while_polling_after(void **state)
{
	struct unit *u = *state;
	enum change change = *(const enum change *)u->param;
	char *buf;

	buf = data_memory(u, change, PAGE);
	start_with_limit(u, LIMIT);
	unit_poll_timeout(u, 0, POLL_US);
	REPEAT_UNTIL(second_read_is_poll_hit(u, change, buf))
		;
}

/* The guest's memory is a file, which is written back during the read into it. */
static void late_data_is_written_back(void **state)
{
	char below[BACKEND_PATH_MAX], dir[BACKEND_PATH_MAX], path[BACKEND_PATH_MAX];
	struct null_blk spec = { .size_mib = 16 };
	struct unit *u = *state;
	char *buf;
	int fd;

	assert_ok(backend_null(below, &spec));
	assert_ok(backend_mkfs(dir, "ext4", below));
	assert_ok(backend_file(path, dir, "memory", PAGE));
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_ok(fd);
	buf = data_memory(u, MAP_OVER, PAGE);
	assert_ptr_equal(mmap(buf, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
			 buf);
	unit_suspendable(u, DISK_SIZE);
	start_on_disk(u, LIMIT, 1);

	unit_suspend(u, u->path);
	unit_submit_one(u, &u->req, VIRTIO_BLK_T_IN, 0, buf, PAGE);
	expect_inflight(u, 0, 1);
	/* The page is pinned when the worker sleeps. */
	wait_for_sleep(worker_find(getpid(), 's', 0), "");
	assert_ok(msync(buf, PAGE, MS_SYNC));
	unit_resume(u);
	expect_end(&u->req, VIRTIO_BLK_S_OK, PAGE + 1);
	unit_detach(u);

	map_anonymous(buf, PAGE);
	assert_ok(fsync(fd));
	assert_ok(fcntl(fd, F_SETFL, O_DIRECT));
	expect_disk(fd, 0, PAGE, 1);
	close(fd);
}

static void inaccessible_memory_is_an_error(void **state)
{
	struct unit *u = *state;
	char *buf;

	start_with_limit(u, LIMIT);
	buf = unit_alloc(u, 4 * PAGE);
	expect_read(u, 0, buf, 4 * PAGE);
	assert_ok(mprotect(buf, PAGE, PROT_READ));
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 8, buf, PAGE), VIRTIO_BLK_S_IOERR);
	expect_pattern(buf, PAGE, 0, 1);
	/* Readable memory can be written to the disk. */
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 64, buf, PAGE), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 64, buf + PAGE, PAGE), VIRTIO_BLK_S_OK);
	expect_pattern(buf + PAGE, PAGE, 0, 1);
	assert_ok(munmap(buf + 2 * PAGE, PAGE));
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 8, buf + 2 * PAGE, PAGE), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 8, buf + 2 * PAGE, PAGE),
			 VIRTIO_BLK_S_IOERR);
	expect_pinned(0);
	expect_alive(u);
}

/* The cache unpins its pages at once, a request its own when it completes. */
static void discarded_while_in_flight(void **state)
{
	struct unit *u = *state;
	struct blk_request req[4];
	unsigned int i;
	char *buf;

	unit_suspendable(u, DISK_SIZE);
	start_on_disk(u, LIMIT, 1);
	unit_requests(req, 4, &u->vq[0]);
	buf = unit_alloc(u, 16 * PAGE);
	expect_read(u, 0, buf, 8 * PAGE);
	expect_read(u, 0, buf + 8 * PAGE, 8 * PAGE);
	expect_pinned(16);
	unit_suspend(u, u->path);
	for (i = 0; i < 4; i++)
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i, buf + i * PAGE, PAGE);
	expect_inflight(u, 0, 4);
	assert_ok(madvise(buf, 16 * PAGE, MADV_REMOVE));
	expect_pinned(4);
	unit_resume(u);
	for (i = 0; i < 4; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pinned(0);
	expect_read(u, 8, buf, 8 * PAGE);
}

/* Each page of the only set is in use, so that further requests bypass the cache. */
static void more_in_flight_than_the_limit(void **state)
{
	enum { NR = 3 * SET };
	struct unit *u = *state;
	struct blk_request req[NR];
	unsigned int i;
	char *buf;

	unit_suspendable(u, DISK_SIZE);
	start_on_disk(u, SET * PAGE, 1);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	unit_suspend(u, u->path);
	for (i = 0; i < NR; i++)
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i * 8, buf + i * PAGE, PAGE);
	/* A request that bypasses the cache may block in its submission. */
	expect_pinned(SET);
	unit_resume(u);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf, NR * PAGE, 0, 1);
	expect_pinned(SET);
	read_into_pages(u, buf, 0, NR);
	expect_pinned(SET);
}

enum stop { DETACH, RESET_OWNER, CLOSE };
static const enum stop detach = DETACH, reset_owner = RESET_OWNER, close_device = CLOSE;

static void all_pages_are_unpinned(void **state)
{
	struct unit *u = *state;
	char *buf;

	start_with_limit(u, LIMIT);
	buf = unit_alloc(u, 8 * PAGE);
	expect_read(u, 0, buf, 8 * PAGE);
	assert_int_equal(pinned(), 8);
	switch (*(const enum stop *)u->param) {
	case DETACH:
		unit_detach(u);
		assert_int_equal(pinned(), 0);
		/* The limit is unchanged. */
		unit_attach(u);
		expect_read(u, 1, buf, 8 * PAGE);
		assert_int_equal(pinned(), 8);
		break;
	case RESET_OWNER:
		assert_ok(ioctl(u->dev.fd, VHOST_RESET_OWNER));
		assert_int_equal(pinned(), 0);
		assert_ok(vhost_blk_setup(&u->dev));
		assert_ok(vq_restart(&u->vq[0], 0));
		unit_attach(u);
		expect_read(u, 1, buf, 8 * PAGE);
		assert_int_equal(misses(u), 0);
		assert_int_equal(pinned(), 0);
		break;
	case CLOSE:
		vhost_blk_close(&u->dev);
		assert_int_equal(pinned(), 0);
		break;
	}
}

/* Return true if no page of the memfd is pinned, by sealing it. */
static bool can_seal(int memfd)
{
	if (!fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE))
		return true;
	assert_int_equal(errno, EBUSY);
	return false;
}

static void owner_exits_while_another_has_the_device(void **state)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };
	struct unit *u = *state;
	int memfd;
	pid_t pid;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	memfd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_ok(memfd);
	u->dev.fd = open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC);
	assert_ok(u->dev.fd);
	pid = child_fork();
	if (!pid) {
		struct vhost_blk_pin_limit limit = { .bytes = LIMIT };
		struct guest_memory mem = { .fd = memfd };
		struct vhost_blk dev = {
			.fd = u->dev.fd, .features = FEATURES, .mem = &mem,
		};
		struct blk_request req;
		struct vq_segment data;
		struct vq vq;
		char *buf;

		child_check(!guest_memory_add(&mem, GUEST_GPA, 4 * MIB));
		child_check(!vhost_blk_setup(&dev));
		child_check(!ioctl(dev.fd, VHOST_BLK_SET_PIN_LIMIT, &limit));
		child_check(!vq_setup(&vq, &dev, 0, 16));
		child_check(!blk_request_init(&req, &vq, 0));
		child_check(!vhost_blk_attach(&dev, u->disk));
		buf = guest_alloc(&mem, 0, 8 * PAGE, PAGE);
		data.addr = guest_address(&mem, buf);
		data.len = 8 * PAGE;
		child_check(blk_add(&req, VIRTIO_BLK_T_IN, 0, &data, 1) >= 0);
		vq_submit(&vq);
		child_check(blk_wait(&req, TIMEOUT_MS) == VIRTIO_BLK_S_OK);
		child_check(pinned() == 8);
		_exit(0);
	}
	assert_int_equal(child_wait(pid), 0);
	WAIT_UNTIL(can_seal(memfd));
	expect_workers_of_dead_owner(pid, 2);
	close(memfd);
}

static int set_limit_as_nobody(struct unit *u, rlim_t bytes)
{
	struct vhost_blk_pin_limit limit = { .bytes = LIMIT };
	struct rlimit before, now;
	int ret;

	assert_ok(getrlimit(RLIMIT_MEMLOCK, &before));
	now = before;
	now.rlim_cur = bytes;
	assert_ok(setrlimit(RLIMIT_MEMLOCK, &now));
	assert_ok(seteuid(65534));
	ret = ioctl(u->dev.fd, VHOST_BLK_SET_PIN_LIMIT, &limit);
	assert_ok(seteuid(0));
	assert_ok(setrlimit(RLIMIT_MEMLOCK, &before));
	return ret;
}

static void memlock_limit_of_the_owner_holds(void **state)
{
	enum { ALLOWED = 12 };
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };
	struct unit *u = *state;
	unsigned int i;
	char *buf;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	start_on_disk(u, 0, 2);
	buf = unit_alloc(u, 32 * PAGE);
	unit_detach(u);
	assert_ok(set_limit_as_nobody(u, ALLOWED * PAGE));
	unit_attach(u);
	for (i = 0; i < 32; i++) {
		read_into_pages(u, buf, i, 1);
		assert_true(pinned() <= ALLOWED);
	}
	expect_pinned(ALLOWED);
	/* The cache has room for some of these pages. */
	for (i = 0; i < 24; i++)
		expect_read(u, i, buf + i * PAGE, 8 * PAGE);
	expect_pinned(ALLOWED);

	unit_detach(u);
	assert_ok(set_limit_as_nobody(u, 0));
	unit_attach(u);
	read_into_pages(u, buf, 0, 32);
	assert_int_equal(pinned(), 0);

	/* With CAP_IPC_LOCK there is no limit. */
	unit_detach(u);
	unit_pin_limit(u, LIMIT);
	unit_attach(u);
	read_into_pages(u, buf, 0, 32);
	assert_int_equal(pinned(), 32);
}

/* Read into segments, check that nothing else is written, and write other data from them. */
static void read_and_write(struct unit *u, char *const *at, const uint32_t *len, unsigned int nr,
			   uint64_t sector, uint64_t seed)
{
	uint64_t offset = sector * SECTOR_SIZE, back = 4 * MIB + offset;
	struct vq_segment data[16];
	uint32_t all = 0;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		memset(at[i] - 8, 0xee, len[i] + 16);
		data[i] = unit_segment(u, at[i], len[i]);
	}
	assert_ok(blk_add(&u->req, VIRTIO_BLK_T_IN, sector, data, nr));
	vq_submit(&u->vq[0]);
	for (i = 0; i < nr; i++)
		all += len[i];
	expect_end(&u->req, VIRTIO_BLK_S_OK, all + 1);
	for (i = 0; i < nr; i++) {
		expect_pattern(at[i], len[i], offset, 1);
		assert_memory_equal(at[i] - 8, "\xee\xee\xee\xee\xee\xee\xee\xee", 8);
		assert_memory_equal(at[i] + len[i], "\xee\xee\xee\xee\xee\xee\xee\xee", 8);
		pattern_fill(at[i], len[i], back + (offset - sector * SECTOR_SIZE), seed);
		offset += len[i];
	}
	assert_ok(blk_add(&u->req, VIRTIO_BLK_T_OUT, back / SECTOR_SIZE, data, nr));
	vq_submit(&u->vq[0]);
	expect_end(&u->req, VIRTIO_BLK_S_OK, 1);
	expect_disk(u->disk, back, all, seed);
}

static void all_sizes_and_alignments(void **state)
{
	static const uint32_t lens[] = {
		512, 1024, 3584, 4096, 4608, 8192, 16384, 28672, 32256, 32768, 33280, 36864, 65536,
	};
	static const unsigned int offsets[] = { 0, 512, 1536, 3584, 1, 2, 100, 4095 };
	struct unit *u = *state;
	unsigned int i, j;
	char *buf, *at;

	start_with_limit(u, *(const uint64_t *)u->param);
	buf = unit_alloc(u, 20 * PAGE);
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		for (j = 0; j < ARRAY_SIZE(offsets); j++) {
			at = buf + PAGE + offsets[j];
			read_and_write(u, &at, &lens[i], 1, i + j, i * 8 + j + 2);
		}
	}
	assert_true(misses(u) > 0);
}

static void segments_anywhere(void **state)
{
	enum { ROUNDS = 200, SEGS = 12, AREA = 4 };
	uint64_t rnd = 20;
	struct unit *u = *state;
	unsigned int i, round, nr;
	uint32_t len[SEGS];
	char *buf, *at[SEGS];

	start_with_limit(u, *(const uint64_t *)u->param);
	buf = unit_alloc(u, SEGS * AREA * PAGE);
	for (round = 0; round < ROUNDS; round++) {
		nr = 1 + random_next(&rnd) % SEGS;
		for (i = 0; i < nr; i++) {
			at[i] = buf + i * AREA * PAGE + 512 * (1 + random_next(&rnd) % 8);
			len[i] = 512 * (1 + random_next(&rnd) % (round % 2 ? 4 : 16));
			/* Sometimes misaligned for direct I/O. */
			if (!(random_next(&rnd) % 40))
				at[i] += 3;
		}
		read_and_write(u, at, len, nr, random_next(&rnd) % 4096, round + 2);
	}
	assert_true(misses(u) > 0);
}

static const uint64_t ample = LIMIT, scarce = SET * PAGE;

/*
 * Requests of all queues complete in any order while others start, with a cache
 * that is large enough or too small, and memory that no request uses is discarded.
 */
static void many_queues_at_once(void **state)
{
	enum { QUEUES = 4, DEPTH = 16, PAGES = 3, ROUNDS = 30 };
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB, .delay_us = 300, .queue_depth = 256 };
	struct blk_request req[QUEUES][DEPTH];
	uint64_t sector[QUEUES][DEPTH], rnd = 21;
	unsigned int i, q, round;
	struct unit *u = *state;
	char *buf;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	start_on_disk(u, *(const uint64_t *)u->param, QUEUES);
	buf = unit_alloc(u, QUEUES * DEPTH * PAGES * PAGE);
	for (q = 0; q < QUEUES; q++)
		unit_requests(req[q], DEPTH, &u->vq[q]);
	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < DEPTH; i++) {
			for (q = 0; q < QUEUES; q++) {
				char *at = buf + (q * DEPTH + i) * PAGES * PAGE;

				if (random_next(&rnd) % 8 == 0)
					assert_ok(madvise(at, PAGES * PAGE, MADV_REMOVE));
				sector[q][i] = random_next(&rnd) % 8192;
				unit_submit_one(u, &req[q][i], VIRTIO_BLK_T_IN, sector[q][i], at,
						PAGES * PAGE);
			}
		}
		for (i = 0; i < DEPTH; i++) {
			for (q = 0; q < QUEUES; q++) {
				expect_end(&req[q][i], VIRTIO_BLK_S_OK, PAGES * PAGE + 1);
				expect_pattern(buf + (q * DEPTH + i) * PAGES * PAGE, PAGES * PAGE,
					       sector[q][i] * SECTOR_SIZE, 1);
			}
		}
		assert_true(pinned() * PAGE <= QUEUES * *(const uint64_t *)u->param);
	}
	unit_detach(u);
	assert_int_equal(pinned(), 0);
}

/* A page that two queues use is pinned and accounted twice. */
static void each_queue_has_its_own_cache(void **state)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };
	struct unit *u = *state;
	struct blk_request req;
	char *buf;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	start_on_disk(u, LIMIT, 2);
	unit_requests(&req, 1, &u->vq[1]);
	buf = unit_alloc(u, 4 * PAGE);
	expect_read(u, 0, buf, 4 * PAGE);
	expect_pinned(4);
	assert_int_equal(unit_io_on(u, &req, VIRTIO_BLK_T_IN, 1, buf, 4 * PAGE), VIRTIO_BLK_S_OK);
	expect_pattern(buf, 4 * PAGE, 512, 1);
	expect_pinned(8);
	assert_int_equal(unit_stats(u, 1).pin_misses, 4);
	assert_ok(madvise(buf, 4 * PAGE, MADV_REMOVE));
	expect_pinned(0);
}

/* The child keeps the memory as it was at the fork, and the device uses the owner's. */
static void owner_forks(void **state)
{
	struct unit *u = *state;
	int down[2];
	char byte, *buf;
	unsigned int i;
	pid_t pid;

	buf = data_memory(u, DISCARD_PRIVATE, 8 * PAGE);
	start_with_limit(u, LIMIT);
	assert_ok(pipe(down));
	for (i = 0; i < 3; i++) {
		expect_read(u, 0, buf, 8 * PAGE);
		pid = child_fork();
		if (!pid) {
			child_check(read(down[0], &byte, 1) == 1);
			child_check(pattern_differs(buf, 8 * PAGE, 0, 1) < 0);
			memset(buf, 0xcc, 8 * PAGE);
			_exit(0);
		}
		expect_read(u, 64, buf, 4 * PAGE);
		memset(buf + 4 * PAGE, 0xdd, 4 * PAGE);
		expect_read(u, 64, buf, 8 * PAGE);
		assert_int_equal(write(down[1], "", 1), 1);
		assert_int_equal(child_wait(pid), 0);
		expect_pattern(buf, 8 * PAGE, 64 * SECTOR_SIZE, 1);
		expect_read(u, 128, buf, 8 * PAGE);
	}
	close(down[0]);
	close(down[1]);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST(invalid_calls_change_nothing),
		TEST(pins_nothing_by_default),
		TEST(pinned_pages_are_reused),
		TEST(buffered_io_pins_nothing),
		TEST(large_requests_bypass_the_cache),
		TEST(limit_holds),
		TEST(limit_below_a_set_disables_pinning),
		TEST(least_recently_used_is_evicted),
		TEST_ON(idle_device_unpins_after, discarding),
		TEST_ON(idle_device_unpins_after, discarding_private),
		TEST_ON(idle_device_unpins_after, mapping_over),
		TEST_ON(idle_device_unpins_after, moving_away),
		TEST_ON(idle_device_unpins_after, table),
		TEST_ON(guest_sees_its_data_after, discarding),
		TEST_ON(guest_sees_its_data_after, discarding_private),
		TEST_ON(guest_sees_its_data_after, mapping_over),
		TEST_ON(guest_sees_its_data_after, moving_away),
		TEST_ON(guest_sees_its_data_while_polling_after, discarding),
		TEST_ON(guest_sees_its_data_while_polling_after, mapping_over),
		TEST(late_data_is_written_back),
		TEST(inaccessible_memory_is_an_error),
		TEST(discarded_while_in_flight),
		TEST(more_in_flight_than_the_limit),
		TEST_ON(all_pages_are_unpinned, detach),
		TEST_ON(all_pages_are_unpinned, reset_owner),
		TEST_ON(all_pages_are_unpinned, close_device),
		TEST(owner_exits_while_another_has_the_device),
		TEST(memlock_limit_of_the_owner_holds),
		TEST_ON(all_sizes_and_alignments, ample),
		TEST_ON(all_sizes_and_alignments, scarce),
		TEST_ON(segments_anywhere, ample),
		TEST_ON(segments_anywhere, scarce),
		TEST_ON(many_queues_at_once, ample),
		TEST_ON(many_queues_at_once, scarce),
		TEST(each_queue_has_its_own_cache),
		TEST(owner_forks),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
