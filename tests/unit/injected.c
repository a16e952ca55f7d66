// SPDX-License-Identifier: GPL-2.0
/* Faults that the block layer injects, on kernels with fault injection. */
#define _GNU_SOURCE
#include "unit.h"

#include "load.h"

#define DISK_SIZE	(4 * MIB)
#define ROUND		(4 * LOAD_DEPTH)

/* A fault injection capability of the block layer, and the disk's attribute that enables it. */
struct fault {
	const char *capability, *attribute;
};

static const struct fault request_errors = { "fail_make_request", "make-it-fail" };
static const struct fault timeouts = { "fail_io_timeout", "io-timeout-fail" };

static void disk_attribute(struct unit *u, const char *name, const char *value)
{
	char path[2 * BACKEND_PATH_MAX];

	snprintf(path, sizeof(path), "/sys/block/%s/%s", strrchr(u->path, '/') + 1, name);
	unit_write(path, value);
}

/* Some requests fail; the disk holds what the others have written. */
static void some_requests_fail(void **state)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB, .discard = true };
	struct unit *u = *state;
	const struct fault *fault = u->param;
	static struct load l;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	unit_start_with(u, RANGE_FEATURES, 1, 64);
	load_init(&l, u, 0, 0, LOAD_ALL);
	load_until(&l, &l.ok, ROUND);
	disk_attribute(u, "queue/io_timeout", "1000");
	disk_attribute(u, fault->attribute, "1");
	set_fault(fault->capability, "verbose", "0");
	set_fault(fault->capability, "times", "-1");
	set_fault(fault->capability, "interval", "7");
	set_fault(fault->capability, "probability", "100");
	load_until(&l, &l.failed, 2 * LOAD_DEPTH);
	load_until(&l, &l.ok, ROUND);
	set_fault(fault->capability, "probability", "0");
	load_drain(&l);
	l.failed = 0;
	load_until(&l, &l.ok, ROUND);
	load_expect_ok(&l);
	unit_detach(u);
}

/* A bad block can be read again after a write. */
static void write_repairs_a_bad_block(void **state)
{
	enum { BLOCK = 100, SECTORS_IN_BLOCK = 8 };
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };
	struct unit *u = *state;
	uint64_t sector = BLOCK * SECTORS_IN_BLOCK;
	uint8_t *buf;

	unit_dm(u->path, &spec, "dust", "4096");
	assert_ok(backend_dm_message(u->path, "addbadblock 100"));
	assert_ok(backend_dm_message(u->path, "enable"));
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, PAGE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, sector, buf, PAGE), VIRTIO_BLK_S_IOERR);
	assert_int_equal(u->req.used_len, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, sector + 8, buf, PAGE), VIRTIO_BLK_S_OK);
	pattern_fill(buf, PAGE, 0, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, sector, buf, PAGE), VIRTIO_BLK_S_OK);
	memset(buf, 0, PAGE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, sector, buf, PAGE), VIRTIO_BLK_S_OK);
	expect_pattern(buf, PAGE, 0, 1);
}

static int fault_teardown(void **state)
{
	const struct fault *fault = ((struct unit *)*state)->param;

	set_fault(fault->capability, "probability", "0");
	return unit_teardown(state);
}

#define TEST_FAULT(b)	{ "some_requests_fail_on_" #b, some_requests_fail, unit_setup, \
			  fault_teardown, (void *)&(b) }

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST_FAULT(request_errors),
		TEST_FAULT(timeouts),
		TEST(write_repairs_a_bad_block),
	};

	if (access("/proc/self/fail-nth", F_OK))
		unit_skip_program("the kernel has no fault injection (/proc/self/fail-nth)");
	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
