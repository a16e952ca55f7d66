// SPDX-License-Identifier: GPL-2.0
/* The power is cut: what was acknowledged as durable is there afterwards, on devices and on files. */
#define _GNU_SOURCE
#include "unit.h"

#include <stdlib.h>
#include <unistd.h>

#include "powercut.h"

#define DEPTH		16U
#define SLOTS		64U		/* places that are written over and over */
#define SLOT_SIZE	(8 * KIB)
#define SLOT_SECTORS	(SLOT_SIZE / SECTOR_SIZE)
#define DISK_SIZE	(SLOTS * SLOT_SIZE)
#define LOG_MIB		256U
#define CUTS		4U
#define STAT_IN_FLIGHT	8

struct kind {
	const char *fstype;	/* NULL: the device itself */
	int flags;
	unsigned int size_mib;
	unsigned int delay_us;
};

static const struct kind device_cached = { .size_mib = 1 };
static const struct kind device_direct = { .flags = O_DIRECT, .size_mib = 1 };
/* So slow that writes are in flight whatever is done meanwhile. */
static const struct kind device_slow = { .flags = O_DIRECT, .size_mib = 1, .delay_us = 50000 };
static const struct kind ext4_cached = { .fstype = "ext4", .size_mib = 16 };
static const struct kind ext4_direct = { .fstype = "ext4", .flags = O_DIRECT, .size_mib = 16 };
static const struct kind xfs_cached = { .fstype = "xfs", .size_mib = 320 };
static const struct kind xfs_direct = { .fstype = "xfs", .flags = O_DIRECT, .size_mib = 320 };

/* The version of each slot, 0 being all zeroes, must lie between these after a cut. */
struct cut {
	unsigned int least[SLOTS];
	unsigned int most[SLOTS];
};

struct load {
	struct unit *u;
	char log[BACKEND_PATH_MAX];
	char device[BACKEND_PATH_MAX];
	unsigned int mark;		/* what is over the log was made after it */
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

static struct load *start_load(struct unit *u)
{
	const struct kind *kind = u->param;
	struct null_blk log_spec = { .size_mib = LOG_MIB };
	struct null_blk spec = { .size_mib = kind->size_mib, .delay_us = kind->delay_us };
	struct load *l = calloc(1, sizeof(*l));
	char disk[BACKEND_PATH_MAX], table[512], dir[BACKEND_PATH_MAX];
	int fd;

	assert_non_null(l);
	l->u = u;
	l->seed = 1;
	assert_ok(backend_null(l->log, &log_spec));
	l->mark = backend_mark();
	assert_ok(backend_null(disk, &spec));
	snprintf(table, sizeof(table), "0 %lu log-writes %s %s\n",
		 kind->size_mib * MIB / SECTOR_SIZE, disk, l->log);
	assert_ok(backend_dm(l->device, table));
	if (kind->fstype) {
		assert_ok(backend_mkfs(dir, kind->fstype, l->device));
		assert_ok(backend_file(u->path, dir, "disk", DISK_SIZE));
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_ok(fd);
		assert_ok(syncfs(fd));
		close(fd);
	} else {
		snprintf(u->path, sizeof(u->path), "%s", l->device);
	}
	unit_disk(u, u->path, O_RDWR | kind->flags);
	unit_start_with(u, RANGE_FEATURES, 1, 64);
	unit_requests(l->write, DEPTH, &u->vq[0]);
	unit_requests(&l->flush, 1, &u->vq[0]);
	l->buf = unit_alloc(u, DEPTH * SLOT_SIZE);
	return l;
}

static void set_mode(struct load *l, uint32_t mode)
{
	struct vhost_blk_write_cache cache = { .mode = mode };

	assert_ok(ioctl(l->u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &cache));
}

/* Each request has slots to itself, so that no two writes to one are in flight. */
static void submit_write(struct load *l, unsigned int i)
{
	unsigned int slot = i * (SLOTS / DEPTH) + random_next(&l->seed) % (SLOTS / DEPTH);
	uint8_t *buf = l->buf + i * SLOT_SIZE;

	pattern_fill(buf, SLOT_SIZE, slot * SLOT_SIZE, ++l->submitted[slot]);
	l->slot[i] = slot;
	l->busy[i] = true;
	unit_submit_one(l->u, &l->write[i], VIRTIO_BLK_T_OUT, slot * SLOT_SECTORS, buf, SLOT_SIZE);
}

/* Notes what has completed. */
static void note_completions(struct load *l)
{
	unsigned int i;

	assert_true(blk_reap(&l->u->vq[0]) >= 0);
	for (i = 0; i < DEPTH; i++) {
		if (!l->busy[i] || !l->write[i].done)
			continue;
		assert_int_equal(*l->write[i].status, VIRTIO_BLK_S_OK);
		l->busy[i] = false;
		l->completed[l->slot[i]] = l->submitted[l->slot[i]];
		l->writes++;
	}
}

static bool any_busy(const struct load *l)
{
	unsigned int i;

	for (i = 0; i < DEPTH; i++)
		if (l->busy[i])
			return true;
	return false;
}

/* Writes at full depth until a flush or so many more writes have completed; leaves writes in flight. */
static void run_load(struct load *l, unsigned int writes, const struct blk_request *flush)
{
	int64_t end = now_ms() + TIMEOUT_MS;
	unsigned int i;

	writes += l->writes;
	for (;;) {
		note_completions(l);
		for (i = 0; i < DEPTH; i++)
			if (!l->busy[i])
				submit_write(l, i);
		if (flush ? flush->done : l->writes >= writes)
			return;
		assert_true(now_ms() < end);
		vq_wait(&l->u->vq[0], 100);
	}
}

static void end_load(struct load *l)
{
	int64_t end = now_ms() + TIMEOUT_MS;

	while (any_busy(l)) {
		assert_true(now_ms() < end);
		vq_wait(&l->u->vq[0], 100);
		note_completions(l);
	}
}

static struct cut *begin_cut(struct load *l)
{
	struct cut *cut = &l->cut[l->nr_cuts++];

