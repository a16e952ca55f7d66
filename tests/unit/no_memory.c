// SPDX-License-Identifier: GPL-2.0
/*
 * Failures of allocations and copies, on kernels with fault injection: only the
 * call or the request fails, and nothing leaks.
 */
#define _GNU_SOURCE
#include "unit.h"

#include <stdlib.h>
#include <sys/eventfd.h>

#define DISK_SIZE	(4 * MIB)
#define FAULTS_MAX	10000	/* far more than any call has allocations and copies */
#define SEGMENTS	9	/* more than a request has room for without an allocation */
#define BOUNCED		(64 * KIB)

static const char * const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };

/* Enable fault injection for all allocations, without messages, at a probability of 0. */
static int faults_setup(void **state)
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

/* The nth allocation or copy of a thread from now on fails. */
static int arm_thread(const char *thread, unsigned int n)
{
	char path[64], text[16];
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/fail-nth", thread);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_ok(fd);
	snprintf(text, sizeof(text), "%u", n);
	assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
	return fd;
}

static int arm(unsigned int n)
{
	return arm_thread("thread-self", n);
}

/* Return true if something failed. */
static bool disarm(int fd)
{
	char text[16] = "";
	bool failed;

	/* The pending fault may hit one of these calls. */
	failed = pread(fd, text, sizeof(text) - 1, 0) > 0 && atoi(text) == 0;
	while (pwrite(fd, "0", 1, 0) != 1)
		;
	close(fd);
	return failed;
}

/*
 * Repeat a call with each of its allocations and copies failing. After a success
 * make the call @undo, unless it is 0.
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
	struct vhost_blk_limits limits = { 0 };
	struct vhost_blk_coalesce coalesce = { .max_us = 100 };
	struct vhost_blk_discard discard = { .mode = VHOST_BLK_DISCARD_IGNORE };
	struct vhost_blk_hand_back hand_back = { 0 }, no_hand_back = { .fd = -1 };
	uint64_t backend_features = 0;
	struct unit *u = *state;
	int fd;

	limits.fd = unit_memfd(u, DISK_SIZE);
	hand_back.fd = eventfd(0, EFD_CLOEXEC);
	assert_ok(hand_back.fd);
	unit_open(u, FEATURES);
	fd = u->dev.fd;
	fail_each(fd, VHOST_SET_FEATURES, &translate, VHOST_SET_FEATURES, &features);
	fail_each(fd, VHOST_SET_BACKEND_FEATURES, &backend_features, 0, NULL);
	fail_each(fd, VHOST_BLK_SET_SERIAL, &serial, 0, NULL);
	fail_each(fd, VHOST_BLK_SET_WRITE_CACHE, &through, VHOST_BLK_SET_WRITE_CACHE, &back);
	fail_each(fd, VHOST_BLK_SET_PIN_LIMIT, &pin, VHOST_BLK_SET_PIN_LIMIT, &no_pin);
	fail_each(fd, VHOST_BLK_SET_COALESCE, &coalesce, 0, NULL);
	fail_each(fd, VHOST_BLK_SET_DISCARD, &discard, 0, NULL);
	fail_each(fd, VHOST_BLK_SET_HAND_BACK, &hand_back, VHOST_BLK_SET_HAND_BACK, &no_hand_back);
	fail_each(fd, VHOST_BLK_GET_LIMITS, &limits, 0, NULL);
	fail_each(fd, VHOST_BLK_GET_STATS, &stats, 0, NULL);
	close(hand_back.fd);
	expect_workers(getpid(), 0);
	unit_vqs(u, 1, 16);
	unit_attach(u);
	expect_alive(u);
}

/* Quiescing and resuming need no memory; only the argument may be unreadable. */
static void quiescing_and_resuming(void **state)
{
	struct vhost_blk_resume resume = { .flags = VHOST_BLK_RESUME_RETRY };
	unsigned long calls[] = { VHOST_BLK_QUIESCE, VHOST_BLK_RESUME };
	struct unit *u = *state;
	bool failed = true;
	unsigned int n, i;
	int armed, ret, err;

	unit_memfd(u, DISK_SIZE);
	unit_start(u, 4, 16);
	for (n = 1; n < FAULTS_MAX && failed; n++) {
		for (failed = false, i = 0; i < ARRAY_SIZE(calls); i++) {
			armed = arm(n);
			ret = ioctl(u->dev.fd, calls[i], &resume);
			err = errno;
			failed |= disarm(armed);
			if (ret)
				assert_int_equal(err, EFAULT);
		}
		assert_ok(ioctl(u->dev.fd, VHOST_BLK_RESUME, &resume));
		expect_alive(u);
	}
	assert_false(failed);
}

