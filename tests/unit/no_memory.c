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

static void resetting_the_owner(void **state)
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

/* The device itself can be opened or not. */
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

/* What the vhost core does for us. */
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

/* Who cannot be given memory for it stops all the same. */
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
 * Requests whose worker has each single thing fail, one after the other.
 */
struct victim {
	uint32_t type;
	char worker;			/* as worker_find() knows it */
	bool direct;
	unsigned int odd;
	unsigned int segments;
};

#define VICTIM_DELAY_US	20000	/* for the completion worker to be the one that is needed */
#define VICTIM_LEN	(SEGMENTS * SECTOR_SIZE)

static const struct victim read_file = { VIRTIO_BLK_T_IN, 's', false, 0, SEGMENTS };
static const struct victim read_direct = { VIRTIO_BLK_T_IN, 's', true, 0, SEGMENTS };
static const struct victim read_odd = { VIRTIO_BLK_T_IN, 's', true, 1, SEGMENTS };
static const struct victim read_completed = { VIRTIO_BLK_T_IN, 'c', true, 0, SEGMENTS };
static const struct victim write_file = { VIRTIO_BLK_T_OUT, 's', false, 0, SEGMENTS };
static const struct victim write_direct = { VIRTIO_BLK_T_OUT, 's', true, 0, SEGMENTS };
static const struct victim write_completed = { VIRTIO_BLK_T_OUT, 'c', true, 0, SEGMENTS };
static const struct victim flush_file = { VIRTIO_BLK_T_FLUSH, 's', false, 0, 0 };
static const struct victim flush_direct = { VIRTIO_BLK_T_FLUSH, 's', true, 0, 0 };
static const struct victim get_id = { VIRTIO_BLK_T_GET_ID, 's', true, 0, 1 };
static const struct victim discard_direct = { VIRTIO_BLK_T_DISCARD, 's', true, 0, SEGMENTS };
static const struct victim zero_file = { VIRTIO_BLK_T_WRITE_ZEROES, 's', false, 0, SEGMENTS };

static int arm_worker(char role, unsigned int n)
{
	char worker[16];

	snprintf(worker, sizeof(worker), "%d", worker_find(getpid(), role, 0));
	return arm_thread(worker, n);
}

/* One request of many parts; returns its status, or -EIO if it was the ring that could not be read. */
static int one_request(struct unit *u, const struct victim *v, uint8_t *buf)
{
	struct virtio_blk_discard_write_zeroes *range = (void *)buf;
	struct vq_segment data[SEGMENTS];
	int64_t end = now_ms() + TIMEOUT_MS;
	unsigned int i, len = SECTOR_SIZE;

	for (i = 0; i < v->segments; i++) {
		if (v->type == VIRTIO_BLK_T_DISCARD || v->type == VIRTIO_BLK_T_WRITE_ZEROES) {
			range[i].sector = i;
			range[i].num_sectors = 1;
			range[i].flags = 0;
			len = sizeof(*range);
		}
		if (v->type == VIRTIO_BLK_T_GET_ID)
			len = VIRTIO_BLK_ID_BYTES;
		data[i] = unit_segment(u, buf + i * len + v->odd, len);
	}
	assert_ok(blk_add(&u->req, v->type, 0, data, v->segments));
	vq_submit(&u->vq[0]);
	while (!u->req.done) {
		assert_true(now_ms() < end);
		assert_true(blk_reap(&u->vq[0]) >= 0);
		if (!u->req.done && event_count(u->vq[0].err))
			return -EIO;
		vq_wait(&u->vq[0], 20);
	}
	return *u->req.status;
}

/* After a ring that could not be read the device serves on once it is attached anew. */
static void attach_anew(struct unit *u)
{
	unit_detach(u);
	assert_ok(vq_restart(&u->vq[0], 0));
	unit_attach(u);
}

static void start_victim(struct unit *u, const struct victim *v)
{
	struct null_blk spec = {
		.size_mib = DISK_SIZE / MIB, .discard = true,
		.delay_us = v->worker == 'c' ? VICTIM_DELAY_US : 0,
	};

	if (v->direct)
		unit_null(u, &spec, O_RDWR | O_DIRECT);
	else
		unit_memfd(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start_with(u, RANGE_FEATURES, 1, 16);
	assert_ok(blk_request_init(&u->req, &u->vq[0], SEGMENTS + 2));
}

/* It fails alone, or succeeds all the same: what it says it did it has done. */
static void request(void **state)
{
	struct unit *u = *state;
	const struct victim *v = u->param;
	unsigned int n, bad = 0, stops = 0;
	bool failed = true;
	int armed, status;
	uint8_t *buf;

	start_victim(u, v);
	buf = unit_alloc(u, VICTIM_LEN + 4096);
	for (n = 1; n < FAULTS_MAX && failed; n++) {
		if (v->type == VIRTIO_BLK_T_OUT)
			pattern_fill(buf + v->odd, VICTIM_LEN, 0, n);
		else
			memset(buf, 0, VICTIM_LEN + 4096);
		armed = arm_worker(v->worker, n);
		status = one_request(u, v, buf);
		failed = disarm(armed);
		if (status == VIRTIO_BLK_S_OK && v->type == VIRTIO_BLK_T_IN)
			expect_pattern(buf + v->odd, VICTIM_LEN, 0, 1);
		if (status == VIRTIO_BLK_S_OK && v->type == VIRTIO_BLK_T_OUT)
			expect_disk(u->disk, 0, VICTIM_LEN, n);
		if (status == VIRTIO_BLK_S_OK)
			continue;
		assert_true(failed);
		bad++;
		if (status < 0) {
			stops++;
			attach_anew(u);
		} else {
			assert_int_equal(status, VIRTIO_BLK_S_IOERR);
			assert_int_equal(u->req.used_len, 1);
		}
	}
	assert_false(failed);
	print_message("%u faults, %u requests failed, %u of them with their ring\n", n - 2, bad, stops);
	assert_true(n > 2 || v->worker == 'c');
	assert_int_equal(one_request(u, v, buf), VIRTIO_BLK_S_OK);
}

#define TEST_FAULT(fn)	{ #fn, fn, unit_setup, faults_teardown, NULL }
#define TEST_REQUEST(v)	{ "request_to_" #v, request, unit_setup, faults_teardown, (void *)&(v) }

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST_FAULT(attaching),
		TEST_FAULT(other_calls),
		TEST_FAULT(resetting_the_owner),
		TEST_FAULT(request_of_many_segments),
		TEST_FAULT(misaligned_request),
		TEST_FAULT(opening),
		TEST_FAULT(setting_up),
		TEST_FAULT(stopping),
		TEST_REQUEST(read_file),
		TEST_REQUEST(read_direct),
		TEST_REQUEST(read_odd),
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
	return unit_run_with(argc, argv, tests, ARRAY_SIZE(tests), ready_faults);
}
