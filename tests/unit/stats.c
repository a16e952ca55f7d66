// SPDX-License-Identifier: GPL-2.0
/* The counters of a queue: each counts what its name says, and can be read at any time. */
#define _GNU_SOURCE
#include "unit.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

#define NR	32
#define UNKNOWN	77	/* not a type of request */

static const uint64_t plain = BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_INDIRECT_DESC);
static const uint64_t event_index = FEATURES;
static const enum disk_io file = DISK_FILE;
static const enum disk_io direct = DISK_DIRECT;

static void expect_all_zero(struct unit *u, unsigned int index)
{
	static const struct vhost_blk_stats zero;
	struct vhost_blk_stats stats = unit_stats(u, index);

	stats.index = 0;
	assert_memory_equal(&stats, &zero, sizeof(zero));
}

static void expect_type(struct unit *u, unsigned int type, uint64_t requests, uint64_t bytes,
			uint64_t errors)
{
	struct vhost_blk_stats stats = unit_stats(u, 0);

	assert_int_equal(stats.type[type].requests, requests);
	assert_int_equal(stats.type[type].bytes, bytes);
	assert_int_equal(stats.type[type].errors, errors);
}

static void requests_bytes_and_errors_by_type(void **state)
{
	struct unit *u = *state;
	struct vq_segment short_header[2];
	char *buf;

	start_on_any_disk(u, MIB, 1, 16);
	buf = unit_alloc(u, 8 * KIB);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 8 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, 4 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 8, buf, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, MIB / 512, buf, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_GET_ID, 0, buf, 20), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, UNKNOWN, 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
	/* The header lacks its last byte. */
	blk_request_prepare(&u->req, VIRTIO_BLK_T_IN, 0);
	short_header[0] = unit_segment(u, u->req.header, sizeof(*u->req.header) - 1);
	short_header[1] = unit_segment(u, u->req.status, 1);
	assert_ok(blk_add_chain(&u->req, short_header, 1, 1));
	vq_submit(u->req.vq);
	assert_int_equal(blk_wait(&u->req, TIMEOUT_MS), VIRTIO_BLK_S_IOERR);

	expect_type(u, VHOST_BLK_STATS_READ, 3, 4 * KIB + 512, 1);
	expect_type(u, VHOST_BLK_STATS_WRITE, 1, 8 * KIB, 0);
	expect_type(u, VHOST_BLK_STATS_FLUSH, 1, 0, 0);
	expect_type(u, VHOST_BLK_STATS_OTHER, 3, 0, 2);
}

/* The data of these requests is the list, of 16 bytes for each range. */
static void lists_of_ranges_by_type(void **state)
{
	struct virtio_blk_discard_write_zeroes *list;
	struct unit *u = *state;
	unsigned int i;

	unit_half_failing(u, MIB);
	unit_start_with(u, RANGE_FEATURES, 1, 16);
	list = unit_alloc(u, 48);
	for (i = 0; i < 3; i++) {
		list[i].sector = i * 8;
		list[i].num_sectors = 8;
	}
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_DISCARD, 0, list, 48), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_DISCARD, 0, list, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_WRITE_ZEROES, 0, list, 32), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_SECURE_ERASE, 0, list, 16), VIRTIO_BLK_S_UNSUPP);
	/* The device refuses the first and the third, the disk fails the second. */
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_DISCARD, MIB / 512, 8, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_DISCARD, MIB / 1024, 8, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 2), VIRTIO_BLK_S_UNSUPP);

	expect_type(u, VHOST_BLK_STATS_DISCARD, 4, 64, 2);
	expect_type(u, VHOST_BLK_STATS_WRITE_ZEROES, 2, 32, 1);
	expect_type(u, VHOST_BLK_STATS_SECURE_ERASE, 1, 0, 1);
	expect_type(u, VHOST_BLK_STATS_READ, 0, 0, 0);
	expect_type(u, VHOST_BLK_STATS_WRITE, 0, 0, 0);
	expect_type(u, VHOST_BLK_STATS_OTHER, 0, 0, 0);
}

