// SPDX-License-Identifier: GPL-2.0
/* Backends of every kind: data is correct on each, and each failure has its status. */
#define _GNU_SOURCE
#include "disks.h"

#include <linux/fs.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "fuse.h"

/* Reads and writes of random sectors and sizes agree with a model of the disk. */
static void random_io_agrees_with_a_model(void **state)
{
	enum { DEPTH = 16, ROUNDS = 30, SLOT = 128 * 1024 };
	struct unit *u = *state;
	const struct disk_kind *kind = u->param;
	unsigned int block = (kind->block_size ?: SECTOR_SIZE) / SECTOR_SIZE;
	struct blk_request req[DEPTH];
	uint8_t *model, *buf, *copy;
	uint64_t seed = 42;
	unsigned int i, round;

	open_disk(u, kind);
	unit_start(u, 1, 64);
	unit_requests(req, DEPTH, &u->vq[0]);
	model = calloc(1, DISK_SIZE);
	copy = aligned_alloc(PAGE, DISK_SIZE);
	buf = unit_alloc(u, DEPTH * SLOT);
	assert_non_null(model);
	assert_non_null(copy);
	for (round = 0; round < ROUNDS; round++) {
		uint64_t part = SECTORS / DEPTH, sector[DEPTH];
		uint32_t len[DEPTH], type[DEPTH];

		/* Each request has its own part of the disk, so their order does not matter. */
		for (i = 0; i < DEPTH; i++) {
			struct vq_segment data;
			uint8_t *p = buf + i * SLOT;

			type[i] = random_next(&seed) % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
			sector[i] = i * part + random_next(&seed) % (part - 64) / block * block;
			len[i] = (1 + random_next(&seed) % (64 / block)) * block * SECTOR_SIZE;
			p += random_next(&seed) % 3 ? 0 : random_next(&seed) % PAGE;
			data = unit_segment(u, p, len[i]);
			if (type[i] == VIRTIO_BLK_T_OUT) {
				pattern_fill(p, len[i], sector[i] * SECTOR_SIZE, round);
				memcpy(model + sector[i] * SECTOR_SIZE, p, len[i]);
			}
			assert_ok(blk_add(&req[i], type[i], sector[i], &data, 1));
			vq_submit(&u->vq[0]);
		}
		for (i = 0; i < DEPTH; i++) {
			uint8_t *p = unit_host(u, req[i].table[1].addr);

			if (type[i] == VIRTIO_BLK_T_OUT) {
				expect_end(&req[i], VIRTIO_BLK_S_OK, 1);
				continue;
			}
			expect_end(&req[i], VIRTIO_BLK_S_OK, len[i] + 1);
			expect_equal(p, model + sector[i] * SECTOR_SIZE, len[i]);
		}
	}
	assert_int_equal(pread(u->disk, copy, DISK_SIZE, 0), DISK_SIZE);
	expect_equal(copy, model, DISK_SIZE);
	free(model);
	free(copy);
}

/* Data, holes and unwritten extents by turns. */
static void mixed_extents(void **state)
{
	enum { EXTENT = PAGE, LEN = 256 * 1024 };
	struct unit *u = *state;
	const struct disk_kind *kind = u->param;
	uint8_t *model, *buf;
	unsigned int i;
	int plain;

	open_disk(u, kind);
	plain = open(u->path, O_RDWR | O_CLOEXEC);
	assert_ok(plain);
	model = calloc(1, LEN);
	assert_non_null(model);
	for (i = 0; i < LEN / EXTENT; i++) {
		if (i % 3 == 0) {
			pattern_fill(model + i * EXTENT, EXTENT, i * EXTENT, 1);
			assert_int_equal(pwrite(plain, model + i * EXTENT, EXTENT, i * EXTENT),
					 EXTENT);
		} else if (i % 3 == 1) {
			assert_ok(fallocate(plain, FALLOC_FL_KEEP_SIZE, i * EXTENT, EXTENT));
		}
	}
	assert_ok(fsync(plain));
	unit_start(u, 1, 16);
	buf = unit_alloc(u, LEN + 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, LEN), VIRTIO_BLK_S_OK);
	assert_int_equal(u->req.used_len, LEN + 1);
	expect_equal(buf, model, LEN);
	/* Once more into unaligned memory, which direct I/O does not take. */
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf + 1, LEN), VIRTIO_BLK_S_OK);
	expect_equal(buf + 1, model, LEN);

	pattern_fill(buf, LEN - 1024, 512, 2);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 1, buf, LEN - 1024), VIRTIO_BLK_S_OK);
	memcpy(model + 512, buf, LEN - 1024);
	assert_int_equal(pread(plain, buf, LEN, 0), LEN);
	expect_equal(buf, model, LEN);
	assert_int_equal(backend_size(plain), DISK_SIZE);
	close(plain);
	free(model);
}

/* The attempt without blocking reads what is in the page cache, and the rest must follow. */
static void read_that_is_half_in_the_cache(void **state)
{
	enum { LEN = 512 * 1024, CACHED = 64 * 1024 };
	struct unit *u = *state;
	uint8_t *buf;

	open_disk(u, u->param);
	disk_fill(u->disk, 0, MIB, 1);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, LEN);
	assert_ok(fsync(u->disk));
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_RANDOM), 0);
	expect_disk(u->disk, PAGE, CACHED, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 8, buf, LEN), VIRTIO_BLK_S_OK);
	assert_int_equal(u->req.used_len, LEN + 1);
	expect_pattern(buf, LEN, PAGE, 1);
}

