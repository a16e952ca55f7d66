// SPDX-License-Identifier: GPL-2.0
/* Power cuts: data that was acknowledged as durable survives, on devices and on files. */
#define _GNU_SOURCE
#include "unit.h"

#include <stdlib.h>
#include <unistd.h>

#include "powercut.h"

#define DEPTH		16U
#define SLOTS		64U		/* extents that are overwritten again and again */
#define SLOT_SIZE	(8 * KIB)
#define SLOT_SECTORS	(SLOT_SIZE / SECTOR_SIZE)
#define DISK_SIZE	(SLOTS * SLOT_SIZE)
#define LOG_MIB		256U
#define CUTS		4U
#define STAT_IN_FLIGHT	8

struct storage {
	const char *fstype;	/* of a file; NULL: the device */
	int flags;
	unsigned int size_mib;
	unsigned int delay_us;
};

static const struct storage device_cached = { .size_mib = 1 };
static const struct storage device_direct = { .flags = O_DIRECT, .size_mib = 1 };
/* Slow enough to have writes in flight during a switch. */
static const struct storage device_slow = { .flags = O_DIRECT, .size_mib = 1, .delay_us = 50000 };
static const struct storage ext4_cached = { .fstype = "ext4", .size_mib = 16 };
static const struct storage ext4_direct = { .fstype = "ext4", .flags = O_DIRECT, .size_mib = 16 };
static const struct storage xfs_cached = { .fstype = "xfs", .size_mib = 32 };
static const struct storage xfs_direct = { .fstype = "xfs", .flags = O_DIRECT, .size_mib = 32 };

/* Bounds of the version of each slot after a cut. Version 0 is zeroes. */
struct cut {
	unsigned int least[SLOTS];
	unsigned int most[SLOTS];
};

struct writer {
	struct unit *u;
	char log[BACKEND_PATH_MAX];
	char device[BACKEND_PATH_MAX];
	unsigned int mark;		/* between the log and the devices that use it */
	unsigned int device_mark;	/* between the device and the file system on it */
	struct blk_request write[DEPTH];
	struct blk_request flush;
	uint8_t *buf;
	bool busy[DEPTH];
	unsigned int slot[DEPTH];	/* of the write in flight */
	unsigned int submitted[SLOTS];	/* versions */
	unsigned int completed[SLOTS];
	unsigned int writes;		/* completed in all */
	uint64_t seed;
	unsigned int nr_cuts;
	struct cut cut[CUTS];
};

static struct writer *start_writer(struct unit *u)
{
	const struct storage *storage = u->param;
	struct null_blk log_spec = { .size_mib = LOG_MIB };
	struct null_blk spec = { .size_mib = storage->size_mib, .delay_us = storage->delay_us };
	struct writer *w = calloc(1, sizeof(*w));
	char disk[BACKEND_PATH_MAX], table[512], dir[BACKEND_PATH_MAX];
	int fd;

	assert_non_null(w);
	w->u = u;
	w->seed = 1;
	assert_ok(backend_null(w->log, &log_spec));
	w->mark = backend_mark();
	assert_ok(backend_null(disk, &spec));
	snprintf(table, sizeof(table), "0 %lu log-writes %s %s\n",
		 storage->size_mib * MIB / SECTOR_SIZE, disk, w->log);
	assert_ok(backend_dm(w->device, table));
	w->device_mark = backend_mark();
	if (storage->fstype) {
		assert_ok(backend_mkfs(dir, storage->fstype, w->device));
		assert_ok(backend_file(u->path, dir, "disk", DISK_SIZE));
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_ok(fd);
		assert_ok(syncfs(fd));
		close(fd);
	} else {
		snprintf(u->path, sizeof(u->path), "%s", w->device);
	}
	unit_disk(u, u->path, O_RDWR | storage->flags);
	unit_start_with(u, RANGE_FEATURES, 1, 64);
	unit_requests(w->write, DEPTH, &u->vq[0]);
	unit_requests(&w->flush, 1, &u->vq[0]);
	w->buf = unit_alloc(u, DEPTH * SLOT_SIZE);
	return w;
}

static void set_mode(struct writer *w, uint32_t mode)
{
	struct vhost_blk_write_cache cache = { .mode = mode };

	assert_ok(ioctl(w->u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &cache));
}