	note_completions(l);
	memcpy(cut->least, l->completed, sizeof(cut->least));
	return cut;
}

/*
 * A journal flushes by itself. A flush that it began before ours takes our data along in the log, yet may end after
 * ours, when a disk has had the data for long.
 */
static void await_other_flushes(struct load *l)
{
	const struct kind *kind = l->u->param;
	int64_t end = now_ms() + TIMEOUT_MS;

	while (kind->fstype && backend_stat(l->device, STAT_IN_FLIGHT)) {
		assert_true(now_ms() < end);
		usleep(1000);
	}
}

static void end_cut(struct load *l, struct cut *cut)
{
	char message[32];

	await_other_flushes(l);
	snprintf(message, sizeof(message), "mark cut%zu", cut - l->cut);
	assert_ok(backend_dm_message(l->device, message));
	memcpy(cut->most, l->submitted, sizeof(cut->most));
}

/* Whether a part of the disk is of one version, and of one that may be there. */
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
 * A sector is of one version. One that passes through the page cache may be written back while it is overwritten, and
 * then is so only word by word.
 */
static void expect_sector(const uint8_t *sector, unsigned int number, const struct cut *cut, bool cached)
{
	unsigned int slot = number / SLOT_SECTORS;
	size_t step = cached && cut->most[slot] > cut->least[slot] ? sizeof(uint64_t) : SECTOR_SIZE, i;

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

/* The machine comes up after the cut: the file system recovers, is sound, and has the file. */
static void expect_file(const struct kind *kind, const char *image, const struct cut *cut)
{
	char loop[BACKEND_PATH_MAX], dir[BACKEND_PATH_MAX], path[2 * BACKEND_PATH_MAX];
	unsigned int mark = backend_mark();

	assert_ok(backend_loop(loop, image));
	assert_ok(backend_mount(dir, kind->fstype, loop));
	snprintf(path, sizeof(path), "%s/disk", dir);
	expect_versions(path, cut, !(kind->flags & O_DIRECT));
	assert_ok(backend_remove_since(mark));
	assert_ok(backend_fsck(kind->fstype, image));
}

/* Ends the load and looks at the disk as it was at each cut. */
static void expect_cuts(struct load *l)
{
	char dir[BACKEND_PATH_MAX], image[BACKEND_PATH_MAX], name[32];
	const struct kind *kind = l->u->param;
	unsigned int i;

	unit_detach(l->u);
	close(l->u->disk);
	l->u->disk = -1;
	assert_ok(backend_remove_since(l->mark));
	assert_ok(backend_tmpfs(dir, 512 * MIB));
	for (i = 0; i < l->nr_cuts; i++) {
		snprintf(name, sizeof(name), "cut%u", i);
		assert_ok(backend_file(image, dir, "image", kind->size_mib * MIB));
		assert_ok(powercut_replay(l->log, name, image));
		if (kind->fstype)
			expect_file(kind, image, &l->cut[i]);
		else
			expect_versions(image, &l->cut[i], !(kind->flags & O_DIRECT));
	}
	free(l);
}

/* What had completed when a FLUSH was submitted is durable when that completes. */
static void flushed_writes_survive(void **state)
{
	struct load *l = start_load(*state);
	struct cut *cut;
	unsigned int i;

	for (i = 0; i < CUTS; i++) {
		run_load(l, 20 + random_next(&l->seed) % 20, NULL);
		cut = begin_cut(l);
		unit_submit_one(l->u, &l->flush, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
		run_load(l, 0, &l->flush);
		assert_int_equal(*l->flush.status, VIRTIO_BLK_S_OK);
		end_cut(l, cut);
	}
	expect_cuts(l);
}

/*
 * In write-through mode a write is durable when it completes, without a FLUSH.
 * The target logs data with the flush that found it first, which may end after
 * another flush that covers it too: so none may be on its way at the cut.  The
 * last writes are few, to have no others whose flushes help them.
 */
static void written_through_survives(void **state)
{
	struct load *l = start_load(*state);
	unsigned int i, j;

	set_mode(l, VHOST_BLK_WRITE_THROUGH);
	for (i = 0; i < CUTS; i++) {
		run_load(l, 10 + random_next(&l->seed) % 20, NULL);
		end_load(l);
		for (j = 0; j <= i; j++)
			submit_write(l, j);
		end_load(l);
		end_cut(l, begin_cut(l));
	}
	expect_cuts(l);
}

/*
 * Zeroes the slot that each request wrote last, with nothing else in flight:
 * it is what it was at first, and was something else on the disk before.
 */
static void zero_slots(struct load *l, uint32_t type, uint32_t flags)
{
	unsigned int i, slot;

	for (i = 0; i < DEPTH; i++) {
		slot = l->slot[i];
		assert_int_equal(unit_range(l->u, type, slot * SLOT_SECTORS, SLOT_SECTORS, flags),
				 VIRTIO_BLK_S_OK);
		l->submitted[slot] = l->completed[slot] = 0;
	}
}

static void flush(struct load *l)
{
	assert_int_equal(unit_io(l->u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
}

/*
 * What zeroes and discards do is as durable as what writes do.  No disk here
 * shows anything but zeroes after a discard.
 */
static void zero_and_cut(struct load *l, bool write_through)
{
	static const struct { uint32_t type, flags; } how[CUTS] = {
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0 },
		{ VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP },
		{ VIRTIO_BLK_T_DISCARD, 0 },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0 },
	};
	unsigned int i;

	for (i = 0; i < CUTS; i++) {
		run_load(l, 20, NULL);
		end_load(l);
		if (!write_through)
			flush(l);
		zero_slots(l, how[i].type, how[i].flags);
		if (!write_through)
			flush(l);
		end_cut(l, begin_cut(l));
	}
	expect_cuts(l);
}

static void flushed_zeroes_survive(void **state)
{
	zero_and_cut(start_load(*state), false);
}

static void zeroes_written_through_survive(void **state)
{
	struct load *l = start_load(*state);

	set_mode(l, VHOST_BLK_WRITE_THROUGH);
	zero_and_cut(l, true);
}

/* A switch to write-through makes durable what has completed, and what is in flight before it completes. */
static void switching_makes_durable(void **state)
{
	struct load *l = start_load(*state);
	unsigned int i;

	for (i = 0; i < CUTS; i++) {
		run_load(l, 20, NULL);
		if (i % 2)
			end_load(l);
		set_mode(l, VHOST_BLK_WRITE_THROUGH);
		end_load(l);
		end_cut(l, begin_cut(l));
		set_mode(l, VHOST_BLK_WRITE_BACK);
	}
	expect_cuts(l);
}

/* A switch whose flush fails is none. */
static void failed_flush_keeps_the_mode(void **state)
{
	struct vhost_blk_write_cache cache = { .mode = VHOST_BLK_WRITE_THROUGH };
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
	/* Nothing is dirty once that was reported, so it can be switched, and writes tell. */
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &cache), EIO);
	assert_ok(ioctl(u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &cache));
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
