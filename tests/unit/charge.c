// SPDX-License-Identifier: GPL-2.0
/* Memory allocated for requests in flight is charged to the owner's cgroup, whose limit applies. */
#define _GNU_SOURCE
#include "unit.h"

#include <stdlib.h>

#define DISK_SIZE	(8 * MIB)
#define SEGMENTS	1022
#define RANGES		256
#define BOUNCED		(64 * KIB)	/* size of a bounce buffer */
#define NR_MAX		1000
/* The most that a CPU may be charged in advance. */
#define CHARGE_BATCH	(MIB / 2)

/* Requests that wait while their backend is blocked, and the memory they need at least. */
struct pending {
	uint32_t type;
	unsigned int nr;
	size_t allocated;
	bool direct;
};

static const struct pending segments = {
	VIRTIO_BLK_T_OUT, 256, 256 * SEGMENTS * 16, false,
};
static const struct pending ranges = {
	VIRTIO_BLK_T_DISCARD, 1000, 1000 * RANGES * 16, false,
};
static const struct pending bounces = {
	VIRTIO_BLK_T_OUT, 64, 64 * BOUNCED, true,
};

static uint64_t cgroup_number(const char *file, const char *key)
{
	char path[128], word[64];
	unsigned long long value;
	int64_t found = -1;
	FILE *f;

	snprintf(path, sizeof(path), CGROUP "/%s", file);
	f = fopen(path, "re");
	assert_non_null(f);
	if (!key && fscanf(f, "%llu", &value) == 1)
		found = value;
	while (key && found < 0 && fscanf(f, "%63s %llu", word, &value) == 2)
		if (!strcmp(word, key))
			found = value;
	fclose(f);
	assert_true(found >= 0);
	return found;
}

static uint64_t charged(void)
{
	return cgroup_number("memory.current", NULL);
}

/* Wait until completed requests are uncharged. */
static void expect_charged_at_most(uint64_t bytes)
{
	WAIT_UNTIL(charged() <= bytes);
}

/* Start in the cgroup on a backend that can be blocked. */
static void start_in_cgroup(struct unit *u, const struct pending *pending)
{
	struct null_blk spec = { .size_mib = 16 };
	char device[BACKEND_PATH_MAX], dir[BACKEND_PATH_MAX];

	if (pending->direct) {
		unit_suspendable(u, DISK_SIZE);
	} else {
		assert_ok(backend_null(device, &spec));
		assert_ok(backend_mkfs(dir, "ext4", device));
		assert_ok(backend_file(u->path, dir, "disk", DISK_SIZE));
		unit_disk(u, u->path, O_RDWR);
		disk_fill(u->disk, 0, MIB, 1);
		assert_ok(fsync(u->disk));
		snprintf(u->path, sizeof(u->path), "%s", dir);
	}
	unit_open(u, RANGE_FEATURES);
	unit_vqs(u, 1, 1024);
	cgroup_attach(u);
	/* The first request allocates memory that stays. */
	expect_alive(u);
}

static void block_backend(struct unit *u, const struct pending *pending)
{
	if (pending->direct)
		unit_suspend(u, u->path);
	else
		unit_freeze(u, u->path);
}

static void unblock_backend(struct unit *u, const struct pending *pending)
{
	if (pending->direct)
		unit_resume(u);
	else
		unit_thaw(u);
}

/* Allocate the data of each request in up to SEGMENTS segments; return their number. */
static unsigned int make_data(struct unit *u, const struct pending *pending,
			      struct vq_segment *data)
{
	struct virtio_blk_discard_write_zeroes *list;
	unsigned int i;
	char *buf;

	if (pending->direct) {
		*data = unit_segment(u, (char *)unit_alloc(u, BOUNCED + 1) + 1, BOUNCED);
		return 1;
	}
	if (pending->type == VIRTIO_BLK_T_DISCARD) {
		list = unit_alloc(u, RANGES * sizeof(*list));
		/* The others are empty and take no time. */
		list[0].num_sectors = 8;
		*data = unit_segment(u, list, RANGES * sizeof(*list));
		return 1;
	}
	buf = unit_alloc(u, PAGE);
	for (i = 0; i < SEGMENTS; i++)
		data[i] = unit_segment(u, buf + i, 1);
	data[SEGMENTS - 1].len += 2 * SECTOR_SIZE - SEGMENTS;
	return SEGMENTS;
}

static struct blk_request *submit(struct unit *u, const struct pending *pending)
{
	struct blk_request *req = calloc(pending->nr, sizeof(*req));
	struct vq_segment data[SEGMENTS];
	unsigned int i, nr;