/* Each request has its own slots, so that each slot has one write in flight. */
static void submit_write(struct writer *w, unsigned int i)
{
	unsigned int slot = i * (SLOTS / DEPTH) + random_next(&w->seed) % (SLOTS / DEPTH);
	uint8_t *buf = w->buf + i * SLOT_SIZE;

	pattern_fill(buf, SLOT_SIZE, slot * SLOT_SIZE, ++w->submitted[slot]);
	w->slot[i] = slot;
	w->busy[i] = true;
	unit_submit_one(w->u, &w->write[i], VIRTIO_BLK_T_OUT, slot * SLOT_SECTORS, buf, SLOT_SIZE);
}

static void check_completed(struct writer *w)
{
	unsigned int i;

	assert_true(blk_reap(&w->u->vq[0]) >= 0);
	for (i = 0; i < DEPTH; i++) {
		if (!w->busy[i] || !w->write[i].done)
			continue;
		assert_int_equal(*w->write[i].status, VIRTIO_BLK_S_OK);
		w->busy[i] = false;
		w->completed[w->slot[i]] = w->submitted[w->slot[i]];
		w->writes++;
	}
}

static bool is_busy(const struct writer *w)
{
	unsigned int i;

	for (i = 0; i < DEPTH; i++)
		if (w->busy[i])
			return true;
	return false;
}

static void fill_queue(struct writer *w)
{
	unsigned int i;

	check_completed(w);
	for (i = 0; i < DEPTH; i++)
		if (!w->busy[i])
			submit_write(w, i);
}

/* Write at full depth until a flush or a number of writes has completed. Leave writes in flight. */
static void run_writer(struct writer *w, unsigned int writes, const struct blk_request *flush)
{
	writes += w->writes;
	fill_queue(w);
	REPEAT_UNTIL(flush ? flush->done : w->writes >= writes) {
		vq_wait(&w->u->vq[0], 100);
		fill_queue(w);
	}
}

static void drain_writer(struct writer *w)
{
	REPEAT_UNTIL(!is_busy(w)) {
		vq_wait(&w->u->vq[0], 100);
		check_completed(w);
	}
}

static struct cut *begin_cut(struct writer *w)
{
	struct cut *cut = &w->cut[w->nr_cuts++];

	check_completed(w);
	memcpy(cut->least, w->completed, sizeof(cut->least));
	return cut;
}

/*
 * Wait for flushes by the journal of a file system. The log has data with the
 * first flush that covers it, which may end after the flush of the test.
 */
static void wait_for_other_flushes(struct writer *w)
{
	const struct storage *storage = w->u->param;

	if (storage->fstype)
		WAIT_UNTIL(!backend_stat(w->device, STAT_IN_FLIGHT));
}

static void end_cut(struct writer *w, struct cut *cut)
{
	char message[32];

	wait_for_other_flushes(w);
	snprintf(message, sizeof(message), "mark cut%zu", cut - w->cut);
	assert_ok(backend_dm_message(w->device, message));
	memcpy(cut->most, w->submitted, sizeof(cut->most));
}

/* Return true if a part of the disk has one version, which is within the bounds. */
static bool is_allowed(const uint8_t *data, size_t len, uint64_t offset, const struct cut *cut)
{
	static const uint8_t zeroes[SECTOR_SIZE];
	unsigned int slot = offset / SLOT_SIZE, version;

	if (!cut->least[slot] && !memcmp(data, zeroes, len))
		return true;
	for (version = cut->most[slot]; version && version >= cut->least[slot]; version--)
		if (pattern_differs(data, len, offset, version) < 0)
			return true;
	return false;
}

/*
 * Check that a sector has one version. The page cache may write a sector back while
 * it is overwritten, so that each word has one version.
 */
static void expect_sector(const uint8_t *sector, unsigned int number, const struct cut *cut,
			  bool cached)
{
	unsigned int slot = number / SLOT_SECTORS;
	bool torn = cached && cut->most[slot] > cut->least[slot];
	size_t step = torn ? sizeof(uint64_t) : SECTOR_SIZE, i;

	for (i = 0; i < SECTOR_SIZE; i += step)
		if (!is_allowed(sector + i, step, (uint64_t)number * SECTOR_SIZE + i, cut))
			break;
	if (i == SECTOR_SIZE)
		return;
	fail_msg("sector %u does not hold one of the versions %u to %u", number, cut->least[slot],
		 cut->most[slot]);
}

