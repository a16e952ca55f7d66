// SPDX-License-Identifier: GPL-2.0
/* Memory allocated for requests in flight is charged to the owner's cgroup, whose limit applies. */
#define _GNU_SOURCE
#include "unit.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define DISK_SIZE	(8 * MIB)
#define SEGMENTS	1022
#define RANGES		256
#define BOUNCED		(64 * KIB)	/* size of a bounce buffer */
#define QUEUES		8
#define WRITERS		32		/* threads that write at the same time */
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
	VIRTIO_BLK_T_OUT, 64, WRITERS * BOUNCED, true,
};

/*
 * The owner of the device: a forked process that is in the cgroup, which the test
 * is not. It runs the functions that owner_does() sends it, with its own copy of
 * the unit. All that it will need is allocated before the cgroup is limited.
 */
static struct {
	pid_t pid;			/* 0: there is none */
	int steps;			/* eventfds: writing to a pipe allocates memory */
	int replies;
	int *device;			/* its descriptor, in memory that both map */
	struct blk_request *req;	/* in the owner */
} owner;

typedef void owner_step(struct unit *u);

static void tell(int eventfd, uint64_t value)
{
	assert_int_equal(write(eventfd, &value, sizeof(value)), sizeof(value));
}

static void __attribute__((noreturn)) run_steps(struct unit *u)
{
	/* An assertion that fails must not return into the test runner. */
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	unit_write(CGROUP "/cgroup.procs", "0");
	for (;;) {
		event_wait(owner.steps, -1);
		((owner_step *)(uintptr_t)event_count(owner.steps))(u);
		tell(owner.replies, 1);
	}
}

/* Have all memory of the process present, and keep it so. */
static void lock_memory(struct unit *u)
{
	(void)u;
	assert_ok(mlockall(MCL_CURRENT));
}

/* Fork the owner. The disk is open already. */
static void owner_fork(struct unit *u)
{
	owner.device = unit_alloc(u, sizeof(*owner.device));
	owner.steps = eventfd(0, EFD_CLOEXEC);
	owner.replies = eventfd(0, EFD_CLOEXEC);
	assert_ok(owner.steps);
	assert_ok(owner.replies);
	owner.pid = child_fork();
	assert_ok(owner.pid);
	if (!owner.pid)
		run_steps(u);
}

static bool owner_has_died(void)
{
	siginfo_t info = { 0 };

	return !waitid(P_PID, owner.pid, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid;
}

/* Have the owner call step(u), and wait until that returns. */
static void owner_does(owner_step *step)
{
	tell(owner.steps, (uintptr_t)step);
	wait_until(!event_wait(owner.replies, 0) || owner_has_died(), 2 * TIMEOUT_MS);
	if (event_wait(owner.replies, 0))
		fail_msg("the owner has died, or does not reply");
	event_count(owner.replies);
}

static void owner_leaves(struct unit *u)
{
	(void)u;
	_exit(0);
}

static void expect_owner_to_leave(void)
{
	tell(owner.steps, (uintptr_t)owner_leaves);
	assert_int_equal(child_wait(owner.pid), 0);
	owner.pid = 0;
}

static int owner_teardown(void **state)
{
	int ret;

	if (owner.pid)
		kill(owner.pid, SIGKILL);
	/* The owner may wait for the disk until that is resumed. */
	ret = cgroup_teardown(state);
	if (owner.pid)
		waitpid(owner.pid, NULL, 0);
	close(owner.steps);
	close(owner.replies);
	memset(&owner, 0, sizeof(owner));
	return ret;
}

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

static void set_up_device(struct unit *u)
{
	unit_open(u, RANGE_FEATURES);
	*owner.device = u->dev.fd;
	unit_vqs(u, 1, 1024);
	lock_memory(u);
}

/* Attach the disk, and add all requests, which the device sees after submit(). */
static void attach(struct unit *u)
{
	const struct pending *pending = u->param;
	struct vq_segment data[SEGMENTS];
	unsigned int i, nr;

	unit_attach(u);
	/* The first request allocates memory that stays. */
	expect_alive(u);
	owner.req = calloc(pending->nr, sizeof(*owner.req));
	assert_non_null(owner.req);
	nr = make_data(u, pending, data);
	for (i = 0; i < pending->nr; i++) {
		assert_ok(blk_request_init(&owner.req[i], &u->vq[0], nr + 2));
		assert_ok(blk_add(&owner.req[i], pending->type, 0, data, nr));
	}
	lock_memory(u);
}

static void submit(struct unit *u)
{
	vq_submit(&u->vq[0]);
}

static void expect_all(struct unit *u)
{
	const struct pending *pending = u->param;
	unsigned int i;

	for (i = 0; i < pending->nr; i++)
		expect_end(&owner.req[i], VIRTIO_BLK_S_OK, 1);
}

static void detach(struct unit *u)
{
	unit_detach(u);
	assert_int_equal(vq_used_idx(&u->vq[0]), vq_get_base(&u->vq[0]));
}

/* Copy the descriptor of the owner's device, for the counters. */
static void copy_device(struct unit *u)
{
	int pidfd = syscall(SYS_pidfd_open, owner.pid, 0);

	assert_ok(pidfd);
	u->dev.fd = syscall(SYS_pidfd_getfd, pidfd, *owner.device, 0);
	assert_ok(u->dev.fd);
	close(pidfd);
}

/* Make a disk that can be blocked, and have the owner set up its device. */
static void set_up(struct unit *u, const struct pending *pending)
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
	owner_fork(u);
	owner_does(set_up_device);
	copy_device(u);
}