static void resetting_the_owner(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_start(u, 1, 16);
	fail_each(u->dev.fd, VHOST_RESET_OWNER, NULL, VHOST_SET_OWNER, NULL);
	expect_workers(getpid(), 0);
}

/* The worker allocates the list of segments, and uses a reserve if that fails. */
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

/* A misaligned request uses a bounce buffer, of one page if a larger one fails. */
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

static void opening(void **state)
{
	unsigned int n;
	int armed, fd;
	bool failed = true;

	(void)state;
	for (n = 1; n < FAULTS_MAX && failed; n++) {
		armed = arm(n);
		fd = open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC);
		failed = disarm(armed);
		if (fd >= 0)
			close(fd);
		else
			assert_true(failed);
	}
	assert_false(failed);
	assert_true(n > 2);
}

/* Calls of the vhost core. */
static void setting_up(void **state)
{
	struct vhost_memory *table = calloc(1, sizeof(*table) + sizeof(table->regions[0]));
	struct vhost_vring_state ring = { .num = 16 };
	struct vhost_vring_file file = { 0 };
	struct vhost_vring_addr addr = { 0 };
	struct unit *u = *state;
	uint64_t log = (uintptr_t)u->mem.region[0].host;
	int fd;

	assert_non_null(table);
	table->nregions = 1;
	table->regions[0].guest_phys_addr = GUEST_GPA;
	table->regions[0].memory_size = GUEST_SIZE;
	table->regions[0].userspace_addr = (uintptr_t)u->mem.region[0].host;
	unit_memfd(u, DISK_SIZE);
	fd = u->dev.fd = open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC);
	assert_ok(fd);
	fail_each(fd, VHOST_SET_OWNER, NULL, VHOST_RESET_OWNER, NULL);
	vhost_blk_close(&u->dev);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 16);
	fd = u->dev.fd;
	addr.desc_user_addr = (uintptr_t)u->vq[0].desc;
	addr.avail_user_addr = (uintptr_t)u->vq[0].avail;
	addr.used_user_addr = (uintptr_t)u->vq[0].used;
	fail_each(fd, VHOST_SET_MEM_TABLE, table, 0, NULL);
	fail_each(fd, VHOST_SET_LOG_BASE, &log, 0, NULL);
	fail_each(fd, VHOST_SET_VRING_NUM, &ring, 0, NULL);
	ring.num = 0;
	fail_each(fd, VHOST_SET_VRING_BASE, &ring, 0, NULL);
	fail_each(fd, VHOST_GET_VRING_BASE, &ring, 0, NULL);
	fail_each(fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &ring, 0, NULL);
	fail_each(fd, VHOST_SET_VRING_ADDR, &addr, 0, NULL);
	file.fd = u->vq[0].call;
	fail_each(fd, VHOST_SET_VRING_CALL, &file, 0, NULL);
	file.fd = u->vq[0].kick;
	fail_each(fd, VHOST_SET_VRING_KICK, &file, 0, NULL);
	free(table);
	unit_attach(u);
	expect_alive(u);
}