static void expect_versions(const char *path, const struct cut *cut, bool cached)
{
	uint8_t *data = malloc(DISK_SIZE);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned int i;

	assert_ok(fd);
	assert_non_null(data);
	assert_int_equal(pread(fd, data, DISK_SIZE, 0), DISK_SIZE);
	close(fd);
	for (i = 0; i < DISK_SIZE / SECTOR_SIZE; i++)
		expect_sector(data + i * SECTOR_SIZE, i, cut, cached);
	free(data);
}

/* Mount the image, which recovers the file system, check the file and run fsck. */
static void expect_file(const struct storage *storage, const char *image, const struct cut *cut)
{
	char loop[BACKEND_PATH_MAX], dir[BACKEND_PATH_MAX], path[2 * BACKEND_PATH_MAX];
	unsigned int mark = backend_mark();

	assert_ok(backend_loop(loop, image));
	assert_ok(backend_mount(dir, storage->fstype, loop));
	snprintf(path, sizeof(path), "%s/disk", dir);
	expect_versions(path, cut, !(storage->flags & O_DIRECT));
	assert_ok(backend_remove_since(mark));
	assert_ok(backend_fsck(storage->fstype, image));
}

/*
 * When the log's target goes, it logs what was never flushed before that which is
 * flushed and waits for its thread. So let nothing be left unflushed.
 */
static void flush_device(const struct writer *w)
{
	int fd = open(w->device, O_RDONLY | O_CLOEXEC);

	assert_ok(fd);
	assert_ok(fsync(fd));
	close(fd);
}

/* Stop the device and check the contents of the disk at each cut. */
static void expect_cuts(struct writer *w)
{
	char dir[BACKEND_PATH_MAX], image[BACKEND_PATH_MAX], name[32];
	const struct storage *storage = w->u->param;
	unsigned int i;

	unit_detach(w->u);
	close(w->u->disk);
	w->u->disk = -1;
	assert_ok(backend_remove_since(w->device_mark));
	flush_device(w);
	assert_ok(backend_remove_since(w->mark));
	assert_ok(backend_tmpfs(dir, 512 * MIB));
	for (i = 0; i < w->nr_cuts; i++) {
		snprintf(name, sizeof(name), "cut%u", i);
		assert_ok(backend_file(image, dir, "image", storage->size_mib * MIB));
		assert_ok(powercut_replay(w->log, name, image));
		if (storage->fstype)
			expect_file(storage, image, &w->cut[i]);
		else
			expect_versions(image, &w->cut[i], !(storage->flags & O_DIRECT));
	}
	free(w);
}