/* Direct I/O takes no part of a logical block of 4 KiB. */
static void less_than_a_device_block(void **state)
{
	struct unit *u = *state;
	uint8_t *buf;

	open_disk(u, &null_4k);
	disk_fill(u->disk, 0, MIB, 1);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, PAGE);
	memset(buf, 0x55, PAGE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 1, buf, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 1, buf, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 8, buf, PAGE), VIRTIO_BLK_S_OK);
	expect_pattern(buf, PAGE, PAGE, 1);
	expect_disk(u->disk, 0, MIB, 1);
}

static void failing_device(void **state)
{
	static const uint32_t len[] = { 512, PAGE, MIB };
	struct unit *u = *state;
	char table[64];
	unsigned int i;
	uint8_t *buf;

	snprintf(table, sizeof(table), "0 %lu error \n", SECTORS);
	assert_ok(backend_dm(u->path, table));
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, MIB + 1);
	for (i = 0; i < ARRAY_SIZE(len); i++) {
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 8, buf, len[i]), VIRTIO_BLK_S_IOERR);
		assert_int_equal(u->req.used_len, 1);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 8, buf, len[i]),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(u->req.used_len, 1);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 8, buf + 1, len[i]),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 8, buf + 1, len[i]),
				 VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_GET_ID, 0, buf, 20), VIRTIO_BLK_S_OK);
	assert_int_equal(event_count(u->vq[0].err), 0);
}

/* The kernel does not read or write more than 2 GiB in one call. */
static void failing_request_of_more_than_2_gib(void **state)
{
	enum { SEGMENTS = 520, SEGMENT = 4 * MIB };
	struct null_blk spec = { .size_mib = 4096, .bad_sectors = 512, .forgets = true };
	struct vq_segment data[SEGMENTS];
	struct unit *u = *state;
	unsigned int i;
	void *buf;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	unit_start(u, 1, 16);
	assert_ok(blk_request_init(&u->req, &u->vq[0], SEGMENTS + 2));
	buf = unit_alloc(u, SEGMENT);
	for (i = 0; i < SEGMENTS; i++)
		data[i] = unit_segment(u, buf, SEGMENT);
	assert_ok(blk_add(&u->req, VIRTIO_BLK_T_IN, 0, data, SEGMENTS));
	vq_submit(&u->vq[0]);
	assert_int_equal(blk_wait(&u->req, 3 * TIMEOUT_MS), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_GET_ID, 0, buf, 20), VIRTIO_BLK_S_OK);
}

/* A request that is half on bad sectors fails. */
static void half_failing_device(void **state)
{
	struct unit *u = *state;
	unsigned int half = SECTORS / 2;
	uint8_t *buf;

	unit_half_failing(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE / 2, 1);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, 64 * KIB);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, half - 64, buf, 64 * KIB),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(u->req.used_len, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, half - 64, buf, 64 * KIB),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, half - 256, buf, 64 * KIB), VIRTIO_BLK_S_OK);
	expect_pattern(buf, 64 * KIB, (half - 256) * SECTOR_SIZE, 1);
}

/* A flush fails if the device has failed to write back from the page cache. */
static void lost_write_fails_the_flush(void **state)
{
	struct unit *u = *state;
	char table[64];
	uint8_t *buf;

	snprintf(table, sizeof(table), "0 %lu error \n", SECTORS);
	assert_ok(backend_dm(u->path, table));
	unit_disk(u, u->path, O_RDWR);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, PAGE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, PAGE), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(u->req.used_len, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 64, buf, PAGE), VIRTIO_BLK_S_IOERR);
}

/* Who may see the error of a lost write before the flush does. */
struct eater {
	bool queue, descriptor, file, call;
};

static const struct eater nobody = { 0 };
static const struct eater another_queue = { .queue = true };
static const struct eater another_descriptor = { .descriptor = true };
static const struct eater the_same_file = { .file = true };
static const struct eater a_change_of_mode = { .call = true };

/*
 * After a write was lost each flush fails until the backend is attached anew, even if
 * another process was told of the error, and although the disk works again.
 */
static void flush_error_is_sticky(void **state)
{
	struct vhost_blk_write_cache through = { .mode = VHOST_BLK_WRITE_THROUGH };
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };
	char below[BACKEND_PATH_MAX], works[512], broken[64];
	struct unit *u = *state;
	const struct eater *eater = u->param;
	struct blk_request other;
	unsigned int i;
	uint8_t *buf;
	int fd;

	assert_ok(backend_null(below, &spec));
	snprintf(works, sizeof(works), "0 %lu linear %s 0\n", SECTORS, below);
	snprintf(broken, sizeof(broken), "0 %lu error \n", SECTORS);
	assert_ok(backend_dm(u->path, works));
	unit_disk(u, u->path, O_RDWR);
	fd = open(u->path, O_RDWR | O_CLOEXEC);
	assert_ok(fd);
	unit_start(u, 2, 16);
	unit_request(&other, &u->vq[1]);
	buf = unit_alloc(u, PAGE);
	pattern_fill(buf, PAGE, 0, 1);
	assert_ok(backend_dm_reload(u->path, broken));
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, PAGE), VIRTIO_BLK_S_OK);
	if (eater->queue)
		assert_int_equal(unit_io_on(u, &other, VIRTIO_BLK_T_FLUSH, 0, NULL, 0),
				 VIRTIO_BLK_S_IOERR);
	if (eater->descriptor)
		assert_errno(fsync(fd), EIO);
	if (eater->file)
		assert_errno(fsync(u->disk), EIO);
	if (eater->call)
		assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &through), EIO);
	close(fd);
	for (i = 0; i < 2; i++)
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_IOERR);
	assert_ok(backend_dm_reload(u->path, works));
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io_on(u, &other, VIRTIO_BLK_T_FLUSH, 0, NULL, 0),
			 VIRTIO_BLK_S_IOERR);

	unit_detach(u);
	unit_attach(u);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, PAGE), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	expect_disk(u->disk, 0, PAGE, 1);
}

