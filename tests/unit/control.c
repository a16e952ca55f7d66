// SPDX-License-Identifier: GPL-2.0
/* The workers have the limits and the priority of the process that attached the backend. */
#define _GNU_SOURCE
#include "unit.h"

#include <linux/ioprio.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#define THREADS		CGROUP "/threads"
/* Four seconds, which other delays of a busy machine do not matter next to. */
#define IOPS		10
#define NR		40
#define CPU_PERCENT	10
#define LOAD_MS		1000	/* ten periods of cpu.max */

static void attach_in_cgroup(struct unit *u, unsigned int num)
{
	unit_open(u, FEATURES);
	unit_vqs(u, 1, num);
	cgroup_attach(u);
}

static void disk_number(struct unit *u, char *text, size_t size, const char *more)
{
	struct stat st;

	assert_ok(fstat(u->disk, &st));
	snprintf(text, size, "%u:%u%s", major(st.st_rdev), minor(st.st_rdev), more);
}

static void read_at_once(struct unit *u, struct blk_request *req, unsigned int nr)
{
	struct vq_segment data = unit_segment(u, u->sector, SECTOR_SIZE);
	unsigned int i;

	for (i = 0; i < nr; i++)
		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i, &data, 1));
	vq_submit(req->vq);
	for (i = 0; i < nr; i++)
		assert_int_equal(blk_wait(&req[i], TIMEOUT_MS), VIRTIO_BLK_S_OK);
}

static int64_t read_ms(struct unit *u, struct blk_request *req, unsigned int nr)
{
	int64_t start = now_ms();

	read_at_once(u, req, nr);
	return now_ms() - start;
}

static void io_max_limits_requests(void **state)
{
	struct unit *u = *state;
	struct null_blk spec = { .size_mib = 1 };
	struct blk_request req[NR];
	int64_t limited, unlimited;
	char limit[64];

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	disk_number(u, limit, sizeof(limit), " riops=10");
	unit_write(CGROUP "/io.max", limit);
	attach_in_cgroup(u, 64);
	unit_requests(req, NR, &u->vq[0]);
	u->sector = unit_alloc(u, SECTOR_SIZE);
	limited = read_ms(u, req, NR);
	disk_number(u, limit, sizeof(limit), " riops=max");
	unit_write(CGROUP "/io.max", limit);
	unlimited = read_ms(u, req, NR);
	print_message("%u reads: %lld ms at %u IOPS, %lld ms without a limit\n", NR,
		      (long long)limited, IOPS, (long long)unlimited);
	/* A tenth may pass before the first time slice of the limit is over. */
	assert_true(limited > 900 * NR / IOPS);
	assert_true(limited < 2000 * NR / IOPS);
	assert_true(unlimited < limited / 2);
}

static void io_stat_names_the_owners_cgroup(void **state)
{
	struct unit *u = *state;
	struct null_blk spec = { .size_mib = 1 };
	unsigned long long rbytes, wbytes, rios, wios;
	char line[300], disk[32];
	bool found = false;
	unsigned int i;
	char *buf;
	FILE *f;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	attach_in_cgroup(u, 16);
	buf = unit_alloc(u, 8 * KIB);
	for (i = 0; i < 3; i++)
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 4 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, 4 * KIB), VIRTIO_BLK_S_OK);
	/* Unaligned memory, so that the request is offloaded. */
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf + 1, 4 * KIB), VIRTIO_BLK_S_OK);

	disk_number(u, disk, sizeof(disk), " ");
	f = fopen(CGROUP "/io.stat", "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, disk, strlen(disk)) != 0)
			continue;
		found = true;
		assert_int_equal(sscanf(line + strlen(disk),
					"rbytes=%llu wbytes=%llu rios=%llu wios=%llu", &rbytes,
					&wbytes, &rios, &wios), 4);
		assert_int_equal(rbytes, 8 * KIB);
		assert_int_equal(wbytes, 12 * KIB);
		assert_int_equal(rios, 2);
		assert_int_equal(wios, 3);
	}
	fclose(f);
	assert_true(found);
}

