// SPDX-License-Identifier: GPL-2.0
/*
 * What fails when memory runs out, on kernels that can have it fail to order:
 * the call or the request alone, with nothing lost or left behind.
 */
#define _GNU_SOURCE
#include "unit.h"

#include <stdlib.h>

#define DISK_SIZE	(4 * MIB)
#define FAULTS_MAX	10000	/* far more than any call has allocations and copies */
#define SEGMENTS	9	/* more than a request has room for */
#define BOUNCED		(64 * KIB)

static const char * const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };

static void set_fault(const char *kind, const char *what, const char *value)
{
	char path[100];

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", kind, what);
	unit_write(path, value);
}

/* Everything can fail, without a word in the log; for now nothing does. */
static int ready_faults(void **state)
{
	unsigned int i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		set_fault(kinds[i], "verbose", "0");
		set_fault(kinds[i], "probability", "0");
		set_fault(kinds[i], "times", "-1");
	}
	set_fault("failslab", "ignore-gfp-wait", "N");
	set_fault("fail_page_alloc", "ignore-gfp-wait", "N");
	set_fault("fail_page_alloc", "ignore-gfp-highmem", "N");
	set_fault("fail_page_alloc", "min-order", "0");
	return 0;
}

static int faults_teardown(void **state)
{
	set_fault("failslab", "probability", "0");
	set_fault("failslab", "task-filter", "N");
	set_fault("fail_page_alloc", "probability", "0");
	set_fault("fail_page_alloc", "min-order", "0");
	return unit_teardown(state);
}

/* The nth allocation or copy of this thread from now on fails. */
static int arm(unsigned int n)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	char text[16];

	assert_ok(fd);
	snprintf(text, sizeof(text), "%u", n);
	assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
	return fd;
}