/* Write until the file system is full, and four times more; what was written can be read. */
static void fill_up(struct unit *u, const char *dir, int flags)
{
	enum { STEP = 256 * 1024 };
	unsigned int i, written = 0, refused = 0;
	uint8_t *buf;

	assert_ok(backend_file(u->path, dir, "disk", 64 * MIB));
	unit_disk(u, u->path, O_RDWR | flags);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, STEP);
	for (i = 0; i < 64 * MIB / STEP && refused < 4; i++) {
		pattern_fill(buf, STEP, i * STEP, 1);
		if (unit_io(u, VIRTIO_BLK_T_OUT, i * (STEP / SECTOR_SIZE), buf, STEP))
			refused++;
		else if (!refused)
			written++;
		assert_int_equal(u->req.used_len, 1);
	}
	assert_int_equal(refused, 4);
	assert_true(written > 0);
	assert_int_equal(backend_size(u->disk), 64 * MIB);
	for (i = 0; i < written; i++) {
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, i * (STEP / SECTOR_SIZE), buf, STEP),
				 VIRTIO_BLK_S_OK);
		expect_pattern(buf, STEP, i * STEP, 1);
	}
}

static void full_tmpfs(void **state)
{
	char dir[BACKEND_PATH_MAX];

	assert_ok(backend_tmpfs(dir, 4 * MIB));
	fill_up(*state, dir, 0);
}

static void full_ext4(struct unit *u, int flags)
{
	char device[BACKEND_PATH_MAX], dir[BACKEND_PATH_MAX];
	struct null_blk spec = { .size_mib = 8 };

	assert_ok(backend_null(device, &spec));
	assert_ok(backend_mkfs(dir, "ext4", device));
	fill_up(u, dir, flags);
}

static void full_ext4_file(void **state)
{
	full_ext4(*state, 0);
}

static void full_ext4_direct(void **state)
{
	full_ext4(*state, O_DIRECT);
}

/* How the file is opened. */
static const int cached, direct = O_DIRECT;

/* An owner that is not root does not use the blocks that the file system reserves for root. */
static void reserved_blocks_are_kept(void **state)
{
	enum { STEP = 64 * 1024 };
	char device[BACKEND_PATH_MAX], dir[BACKEND_PATH_MAX];
	struct null_blk spec = { .size_mib = 16 };
	struct unit *u = *state;
	struct statvfs fs;
	pid_t pid;

	assert_ok(backend_null(device, &spec));
	assert_ok(backend_mkfs(dir, "ext4", device));
	assert_ok(backend_file(u->path, dir, "disk", 64 * MIB));
	assert_ok(statvfs(dir, &fs));
	assert_true(fs.f_bfree > fs.f_bavail);
	unit_disk(u, u->path, O_RDWR | *(const int *)u->param);
	pid = child_fork();
	if (!pid) {
		unsigned int i;
		void *buf;

		unit_open(u, FEATURES);
		unit_vqs(u, 1, 16);
		assert_ok(setresuid(65534, 65534, 65534));
		unit_attach(u);
		buf = unit_alloc(u, STEP);
		for (i = 0; i < 64 * MIB / STEP; i++)
			if (unit_io(u, VIRTIO_BLK_T_OUT, i * (STEP / SECTOR_SIZE), buf, STEP))
				_exit(0);
		_exit(1);
	}
	assert_int_equal(child_wait(pid), 0);
	expect_workers(pid, 0);
	assert_ok(syncfs(u->disk));
	assert_ok(fstatvfs(u->disk, &fs));
	assert_true(fs.f_bavail < STEP / fs.f_frsize);
	assert_true(fs.f_bfree >= MIB / 2 / fs.f_frsize);
}

/* Wait for a number of writes in a device's statistics, which come after a completion. */
static void expect_writes(const char *path, int64_t nr)
{
	WAIT_UNTIL(backend_stat(path, 4) == nr);
}

/* O_DIRECT counts as it was at the attach, whatever is set later. */
static void open_mode_is_that_of_attach(void **state)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };
	struct unit *u = *state;
	int flags = *(const int *)u->param;
	uint8_t *buf;

	unit_null(u, &spec, O_RDWR | flags);
	unit_start(u, 1, 16);
	assert_ok(fcntl(u->disk, F_SETFL, flags ^ O_DIRECT));
	buf = unit_alloc(u, PAGE + 1) + !flags;
	pattern_fill(buf, PAGE, 0, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, PAGE), VIRTIO_BLK_S_OK);
	expect_writes(u->path, !!flags);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	expect_writes(u->path, 1);
	expect_disk(u->disk, 0, PAGE, 1);
}

/* Read the disk's first pages with as many requests in flight. */
static void read_pages(struct unit *u, struct blk_request *req, unsigned int nr, uint8_t *buf)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i * 8, buf + i * PAGE, PAGE);
	for (i = 0; i < nr; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
}

/* A slow disk processes all requests at the same time. */
static void slow_requests_overlap(void **state)
{
	enum { NR = 64, DELAY_MS = 200 };
	struct unit *u = *state;
	struct blk_request req[NR];
	int64_t begin;
	uint8_t *buf;

	unit_slow(u, DELAY_MS);
	disk_fill(u->disk, 0, MIB, 1);
	unit_start(u, 1, NR);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	begin = now_ms();
	read_pages(u, req, NR, buf);
	expect_pattern(buf, NR * PAGE, 0, 1);
	assert_in_range(now_ms() - begin, DELAY_MS, NR * DELAY_MS / 4);
}