/* A detach may fail, a close succeeds. */
static void stopping(void **state)
{
	struct vhost_vring_file attach = { .index = 0 };
	struct vhost_vring_file detach = { .index = 0, .fd = VHOST_FILE_UNBIND };
	struct unit *u = *state;
	bool failed = true;
	unsigned int n;
	int armed;

	attach.fd = unit_memfd(u, DISK_SIZE);
	unit_start(u, 2, 16);
	fail_each(u->dev.fd, VHOST_BLK_SET_BACKEND, &detach, VHOST_BLK_SET_BACKEND, &attach);
	for (n = 1; n < FAULTS_MAX && failed; n++) {
		if (u->dev.fd < 0) {
			unit_open(u, FEATURES);
			assert_ok(vq_restart(&u->vq[0], 0));
			unit_attach(u);
		}
		armed = arm(n);
		vhost_blk_close(&u->dev);
		failed = disarm(armed);
		expect_workers(getpid(), 0);
	}
	assert_false(failed);
}

/*
 * Requests with each allocation and copy of a worker failing in turn.
 */
struct fault {
	uint32_t type;
	char worker;			/* role, as of worker_find() */
	bool direct;
	unsigned int offset;		/* of the memory within a page */
	unsigned int segments;
};

#define FAULT_DELAY_US	20000	/* long enough for the submission worker to sleep */
#define FAULT_LEN	(SEGMENTS * SECTOR_SIZE)

static const struct fault read_file = { VIRTIO_BLK_T_IN, 's', false, 0, SEGMENTS };
static const struct fault read_direct = { VIRTIO_BLK_T_IN, 's', true, 0, SEGMENTS };
static const struct fault read_misaligned = { VIRTIO_BLK_T_IN, 's', true, 1, SEGMENTS };
static const struct fault read_completed = { VIRTIO_BLK_T_IN, 'c', true, 0, SEGMENTS };
static const struct fault write_file = { VIRTIO_BLK_T_OUT, 's', false, 0, SEGMENTS };
static const struct fault write_direct = { VIRTIO_BLK_T_OUT, 's', true, 0, SEGMENTS };
static const struct fault write_completed = { VIRTIO_BLK_T_OUT, 'c', true, 0, SEGMENTS };
static const struct fault flush_file = { VIRTIO_BLK_T_FLUSH, 's', false, 0, 0 };
static const struct fault flush_direct = { VIRTIO_BLK_T_FLUSH, 's', true, 0, 0 };
static const struct fault get_id = { VIRTIO_BLK_T_GET_ID, 's', true, 0, 1 };
static const struct fault discard_direct = { VIRTIO_BLK_T_DISCARD, 's', true, 0, SEGMENTS };
static const struct fault zero_file = { VIRTIO_BLK_T_WRITE_ZEROES, 's', false, 0, SEGMENTS };

static int arm_worker(char role, unsigned int n)
{
	char worker[16];

	snprintf(worker, sizeof(worker), "%d", worker_find(getpid(), role, 0));
	return arm_thread(worker, n);
}

static bool is_completed(struct blk_request *req)
{
	assert_true(blk_reap(req->vq) >= 0);
	return req->done;
}

/* Do a request of several segments. Return its status, or -EIO if the ring stopped. */
static int one_request(struct unit *u, const struct fault *fault, uint8_t *buf)
{
	struct virtio_blk_discard_write_zeroes *range = (void *)buf;
	struct vq_segment data[SEGMENTS];
	unsigned int i, len = SECTOR_SIZE;

	for (i = 0; i < fault->segments; i++) {
		if (fault->type == VIRTIO_BLK_T_DISCARD ||
		    fault->type == VIRTIO_BLK_T_WRITE_ZEROES) {
			range[i].sector = i;
			range[i].num_sectors = 1;
			range[i].flags = 0;
			len = sizeof(*range);
		}
		if (fault->type == VIRTIO_BLK_T_GET_ID)
			len = VIRTIO_BLK_ID_BYTES;
		data[i] = unit_segment(u, buf + i * len + fault->offset, len);
	}
	assert_ok(blk_add(&u->req, fault->type, 0, data, fault->segments));
	vq_submit(&u->vq[0]);
	REPEAT_UNTIL(is_completed(&u->req)) {
		if (event_count(u->vq[0].err))
			return -EIO;
		vq_wait(&u->vq[0], 20);
	}
	return *u->req.status;
}