/* Return the CPU time of both workers in nanoseconds. */
static uint64_t worker_time(void)
{
	return worker_cpu_ns(worker_find(getpid(), 's', 0)) +
	       worker_cpu_ns(worker_find(getpid(), 'c', 0));
}

/* Keep the ring full for LOAD_MS; return the workers' share of a CPU in per cent. */
static unsigned int load_percent(struct unit *u, struct blk_request *req, unsigned int nr)
{
	uint64_t time = worker_time();
	int64_t start = now_ms();

	while (now_ms() - start < LOAD_MS)
		read_at_once(u, req, nr);
	return (worker_time() - time) / 10000 / (now_ms() - start);
}

static void cpu_max_limits_workers(void **state)
{
	struct unit *u = *state;
	struct null_blk spec = { .size_mib = 1 };
	unsigned int limited, unlimited;
	struct blk_request req[64];

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	attach_in_cgroup(u, ARRAY_SIZE(req));
	unit_requests(req, ARRAY_SIZE(req), &u->vq[0]);
	expect_alive(u);
	unlimited = load_percent(u, req, ARRAY_SIZE(req));
	unit_write(CGROUP "/cpu.max", "10000 100000");
	limited = load_percent(u, req, ARRAY_SIZE(req));
	print_message("workers had %u %% of a CPU without a limit, %u %% of %u %%\n", unlimited,
		      limited, CPU_PERCENT);
	assert_true(limited <= CPU_PERCENT * 3 / 2);
	assert_true(unlimited > CPU_PERCENT * 2);
}

static void *attach_from_a_thread(void *arg)
{
	struct unit *u = arg;

	unit_write(THREADS "/cgroup.threads", "0");
	return (void *)(long)vhost_blk_attach(&u->dev, u->disk);
}

/* The thread that attaches may be in a threaded cgroup of its own. */
static void workers_join_the_main_threads_cgroup(void **state)
{
	struct unit *u = *state;
	pthread_t thread;
	unsigned int i;
	void *ret;

	unit_memfd(u, MIB);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 16);
	unit_write(CGROUP "/cgroup.procs", "0");
	assert_ok(mkdir(THREADS, 0700));
	unit_write(THREADS "/cgroup.type", "threaded");
	assert_int_equal(pthread_create(&thread, NULL, attach_from_a_thread, u), 0);
	assert_int_equal(pthread_join(thread, &ret), 0);
	assert_null(ret);
	for (i = 0; i < 2; i++)
		expect_in_cgroup(worker_find(getpid(), "sc"[i], 0));
}

static void workers_inherit_the_nice_value(void **state)
{
	enum { NICE = 7 };
	struct unit *u = *state;
	unsigned int i;

	unit_memfd(u, MIB);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 16);
	assert_ok(setpriority(PRIO_PROCESS, 0, NICE));
	unit_attach(u);
	assert_ok(setpriority(PRIO_PROCESS, 0, 0));
	expect_alive(u);
	for (i = 0; i < 2; i++)
		assert_int_equal(getpriority(PRIO_PROCESS, worker_find(getpid(), "sc"[i], 0)),
				 NICE);
}

static void set_ioprio(int ioprio)
{
	assert_ok(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, ioprio));
}

/* Read how many requests of each class mq-deadline has: real-time, best-effort, idle. */
static unsigned int read_queued(const char *disk, unsigned int *nr)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/debug/block/%s/sched/queued", disk);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%u %u %u", &nr[0], &nr[1], &nr[2]), 3);
	fclose(f);
	return nr[0] + nr[1] + nr[2];
}

/* IOPRIO_PRIO_VALUE() is an inline function in newer headers. */
#define RT(level)	(IOPRIO_CLASS_RT << IOPRIO_CLASS_SHIFT | (level))
#define BE(level)	(IOPRIO_CLASS_BE << IOPRIO_CLASS_SHIFT | (level))
#define IDLE		(IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT)

