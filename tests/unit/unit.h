/* SPDX-License-Identifier: GPL-2.0 */
/* What the unit tests share: one device with its rings, disks, and checks that fail the test. */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <unistd.h>

#include "backend.h"
#include "blk.h"
#include "vring.h"
#include "wait.h"

#define TIMEOUT_MS	(20000 * unit_slower())	/* of WAIT_UNTIL(), on a slow emulated machine */
#define QUIET_MS	100	/* of ASSERT_NEVER() */
#define VQS_MAX		128
#define KIB		1024UL
#define MIB		(1024UL * KIB)
#define GUEST_GPA	0x100000000ULL
#define GUEST_SIZE	(64 * MIB)

#define FEATURES	(BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_INDIRECT_DESC) | \
			 BIT64(VIRTIO_RING_F_EVENT_IDX))
/* With all requests that carry ranges. */
#define RANGE_FEATURES	(FEATURES | BIT64(VIRTIO_BLK_F_DISCARD) | \
			 BIT64(VIRTIO_BLK_F_WRITE_ZEROES) | BIT64(VIRTIO_BLK_F_SECURE_ERASE))
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

struct unit;

/* A call that another thread makes. */
struct unit_call {
	int (*fn)(struct unit *u);
	pthread_t thread;		/* 0: there is none */
	int ret;
	bool returned;
};

struct unit {
	struct guest_memory mem;
	struct vhost_blk dev;
	unsigned int nr_vqs;
	struct vq vq[VQS_MAX];
	struct blk_request req;		/* of unit_io() */
	int disk;
	char path[BACKEND_PATH_MAX];	/* of the disk, where it has one */
	char file[BACKEND_PATH_MAX];	/* that holds its data, see open_disk() */
	const void *param;		/* what the test is run with */
	void *sector;			/* of expect_alive() */
	char suspended[BACKEND_PATH_MAX];	/* empty: no disk is */
	pthread_t resumer;
	struct unit_call call;
	int frozen;			/* directory; -1: no file system is */
	unsigned int mark;		/* disks made before belong to the program */
};

#define TEST(fn)	{ #fn, fn, unit_setup, unit_teardown, NULL }
/* The same test with a variable as its parameter. */
#define TEST_ON(fn, p)	{ #fn "_on_" #p, fn, unit_setup, unit_teardown, (void *)&(p) }

/* The same with a cgroup, which the test may join. */
#define TEST_CGROUP(fn)	{ #fn, fn, cgroup_setup, cgroup_teardown, NULL }
#define TEST_CGROUP_ON(fn, p) \
	{ #fn "_on_" #p, fn, cgroup_setup, cgroup_teardown, (void *)&(p) }
#define CGROUP_NAME	"/vhost-blk"
#define CGROUP		"/sys/fs/cgroup" CGROUP_NAME

/* The factor by which the kernel is slower than a stock one. */
int unit_slower(void);

int unit_setup(void **state);
int unit_teardown(void **state);
/* Return the environment's ROUNDS, else the usual number of repetitions. */
unsigned int unit_rounds(unsigned int usual);
/* Give the running test its full time again. */
void unit_restart_alarm(void);
int cgroup_setup(void **state);
int cgroup_teardown(void **state);
void cgroup_leave(void);
/* Attach in the cgroup, and leave it if only the workers can be limited then. */
void cgroup_attach(struct unit *u);

/*
 * Run a program's tests, all or those whose names match its argument, and print for each
 * "TIME <seconds> <program>:<test>".
 */
int unit_run(int argc, char **argv, const struct CMUnitTest *tests, size_t nr);
/* The same with a setup function for the whole program. */
int unit_run_with(int argc, char **argv, const struct CMUnitTest *tests, size_t nr,
		  CMFixtureFunction setup);

/* Print "SKIP <program>:<test>: <reason>" and end the test; the reason is as for printf(). */
#define unit_skip(...) do {						\
	unit_print_skip(__VA_ARGS__);					\
	skip();								\
} while (0)
void unit_print_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Print "SKIP <program>: <reason>" and exit with the status for it, 77. */
void unit_skip_program(const char *reason) __attribute__((noreturn));

/* Open a disk for the test's parameter: a memfd, or a null_blk device with O_DIRECT. */
enum disk_io { DISK_FILE, DISK_DIRECT };
int unit_any_disk(struct unit *u, size_t size);