static void each_queue_has_its_own_counters(void **state)
{
	struct unit *u = *state;
	struct blk_request req;

	start_on_memfd(u, MIB, 3, 16);
	assert_ok(blk_request_init(&req, &u->vq[1], 0));
	assert_int_equal(unit_io_on(u, &req, VIRTIO_BLK_T_IN, 0, unit_alloc(u, 512), 512),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(unit_stats(u, 1).type[VHOST_BLK_STATS_READ].requests, 1);
	assert_int_equal(unit_stats(u, 0).type[VHOST_BLK_STATS_READ].requests, 0);
	assert_int_equal(unit_stats(u, 2).kicks, 0);
	expect_all_zero(u, VQS_MAX - 1);
}

static void one_batch_and_its_depth(void **state)
{
	struct unit *u = *state;
	struct vhost_blk_stats before, after;
	struct blk_request req[NR];
	struct vq_segment data;
	unsigned int i;
	pid_t worker;

	unit_suspendable(u, MIB);
	unit_start(u, 1, NR);
	worker = worker_find(getpid(), 's', 0);
	unit_requests(req, NR, &u->vq[0]);
	data = unit_segment(u, unit_alloc(u, 4 * KIB), 4 * KIB);
	expect_alive(u);
	wait_for_sleep(worker, "");
	before = unit_stats(u, 0);
	assert_int_equal(before.max_inflight, 1);
	for (i = 0; i < NR; i++)
		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i * 8, &data, 1));
	unit_suspend(u, u->path);
	vq_submit(&u->vq[0]);
	expect_inflight(u, 0, NR);
	wait_for_sleep(worker, "");
	unit_resume(u);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, 4 * KIB + 1);
	after = unit_stats(u, 0);
	assert_int_equal(after.inflight, 0);
	assert_int_equal(after.max_inflight, NR);
	assert_int_equal(after.batches, before.batches + 1);
	assert_int_equal(after.kicks, before.kicks + 1);
	assert_int_equal(after.submit_wakeups, before.submit_wakeups + 1);
	/* The submission worker sleeps, so that the completion worker must wake up. */
	assert_true(after.complete_wakeups > before.complete_wakeups);
}

/* Each write to the eventfd counts, even if one wake-up handles several. */
static void kicks_are_counted(void **state)
{
	struct unit *u = *state;
	unsigned int i;

	start_on_memfd(u, MIB, 1, 16);
	for (i = 0; i < NR; i++)
		vq_kick(&u->vq[0]);
	assert_int_equal(unit_stats(u, 0).kicks, NR);
	WAIT_UNTIL(unit_stats(u, 0).submit_wakeups);
	ASSERT_NEVER(unit_stats(u, 0).submit_wakeups > NR + 1 || unit_stats(u, 0).batches);
}

/*
 * A worker that polls is not woken. Work of the kernel that is due in its thread
 * interrupts it a few times in a second.
 */
static void only_wakeups_are_counted(void **state)
{
	struct unit *u = *state;
	struct vhost_blk_stats stats;
	int64_t end = now_ms() + 2000;

	unit_null(u, &(struct null_blk){ .size_mib = 1 }, O_RDWR | O_DIRECT);
	unit_start(u, 1, 16);
	unit_poll_timeout(u, 0, 10000);
	while (now_ms() < end)
		expect_alive(u);
	stats = unit_stats(u, 0);
	print_message("%llu kicks, %llu wake-ups, %llu requests\n", stats.kicks, stats.submit_wakeups,
		      stats.type[VHOST_BLK_STATS_READ].requests);
	/* The attach wakes the worker without a kick. */
	assert_true(stats.submit_wakeups <= stats.kicks + 1);
}