	assert_non_null(req);
	nr = make_data(u, pending, data);
	for (i = 0; i < pending->nr; i++) {
		assert_ok(blk_request_init(&req[i], &u->vq[0], nr + 2));
		assert_ok(blk_add(&req[i], pending->type, 0, data, nr));
	}
	vq_submit(&u->vq[0]);
	return req;
}

static void expect_all(struct blk_request *req, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, 1);
	free(req);
}

static void owner_is_charged(void **state)
{
	struct unit *u = *state;
	const struct pending *pending = u->param;
	uint64_t before, during = 0;
	struct blk_request *req;

	start_in_cgroup(u, pending);
	before = charged();
	block_backend(u, pending);
	req = submit(u, pending);
	WAIT_UNTIL((during = charged()) + CHARGE_BATCH >= before + pending->allocated);
	print_message("charged %llu KiB before, %llu KiB with %u requests in flight\n",
		      (unsigned long long)before / KIB, (unsigned long long)during / KIB,
		      pending->nr);
	unblock_backend(u, pending);
	expect_all(req, pending->nr);
	expect_charged_at_most(before + 2 * CHARGE_BATCH);
}

static uint64_t set_limit(uint64_t more)
{
	uint64_t limit = charged() + more;
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)limit);
	unit_write(CGROUP "/memory.max", text);
	return limit;
}

static void expect_limited(struct unit *u, const struct pending *pending, uint64_t limit)
{
	WAIT_UNTIL(cgroup_number("memory.events", "max"));
	ASSERT_NEVER(charged() > limit);
	print_message("%llu of %u requests in flight at the limit\n",
		      (unsigned long long)unit_stats(u, 0).inflight, pending->nr);
}

/* At the limit requests wait for each other: none fails, and no process is killed. */
static void limit_is_enforced(void **state)
{
	struct unit *u = *state;
	const struct pending *pending = u->param;
	struct blk_request *req;
	uint64_t limit;

	start_in_cgroup(u, pending);
	limit = set_limit(pending->allocated / 2);
	block_backend(u, pending);
	req = submit(u, pending);
	expect_limited(u, pending, limit);
	/* Bounce buffers become smaller instead of fewer. */
	if (!pending->direct)
		assert_true(unit_stats(u, 0).inflight < pending->nr);
	unblock_backend(u, pending);
	expect_all(req, pending->nr);
	assert_int_equal(cgroup_number("memory.events", "oom_kill"), 0);
	expect_alive(u);
}

/* Requests that wait for memory at a detach are processed after the next attach. */
static void detach_at_the_limit(void **state)
{
	struct unit *u = *state;
	const struct pending *pending = u->param;
	struct blk_request *req;
	uint64_t limit;

	start_in_cgroup(u, pending);
	limit = set_limit(0);
	block_backend(u, pending);
	req = submit(u, pending);
	expect_limited(u, pending, limit);
	unblock_backend(u, pending);
	unit_detach(u);
	unit_write(CGROUP "/memory.max", "max");
	assert_int_equal(vq_used_idx(&u->vq[0]), vq_get_base(&u->vq[0]));
	unit_attach(u);
	expect_all(req, pending->nr);
	assert_int_equal(cgroup_number("memory.events", "oom_kill"), 0);
}

/* Memory of a device and of its queues is charged until they are freed. */
static void device_and_queues_are_charged(void **state)
{
	enum { QUEUES = 8, DEVICE = 2 * MIB, QUEUE = 600 * KIB };
	struct unit *u = *state;
	uint64_t opened, attached;

	unit_memfd(u, DISK_SIZE);
	unit_write(CGROUP "/cgroup.procs", "0");
	unit_open(u, FEATURES);
	cgroup_leave();
	opened = charged();
	unit_pin_limit(u, 16 * MIB);
	unit_vqs(u, QUEUES, 1024);
	cgroup_attach(u);
	attached = charged();
	print_message("a device: %llu KiB, a queue of 1024: %llu KiB\n",
		      (unsigned long long)opened / KIB,
		      (unsigned long long)(attached - opened) / QUEUES / KIB);
	assert_true(opened >= DEVICE);
	assert_true(attached - opened >= QUEUES * QUEUE);
	unit_detach(u);
	vhost_blk_close(&u->dev);
	expect_charged_at_most(2 * CHARGE_BATCH);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST_CGROUP(device_and_queues_are_charged),
		TEST_CGROUP_ON(owner_is_charged, segments),
		TEST_CGROUP_ON(owner_is_charged, ranges),
		TEST_CGROUP_ON(owner_is_charged, bounces),
		TEST_CGROUP_ON(limit_is_enforced, segments),
		TEST_CGROUP_ON(limit_is_enforced, ranges),
		TEST_CGROUP_ON(limit_is_enforced, bounces),
		TEST_CGROUP_ON(detach_at_the_limit, segments),
		TEST_CGROUP_ON(detach_at_the_limit, ranges),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