/* Open a disk, as u->disk, and return that. */
int unit_memfd(struct unit *u, size_t size);
int unit_null(struct unit *u, const struct null_blk *spec, int flags);
int unit_disk(struct unit *u, const char *path, int flags);
/* A 16 MiB null_blk that completes each request after delay_ms. */
int unit_slow(struct unit *u, unsigned int delay_ms);
/* Make a device-mapper device over a new null_blk; more ends the target's arguments. */
void unit_dm(char *path, const struct null_blk *spec, const char *target, const char *more);
/* A disk that unit_suspend() can suspend. */
int unit_suspendable(struct unit *u, size_t size);
/* Make a file at u->path on an ext4 whose device, with a write cache, can be suspended. */
#define SUSPENDABLE_FILE_SIZE	(2 * MIB)
void unit_suspendable_file(struct unit *u, char *device);
/* Suspend a device-mapper device, whose requests then wait; unit_teardown() resumes it, too. */
void unit_suspend(struct unit *u, const char *path);
void unit_resume(struct unit *u);
/* Resume it from another thread after QUIET_MS, while the caller waits for requests. */
void unit_resume_soon(struct unit *u);
/* Freeze a file system, whose writes then wait; unit_teardown() thaws it, too. */
void unit_freeze(struct unit *u, const char *dir);
void unit_thaw(struct unit *u);
/* A disk that supports discard and whose second half fails every request. */
int unit_half_failing(struct unit *u, size_t size);

/* unit_start_with() calls these three; unit_start() does so with FEATURES. */
void unit_open(struct unit *u, uint64_t features);
void unit_vqs(struct unit *u, unsigned int nr, unsigned int num);
void unit_attach(struct unit *u);
void unit_start(struct unit *u, unsigned int nr, unsigned int num);
void unit_start_with(struct unit *u, uint64_t features, unsigned int nr, unsigned int num);
/* unit_start() on a memfd, and on unit_any_disk(). */
void start_on_memfd(struct unit *u, size_t size, unsigned int nr, unsigned int num);
void start_on_any_disk(struct unit *u, size_t size, unsigned int nr, unsigned int num);
void unit_detach(struct unit *u);
/* Bind both workers of a queue to a mask of CPUs. */
void workers_bind(struct unit *u, unsigned int queue, uint64_t mask);
/*
 * Call fn(u) in another thread; unit_teardown() waits for it once disks are
 * resumed. unit_call_join() returns what it returned.
 */
void unit_call(struct unit *u, int (*fn)(struct unit *u));
bool unit_call_returned(struct unit *u);
int unit_call_join(struct unit *u);
/* Return 0 or -errno, as calls of unit_call() do. */
int unit_quiesce(struct unit *u);
int unit_resume_queues(struct unit *u, uint32_t flags);
/* Set a queue's poll timeout, and each queue's limit of pinned memory. */
void unit_poll_timeout(struct unit *u, unsigned int queue, uint32_t us);
void unit_pin_limit(struct unit *u, uint64_t bytes);
/* Set the bound of notification coalescing. */
void unit_coalesce(struct unit *u, uint32_t us);

/* Page-aligned guest memory. */
void *unit_alloc(struct unit *u, size_t len);
struct vq_segment unit_segment(struct unit *u, const void *p, uint32_t len);
/* The memory at a guest-physical address of region 0. */
void *unit_host(struct unit *u, uint64_t gpa);
/* Initialize a request for a ring of any size. */
void unit_request(struct blk_request *req, struct vq *vq);
void unit_requests(struct blk_request *req, unsigned int nr, struct vq *vq);

/* Submit a request and wait for it; return its status. */
int unit_io_on(struct unit *u, struct blk_request *req, uint32_t type, uint64_t sector, void *buf,
	       uint32_t len);
int unit_io(struct unit *u, uint32_t type, uint64_t sector, void *buf, uint32_t len);
void unit_submit_one(struct unit *u, struct blk_request *req, uint32_t type, uint64_t sector,
		     void *buf, uint32_t len);
/* The same for a list of one range to discard, zero or erase. */
int unit_range(struct unit *u, uint32_t type, uint64_t sector, uint32_t nr, uint32_t flags);
void unit_submit_range(struct unit *u, struct blk_request *req, uint32_t type, uint64_t sector,
		       uint32_t nr, uint32_t flags);