/* Whether it came to that. */
static bool disarm(int fd)
{
	char text[16] = "";
	bool failed;

	/* What has not failed yet may be one of these. */
	failed = pread(fd, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;
	while (pwrite(fd, "0", 1, 0) != 1)
		;
	close(fd);
	return failed;
}

/*
 * Has each single thing fail on which a call depends. With one that undoes what
 * the call did, if there is any.
 */
static void fail_each(int fd, unsigned long request, void *arg, unsigned long undo, void *undo_arg)
{
	unsigned int n, refused = 0;
	int armed, ret, err;
	bool failed;

	for (n = 1; n < FAULTS_MAX; n++) {
		armed = arm(n);
		ret = ioctl(fd, request, arg);
		err = errno;
		failed = disarm(armed);
		if (ret) {
			if (!failed || (err != ENOMEM && err != EFAULT))
				fail_msg("request %#lx, fault %u: %s", request, n, strerror(err));
			refused++;
		} else if (undo) {
			assert_ok(ioctl(fd, undo, undo_arg));
		}
		if (!failed)
			break;
	}
	assert_true(n < FAULTS_MAX);
	assert_true(refused > 0);
}

static void attaching(void **state)
{
	struct vhost_vring_file attach = { .index = 0 };
	struct vhost_vring_file detach = { .index = 0, .fd = VHOST_FILE_UNBIND };
	struct unit *u = *state;

	attach.fd = unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_pin_limit(u, MIB);
	unit_vqs(u, 2, 16);
	fail_each(u->dev.fd, VHOST_BLK_SET_BACKEND, &attach, VHOST_BLK_SET_BACKEND, &detach);
	expect_workers(getpid(), 0);
	unit_attach(u);
	expect_alive(u);
}

static void other_calls(void **state)
{
	struct vhost_blk_write_cache through = { .mode = VHOST_BLK_WRITE_THROUGH };
	struct vhost_blk_pin_limit pin = { .bytes = MIB }, no_pin = { .bytes = 0 };
	uint64_t translate = FEATURES | BIT64(VIRTIO_F_ACCESS_PLATFORM), features = FEATURES;
	struct vhost_blk_serial serial = { .serial = "serial" };
	struct vhost_blk_write_cache back = { 0 };
	struct vhost_blk_stats stats = { 0 };
	struct vhost_blk_affinity affinity = { 0 };
	struct vhost_blk_limits limits = { 0 };
	uint64_t backend_features = 0;
	struct unit *u = *state;
	uint64_t cpus = 1;
	int fd;

	affinity.size = sizeof(cpus);
	affinity.mask = (uintptr_t)&cpus;
	limits.fd = unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	fd = u->dev.fd;
	fail_each(fd, VHOST_SET_FEATURES, &translate, VHOST_SET_FEATURES, &features);
	fail_each(fd, VHOST_SET_BACKEND_FEATURES, &backend_features, 0, NULL);
	fail_each(fd, VHOST_BLK_SET_SERIAL, &serial, 0, NULL);
	fail_each(fd, VHOST_BLK_SET_WRITE_CACHE, &through, VHOST_BLK_SET_WRITE_CACHE, &back);
	fail_each(fd, VHOST_BLK_SET_PIN_LIMIT, &pin, VHOST_BLK_SET_PIN_LIMIT, &no_pin);
	fail_each(fd, VHOST_BLK_SET_AFFINITY, &affinity, 0, NULL);
	fail_each(fd, VHOST_BLK_GET_LIMITS, &limits, 0, NULL);
	fail_each(fd, VHOST_BLK_GET_STATS, &stats, 0, NULL);
	expect_workers(getpid(), 0);
	unit_vqs(u, 1, 16);
	unit_attach(u);
	expect_alive(u);
}

static void giving_up_the_device(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_start(u, 1, 16);
	fail_each(u->dev.fd, VHOST_RESET_OWNER, NULL, VHOST_SET_OWNER, NULL);
	expect_workers(getpid(), 0);
}

/* Its list of segments takes an allocation of the submission worker, which the queue can do without. */
static void request_of_many_segments(void **state)
{
	struct vq_segment data[SEGMENTS];
	struct unit *u = *state;
	char path[64];
	unsigned int i;
	uint8_t *buf;

	unit_memfd(u, DISK_SIZE);
	disk_fill(u->disk, 0, SEGMENTS * SECTOR_SIZE, 1);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, SEGMENTS * SECTOR_SIZE);
	for (i = 0; i < SEGMENTS; i++)
		data[i] = unit_segment(u, buf + i * SECTOR_SIZE, SECTOR_SIZE);

	snprintf(path, sizeof(path), "/proc/%d/make-it-fail", worker_find(getpid(), 's', 0));
	unit_write(path, "1");
	set_fault("failslab", "task-filter", "Y");
	set_fault("failslab", "probability", "100");
	assert_ok(blk_add(&u->req, VIRTIO_BLK_T_IN, 0, data, SEGMENTS));
	vq_submit(&u->vq[0]);
	expect_end(&u->req, VIRTIO_BLK_S_OK, SEGMENTS * SECTOR_SIZE + 1);
	expect_pattern(buf, SEGMENTS * SECTOR_SIZE, 0, 1);
	set_fault("failslab", "probability", "0");
}

/* What direct I/O cannot take passes through a buffer, of a page if there are no more. */
static void misaligned_request(void **state)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };
	struct unit *u = *state;
	uint8_t *buf;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	unit_start(u, 1, 16);
	buf = (uint8_t *)unit_alloc(u, BOUNCED + 4096) + 1;
	pattern_fill(buf, BOUNCED, 0, 1);
	set_fault("fail_page_alloc", "min-order", "4");
	set_fault("fail_page_alloc", "probability", "100");
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, BOUNCED), VIRTIO_BLK_S_OK);
	memset(buf, 0, BOUNCED);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, BOUNCED), VIRTIO_BLK_S_OK);
	set_fault("fail_page_alloc", "probability", "0");
	expect_pattern(buf, BOUNCED, 0, 1);
}

#define TEST_FAULT(fn)	{ #fn, fn, unit_setup, faults_teardown, NULL }

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST_FAULT(attaching),
		TEST_FAULT(other_calls),
		TEST_FAULT(giving_up_the_device),
		TEST_FAULT(request_of_many_segments),
		TEST_FAULT(misaligned_request),
	};

	return unit_run_with(argc, argv, "no_memory", tests, ARRAY_SIZE(tests), ready_faults);
}
