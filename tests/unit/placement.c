// SPDX-License-Identifier: GPL-2.0
/* The CPU affinity of workers: that of the owner, or of VHOST_BLK_SET_AFFINITY. */
#define _GNU_SOURCE
#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#define LOAD_MS		500

static const unsigned int cpu0 = 0, cpu1 = 1;

static int set_affinity(struct unit *u, unsigned int index, const void *mask, unsigned int size)
{
	struct vhost_blk_affinity affinity = {
		.index = index, .size = size, .mask = (uintptr_t)mask,
	};

	return ioctl(u->dev.fd, VHOST_BLK_SET_AFFINITY, &affinity);
}

static int bind_queue(struct unit *u, unsigned int index, unsigned int cpu)
{
	return unit_set_affinity(u, index, 1ULL << cpu);
}

static uint64_t affinity_of(pid_t pid)
{
	uint64_t mask = 0;
	unsigned int cpu;
	cpu_set_t set;

	assert_ok(sched_getaffinity(pid, sizeof(set), &set));
	for (cpu = 0; cpu < 64; cpu++)
		if (CPU_ISSET(cpu, &set))
			mask |= 1ULL << cpu;
	return mask;
}

static void expect_affinity(unsigned int index, uint64_t mask)
{
	assert_int_equal(affinity_of(worker_find(getpid(), 's', index)), mask);
	assert_int_equal(affinity_of(worker_find(getpid(), 'c', index)), mask);
}

/* Return the CPU that a thread runs on, or ran on last. */
static int cpu_of(pid_t pid)
{
	char path[64], text[500], *at;
	int field, cpu;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	at = strrchr(text, ')') + 1;
	/* The state, which follows the name, is field 3. */
	for (field = 3; field < 39; field++)
		at = strchr(at + 1, ' ');
	assert_int_equal(sscanf(at, "%d", &cpu), 1);
	return cpu;
}

static void any_cpu_by_default(void **state)
{
	struct unit *u = *state;

	start_on_memfd(u, MIB, 2, 16);
	expect_affinity(0, 3);
	expect_affinity(1, 3);
}

/* Kicks come from the other CPU, so that only the mask keeps the workers there. */
static void bound_workers_stay_on_their_cpu(void **state)
{
	struct unit *u = *state;
	unsigned int cpu = *(const unsigned int *)u->param;
	/* Long enough for the submission worker to sleep, so that the other completes. */
	struct null_blk spec = { .size_mib = 1, .delay_us = 10000 };
	int64_t end;
	unsigned int i;
	pid_t s, c;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	unit_open(u, FEATURES);
	unit_vqs(u, 2, 16);
	assert_ok(bind_queue(u, 0, cpu));
	unit_attach(u);
	expect_affinity(0, 1 << cpu);
	expect_affinity(1, 3);
	s = worker_find(getpid(), 's', 0);
	c = worker_find(getpid(), 'c', 0);
	unit_bind(0, !cpu);
	/* A worker leaves the CPU that created it when it runs for the first time. */
	for (i = 0; i < 10; i++)
		expect_alive(u);
	end = now_ms() + LOAD_MS;
	while (now_ms() < end) {
		expect_alive(u);
		assert_int_equal(cpu_of(s), cpu);
		assert_int_equal(cpu_of(c), cpu);
	}
}

static void affinity_changes_while_running(void **state)
{
	struct unit *u = *state;

	start_on_memfd(u, MIB, 2, 16);
	assert_ok(bind_queue(u, 1, 1));
	expect_affinity(0, 3);
	expect_affinity(1, 2);
	assert_ok(bind_queue(u, 1, 0));
	expect_affinity(1, 1);
	/* An empty mask restores the default. */
	assert_ok(set_affinity(u, 1, NULL, 0));
	expect_affinity(1, 3);
}

static void affinity_survives_detach(void **state)
{
	struct unit *u = *state;

	start_on_memfd(u, MIB, 1, 16);
	assert_ok(bind_queue(u, 0, 1));
	unit_detach(u);
	unit_attach(u);
	expect_affinity(0, 2);
	assert_ok(ioctl(u->dev.fd, VHOST_RESET_OWNER));
	vhost_blk_close(&u->dev);
}