/* Wait for a request and check its status and length. */
void expect_end(struct blk_request *req, int status, uint32_t used_len);
struct vhost_blk_stats unit_stats(struct unit *u, unsigned int queue);
/* Wait until nr requests of a queue are in flight. */
void expect_inflight(struct unit *u, unsigned int queue, unsigned int nr);
/* Check that the first queue still processes a read. */
void expect_alive(struct unit *u);
/* Read 4 KiB every stride sectors, one after the other, and expect pattern 1. */
void expect_reads(struct unit *u, uint64_t sector, unsigned int stride, unsigned int nr);
/* Wait for the error eventfd, and check that the ring is no longer processed. */
void expect_ring_stopped(struct vq *vq);

void disk_fill(int fd, uint64_t offset, size_t len, uint64_t seed);
void expect_disk(int fd, uint64_t offset, size_t len, uint64_t seed);
void expect_pattern(const void *buf, size_t len, uint64_t offset, uint64_t seed);
/* Faster than assert_memory_equal(), which looks at each byte. */
void expect_equal(const void *buf, const void *expected, size_t len);

/* Wait for that many workers; with 0, until no thread for offloaded requests is left either. */
void expect_workers(pid_t pid, int nr);
/* Return true if workers are threads of the owner (since Linux 6.10), false for kernel threads. */
bool workers_are_threads(void);
/* Threads have ended with the owner; kernel threads stay while its device is in use. */
void expect_workers_of_dead_owner(pid_t pid, int nr);
/* worker_pid() of a worker that exists. */
pid_t worker_find(pid_t pid, char role, unsigned int queue);
/* Wait until a task sleeps in a kernel function whose name begins like that. */
void wait_for_sleep(pid_t pid, const char *function);
uint64_t worker_cpu_ns(pid_t worker);
/* Bind a task, 0 for the caller, to one CPU, or to none. */
void unit_bind(pid_t pid, unsigned int cpu);
void unit_unbind(pid_t pid);
/* Check that the task is in CGROUP. */
void expect_in_cgroup(pid_t pid);
/* Unload the module; return 0, or -1 with errno. */
int unit_remove_module(void);
/* Write text to a file of /sys or /proc. */
void unit_write(const char *path, const char *text);
/* Set an attribute of a fault injection capability, such as "failslab". */
void set_fault(const char *capability, const char *attribute, const char *value);
/* Return MemAvailable after dropping the caches. */
long available_kib(void);
/* Fork a child that is killed when the test program ends. */
pid_t child_fork(void);
/* Wait for a child; return its exit status, or 256 + signal. */
int child_wait(pid_t pid);
/* Return true until an exiting process has left its address space. */
bool has_memory(pid_t pid);

/* Fail the test for a condition that is not true in time. */
void unit_timed_out(const char *condition, const char *file, int line) __attribute__((noreturn));

/* Sleep until a condition is true, and fail the test after TIMEOUT_MS. */
#define WAIT_UNTIL(condition) do {					\
	if (!wait_until(condition, TIMEOUT_MS))				\
		unit_timed_out(#condition, __FILE__, __LINE__);		\
} while (0)

/* Repeat the next statement until a condition is true, and fail the test after TIMEOUT_MS. */
#define REPEAT_UNTIL(condition)						\
	for (int64_t repeat_end_ = now_ms() + TIMEOUT_MS; !(condition);	\
	     now_ms() < repeat_end_ ? (void)0 : unit_timed_out(#condition, __FILE__, __LINE__))

/* Fail the test if a condition becomes true within QUIET_MS. */
#define ASSERT_NEVER(condition) do {					\
	if (wait_until(condition, QUIET_MS))				\
		fail_msg("it happened: %s", #condition);		\
} while (0)

#define assert_ok(expr) do {						\
	long ret_ = (expr);						\
	if (ret_ < 0)							\
		fail_msg("%s: %s", #expr, strerror(ret_ == -1 ? errno : -ret_)); \
} while (0)

#define assert_errno(expr, err) do {					\
	long ret_ = (expr);						\
	int err_ = ret_ == -1 ? errno : 0;				\
	if (err_ != (err))						\
		fail_msg("%s: %ld (%s), expected %s", #expr, ret_, strerror(err_), \
			 strerror(err));				\
} while (0)

/* An assertion for children, which must not return into the test runner. */
#define child_check(expr) do {						\
	if (!(expr)) {							\
		fprintf(stderr, "child, line %d: %s (%s)\n", __LINE__, #expr, \
			strerror(errno));				\
		_exit(1);						\
	}								\
} while (0)

#endif