static void owner_is_charged(void **state)
{
	struct unit *u = *state;
	const struct pending *pending = u->param;
	uint64_t detached, before, during = 0;

	set_up(u, pending);
	detached = charged();
	owner_does(attach);
	before = charged();
	block_backend(u, pending);
	owner_does(submit);
	WAIT_UNTIL((during = charged()) + CHARGE_BATCH >= before + pending->allocated);
	print_message("charged %llu KiB before, %llu KiB with %llu of %u requests in flight\n",
		      (unsigned long long)before / KIB, (unsigned long long)during / KIB,
		      (unsigned long long)unit_stats(u, 0).inflight, pending->nr);
	unblock_backend(u, pending);
	owner_does(expect_all);
	owner_does(detach);
	expect_charged_at_most(detached + 2 * CHARGE_BATCH);
	expect_owner_to_leave();
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
	assert_int_equal(cgroup_number("memory.events", "oom_kill"), 0);
	print_message("%llu of %u requests in flight at the limit\n",
		      (unsigned long long)unit_stats(u, 0).inflight, pending->nr);
}

/* At the limit requests wait for each other: none fails, and no process is killed. */
static void limit_is_enforced(void **state)
{
	struct unit *u = *state;
	const struct pending *pending = u->param;
	uint64_t limit;

	set_up(u, pending);
	owner_does(attach);
	limit = set_limit(pending->allocated / 2);
	block_backend(u, pending);
	owner_does(submit);
	expect_limited(u, pending, limit);
	/* Bounce buffers become smaller instead of fewer. */
	if (!pending->direct)
		assert_true(unit_stats(u, 0).inflight < pending->nr);
	unblock_backend(u, pending);
	owner_does(expect_all);
	assert_int_equal(cgroup_number("memory.events", "oom_kill"), 0);
	owner_does(expect_alive);
	owner_does(detach);
	expect_owner_to_leave();
}

/* Requests that wait for memory at a detach are processed after the next attach. */
static void detach_at_the_limit(void **state)
{
	struct unit *u = *state;
	const struct pending *pending = u->param;
	uint64_t limit;

	set_up(u, pending);
	owner_does(attach);
	limit = set_limit(0);
	block_backend(u, pending);
	owner_does(submit);
	expect_limited(u, pending, limit);
	unblock_backend(u, pending);
	owner_does(detach);
	unit_write(CGROUP "/memory.max", "max");
	owner_does(unit_attach);
	owner_does(expect_all);
	assert_int_equal(cgroup_number("memory.events", "oom_kill"), 0);
	owner_does(detach);
	expect_owner_to_leave();
}

static void open_device(struct unit *u)
{
	unit_open(u, FEATURES);
}

static void attach_queues(struct unit *u)
{
	unit_pin_limit(u, 16 * MIB);
	unit_vqs(u, QUEUES, 1024);
	unit_attach(u);
}

static void close_device(struct unit *u)
{
	unit_detach(u);
	vhost_blk_close(&u->dev);
}

/* Memory of a device and of its queues is charged until they are freed. */
static void device_and_queues_are_charged(void **state)
{
	enum { DEVICE = 2 * MIB, QUEUE = 600 * KIB };
	struct unit *u = *state;
	uint64_t before, opened, attached;

	unit_memfd(u, DISK_SIZE);
	owner_fork(u);
	owner_does(lock_memory);
	before = charged();
	owner_does(open_device);
	opened = charged();
	owner_does(attach_queues);
	attached = charged();
	print_message("a device: %llu KiB, a queue of 1024: %llu KiB\n",
		      (unsigned long long)(opened - before) / KIB,
		      (unsigned long long)(attached - opened) / QUEUES / KIB);
	assert_true(opened - before >= DEVICE);
	assert_true(attached - opened >= QUEUES * QUEUE);
	owner_does(close_device);
	expect_charged_at_most(before + 2 * CHARGE_BATCH);
	expect_owner_to_leave();
}

#define TEST_OWNER(fn)	{ #fn, fn, cgroup_setup, owner_teardown, NULL }
#define TEST_OWNER_ON(fn, p) \
	{ #fn "_on_" #p, fn, cgroup_setup, owner_teardown, (void *)&(p) }

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST_OWNER(device_and_queues_are_charged),
		TEST_OWNER_ON(owner_is_charged, segments),
		TEST_OWNER_ON(owner_is_charged, ranges),
		TEST_OWNER_ON(owner_is_charged, bounces),
		TEST_OWNER_ON(limit_is_enforced, segments),
		TEST_OWNER_ON(limit_is_enforced, ranges),
		TEST_OWNER_ON(limit_is_enforced, bounces),
		TEST_OWNER_ON(detach_at_the_limit, segments),
		TEST_OWNER_ON(detach_at_the_limit, ranges),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