/* The -EAGAIN of a device that takes one request at a time does not reach the guest. */
static void device_of_depth_one(void **state)
{
	enum { NR = 128 };
	struct null_blk spec = { .size_mib = 8, .delay_us = 1000, .queue_depth = 1 };
	struct unit *u = *state;
	struct blk_request req[NR];
	uint8_t *buf;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, MIB, 1);
	unit_start(u, 1, NR);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	read_pages(u, req, NR, buf);
	expect_pattern(buf, NR * PAGE, 0, 1);
}

static const uint32_t sleeping, polling = 10000;	/* the poll timeout in us */

/* A submission worker that waits for the disk does not hold up requests that have completed. */
static void completions_while_submission_waits(void **state)
{
	enum { NR = 8 };
	struct null_blk spec = { .size_mib = 8, .delay_us = 250000, .queue_depth = 1 };
	struct unit *u = *state;
	struct blk_request req[NR];
	unsigned int i;
	uint8_t *buf;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	unit_start(u, 1, NR);
	unit_poll_timeout(u, 0, *(const uint32_t *)u->param);
	unit_coalesce(u, 1000);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	for (i = 0; i < NR; i++) {
		struct vq_segment data = unit_segment(u, buf + i * PAGE, PAGE);

		/* Not adjacent, so that the block layer does not merge them. */
		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i * 16, &data, 1));
	}
	vq_submit(&u->vq[0]);
	expect_end(&req[0], VIRTIO_BLK_S_OK, PAGE + 1);
	assert_false(req[NR - 1].done);
	for (i = 1; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
}

/* A detach ends threads that have just done a request, and those that wait for the next one. */
static void detach_after_offloads(void **state)
{
	enum { NR = 16, ROUNDS = 30 };
	struct null_blk spec = { .size_mib = 8, .delay_us = 100 };
	struct unit *u = *state;
	struct blk_request req[NR];
	unsigned int round;
	uint8_t *buf;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, MIB, 1);
	unit_start(u, 1, 64);
	unit_requests(req, NR, &u->vq[0]);
	/* Unaligned memory, so that each request is offloaded. */
	buf = (uint8_t *)unit_alloc(u, NR * PAGE + 1) + 1;
	for (round = 0; round < ROUNDS; round++) {
		read_pages(u, req, NR, buf);
		unit_detach(u);
		unit_attach(u);
	}
	expect_pattern(buf, NR * PAGE, 0, 1);
	assert_true(unit_stats(u, 0).offloads >= NR * ROUNDS);
}

/* A block device is waited for by the worker, not by another thread for each request. */
static void larger_than_a_request_of_the_disk(void **state)
{
	enum { NR = 16, LEN = 64 * 1024 };
	struct null_blk spec = { .size_mib = 8, .max_sectors = 32, .queue_depth = 2 };
	struct unit *u = *state;
	struct blk_request req[NR];
	unsigned int i;
	uint8_t *buf;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, NR * LEN, 1);
	unit_start(u, 1, 64);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * LEN);
	for (i = 0; i < NR; i++)
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i * (LEN / SECTOR_SIZE),
				buf + i * LEN, LEN);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, LEN + 1);
	expect_pattern(buf, NR * LEN, 0, 1);
	assert_int_equal(unit_stats(u, 0).offloads, 0);
}

/* Nor does that of a suspended device, and requests that do not need the device complete. */
static void suspended_device(void **state)
{
	enum { NR = 16 };
	struct unit *u = *state;
	struct blk_request req[NR];
	unsigned int i;
	uint8_t *buf;

	open_disk(u, &dm_direct);
	disk_fill(u->disk, 0, MIB, 1);
	unit_start(u, 1, 64);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, (NR + 1) * PAGE);
	unit_suspend(u, u->path);
	for (i = 0; i < NR; i++)
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i * 8, buf + i * PAGE, PAGE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_GET_ID, 0, buf + NR * PAGE, 20), VIRTIO_BLK_S_OK);
	ASSERT_NEVER(blk_reap(&u->vq[0]));
	for (i = 0; i < NR; i++)
		assert_false(req[i].done);
	unit_resume(u);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf, NR * PAGE, 0, 1);
}

/* Start on a file of a suspendable device, whose first pages are in the page cache. */
static void start_on_half_cached_file(struct unit *u, char *device)
{
	int plain;

	unit_suspendable_file(u, device);
	plain = open(u->path, O_RDWR | O_CLOEXEC);
	assert_ok(plain);
	disk_fill(plain, 0, SUSPENDABLE_FILE_SIZE, 1);
	assert_ok(fsync(plain));
	assert_int_equal(posix_fadvise(plain, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_int_equal(posix_fadvise(plain, 0, 0, POSIX_FADV_RANDOM), 0);
	expect_disk(plain, 0, 64 * KIB, 1);
	close(plain);
	unit_disk(u, u->path, O_RDWR);
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_RANDOM), 0);
	unit_start(u, 1, 64);
}

