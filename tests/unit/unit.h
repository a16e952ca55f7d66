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

/* For what must happen, on a slow emulated machine. */
#define TIMEOUT_MS	(20000 * unit_slower())
#define QUIET_MS	100	/* of watching that something does not happen */
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

struct unit {
	struct guest_memory mem;
	struct vhost_blk dev;
	unsigned int nr_vqs;
	struct vq vq[VQS_MAX];
	struct blk_request req;		/* of unit_io() */
	int disk;
	char path[BACKEND_PATH_MAX];	/* of the disk, where it has one */
	char file[BACKEND_PATH_MAX];	/* that holds its data, see open_kind() */
	const void *param;		/* what the test is run with */
	void *sector;			/* of expect_alive() */
	char suspended[BACKEND_PATH_MAX];	/* empty: no disk is */
	pthread_t resumer;
	int frozen;			/* directory; -1: no file system is */
	unsigned int mark;		/* disks made before belong to the program */
};

#define TEST(fn)	{ #fn, fn, unit_setup, unit_teardown, NULL }
/* The same test with a parameter, which is a variable's name. */
#define TEST_ON(fn, p)	{ #fn "_on_" #p, fn, unit_setup, unit_teardown, (void *)&(p) }

/* The same in a world with a cgroup, which the test may join. */
#define TEST_CGROUP(fn)	{ #fn, fn, cgroup_setup, cgroup_teardown, NULL }
#define TEST_CGROUP_ON(fn, p) \
	{ #fn "_on_" #p, fn, cgroup_setup, cgroup_teardown, (void *)&(p) }
#define CGROUP_NAME	"/vhost-blk"
#define CGROUP		"/sys/fs/cgroup" CGROUP_NAME

/* How much longer than on a stock kernel anything may take. */
int unit_slower(void);

int unit_setup(void **state);
int unit_teardown(void **state);
/* How often to repeat what a test repeats: as the person wants it, else that. */
unsigned int unit_rounds(unsigned int usual);
/* A test that goes on and on says that it lives. */
void unit_alive(void);
int cgroup_setup(void **state);
int cgroup_teardown(void **state);
void cgroup_leave(void);
/* Attaches as a process of the cgroup, and leaves that: what the test itself does is not limited. */
void cgroup_attach(struct unit *u);
int unit_run(int argc, char **argv, const char *name, const struct CMUnitTest *tests, size_t nr);
/* The same with a function that readies what all tests of the program use. */
int unit_run_with(int argc, char **argv, const char *name, const struct CMUnitTest *tests,
		  size_t nr, CMFixtureFunction setup);

/* A disk with the kind of I/O that the test's parameter says. */
enum disk_kind { DISK_FILE, DISK_DIRECT };
int unit_any_disk(struct unit *u, size_t size);

/* Disks: the fd, which is u->disk from then on. */
int unit_memfd(struct unit *u, size_t size);
int unit_null(struct unit *u, const struct null_blk *spec, int flags);
int unit_disk(struct unit *u, const char *path, int flags);
/* A 16 MiB null_blk that takes delay_ms over every request. */
int unit_slow(struct unit *u, unsigned int delay_ms);
/* A device-mapper device over a new null_blk, by a target with more arguments than that. */
void unit_dm(char *path, const struct null_blk *spec, const char *target, const char *more);
/* A disk of that size which unit_suspend() can stop. */
int unit_suspendable(struct unit *u, size_t size);
/*
 * Keeps the requests of a device-mapper device waiting, and lets them go on. A
 * test that fails in between leaves nobody waiting for good.
 */
void unit_suspend(struct unit *u, const char *path);
void unit_resume(struct unit *u);
/* Another thread does that in a moment, for a caller that is to wait for requests. */
void unit_resume_soon(struct unit *u);
/* The same for a file system, which takes no writes then. */
void unit_freeze(struct unit *u, const char *dir);
void unit_thaw(struct unit *u);
/* One that can discard and whose second half fails every request. */
int unit_half_failing(struct unit *u, size_t size);

/* unit_start_with() is these, and unit_start() has the usual features. */
void unit_open(struct unit *u, uint64_t features);
void unit_vqs(struct unit *u, unsigned int nr, unsigned int num);
void unit_attach(struct unit *u);
void unit_start(struct unit *u, unsigned int nr, unsigned int num);
void unit_start_with(struct unit *u, uint64_t features, unsigned int nr, unsigned int num);
void unit_detach(struct unit *u);
/* How long a queue polls, and how much memory each queue keeps pinned. */
void unit_poll_timeout(struct unit *u, unsigned int queue, uint32_t us);
void unit_pin_limit(struct unit *u, uint64_t bytes);
/* Which of the first CPUs a queue's workers have: what the ioctl returns. */
int unit_place(struct unit *u, unsigned int queue, uint64_t mask);

/* Page-aligned guest memory. */
void *unit_alloc(struct unit *u, size_t len);
struct vq_segment unit_segment(struct unit *u, const void *p, uint32_t len);
/* The memory at a guest-physical address of region 0. */
void *unit_host(struct unit *u, uint64_t gpa);
/* Gives a request what it needs on a ring of any size. */
void unit_request(struct blk_request *req, struct vq *vq);
void unit_requests(struct blk_request *req, unsigned int nr, struct vq *vq);

/* One request from start to end; returns its status. */
int unit_io_on(struct unit *u, struct blk_request *req, uint32_t type, uint64_t sector, void *buf,
	       uint32_t len);
int unit_io(struct unit *u, uint32_t type, uint64_t sector, void *buf, uint32_t len);
void unit_submit_one(struct unit *u, struct blk_request *req, uint32_t type, uint64_t sector,
		     void *buf, uint32_t len);
/* The same for one range to discard, zero or erase. */
int unit_range(struct unit *u, uint32_t type, uint64_t sector, uint32_t nr, uint32_t flags);
void unit_submit_range(struct unit *u, struct blk_request *req, uint32_t type, uint64_t sector,
		       uint32_t nr, uint32_t flags);
/* Waits for a request and checks how it ended. */
void expect_end(struct blk_request *req, int status, uint32_t used_len);
struct vhost_blk_stats unit_stats(struct unit *u, unsigned int queue);
/* Waits until so many requests of a queue are in flight. */
void expect_inflight(struct unit *u, unsigned int queue, unsigned int nr);
/* Does one good read, whatever went before. */
void expect_alive(struct unit *u);
/* Reads of 4 KiB, one after the other, find pattern 1. */
void expect_reads(struct unit *u, uint64_t sector, unsigned int stride, unsigned int nr);
/* The error eventfd is raised, and the ring is not served any more. */
void expect_ring_stopped(struct vq *vq);

void disk_fill(int fd, uint64_t offset, size_t len, uint64_t seed);
void expect_disk(int fd, uint64_t offset, size_t len, uint64_t seed);
void expect_pattern(const void *buf, size_t len, uint64_t offset, uint64_t seed);

void expect_workers(pid_t pid, int nr);
/* A process' worker of a queue: role 's' submits, 'c' completes. */
pid_t worker_find(pid_t pid, char role, unsigned int queue);
/* Until a task sleeps in a function of the kernel whose name begins so. */
void wait_for_sleep(pid_t pid, const char *function);
uint64_t worker_cpu_ns(pid_t worker);
/* A task, 0 for the caller, runs on that CPU only; or anywhere again. */
void unit_bind(pid_t pid, unsigned int cpu);
void unit_unbind(pid_t pid);
/* CGROUP has the task. */
void expect_in_cgroup(pid_t pid);
/* Unloads the module: 0, or -1 with errno. */
int unit_remove_module(void);
/* Replaces what a file in /sys says. */
void unit_write(const char *path, const char *text);
/* An attribute of what has things fail, such as "failslab". */
void set_fault(const char *kind, const char *what, const char *value);
/* Memory that could be had, caches aside. */
long available_kib(void);
/* A child that ends with the test program at the latest. */
pid_t child_fork(void);
/* Waits for a child and returns its exit status, or 256 + signal. */
int child_wait(pid_t pid);

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

/* In children a failed assertion must not return into the test runner. */
#define child_check(expr) do {						\
	if (!(expr)) {							\
		fprintf(stderr, "child, line %d: %s (%s)\n", __LINE__, #expr, \
			strerror(errno));				\
		_exit(1);						\
	}								\
} while (0)

#endif