struct priority {
	int owner;
	uint32_t hint;
	unsigned int class;
};

/* The owner's priority, and no hint. */
static const struct priority owner_rt = { RT(2), 0, 0 };
static const struct priority owner_none = { 0, 0, 1 };
static const struct priority owner_idle = { IDLE, 0, 2 };
/* A hint lowers the priority and does not raise it. */
static const struct priority idle_hint = { 0, IDLE, 2 };
static const struct priority rt_hint = { 0, RT(0), 1 };
static const struct priority be_hint_of_idle = { IDLE, BE(0), 2 };
static const struct priority be_hint_of_rt = { RT(0), BE(4), 1 };
static const struct priority rt_hint_of_rt = { RT(4), RT(0), 0 };
/* Invalid hints: unknown class or level, more than 16 bits. */
static const struct priority bad_class = { 0, 4 << IOPRIO_CLASS_SHIFT, 1 };
static const struct priority bad_level = { 0, IDLE | 8, 1 };
static const struct priority high_bits = { 0, 0x10000 | IDLE, 1 };

static void priority_reaches_the_scheduler(void **state)
{
	struct unit *u = *state;
	const struct priority *priority = u->param;
	char below[BACKEND_PATH_MAX], path[200];
	unsigned int nr[3], class;
	const char *disk;

	/* A disk with an I/O scheduler over a suspended one. */
	unit_suspendable(u, MIB);
	close(u->disk);
	snprintf(below, sizeof(below), "%s", u->path);
	assert_ok(backend_loop(u->path, below));
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
	disk = strrchr(u->path, '/') + 1;
	snprintf(path, sizeof(path), "/sys/block/%s/queue/scheduler", disk);
	unit_write(path, "mq-deadline");
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 16);
	set_ioprio(priority->owner);
	unit_attach(u);
	set_ioprio(0);

	u->sector = unit_alloc(u, SECTOR_SIZE);
	assert_ok(blk_add(&u->req, VIRTIO_BLK_T_IN, MIB / SECTOR_SIZE / 2,
			  (struct vq_segment[]){ unit_segment(u, u->sector, SECTOR_SIZE) }, 1));
	u->req.header->ioprio = priority->hint;
	unit_suspend(u, below);
	vq_submit(&u->vq[0]);
	WAIT_UNTIL(read_queued(disk, nr));
	for (class = 0; class < 3; class++)
		assert_int_equal(nr[class], class == priority->class);
	unit_resume(u);
	expect_end(&u->req, VIRTIO_BLK_S_OK, SECTOR_SIZE + 1);
}

static int threads_teardown(void **state)
{
	cgroup_leave();
	rmdir(THREADS);
	return cgroup_teardown(state);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST_CGROUP(io_max_limits_requests),
		TEST_CGROUP(io_stat_names_the_owners_cgroup),
		TEST_CGROUP(cpu_max_limits_workers),
		{ "workers_join_the_main_threads_cgroup", workers_join_the_main_threads_cgroup,
		  cgroup_setup, threads_teardown, NULL },
		TEST(workers_inherit_the_nice_value),
		TEST_ON(priority_reaches_the_scheduler, owner_rt),
		TEST_ON(priority_reaches_the_scheduler, owner_none),
		TEST_ON(priority_reaches_the_scheduler, owner_idle),
		TEST_ON(priority_reaches_the_scheduler, idle_hint),
		TEST_ON(priority_reaches_the_scheduler, rt_hint),
		TEST_ON(priority_reaches_the_scheduler, be_hint_of_idle),
		TEST_ON(priority_reaches_the_scheduler, be_hint_of_rt),
		TEST_ON(priority_reaches_the_scheduler, rt_hint_of_rt),
		TEST_ON(priority_reaches_the_scheduler, bad_class),
		TEST_ON(priority_reaches_the_scheduler, bad_level),
		TEST_ON(priority_reaches_the_scheduler, high_bits),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