/* A request that waits for the disk does not block reads from the page cache on the same ring. */
static void blocked_request(struct unit *u, uint32_t type, uint64_t sector, uint32_t len,
			    bool dirty_first)
{
	char device[BACKEND_PATH_MAX];
	struct blk_request blocked;
	uint8_t *buf;

	start_on_half_cached_file(u, device);
	unit_requests(&blocked, 1, &u->vq[0]);
	buf = unit_alloc(u, 64 * KIB);
	if (dirty_first) {
		pattern_fill(buf, PAGE, 0, 1);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, PAGE), VIRTIO_BLK_S_OK);
		memset(buf, 0, PAGE);
	}
	if (type == VIRTIO_BLK_T_OUT)
		pattern_fill(buf, len, sector * SECTOR_SIZE, 1);
	unit_suspend(u, device);
	unit_submit_one(u, &blocked, type, sector, buf, len);
	expect_reads(u, 0, 8, 16);
	assert_false(blocked.done);
	unit_resume(u);
	expect_end(&blocked, VIRTIO_BLK_S_OK, type == VIRTIO_BLK_T_IN ? len + 1 : 1);
	if (len)
		expect_pattern(buf, len, sector * SECTOR_SIZE, 1);
	expect_disk(u->disk, 0, SUSPENDABLE_FILE_SIZE, 1);
}

static void read_that_waits_for_the_disk(void **state)
{
	blocked_request(*state, VIRTIO_BLK_T_IN, 2048, PAGE, false);
}

static void write_that_must_read_first(void **state)
{
	blocked_request(*state, VIRTIO_BLK_T_OUT, 2049, 512, false);
}

static void flush_that_waits_for_the_disk(void **state)
{
	blocked_request(*state, VIRTIO_BLK_T_FLUSH, 0, 0, true);
}

enum { OFFLOADS_MAX = 64 };	/* threads of a device, beside those of its queues */

/* Return how many threads there are in all, those of the kernel included. */
static unsigned int count_threads(void)
{
	unsigned int nr;
	FILE *f = fopen("/proc/loadavg", "re");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*s %*s %*s %*u/%u", &nr), 1);
	fclose(f);
	return nr;
}

/* The same when no more are being created. */
static unsigned int count_threads_at_rest(void)
{
	unsigned int nr = 0, before;

	do {
		before = nr;
		usleep(2 * QUIET_MS * 1000);
		nr = count_threads();
	} while (nr > before);
	return nr;
}

/* Read each page of a file of SUSPENDABLE_FILE_SIZE that does not answer. */
static void submit_hanging_reads(struct unit *u, struct blk_request *req, unsigned int nr,
				 uint8_t *buf)
{
	unsigned int i;

	unit_requests(req, nr, &u->vq[0]);
	for (i = 0; i < nr; i++) {
		struct vq_segment data = unit_segment(u, buf + i * PAGE, PAGE);

		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i * 8, &data, 1));
	}
	vq_submit(&u->vq[0]);
	expect_inflight(u, 0, nr);
}

static const bool of_a_disk, of_a_server = true;

/* A backend that does not answer costs a bounded number of threads, whatever the guest does. */
static void threads_are_bounded(void **state)
{
	enum { NR = SUSPENDABLE_FILE_SIZE / PAGE, OTHERS = 16 };
	static struct blk_request req[NR];
	struct unit *u = *state;
	bool fuse = *(const bool *)u->param;
	char device[BACKEND_PATH_MAX];
	unsigned int i, threads;
	uint8_t *buf;

	if (fuse) {
		assert_ok(fuse_start(u->path, SUSPENDABLE_FILE_SIZE));
		unit_disk(u, u->path, O_RDWR);
		disk_fill(u->disk, 0, SUSPENDABLE_FILE_SIZE, 1);
	} else {
		unit_suspendable_file(u, device);
		unit_disk(u, u->path, O_RDWR);
		disk_fill(u->disk, 0, SUSPENDABLE_FILE_SIZE, 1);
		assert_ok(fsync(u->disk));
		assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_DONTNEED), 0);
		assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_RANDOM), 0);
	}
	unit_start(u, 1, 1024);
	buf = unit_alloc(u, NR * PAGE);
	threads = count_threads_at_rest();
	if (fuse)
		fuse_hang(true);
	else
		unit_suspend(u, device);
	submit_hanging_reads(u, req, NR, buf);
	assert_in_range(count_threads_at_rest(), 0, threads + OFFLOADS_MAX + OTHERS);
	assert_in_range(offload_count(getpid()), 0, OFFLOADS_MAX);
	assert_int_equal(worker_count(getpid()), 2);
	if (fuse)
		fuse_hang(false);
	else
		unit_resume(u);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf, NR * PAGE, 0, 1);
	unit_detach(u);
	expect_workers(getpid(), 0);
}

static int fuse_teardown(void **state)
{
	int ret;

	fuse_hang(false);
	ret = unit_teardown(state);
	fuse_stop();
	return ret;
}

/* Requests complete with the threads that the owner's cgroup allows. */
static void limit_of_threads_holds(void **state)
{
	enum { NR = 64, LIMIT = 8 };
	struct blk_request req[NR];
	struct unit *u = *state;
	char device[BACKEND_PATH_MAX];
	unsigned int i, limited = 0;
	uint8_t *buf;
	FILE *f;

	unit_suspendable_file(u, device);
	unit_disk(u, u->path, O_RDWR);
	disk_fill(u->disk, 0, SUSPENDABLE_FILE_SIZE, 1);
	assert_ok(fsync(u->disk));
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_RANDOM), 0);
	unit_write(CGROUP "/pids.max", "8");
	unit_write(CGROUP "/cgroup.procs", "0");
	unit_start(u, 1, NR);
	buf = unit_alloc(u, NR * PAGE);
	unit_suspend(u, device);
	submit_hanging_reads(u, req, NR, buf);
	ASSERT_NEVER(worker_count(getpid()) + offload_count(getpid()) >= LIMIT);
	unit_resume(u);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf, NR * PAGE, 0, 1);
	f = fopen(CGROUP "/pids.events", "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "max %u", &limited), 1);
	fclose(f);
	/* Kernel threads are not created by the owner. */
	assert_int_equal(limited != 0, workers_are_threads());
	unit_detach(u);
	expect_workers(getpid(), 0);
}

