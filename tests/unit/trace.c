// SPDX-License-Identifier: GPL-2.0
/* Tracepoints: the events of a request, with the fields that docs/api.md names. */
#define _GNU_SOURCE
#include "unit.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define INSTANCE	"/sys/kernel/tracing/instances/vhost-blk-unit"
#define DELAY_MS	50
#define EVENTS_MAX	8
#define UNKNOWN		77	/* not a type of request */

struct event {
	char name[32], type[32];
	unsigned int major, minor, queue, head, status;
	unsigned long long ino, sector, bytes, latency;
};

static void enable(const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), INSTANCE "/events/vhost_blk/%s/enable", name);
	unit_write(path, "1");
}

static void enable_all(void)
{
	enable("vhost_blk_start");
	enable("vhost_blk_submit");
	enable("vhost_blk_complete");
	enable("vhost_blk_signal");
}

/* Read the events that were recorded so far. */
static unsigned int parse_events(struct event *event, unsigned int max)
{
	FILE *f = fopen(INSTANCE "/trace", "re");
	unsigned int nr = 0;
	char line[400], *at;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		at = strstr(line, ": vhost_blk_");
		if (!at)
			continue;
		assert_true(nr < max);
		if (sscanf(at, ": vhost_blk_%31[a-z]: dev=%u:%u ino=%llu queue=%u head=%u type=%31s "
			   "sector=%llu bytes=%llu status=%u latency=%llu", event[nr].name,
			   &event[nr].major, &event[nr].minor, &event[nr].ino, &event[nr].queue,
			   &event[nr].head, event[nr].type, &event[nr].sector, &event[nr].bytes,
			   &event[nr].status, &event[nr].latency) != 11)
			fail_msg("unknown event: %s", at);
		nr++;
	}
	fclose(f);
	return nr;
}

/* The same, and write their names to a list like "start submit complete signal". */
static unsigned int read_events(struct event *event, char *names)
{
	unsigned int i, nr = parse_events(event, EVENTS_MAX);

	names[0] = 0;
	for (i = 0; i < nr; i++) {
		strcat(names, i ? " " : "");
		strcat(names, event[i].name);
	}
	return nr;
}

static bool events_are(struct event *event, const char *names)
{
	char found[200];

	read_events(event, found);
	return !strcmp(found, names);
}

/* Wait for the events of a request, in their order, and clear the buffer. */
static unsigned int expect_events(struct event *event, const char *names)
{
	char found[200];
	unsigned int nr;

	/* The used entry precedes the last events. */
	wait_until(events_are(event, names), TIMEOUT_MS);
	wait_until(!events_are(event, names), QUIET_MS);
	nr = read_events(event, found);
	assert_string_equal(found, names);
	unit_write(INSTANCE "/trace", "");
	return nr;
}

/* blk_wait() requests no signal if it finds the request completed. */
static void want_signal(struct vq *vq)
{
	*vq_used_event_word(vq) = vq->used_idx;
}

static void read_from_start_to_signal(void **state)
{
	struct unit *u = *state;
	struct event event[2 * EVENTS_MAX];
	unsigned int i, nr;
	struct stat st;

	unit_suspendable(u, MIB);
	assert_ok(fstat(u->disk, &st));
	unit_start(u, 2, 16);
	unit_request(&u->req, &u->vq[1]);
	enable_all();
	unit_suspend(u, u->path);
	unit_submit_one(u, &u->req, VIRTIO_BLK_T_IN, 24, unit_alloc(u, 4 * KIB), 4 * KIB);
	/* The first two events precede the I/O, the others follow it. */
	nr = expect_events(event, "start submit");
	usleep(DELAY_MS * 1000);
	unit_resume(u);
	expect_end(&u->req, VIRTIO_BLK_S_OK, 4 * KIB + 1);
	nr += expect_events(event + nr, "complete signal");
	for (i = 0; i < nr; i++) {
		assert_int_equal(event[i].major, major(st.st_rdev));
		assert_int_equal(event[i].minor, minor(st.st_rdev));
		assert_int_equal(event[i].ino, 0);
		assert_int_equal(event[i].queue, 1);
		assert_int_equal(event[i].head, event[0].head);
		assert_string_equal(event[i].type, "read");
		assert_int_equal(event[i].sector, 24);
		assert_int_equal(event[i].bytes, 4 * KIB);
		assert_int_equal(event[i].status, VIRTIO_BLK_S_OK);
	}
	assert_true(event[0].latency < event[1].latency);
	assert_in_range(event[2].latency, event[1].latency + DELAY_MS * 1000000,
			TIMEOUT_MS * 1000000ULL);
	assert_true(event[3].latency >= event[2].latency);
}

static void files_have_an_inode(void **state)
{
	struct unit *u = *state;
	struct event event[EVENTS_MAX];
	struct stat st;

	unit_memfd(u, MIB);
	assert_ok(fstat(u->disk, &st));
	unit_start(u, 1, 16);
	enable_all();
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	expect_events(event, "start submit complete signal");
	assert_string_equal(event[2].type, "flush");
	assert_int_equal(event[2].bytes, 0);
	assert_int_equal(event[2].ino, st.st_ino);
	assert_int_equal(event[2].major, major(st.st_dev));
	assert_int_equal(event[2].minor, minor(st.st_dev));
}