/* Writes that completed before a FLUSH was submitted are durable when it completes. */
static void flushed_writes_survive(void **state)
{
	struct writer *w = start_writer(*state);
	struct cut *cut;
	unsigned int i;

	for (i = 0; i < CUTS; i++) {
		run_writer(w, 20 + random_next(&w->seed) % 20, NULL);
		cut = begin_cut(w);
		unit_submit_one(w->u, &w->flush, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
		run_writer(w, 0, &w->flush);
		assert_int_equal(*w->flush.status, VIRTIO_BLK_S_OK);
		end_cut(w, cut);
	}
	expect_cuts(w);
}

/*
 * In write-through mode a write is durable when it completes, without a FLUSH.
 * The log has data with the first flush that covers it, which may end after
 * others: so no flush may be in flight at the cut. The last writes are few, so
 * that flushes of other writes do not cover them.
 */
static void written_through_survives(void **state)
{
	struct writer *w = start_writer(*state);
	unsigned int i, j;

	set_mode(w, VHOST_BLK_WRITE_THROUGH);
	for (i = 0; i < CUTS; i++) {
		run_writer(w, 10 + random_next(&w->seed) % 20, NULL);
		drain_writer(w);
		for (j = 0; j <= i; j++)
			submit_write(w, j);
		drain_writer(w);
		end_cut(w, begin_cut(w));
	}
	expect_cuts(w);
}

/*
 * Zero the slot that each request wrote last, with nothing else in flight. The
 * slot is of version 0 again.
 */
static void zero_slots(struct writer *w, uint32_t type, uint32_t flags)
{
	unsigned int i, slot;

	for (i = 0; i < DEPTH; i++) {
		slot = w->slot[i];
		assert_int_equal(unit_range(w->u, type, slot * SLOT_SECTORS, SLOT_SECTORS, flags),
				 VIRTIO_BLK_S_OK);
		w->submitted[slot] = w->completed[slot] = 0;
	}
}

static void flush(struct writer *w)
{
	assert_int_equal(unit_io(w->u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
}

/*
 * Zeroes and discards are as durable as writes. All disks of this test read
 * zeroes after a discard.
 */
static void zero_and_cut(struct writer *w, bool write_through)
{
	static const struct { uint32_t type, flags; } how[CUTS] = {
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0 },
		{ VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP },
		{ VIRTIO_BLK_T_DISCARD, 0 },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0 },
	};
	unsigned int i;

	for (i = 0; i < CUTS; i++) {
		run_writer(w, 20, NULL);
		drain_writer(w);
		if (!write_through)
			flush(w);
		zero_slots(w, how[i].type, how[i].flags);
		if (!write_through)
			flush(w);
		end_cut(w, begin_cut(w));
	}
	expect_cuts(w);
}

static void flushed_zeroes_survive(void **state)
{
	zero_and_cut(start_writer(*state), false);
}

static void zeroes_written_through_survive(void **state)
{
	struct writer *w = start_writer(*state);

	set_mode(w, VHOST_BLK_WRITE_THROUGH);
	zero_and_cut(w, true);
}

/* After a switch to write-through all completed writes are durable, earlier ones too. */
static void switching_makes_durable(void **state)
{
	struct writer *w = start_writer(*state);
	unsigned int i;

	for (i = 0; i < CUTS; i++) {
		run_writer(w, 20, NULL);
		if (i % 2)
			drain_writer(w);
		set_mode(w, VHOST_BLK_WRITE_THROUGH);
		drain_writer(w);
		end_cut(w, begin_cut(w));
		set_mode(w, VHOST_BLK_WRITE_BACK);
	}
	expect_cuts(w);
}

/* The mode is unchanged if the flush of the switch fails, but changes without one. */
static void failed_flush_keeps_the_mode(void **state)
{
	struct vhost_blk_write_cache cache = { .mode = VHOST_BLK_WRITE_THROUGH };
	struct vhost_blk_write_cache unflushed = {
		.mode = VHOST_BLK_WRITE_THROUGH, .flags = VHOST_BLK_WRITE_CACHE_NO_FLUSH,
	};
	struct unit *u = *state;
	char table[64];
	uint8_t *buf;

	snprintf(table, sizeof(table), "0 %lu error \n", DISK_SIZE / SECTOR_SIZE);
	assert_ok(backend_dm(u->path, table));
	unit_disk(u, u->path, O_RDWR);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, 4096);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 4096), VIRTIO_BLK_S_OK);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &cache), EIO);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 4096), VIRTIO_BLK_S_OK);
	/* No page is dirty any more, but what was written is lost. */
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &cache), EIO);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &cache), EIO);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 4096), VIRTIO_BLK_S_OK);
	assert_ok(ioctl(u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &unflushed));
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 4096), VIRTIO_BLK_S_IOERR);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_ON(flushed_writes_survive, device_cached),
		TEST_ON(flushed_writes_survive, device_direct),
		TEST_ON(flushed_writes_survive, ext4_cached),
		TEST_ON(flushed_writes_survive, ext4_direct),
		TEST_ON(flushed_writes_survive, xfs_cached),
		TEST_ON(flushed_writes_survive, xfs_direct),
		TEST_ON(written_through_survives, device_cached),
		TEST_ON(written_through_survives, device_direct),
		TEST_ON(written_through_survives, ext4_cached),
		TEST_ON(written_through_survives, ext4_direct),
		TEST_ON(written_through_survives, xfs_cached),
		TEST_ON(written_through_survives, xfs_direct),
		TEST_ON(flushed_zeroes_survive, device_cached),
		TEST_ON(flushed_zeroes_survive, device_direct),
		TEST_ON(flushed_zeroes_survive, ext4_cached),
		TEST_ON(flushed_zeroes_survive, xfs_direct),
		TEST_ON(zeroes_written_through_survive, device_cached),
		TEST_ON(zeroes_written_through_survive, device_direct),
		TEST_ON(zeroes_written_through_survive, ext4_cached),
		TEST_ON(zeroes_written_through_survive, ext4_direct),
		TEST_ON(zeroes_written_through_survive, xfs_direct),
		TEST_ON(switching_makes_durable, device_cached),
		TEST_ON(switching_makes_durable, device_slow),
		TEST_ON(switching_makes_durable, ext4_direct),
		TEST(failed_flush_keeps_the_mode),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