/* A write is durable before it completes, though the file system ignores IOCB_DSYNC. */
static void write_through_to_a_server(void **state)
{
	struct vhost_blk_write_cache through = { .mode = VHOST_BLK_WRITE_THROUGH };
	struct unit *u = *state;
	unsigned int i;
	uint8_t *buf;

	assert_ok(fuse_start(u->path, MIB));
	unit_disk(u, u->path, O_RDWR);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, PAGE + 1);
	pattern_fill(buf, PAGE, 0, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, PAGE), VIRTIO_BLK_S_OK);
	assert_true(fuse_is_dirty());
	assert_ok(ioctl(u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &through));
	assert_false(fuse_is_dirty());
	for (i = 0; i < 8; i++) {
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, i * 8, buf + i % 2, PAGE),
				 VIRTIO_BLK_S_OK);
		assert_false(fuse_is_dirty());
	}
}

/*
 * A file system whose direct I/O takes only whole blocks of its disk, and which does
 * not say so to statx(): parts of blocks are read and written all the same.
 */
static void parts_of_blocks_of_the_file_system(void **state)
{
	enum { LEN = 64 * 1024 };
	struct null_blk spec = { .size_mib = 64, .block_size = 4096 };
	char device[BACKEND_PATH_MAX], dir[BACKEND_PATH_MAX];
	uint8_t *model, *buf, *copy;
	struct unit *u = *state;
	unsigned int i;
	int plain;

	assert_ok(backend_null(device, &spec));
	assert_ok(backend_mkfs(dir, "vfat", device));
	assert_ok(backend_file(u->path, dir, "disk", MIB));
	plain = open(u->path, O_RDWR | O_CLOEXEC);
	assert_ok(plain);
	disk_fill(plain, 0, MIB, 1);
	assert_ok(fsync(plain));
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
	model = malloc(LEN);
	copy = aligned_alloc(PAGE, LEN);
	assert_non_null(model);
	assert_non_null(copy);
	pattern_fill(model, LEN, 0, 1);
	assert_errno(pread(u->disk, copy, 512, 512), EINVAL);
	assert_int_equal(pread(u->disk, copy, PAGE, PAGE), PAGE);

	unit_start(u, 1, 16);
	buf = unit_alloc(u, 4 * PAGE);
	for (i = 0; i < 8; i++) {
		/* Of one sector, or across a boundary of blocks, with memory at any address. */
		uint32_t len = i % 2 ? 3 * 512 : 512, at = (3 + i * 11) * 512;
		uint8_t *p = buf + (i < 4 ? 0 : i);

		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, at / 512, p, len), VIRTIO_BLK_S_OK);
		assert_int_equal(u->req.used_len, len + 1);
		expect_equal(p, model + at, len);
		pattern_fill(p, len, at, 2);
		memcpy(model + at, p, len);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, at / 512, p, len),
				 VIRTIO_BLK_S_OK);
	}
	/* Whole blocks too, into aligned memory and other. */
	for (i = 0; i < 2; i++) {
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 8, buf + i, 2 * PAGE),
				 VIRTIO_BLK_S_OK);
		expect_equal(buf + i, model + PAGE, 2 * PAGE);
	}
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(plain, copy, LEN, 0), LEN);
	expect_equal(copy, model, LEN);
	close(plain);
	free(model);
	free(copy);
}

/* The same for a block device whose flushes wait and whose reads do not. */
static void slow_flush_of_a_device(void **state)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB, .cache_mib = 1 };
	struct unit *u = *state;
	char below[BACKEND_PATH_MAX], flushed[BACKEND_PATH_MAX], table[512];
	struct blk_request flush;

	assert_ok(backend_null(below, &spec));
	snprintf(table, sizeof(table), "0 %lu linear %s 0\n", SECTORS, below);
	assert_ok(backend_dm(flushed, table));
	snprintf(table, sizeof(table), "0 %lu delay %s 0 0 %s 0 0 %s 0 0\n", SECTORS, below, below,
		 flushed);
	assert_ok(backend_dm(u->path, table));
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, MIB, 1);
	unit_start(u, 1, 16);
	unit_requests(&flush, 1, &u->vq[0]);
	unit_suspend(u, flushed);
	unit_submit_one(u, &flush, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
	expect_reads(u, 0, 8, 16);
	assert_false(flush.done);
	unit_resume(u);
	expect_end(&flush, VIRTIO_BLK_S_OK, 1);
}

/*
 * Bug 12: writes to a file without freeze protection. Writes to a frozen file
 * system wait until it is thawed, and do not block reads.
 */