/* A refused request has no submit event. */
static void refused_requests(void **state)
{
	struct unit *u = *state;
	struct event event[EVENTS_MAX];

	start_on_memfd(u, MIB, 1, 16);
	enable_all();
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, MIB / 512, unit_alloc(u, 512), 512),
			 VIRTIO_BLK_S_IOERR);
	expect_events(event, "start complete signal");
	assert_string_equal(event[1].type, "write");
	assert_int_equal(event[1].status, VIRTIO_BLK_S_IOERR);
	want_signal(&u->vq[0]);
	assert_int_equal(unit_io(u, UNKNOWN, 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
	expect_events(event, "start complete signal");
	assert_int_equal(event[1].status, VIRTIO_BLK_S_UNSUPP);
}

/* The bytes of these requests are those of the list, and the sector is 0. */
static void requests_with_ranges(void **state)
{
	static const char submitted[] = "start submit complete signal";
	static const char refused[] = "start complete signal";
	static const struct {
		uint32_t type, nr, flags;
		const char *name, *events;
		unsigned int bytes, status;
	} ranges[] = {
		{ VIRTIO_BLK_T_DISCARD, 8, 0, "discard", submitted, 16, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 8, 0, "write-zeroes", submitted, 16, VIRTIO_BLK_S_OK },
		{ VIRTIO_BLK_T_DISCARD, MIB / 512, 0, "discard", submitted, 16, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_DISCARD, UINT32_MAX, 0, "discard", refused, 0, VIRTIO_BLK_S_IOERR },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 8, 2, "write-zeroes", refused, 0,
		  VIRTIO_BLK_S_UNSUPP },
		{ VIRTIO_BLK_T_SECURE_ERASE, 8, 0, "secure-erase", refused, 0,
		  VIRTIO_BLK_S_UNSUPP },
	};
	struct unit *u = *state;
	struct event event[EVENTS_MAX];
	unsigned int i, j, nr;

	unit_half_failing(u, MIB);
	unit_start_with(u, RANGE_FEATURES, 1, 16);
	enable_all();
	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		want_signal(&u->vq[0]);
		assert_int_equal(unit_range(u, ranges[i].type, 0, ranges[i].nr, ranges[i].flags),
				 ranges[i].status);
		nr = expect_events(event, ranges[i].events);
		for (j = 0; j < nr; j++) {
			assert_string_equal(event[j].type, ranges[i].name);
			assert_int_equal(event[j].sector, 0);
			assert_int_equal(event[j].bytes, ranges[i].bytes);
		}
		assert_int_equal(event[nr - 1].status, ranges[i].status);
	}
}

static void no_signal_event_without_a_signal(void **state)
{
	struct unit *u = *state;
	struct event event[EVENTS_MAX];
	struct vq *vq = &u->vq[0];

	start_on_memfd(u, MIB, 1, 16);
	/* The device signals once after an attach whatever the driver wants. */
	expect_alive(u);
	enable_all();
	*vq_used_event_word(vq) = vq->used_idx - 1;
	unit_submit_one(u, &u->req, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
	expect_events(event, "start submit complete");
}

/* Without the complete event no clock is read, and latencies are 0. */
static void no_latency_without_the_complete_event(void **state)
{
	struct unit *u = *state;
	struct event event[EVENTS_MAX];

	start_on_memfd(u, MIB, 1, 16);
	enable("vhost_blk_start");
	enable("vhost_blk_signal");
	expect_alive(u);
	expect_events(event, "start signal");
	assert_int_equal(event[0].latency, 0);
	assert_int_equal(event[1].latency, 0);
}

/* The module is unloaded with its events enabled, and loaded again. */
static void module_comes_and_goes(void **state)
{
	unsigned int i, rounds = unit_rounds(5);
	struct unit *u = *state;
	struct event event[EVENTS_MAX];

	unit_memfd(u, MIB);
	for (i = 0; i < rounds; i++) {
		unit_restart_alarm();
		enable_all();
		unit_open(u, FEATURES);
		/* Reuse the memory of the previous ring. */
		u->mem.region[0].used = 0;
		u->sector = NULL;
		unit_vqs(u, 1, 16);
		unit_attach(u);
		expect_alive(u);
		vhost_blk_close(&u->dev);
		vq_free(&u->vq[0]);
		assert_true(parse_events(event, EVENTS_MAX) >= 3);
		assert_ok(unit_remove_module());
		assert_errno(access(INSTANCE "/events/vhost_blk", F_OK), ENOENT);
		/* The kernel clears the buffer, or does not know the events any more. */
		assert_int_equal(parse_events(event, EVENTS_MAX), 0);
		unit_write(INSTANCE "/trace", "");
		assert_int_equal(system("tests/lib/load-module"), 0);
		if (i % 10 == 9)
			print_message("%u rounds\n", i + 1);
	}
}

static int trace_setup(void **state)
{
	rmdir(INSTANCE);
	return mkdir(INSTANCE, 0700) ? -1 : unit_setup(state);
}

static int trace_teardown(void **state)
{
	int ret = unit_teardown(state);

	return rmdir(INSTANCE) ? -1 : ret;
}

#define TRACE(fn)	{ #fn, fn, trace_setup, trace_teardown, NULL }

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TRACE(read_from_start_to_signal),
		TRACE(files_have_an_inode),
		TRACE(refused_requests),
		TRACE(requests_with_ranges),
		TRACE(no_signal_event_without_a_signal),
		TRACE(no_latency_without_the_complete_event),
		TRACE(module_comes_and_goes),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
