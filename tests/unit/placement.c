// SPDX-License-Identifier: GPL-2.0
/* The CPU affinity of workers: that of the owner's main thread, until somebody sets another. */
#define _GNU_SOURCE
#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#define LOAD_MS		500

static const unsigned int cpu0 = 0, cpu1 = 1;

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
	unit_start(u, 2, 16);
	workers_bind(u, 0, 1 << cpu);
	expect_affinity(0, 1 << cpu);
	expect_affinity(1, 3);
	s = worker_find(getpid(), 's', 0);
	c = worker_find(getpid(), 'c', 0);
	unit_bind(0, !cpu);
	/* A worker leaves its former CPU when it runs for the first time. */
	for (i = 0; i < 10; i++)
		expect_alive(u);
	end = now_ms() + LOAD_MS;
	while (now_ms() < end) {
		expect_alive(u);
		assert_int_equal(cpu_of(s), cpu);
		assert_int_equal(cpu_of(c), cpu);
	}
}

/* The counters name the threads, so that their owner can place them. */
static void counters_name_the_threads(void **state)
{
	struct unit *u = *state;
	struct vhost_blk_stats stats;
	unsigned int i;

	unit_memfd(u, MIB);
	unit_open(u, FEATURES);
	unit_vqs(u, 2, 16);
	stats = unit_stats(u, 0);
	assert_int_equal(stats.submit_tid, 0);
	assert_int_equal(stats.complete_tid, 0);
	unit_attach(u);
	for (i = 0; i < 2; i++) {
		pid_t s = workers_are_threads() ? worker_find(getpid(), 's', i) : 0;
		pid_t c = workers_are_threads() ? worker_find(getpid(), 'c', i) : 0;

		stats = unit_stats(u, i);
		assert_int_equal(stats.submit_tid, s);
		assert_int_equal(stats.complete_tid, c);
	}
	assert_int_equal(unit_stats(u, 2).submit_tid, 0);
	workers_bind(u, 1, 2);
	expect_affinity(0, 3);
	expect_affinity(1, 2);
	workers_bind(u, 1, 1);
	expect_affinity(1, 1);
	unit_detach(u);
	stats = unit_stats(u, 1);
	assert_int_equal(stats.submit_tid, 0);
	assert_int_equal(stats.complete_tid, 0);
	unit_attach(u);
	expect_affinity(1, 3);
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

static void cpuset_limits_affinity(void **state)
{
	struct unit *u = *state;

	unit_write(CGROUP "/cpuset.cpus", "1");
	unit_write(CGROUP "/cgroup.procs", "0");
	start_on_memfd(u, MIB, 1, 16);
	expect_affinity(0, 2);
	/* A change applies to the workers as to any thread. */
	unit_write(CGROUP "/cpuset.cpus", "0");
	expect_affinity(0, 1);
	expect_alive(u);
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
		TEST_CGROUP(counters_name_the_threads),
		TEST_CGROUP(workers_inherit_the_main_threads_affinity),
		TEST_CGROUP(cpuset_limits_affinity),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