static void signals_are_counted(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct vhost_blk_stats stats;
	uint64_t seen = 0;
	unsigned int i;

	unit_memfd(u, MIB);
	unit_start_with(u, *(const uint64_t *)u->param, 1, 16);
	for (i = 0; i < NR; i++) {
		*vq_used_event_word(vq) = vq->used_idx;
		unit_submit_one(u, &u->req, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
		assert_ok(event_wait(vq->call, TIMEOUT_MS));
		seen += event_count(vq->call);
		assert_int_equal(blk_reap(vq), 1);
	}
	stats = unit_stats(u, 0);
	assert_int_equal(seen, NR);
	assert_int_equal(stats.signals, NR);
	assert_int_equal(stats.signals_suppressed, 0);
}

static void suppressed_signals_are_counted(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct vhost_blk_stats before, after;
	unsigned int i;

	unit_memfd(u, MIB);
	unit_start_with(u, *(const uint64_t *)u->param, 1, 16);
	/* The device signals once after an attach whatever the driver wants. */
	expect_alive(u);
	WAIT_UNTIL(unit_stats(u, 0).signals == 1);
	event_count(vq->call);
	before = unit_stats(u, 0);
	for (i = 0; i < NR; i++) {
		vq->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
		*vq_used_event_word(vq) = vq->used_idx - 1;
		unit_submit_one(u, &u->req, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
		/* The device checks for suppression after it has added the used entry. */
		WAIT_UNTIL(unit_stats(u, 0).signals + unit_stats(u, 0).signals_suppressed >
			   before.signals + before.signals_suppressed + i);
		assert_int_equal(blk_reap(vq), 1);
	}
	ASSERT_NEVER(event_count(vq->call));
	after = unit_stats(u, 0);
	assert_int_equal(after.signals, before.signals);
	assert_int_equal(after.signals_suppressed, before.signals_suppressed + NR);
}

static void detaching_does_not_reset(void **state)
{
	struct unit *u = *state;
	struct vhost_blk_stats stats;

	start_on_memfd(u, MIB, 1, 16);
	expect_alive(u);
	unit_detach(u);
	stats = unit_stats(u, 0);
	assert_int_equal(stats.type[VHOST_BLK_STATS_READ].requests, 1);
	unit_attach(u);
	expect_alive(u);
	stats = unit_stats(u, 0);
	assert_int_equal(stats.type[VHOST_BLK_STATS_READ].requests, 2);
	assert_int_equal(stats.batches, 2);
}

static void resetting_the_owner_resets(void **state)
{
	struct unit *u = *state;

	start_on_memfd(u, MIB, 1, 16);
	expect_alive(u);
	assert_int_equal(unit_stats(u, 0).type[VHOST_BLK_STATS_READ].requests, 1);
	assert_ok(ioctl(u->dev.fd, VHOST_RESET_OWNER));
	expect_all_zero(u, 0);
}

static void others_may_read(void **state)
{
	struct unit *u = *state;
	struct vhost_blk_stats stats = { 0 };
	pid_t pid;

	u->dev.fd = open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC);
	assert_ok(u->dev.fd);
	/* The device has no owner yet. */
	expect_all_zero(u, 0);
	close(u->dev.fd);

	start_on_memfd(u, MIB, 1, 16);
	expect_alive(u);
	pid = child_fork();
	if (!pid)
		_exit(ioctl(u->dev.fd, VHOST_BLK_GET_STATS, &stats) ||
		      stats.type[VHOST_BLK_STATS_READ].requests != 1);
	assert_int_equal(child_wait(pid), 0);
}

struct detacher {
	struct unit *u;
	pthread_t thread;
	pid_t tid;
};

static void *detach(void *arg)
{
	struct detacher *detacher = arg;

	__atomic_store_n(&detacher->tid, gettid(), __ATOMIC_RELAXED);
	return (void *)(long)vhost_blk_detach(&detacher->u->dev);
}

/* Start a detach, which waits for a read of a disk that is suspended. */
static void begin_detach(struct detacher *detacher)
{
	struct unit *u = detacher->u;

	unit_suspendable(u, MIB);
	unit_start(u, 1, 16);
	unit_suspend(u, u->path);
	unit_submit_one(u, &u->req, VIRTIO_BLK_T_IN, 0, unit_alloc(u, 512), 512);
	expect_inflight(u, 0, 1);
	assert_int_equal(pthread_create(&detacher->thread, NULL, detach, detacher), 0);
	WAIT_UNTIL(__atomic_load_n(&detacher->tid, __ATOMIC_RELAXED));
	wait_for_sleep(detacher->tid, "vhost_blk_");
}

static void end_detach(struct detacher *detacher)
{
	void *ret;

	unit_resume(detacher->u);
	assert_int_equal(pthread_join(detacher->thread, &ret), 0);
	assert_null(ret);
}

static void stats_can_be_read_during_detach(void **state)
{
	struct unit *u = *state;
	struct detacher detacher = { .u = u };

	begin_detach(&detacher);
	/* The call does not wait for the detaching thread. */
	assert_int_equal(unit_stats(u, 0).inflight, 1);
	end_detach(&detacher);
	assert_int_equal(unit_stats(u, 0).inflight, 0);
}

static void invalid_arguments_are_refused(void **state)
{
	struct unit *u = *state;
	struct vhost_blk_stats stats = { 0 };

	unit_open(u, FEATURES);
	stats.index = VQS_MAX;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_STATS, &stats), ENOBUFS);
	stats.index = UINT32_MAX;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_STATS, &stats), ENOBUFS);
	stats.index = 0;
	stats.reserved = 1;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_STATS, &stats), EINVAL);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_STATS, NULL), EFAULT);
}