static void affinity_ends_with_the_owner(void **state)
{
	struct unit *u = *state;
	uint64_t features = FEATURES;

	start_on_memfd(u, MIB, 1, 16);
	assert_ok(bind_queue(u, 0, 1));
	assert_ok(ioctl(u->dev.fd, VHOST_RESET_OWNER));
	vq_free(&u->vq[0]);
	assert_ok(ioctl(u->dev.fd, VHOST_SET_OWNER));
	assert_ok(ioctl(u->dev.fd, VHOST_SET_FEATURES, &features));
	assert_ok(vhost_blk_set_memory(&u->dev));
	unit_vqs(u, 1, 16);
	unit_attach(u);
	expect_affinity(0, 3);
}

static void *attach_from_another_cpu(void *arg)
{
	struct unit *u = arg;

	unit_bind(0, 0);
	return (void *)(long)vhost_blk_attach(&u->dev, u->disk);
}

/* QEMU may attach in the thread of a virtual CPU, which may be bound. */
static void workers_inherit_the_main_threads_affinity(void **state)
{
	struct unit *u = *state;
	pthread_t thread;
	void *ret;

	unit_memfd(u, MIB);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 16);
	unit_bind(0, 1);
	assert_int_equal(pthread_create(&thread, NULL, attach_from_another_cpu, u), 0);
	assert_int_equal(pthread_join(thread, &ret), 0);
	assert_null(ret);
	expect_affinity(0, 2);
	expect_alive(u);
}

static void invalid_masks_are_refused(void **state)
{
	struct unit *u = *state;
	uint64_t mask[512] = { 0 };
	pid_t pid;

	start_on_memfd(u, MIB, 1, 16);
	assert_ok(bind_queue(u, 0, 1));
	assert_errno(set_affinity(u, 0, mask, 8), EINVAL);
	assert_errno(set_affinity(u, 0, mask, sizeof(mask)), EINVAL);
	mask[0] = 3;
	assert_ok(set_affinity(u, 0, mask, 1));
	assert_ok(set_affinity(u, 0, mask, 128));
	assert_ok(set_affinity(u, 0, mask, sizeof(mask)));
	assert_ok(bind_queue(u, 0, 1));
	assert_errno(set_affinity(u, 0, mask, sizeof(mask) + 8), EINVAL);
	/* Absent CPUs, alone and with a present one. */
	assert_errno(bind_queue(u, 0, 2), EINVAL);
	mask[0] = 1 | 1ULL << 63;
	assert_errno(set_affinity(u, 0, mask, 8), EINVAL);
	mask[0] = 1;
	mask[511] = 1;
	assert_errno(set_affinity(u, 0, mask, sizeof(mask)), EINVAL);
	assert_errno(set_affinity(u, 0, NULL, 8), EFAULT);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_AFFINITY, NULL), EFAULT);
	assert_errno(bind_queue(u, VQS_MAX, 1), ENOBUFS);
	pid = child_fork();
	if (!pid)
		_exit(bind_queue(u, 0, 0) != -1 || errno != EPERM);
	assert_int_equal(child_wait(pid), 0);
	/* None of that changed anything. */
	expect_affinity(0, 2);
}

static void cpuset_limits_affinity(void **state)
{
	struct unit *u = *state;
	uint64_t both = 3;

	unit_write(CGROUP "/cpuset.cpus", "1");
	unit_write(CGROUP "/cgroup.procs", "0");
	unit_memfd(u, MIB);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 16);
	assert_errno(bind_queue(u, 0, 0), EINVAL);
	assert_errno(set_affinity(u, 0, &both, sizeof(both)), EINVAL);
	unit_attach(u);
	expect_affinity(0, 2);
	assert_ok(bind_queue(u, 0, 1));
	assert_errno(bind_queue(u, 0, 0), EINVAL);
	/* The cpuset has another CPU at the next attach. */
	unit_write(CGROUP "/cpuset.cpus", "0");
	unit_detach(u);
	unit_attach(u);
	expect_affinity(0, 1);
	expect_alive(u);
}


int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST_CGROUP(any_cpu_by_default),
		TEST_CGROUP_ON(bound_workers_stay_on_their_cpu, cpu0),
		TEST_CGROUP_ON(bound_workers_stay_on_their_cpu, cpu1),
		TEST_CGROUP(affinity_changes_while_running),
		TEST_CGROUP(affinity_survives_detach),
		TEST_CGROUP(affinity_ends_with_the_owner),
		TEST_CGROUP(workers_inherit_the_main_threads_affinity),
		TEST_CGROUP(invalid_masks_are_refused),
		TEST_CGROUP(cpuset_limits_affinity),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