/* A stopped ring is processed again after the next attach. */
static void reattach(struct unit *u)
{
	unit_detach(u);
	assert_ok(vq_restart(&u->vq[0], 0));
	unit_attach(u);
}

static void start_for(struct unit *u, const struct fault *fault)
{
	struct null_blk spec = {
		.size_mib = DISK_SIZE / MIB, .discard = true,
		.delay_us = fault->worker == 'c' ? FAULT_DELAY_US : 0,
	};

	if (fault->direct)
		unit_null(u, &spec, O_RDWR | O_DIRECT);
	else
		unit_memfd(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start_with(u, RANGE_FEATURES, 1, 16);
	assert_ok(blk_request_init(&u->req, &u->vq[0], SEGMENTS + 2));
}

/* Only the request fails, or its ring stops. If it succeeds its data is right. */
static void request(void **state)
{
	struct unit *u = *state;
	const struct fault *fault = u->param;
	unsigned int n, bad = 0, stops = 0;
	bool failed = true;
	int armed, status;
	uint8_t *buf;

	start_for(u, fault);
	buf = unit_alloc(u, FAULT_LEN + 4096);
	for (n = 1; n < FAULTS_MAX && failed; n++) {
		if (fault->type == VIRTIO_BLK_T_OUT)
			pattern_fill(buf + fault->offset, FAULT_LEN, 0, n);
		else
			memset(buf, 0, FAULT_LEN + 4096);
		armed = arm_worker(fault->worker, n);
		status = one_request(u, fault, buf);
		failed = disarm(armed);
		if (status == VIRTIO_BLK_S_OK && fault->type == VIRTIO_BLK_T_IN)
			expect_pattern(buf + fault->offset, FAULT_LEN, 0, 1);
		if (status == VIRTIO_BLK_S_OK && fault->type == VIRTIO_BLK_T_OUT)
			expect_disk(u->disk, 0, FAULT_LEN, n);
		if (status == VIRTIO_BLK_S_OK)
			continue;
		assert_true(failed);
		bad++;
		if (status < 0) {
			stops++;
			reattach(u);
		} else {
			assert_int_equal(status, VIRTIO_BLK_S_IOERR);
			assert_int_equal(u->req.used_len, 1);
		}
	}
	assert_false(failed);
	print_message("%u faults, %u requests failed, %u of them with their ring\n", n - 2, bad,
		      stops);
	assert_true(n > 2 || fault->worker == 'c');
	assert_int_equal(one_request(u, fault, buf), VIRTIO_BLK_S_OK);
}

#define TEST_FAULT(fn)	{ #fn, fn, unit_setup, faults_teardown, NULL }
#define TEST_REQUEST(p)	{ "request_to_" #p, request, unit_setup, faults_teardown, (void *)&(p) }

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST_FAULT(attaching),
		TEST_FAULT(other_calls),
		TEST_FAULT(quiescing_and_resuming),
		TEST_FAULT(resetting_the_owner),
		TEST_FAULT(request_of_many_segments),
		TEST_FAULT(misaligned_request),
		TEST_FAULT(opening),
		TEST_FAULT(setting_up),
		TEST_FAULT(stopping),
		TEST_REQUEST(read_file),
		TEST_REQUEST(read_direct),
		TEST_REQUEST(read_misaligned),
		TEST_REQUEST(read_completed),
		TEST_REQUEST(write_file),
		TEST_REQUEST(write_direct),
		TEST_REQUEST(write_completed),
		TEST_REQUEST(flush_file),
		TEST_REQUEST(flush_direct),
		TEST_REQUEST(get_id),
		TEST_REQUEST(discard_direct),
		TEST_REQUEST(zero_file),
	};

	if (access("/proc/self/fail-nth", F_OK))
		unit_skip_program("the kernel has no fault injection (/proc/self/fail-nth)");
	return unit_run_with(argc, argv, tests, ARRAY_SIZE(tests), faults_setup);
}
