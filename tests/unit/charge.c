// SPDX-License-Identifier: GPL-2.0
/* What requests in flight make the host allocate: the owner's memory cgroup is charged and bounds it. */
#define _GNU_SOURCE
#include "unit.h"

#include <stdlib.h>

#define DISK_SIZE	(8 * MIB)
#define SEGMENTS	1022
#define RANGES		256
#define BOUNCED		(64 * KIB)	/* what passes through a bounce buffer at once */
#define NR_MAX		1000
/* The most that a CPU may have been charged for in advance. */
#define CHARGE_BATCH	(MIB / 2)

/* Requests that cannot end while their backend is held, and what they hold at least. */
struct load {
	uint32_t type;
	unsigned int nr;
	size_t held;
	bool direct;
};

static const struct load segments = {
	VIRTIO_BLK_T_OUT, 256, 256 * SEGMENTS * 16, false,
};
static const struct load ranges = {
	VIRTIO_BLK_T_DISCARD, 1000, 1000 * RANGES * 16, false,
};
static const struct load bounces = {
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

/* What ended has been given back, which may take a moment. */
static void expect_charged_at_most(uint64_t bytes)
{
	int64_t end = now_ms() + TIMEOUT_MS;

	while (charged() > bytes) {
		assert_true(now_ms() < end);
		usleep(10000);
	}
}

/* A disk whose requests can be held up, of an owner in the cgroup. */
static void start(struct unit *u, const struct load *load)
{
	struct null_blk spec = { .size_mib = 16 };
	char device[BACKEND_PATH_MAX], dir[BACKEND_PATH_MAX];

	if (load->direct) {
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
	/* What the first request takes for good is there. */
	expect_alive(u);
}

static void hold(struct unit *u, const struct load *load)
{
	if (load->direct)
		unit_suspend(u, u->path);
	else
		unit_freeze(u, u->path);
}

static void let_go(struct unit *u, const struct load *load)
{
	if (load->direct)
		unit_resume(u);
	else
		unit_thaw(u);
}

/* The data of each request, in up to SEGMENTS pieces; returns their number. */
static unsigned int make_data(struct unit *u, const struct load *load, struct vq_segment *data)
{
	struct virtio_blk_discard_write_zeroes *list;
	unsigned int i;
	char *buf;

	if (load->direct) {
		*data = unit_segment(u, (char *)unit_alloc(u, BOUNCED + 1) + 1, BOUNCED);
		return 1;
	}
	if (load->type == VIRTIO_BLK_T_DISCARD) {
		list = unit_alloc(u, RANGES * sizeof(*list));
		/* The others are empty: they take room, and no time. */
		list[0].num_sectors = 8;
		*data = unit_segment(u, list, RANGES * sizeof(*list));
		return 1;
	}
	buf = unit_alloc(u, 4096);
	for (i = 0; i < SEGMENTS; i++)
		data[i] = unit_segment(u, buf + i, 1);
	data[SEGMENTS - 1].len += 2 * SECTOR_SIZE - SEGMENTS;
	return SEGMENTS;
}

static struct blk_request *submit(struct unit *u, const struct load *load)
{
	struct blk_request *req = calloc(load->nr, sizeof(*req));
	struct vq_segment data[SEGMENTS];
	unsigned int i, nr;

	assert_non_null(req);
	nr = make_data(u, load, data);
	for (i = 0; i < load->nr; i++) {
		assert_ok(blk_request_init(&req[i], &u->vq[0], nr + 2));
		assert_ok(blk_add(&req[i], load->type, 0, data, nr));
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
	int64_t end = now_ms() + TIMEOUT_MS;
	struct unit *u = *state;
	const struct load *load = u->param;
	uint64_t before, during;
	struct blk_request *req;

	start(u, load);
	before = charged();
	hold(u, load);
	req = submit(u, load);
	while ((during = charged()) + CHARGE_BATCH < before + load->held && now_ms() < end)
		usleep(10000);
	print_message("charged %llu KiB before, %llu KiB with %u requests in flight\n",
		      (unsigned long long)before / KIB, (unsigned long long)during / KIB,
		      load->nr);
	let_go(u, load);
	assert_true(during + CHARGE_BATCH >= before + load->held);
	expect_all(req, load->nr);
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

static void expect_limited(struct unit *u, const struct load *load)
{
	int64_t end = now_ms() + TIMEOUT_MS;

	while (!cgroup_number("memory.events", "max")) {
		assert_true(now_ms() < end);
		usleep(10000);
	}
	usleep(QUIET_MS * 1000);
	print_message("%llu of %u requests in flight at the limit\n",
		      (unsigned long long)unit_stats(u, 0).inflight, load->nr);
}

/* At the limit requests wait for each other: none fails, and nobody is killed. */
static void limit_holds(void **state)
{
	struct unit *u = *state;
	const struct load *load = u->param;
	struct blk_request *req;
	uint64_t limit;

	start(u, load);
	limit = set_limit(load->held / 2);
	hold(u, load);
	req = submit(u, load);
	expect_limited(u, load);
	assert_true(charged() <= limit);
	/* Bounce buffers become smaller instead. */
	if (!load->direct)
		assert_true(unit_stats(u, 0).inflight < load->nr);
	let_go(u, load);
	expect_all(req, load->nr);
	assert_int_equal(cgroup_number("memory.events", "oom_kill"), 0);
	expect_alive(u);
}

/* What waits for memory when the device is stopped is there when it goes on. */
static void stops_at_the_limit(void **state)
{
	struct unit *u = *state;
	const struct load *load = u->param;
	struct blk_request *req;

	start(u, load);
	set_limit(0);
	hold(u, load);
	req = submit(u, load);
	expect_limited(u, load);
	let_go(u, load);
	unit_detach(u);
	unit_write(CGROUP "/memory.max", "max");
	assert_int_equal(vq_used_idx(&u->vq[0]), vq_get_base(&u->vq[0]));
	unit_attach(u);
	expect_all(req, load->nr);
	assert_int_equal(cgroup_number("memory.events", "oom_kill"), 0);
}

/* So is what a device and its queues have from the start, until they are gone. */
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
		TEST_CGROUP_ON(limit_holds, segments),
		TEST_CGROUP_ON(limit_holds, ranges),
		TEST_CGROUP_ON(limit_holds, bounces),
		TEST_CGROUP_ON(stops_at_the_limit, segments),
		TEST_CGROUP_ON(stops_at_the_limit, ranges),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