/* The layout is the same for 32-bit and 64-bit programs, and spare members are 0. */
static void layout_is_fixed(void **state)
{
	struct unit *u = *state;
	struct vhost_blk_stats stats;
	unsigned int i;

	assert_int_equal(sizeof(stats), 512);
	assert_int_equal(offsetof(struct vhost_blk_stats, type), 8);
	assert_int_equal(offsetof(struct vhost_blk_stats, kicks), 8 + 8 * 24);
	memset(&stats, 0xff, sizeof(stats));
	stats.index = stats.reserved = 0;
	start_on_memfd(u, MIB, 1, 16);
	assert_ok(ioctl(u->dev.fd, VHOST_BLK_GET_STATS, &stats));
	for (i = 0; i < ARRAY_SIZE(stats.spare); i++)
		assert_int_equal(stats.spare[i], 0);
}

struct fdinfo {
	char text[64 * 1024];
};

static void read_fdinfo(struct unit *u, struct fdinfo *info)
{
	char path[64];
	FILE *file;
	size_t len;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", u->dev.fd);
	file = fopen(path, "r");
	assert_non_null(file);
	len = fread(info->text, 1, sizeof(info->text) - 1, file);
	info->text[len] = 0;
	assert_true(feof(file));
	fclose(file);
}

/* Return the line of a queue, or NULL. */
static const char *fdinfo_queue(const struct fdinfo *info, unsigned int index)
{
	char start[32];

	snprintf(start, sizeof(start), "\nqueue:\t%u ", index);
	return strstr(info->text, start);
}

/* Return the number that stands @nth after a name in the line of a queue. */
static unsigned long long fdinfo_number(const struct fdinfo *info, unsigned int index,
					const char *name, unsigned int nth)
{
	const char *p = fdinfo_queue(info, index);
	char word[64];
	char *end;
	unsigned long long n = 0;

	assert_non_null(p);
	snprintf(word, sizeof(word), " %s ", name);
	p = strstr(p, word);
	assert_non_null(p);
	p += strlen(word);
	do {
		n = strtoull(p, &end, 10);
		assert_ptr_not_equal(end, p);
		p = end;
	} while (nth--);
	return n;
}

static void fdinfo_shows_the_counters(void **state)
{
	static const char *const types[] = {
		[VHOST_BLK_STATS_READ] = "read", [VHOST_BLK_STATS_WRITE] = "write",
		[VHOST_BLK_STATS_FLUSH] = "flush", [VHOST_BLK_STATS_DISCARD] = "discard",
		[VHOST_BLK_STATS_WRITE_ZEROES] = "write_zeroes",
		[VHOST_BLK_STATS_SECURE_ERASE] = "secure_erase",
		[VHOST_BLK_STATS_OTHER] = "other",
	};
	struct unit *u = *state;
	struct vhost_blk_stats stats;
	struct fdinfo info;
	unsigned int i;
	char *buf;

	start_on_any_disk(u, MIB, 2, 16);
	buf = unit_alloc(u, 8 * KIB);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 8 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, 4 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, MIB / 512, buf, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, UNKNOWN, 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
	/* The workers still count their way to sleep. */
	wait_for_sleep(worker_find(getpid(), 's', 0), "");
	wait_for_sleep(worker_find(getpid(), 'c', 0), "");
	read_fdinfo(u, &info);
	stats = unit_stats(u, 0);
	assert_int_equal(stats.type[VHOST_BLK_STATS_READ].requests, 2);
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		assert_int_equal(fdinfo_number(&info, 0, types[i], 0), stats.type[i].requests);
		assert_int_equal(fdinfo_number(&info, 0, types[i], 1), stats.type[i].bytes);
		assert_int_equal(fdinfo_number(&info, 0, types[i], 2), stats.type[i].errors);
	}