static void frozen_file_system(void **state)
{
	enum { NR = 4 };
	struct unit *u = *state;
	const struct disk_kind *kind = u->param;
	struct blk_request write[NR];
	unsigned int i;
	uint8_t *buf;

	open_disk(u, kind);
	disk_fill(u->disk, 0, MIB, 1);
	assert_ok(fsync(u->disk));
	unit_start(u, 1, 64);
	unit_requests(write, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	unit_freeze(u, kind->dir);
	for (i = 0; i < NR; i++) {
		/* Over data and into the hole behind it. */
		uint64_t sector = (i % 2 ? MIB : 0) / SECTOR_SIZE + i * 8;

		pattern_fill(buf + i * PAGE, PAGE, sector * SECTOR_SIZE, 2);
		unit_submit_one(u, &write[i], VIRTIO_BLK_T_OUT, sector, buf + i * PAGE, PAGE);
	}
	expect_reads(u, 512, 1, 16);
	ASSERT_NEVER(blk_reap(&u->vq[0]));
	for (i = 0; i < NR; i++)
		assert_false(write[i].done);
	unit_thaw(u);
	for (i = 0; i < NR; i++) {
		uint64_t sector = (i % 2 ? MIB : 0) / SECTOR_SIZE + i * 8;

		expect_end(&write[i], VIRTIO_BLK_S_OK, 1);
		expect_disk(u->disk, sector * SECTOR_SIZE, PAGE, 2);
	}
}

/* Completed writes do not keep the freeze protection. */
static void freeze_passes_after_writes(void **state)
{
	struct unit *u = *state;
	const struct disk_kind *kind = u->param;
	unsigned int i;
	uint8_t *buf;

	open_disk(u, kind);
	unit_start(u, 1, 64);
	buf = unit_alloc(u, 8192);
	for (i = 0; i < 5; i++) {
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, i * 8, buf, PAGE), VIRTIO_BLK_S_OK);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, i * 8, buf + 1, PAGE),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, SECTORS, buf, PAGE),
				 VIRTIO_BLK_S_IOERR);
		unit_freeze(u, kind->dir);
		unit_thaw(u);
	}
}

static int freeze(struct unit *u)
{
	return ioctl(u->frozen, FIFREEZE, 0) ? -errno : 0;
}

/* The file system can be frozen once the disk has answered, whether or not the workers run. */
static void freeze_does_not_wait_for_workers(void **state)
{
	enum { WRITES = 4 };		/* field of the statistics */
	struct unit *u = *state;
	char device[BACKEND_PATH_MAX], dir[BACKEND_PATH_MAX];
	int up[2], down[2];
	int64_t writes;
	bool frozen;
	pid_t pid;
	char byte;

	if (!workers_are_threads())
		unit_skip("workers that are kernel threads cannot be stopped");
	unit_suspendable_file(u, device);
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, MIB, 1);
	assert_ok(fsync(u->disk));
	assert_ok(pipe(up));
	assert_ok(pipe(down));
	pid = child_fork();
	if (!pid) {
		uint8_t *buf;

		unit_start(u, 1, 16);
		buf = unit_alloc(u, PAGE);
		pattern_fill(buf, PAGE, 0, 2);
		child_check(unit_io(u, VIRTIO_BLK_T_OUT, 8, buf, PAGE) == VIRTIO_BLK_S_OK);
		child_check(write(up[1], "", 1) == 1 && read(down[0], &byte, 1) == 1);
		unit_submit_one(u, &u->req, VIRTIO_BLK_T_OUT, 0, buf, PAGE);
		expect_inflight(u, 0, 1);
		wait_for_sleep(worker_find(getpid(), 's', 0), "");
		/* The write may have been offloaded. */
		usleep(QUIET_MS * 1000);
		child_check(write(up[1], "", 1) == 1);
		expect_end(&u->req, VIRTIO_BLK_S_OK, 1);
		_exit(0);
	}
	assert_int_equal(read(up[0], &byte, 1), 1);
	assert_ok(syncfs(u->disk));
	unit_suspend(u, device);
	assert_int_equal(write(down[1], "", 1), 1);
	assert_int_equal(read(up[0], &byte, 1), 1);
	snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(u->path, '/') - u->path), u->path);
	u->frozen = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_ok(u->frozen);
	assert_ok(kill(pid, SIGSTOP));
	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	writes = backend_stat(device, WRITES);
	unit_resume(u);
	WAIT_UNTIL(backend_stat(device, WRITES) > writes);
	unit_call(u, freeze);
	frozen = wait_until(unit_call_returned(u), TIMEOUT_MS / 4);
	assert_ok(kill(pid, SIGCONT));
	assert_ok(unit_call_join(u));
	unit_thaw(u);
	assert_int_equal(child_wait(pid), 0);
	expect_disk(u->disk, 0, PAGE, 2);
	assert_true(frozen);
}

/* Files of procfs have no fsync. */
static void flush_of_a_file_without_fsync(void **state)
{
	struct unit *u = *state;

	unit_disk(u, "/proc/meminfo", O_RDONLY);
	unit_start(u, 1, 16);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(u->req.used_len, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 1, unit_alloc(u, 512), 512),
			 VIRTIO_BLK_S_IOERR);
}

/* A flush completes when the writes before it are on the device. */
static void flush_writes_the_cache_out(void **state)
{
	enum { SECTORS_WRITTEN = 6 };	/* field of the statistics */
	struct unit *u = *state;
	const struct disk_kind *kind = u->param;
	const char *device = kind->on == ON_FILE ? ext4_device : u->path;
	int64_t before;
	uint8_t *buf;

	open_disk(u, kind);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, MIB);
	pattern_fill(buf, MIB, 0, 3);
	before = backend_stat(device, SECTORS_WRITTEN);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, MIB), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	assert_true(backend_stat(device, SECTORS_WRITTEN) - before >= (int64_t)(MIB / SECTOR_SIZE));
}

/* A flush reaches the device's write cache. */
static void flush_reaches_the_device(void **state)
{
	enum { FLUSHES = 15 };		/* field of the statistics */
	struct unit *u = *state;
	const struct disk_kind *kind = u->param;
	const char *device = kind->on == ON_FILE ? ext4_device : u->path;
	int64_t before;
	uint8_t *buf;

	open_disk(u, kind);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, PAGE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, PAGE), VIRTIO_BLK_S_OK);
	before = backend_stat(device, FLUSHES);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	assert_true(backend_stat(device, FLUSHES) > before);
}