#define EXPECT_NUMBER(name) assert_int_equal(fdinfo_number(&info, 0, #name, 0), stats.name)
	EXPECT_NUMBER(kicks);
	EXPECT_NUMBER(submit_wakeups);
	EXPECT_NUMBER(complete_wakeups);
	EXPECT_NUMBER(batches);
	EXPECT_NUMBER(signals);
	EXPECT_NUMBER(signals_suppressed);
	EXPECT_NUMBER(max_inflight);
	EXPECT_NUMBER(inflight);
	EXPECT_NUMBER(poll_hits);
	EXPECT_NUMBER(pin_misses);
	EXPECT_NUMBER(signals_coalesced);
	EXPECT_NUMBER(offloads);
	EXPECT_NUMBER(handed_back);
	EXPECT_NUMBER(submit_tid);
	EXPECT_NUMBER(complete_tid);
#undef EXPECT_NUMBER
	/* Queue 1 has workers, which were never kicked; there is no queue 2. */
	assert_non_null(fdinfo_queue(&info, 1));
	assert_null(fdinfo_queue(&info, 2));
}

static void fdinfo_names_the_backend(void **state)
{
	struct unit *u = *state;
	char line[BACKEND_PATH_MAX + 16];
	struct fdinfo info;

	unit_null(u, &(struct null_blk){ .size_mib = 1 }, O_RDWR | O_DIRECT);
	unit_open(u, FEATURES);
	read_fdinfo(u, &info);
	assert_null(strstr(info.text, "backend:"));
	assert_null(strstr(info.text, "queue:"));
	unit_vqs(u, 1, 16);
	unit_attach(u);
	read_fdinfo(u, &info);
	snprintf(line, sizeof(line), "\nbackend:\t%s\n", u->path);
	assert_non_null(strstr(info.text, line));
	unit_detach(u);
	read_fdinfo(u, &info);
	assert_null(strstr(info.text, "backend:"));
}

static void fdinfo_does_not_wait_for_ioctls(void **state)
{
	struct unit *u = *state;
	struct detacher detacher = { .u = u };
	struct fdinfo info;

	begin_detach(&detacher);
	read_fdinfo(u, &info);
	assert_int_equal(fdinfo_number(&info, 0, "inflight", 0), 1);
	assert_null(strstr(info.text, "backend:"));
	end_detach(&detacher);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST_ON(requests_bytes_and_errors_by_type, file),
		TEST_ON(requests_bytes_and_errors_by_type, direct),
		TEST(lists_of_ranges_by_type),
		TEST(each_queue_has_its_own_counters),
		TEST(one_batch_and_its_depth),
		TEST(kicks_are_counted),
		TEST(only_wakeups_are_counted),
		TEST_ON(signals_are_counted, plain),
		TEST_ON(signals_are_counted, event_index),
		TEST_ON(suppressed_signals_are_counted, plain),
		TEST_ON(suppressed_signals_are_counted, event_index),
		TEST(detaching_does_not_reset),
		TEST(resetting_the_owner_resets),
		TEST(others_may_read),
		TEST(stats_can_be_read_during_detach),
		TEST(invalid_arguments_are_refused),
		TEST(layout_is_fixed),
		TEST_ON(fdinfo_shows_the_counters, file),
		TEST_ON(fdinfo_shows_the_counters, direct),
		TEST(fdinfo_names_the_backend),
		TEST(fdinfo_does_not_wait_for_ioctls),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