/* Requests to an unplugged device fail, and the backend can be detached. */
static void device_is_unplugged(void **state)
{
	enum { NR = 8 };
	struct null_blk spec = { .size_mib = 8, .delay_us = 100000 };
	struct unit *u = *state;
	struct blk_request req[NR];
	unsigned int i;
	uint8_t *buf;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	unit_start(u, 1, 64);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	for (i = 0; i < NR; i++)
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i * 8, buf + i * PAGE, PAGE);
	assert_ok(backend_null_unplug(u->path));
	for (i = 0; i < NR; i++)
		assert_true(blk_wait(&req[i], TIMEOUT_MS) >= 0);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, PAGE), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, PAGE), VIRTIO_BLK_S_IOERR);
	unit_detach(u);
}

/* The device has a reference of its own to the disk. */
static void caller_closes_and_unlinks(void **state)
{
	struct unit *u = *state;
	uint8_t *buf;

	open_disk(u, u->param);
	disk_fill(u->disk, 0, MIB, 1);
	unit_start(u, 1, 16);
	close(u->disk);
	u->disk = -1;
	assert_ok(unlink(u->path));
	buf = unit_alloc(u, PAGE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 9, buf, PAGE), VIRTIO_BLK_S_OK);
	expect_pattern(buf, PAGE, 9 * SECTOR_SIZE, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 9, buf, PAGE), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
}

#define TEST_FUSE(fn)		{ #fn, fn, unit_setup, fuse_teardown, NULL }
#define TEST_FUSE_ON(fn, p)	{ #fn "_on_" #p, fn, unit_setup, fuse_teardown, (void *)&(p) }

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_ON(random_io_agrees_with_a_model, tmpfs_file),
		TEST_ON(random_io_agrees_with_a_model, ext4_file),
		TEST_ON(random_io_agrees_with_a_model, ext4_direct),
		TEST_ON(random_io_agrees_with_a_model, xfs_file),
		TEST_ON(random_io_agrees_with_a_model, xfs_direct),
		TEST_ON(random_io_agrees_with_a_model, null_cached),
		TEST_ON(random_io_agrees_with_a_model, null_direct),
		TEST_ON(random_io_agrees_with_a_model, null_4k),
		TEST_ON(random_io_agrees_with_a_model, loop_cached),
		TEST_ON(random_io_agrees_with_a_model, loop_direct),
		TEST_ON(random_io_agrees_with_a_model, dm_direct),
		TEST_ON(mixed_extents, tmpfs_file),
		TEST_ON(mixed_extents, ext4_file),
		TEST_ON(mixed_extents, ext4_direct),
		TEST_ON(mixed_extents, xfs_file),
		TEST_ON(mixed_extents, xfs_direct),
		TEST_ON(read_that_is_half_in_the_cache, ext4_file),
		TEST_ON(read_that_is_half_in_the_cache, xfs_file),
		TEST(less_than_a_device_block),
		TEST(failing_device),
		TEST(failing_request_of_more_than_2_gib),
		TEST(half_failing_device),
		TEST(lost_write_fails_the_flush),
		TEST_ON(flush_error_is_sticky, nobody),
		TEST_ON(flush_error_is_sticky, another_queue),
		TEST_ON(flush_error_is_sticky, another_descriptor),
		TEST_ON(flush_error_is_sticky, the_same_file),
		TEST_ON(flush_error_is_sticky, a_change_of_mode),
		TEST(full_tmpfs),
		TEST(full_ext4_file),
		TEST(full_ext4_direct),
		TEST_ON(reserved_blocks_are_kept, cached),
		TEST_ON(reserved_blocks_are_kept, direct),
		TEST_ON(open_mode_is_that_of_attach, cached),
		TEST_ON(open_mode_is_that_of_attach, direct),
		TEST(slow_requests_overlap),
		TEST(device_of_depth_one),
		TEST_ON(completions_while_submission_waits, sleeping),
		TEST_ON(completions_while_submission_waits, polling),
		TEST(detach_after_offloads),
		TEST(larger_than_a_request_of_the_disk),
		TEST(suspended_device),
		TEST(read_that_waits_for_the_disk),
		TEST(write_that_must_read_first),
		TEST(flush_that_waits_for_the_disk),
		TEST(slow_flush_of_a_device),
		TEST_ON(frozen_file_system, ext4_file),
		TEST_ON(frozen_file_system, ext4_direct),
		TEST_ON(frozen_file_system, xfs_direct),
		TEST_ON(freeze_passes_after_writes, ext4_file),
		TEST_ON(freeze_passes_after_writes, ext4_direct),
		TEST_ON(freeze_passes_after_writes, xfs_direct),
		TEST(freeze_does_not_wait_for_workers),
		TEST(flush_of_a_file_without_fsync),
		TEST_ON(flush_writes_the_cache_out, null_cached),
		TEST_ON(flush_writes_the_cache_out, ext4_file),
		TEST_ON(flush_reaches_the_device, loop_direct),
		TEST_ON(flush_reaches_the_device, ext4_direct),
		TEST(device_is_unplugged),
		TEST_ON(caller_closes_and_unlinks, tmpfs_file),
		TEST_ON(caller_closes_and_unlinks, ext4_direct),
		TEST_ON(threads_are_bounded, of_a_disk),
		TEST_FUSE_ON(threads_are_bounded, of_a_server),
		TEST_CGROUP(limit_of_threads_holds),
		TEST_FUSE(write_through_to_a_server),
		TEST(parts_of_blocks_of_the_file_system),
	};

	return disks_run(argc, argv, tests, ARRAY_SIZE(tests));
}
