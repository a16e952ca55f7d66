// SPDX-License-Identifier: GPL-2.0
/*
 * Busy polling and notification coalescing: poll hits need no kick, an idle queue
 * uses no CPU, and completions are coalesced within a bound.
 */
#define _GNU_SOURCE
#include "unit.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>

#define DISK_SIZE	(4 * MIB)
#define POLL_MAX_US	10000U	/* upper bounds of the module */
#define COALESCE_MAX_US	1000U
#define SHARE_US	10000U
#define NR		32
#define IDLE_MS		500	/* 50 times the longest that a worker may poll */

static const uint64_t plain = BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_INDIRECT_DESC);
static const uint64_t event_index = FEATURES;

static void start_on_slow_disk(struct unit *u, uint64_t features, uint32_t timeout_us)
{
	/* The worker polls while the disk is busy, and the completion ends within the timeout. */
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB, .delay_us = 2000 };

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start_with(u, features, 1, 64);
	unit_poll_timeout(u, 0, timeout_us);
}

/* Do one request. Return true if it was a poll hit, without a kick. */
static bool is_poll_hit(struct unit *u)
{
	struct vhost_blk_stats before = unit_stats(u, 0), after;

	expect_alive(u);
	after = unit_stats(u, 0);
	return after.poll_hits != before.poll_hits && after.kicks == before.kicks;
}

static void expect_polling(struct unit *u)
{
	REPEAT_UNTIL(is_poll_hit(u))
		;
}

static void poll_hits_need_no_kick(void **state)
{
	struct unit *u = *state;

	start_on_slow_disk(u, *(const uint64_t *)u->param, POLL_MAX_US);
	expect_polling(u);
	expect_reads(u, 0, 8, NR);
}

static void expect_end_of_polling(struct unit *u)
{
	uint64_t poll_hits;
	unsigned int i;

	unit_poll_timeout(u, 0, 0);
	/* The worker may be polling and have one more hit. */
	expect_alive(u);
	poll_hits = unit_stats(u, 0).poll_hits;
	for (i = 0; i < NR; i++)
		expect_alive(u);
	assert_int_equal(unit_stats(u, 0).poll_hits, poll_hits);
}

static void does_not_poll_by_default(void **state)
{
	struct unit *u = *state;
	unsigned int i;

	start_on_slow_disk(u, FEATURES, 0);
	for (i = 0; i < 4 * NR; i++)
		expect_alive(u);
	assert_int_equal(unit_stats(u, 0).poll_hits, 0);
}

/* Return true if both workers neither woke up nor used CPU time for a while. */
static bool is_idle(struct unit *u, const pid_t worker[2])
{
	struct vhost_blk_stats before, after;
	uint64_t cpu_ns[2];
	unsigned int i;

	for (i = 0; i < 2; i++) {
		wait_for_sleep(worker[i], "");
		cpu_ns[i] = worker_cpu_ns(worker[i]);
	}
	before = unit_stats(u, 0);
	usleep(IDLE_MS * 1000);
	after = unit_stats(u, 0);
	return worker_cpu_ns(worker[0]) == cpu_ns[0] && worker_cpu_ns(worker[1]) == cpu_ns[1] &&
	       after.submit_wakeups == before.submit_wakeups &&
	       after.complete_wakeups == before.complete_wakeups;
}

static void idle_queue_uses_no_cpu(void **state)
{
	struct unit *u = *state;
	pid_t worker[2];
	unsigned int i;

	start_on_slow_disk(u, *(const uint64_t *)u->param, POLL_MAX_US);
	expect_polling(u);
	for (i = 0; i < 2; i++)
		worker[i] = worker_find(getpid(), "sc"[i], 0);
	/* The kernel may account the last CPU time late. */
	REPEAT_UNTIL(is_idle(u, worker))
		;
	expect_alive(u);
}

/* Return the CPU time of a request and of the polling after it. */
static uint64_t cpu_ns_of_one(struct unit *u, pid_t worker)
{
	uint64_t before = worker_cpu_ns(worker);

	expect_alive(u);
	wait_for_sleep(worker, "");
	return worker_cpu_ns(worker) - before;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Polling ends early if another task is runnable on the CPU. */
static void use_separate_cpus(pid_t worker)
{
	unit_bind(0, 0);
	unit_bind(worker, 1);
}

static void poll_interval_is_bounded(void **state)
{
	struct unit *u = *state;
	uint64_t cpu_ns[9];
	unsigned int i;
	pid_t worker;

	start_on_slow_disk(u, *(const uint64_t *)u->param, UINT32_MAX);
	worker = worker_find(getpid(), 's', 0);
	use_separate_cpus(worker);
	wait_for_sleep(worker, "");
	/* The interval doubles each time: without a bound it would exceed a second. */
	for (i = 0; i < 18; i++)
		cpu_ns_of_one(u, worker);
	for (i = 0; i < ARRAY_SIZE(cpu_ns); i++)
		cpu_ns[i] = cpu_ns_of_one(u, worker);
	qsort(cpu_ns, ARRAY_SIZE(cpu_ns), sizeof(cpu_ns[0]), compare);
	print_message("a request and the polling after it took %llu us\n",
		      (unsigned long long)cpu_ns[ARRAY_SIZE(cpu_ns) / 2] / 1000);
	assert_true(cpu_ns[ARRAY_SIZE(cpu_ns) / 2] < 10 * POLL_MAX_US * 1000ULL);
}

/* Wait until the worker has slept for longer than the timeout. */
static void pause_beyond_timeout(pid_t worker)
{
	wait_for_sleep(worker, "");
	usleep(3 * POLL_MAX_US);
}

/*
 * After pauses longer than the timeout the worker does not poll: a request that
 * follows directly on the one after the pause is no poll hit.
 */
static void poll_misses_shrink_the_interval(void **state)
{
	struct unit *u = *state;
	unsigned int i;
	uint64_t poll_hits;
	pid_t worker;

	start_on_slow_disk(u, *(const uint64_t *)u->param, POLL_MAX_US);
	expect_polling(u);
	worker = worker_find(getpid(), 's', 0);
	/* The interval halves each time, down to 0. */
	for (i = 0; i < 16; i++) {
		pause_beyond_timeout(worker);
		expect_alive(u);
	}
	poll_hits = unit_stats(u, 0).poll_hits;
	for (i = 0; i < NR / 2; i++) {
		pause_beyond_timeout(worker);
		expect_alive(u);
		expect_alive(u);
	}
	assert_int_equal(unit_stats(u, 0).poll_hits, poll_hits);
	/* Hits make it grow again. */
	expect_polling(u);
}

/*
 * Do two reads. Return true if the submission worker reaped their completions, so
 * that the other one slept on, and found a request by polling.
 */
static bool polling_reaps(struct unit *u, uint64_t sector, uint8_t *buf)
{
	struct vhost_blk_stats before = unit_stats(u, 0), after;
	unsigned int i;

	for (i = 0; i < 2; i++)
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, sector + 8 * i, buf + i * PAGE, PAGE),
				 VIRTIO_BLK_S_OK);
	after = unit_stats(u, 0);
	expect_pattern(buf, 2 * PAGE, sector * SECTOR_SIZE, 1);
	return after.complete_wakeups == before.complete_wakeups && after.poll_hits != before.poll_hits;
}

static void completions_are_reaped_while_polling(void **state)
{
	struct unit *u = *state;
	uint64_t sector = 0;
	uint8_t *buf;

	start_on_slow_disk(u, *(const uint64_t *)u->param, POLL_MAX_US);
	buf = unit_alloc(u, 2 * PAGE);
	REPEAT_UNTIL(polling_reaps(u, sector, buf))
		sector = (sector + 16) % (DISK_SIZE / SECTOR_SIZE);
}

static void submit_reads(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	unsigned int i;

	for (i = 0; i < NR; i++) {
		struct vq_segment data = unit_segment(u, buf + i * PAGE, PAGE);

		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i * 8, &data, 1));
	}
	vq_submit(&u->vq[0]);
}

static void detach_while_polling(void **state)
{
	struct unit *u = *state;
	struct blk_request req[NR];
	unsigned int i, round;
	uint8_t *buf;

	start_on_slow_disk(u, *(const uint64_t *)u->param, UINT32_MAX);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	for (round = 0; round < 5; round++) {
		expect_polling(u);
		memset(buf, 0, NR * PAGE);
		submit_reads(u, req, buf);
		unit_detach(u);
		/* Fetched requests have completed, the next attach processes the others. */
		assert_int_equal((uint16_t)vq_get_base(&u->vq[0]), vq_used_idx(&u->vq[0]));
		unit_attach(u);
		for (i = 0; i < NR; i++)
			expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
		expect_pattern(buf, NR * PAGE, 0, 1);
	}
}

static void close_while_polling(void **state)
{
	struct unit *u = *state;
	struct blk_request req[NR];
	uint8_t *buf;
	uint16_t used;

	start_on_slow_disk(u, *(const uint64_t *)u->param, UINT32_MAX);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	expect_polling(u);
	submit_reads(u, req, buf);
	vhost_blk_close(&u->dev);
	expect_workers(getpid(), 0);
	used = vq_used_idx(&u->vq[0]);
	ASSERT_NEVER(vq_used_idx(&u->vq[0]) != used);
}

static const struct null_blk fast = { .size_mib = DISK_SIZE / MIB, .delay_us = 50 };

/* Without event index every completion is signalled. */
static void start_on_fast_disk(struct unit *u)
{
	unit_null(u, &fast, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start_with(u, plain, 1, 64);
	unit_poll_timeout(u, 0, POLL_MAX_US);
	expect_polling(u);
}

static void start_coalescing(struct unit *u)
{
	start_on_fast_disk(u);
	unit_coalesce(u, COALESCE_MAX_US);
	use_separate_cpus(worker_find(getpid(), 's', 0));
}

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Submit requests i and i + 1 together: a guest with one in flight waits for its answer. */
static void submit_pair(struct unit *u, struct blk_request *req, uint8_t *buf, unsigned int i)
{
	unsigned int end = i + 2;

	for (; i < end; i++) {
		struct vq_segment data = unit_segment(u, buf + i * PAGE, PAGE);

		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i * 8, &data, 1));
	}
	vq_submit(&u->vq[0]);
}

/* Do NR requests, each pair within a quarter of the bound after the one before it. */
static void do_pairs(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	unsigned int i;

	for (i = 0; i < NR; i += 2) {
		int64_t next = now_us() + COALESCE_MAX_US / 4;

		submit_pair(u, req, buf, i);
		/* A sleep takes longer than the bound on a slow machine. */
		while (now_us() < next)
			;
	}
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf, NR * PAGE, 0, 1);
}

/* Return true if one signal announced two batches, as the second came while the first waited. */
static bool completes_together(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	struct vhost_blk_stats before = unit_stats(u, 0), after;

	do_pairs(u, req, buf);
	after = unit_stats(u, 0);
	return after.signals_coalesced > before.signals_coalesced &&
	       after.signals - before.signals < after.batches - before.batches;
}

/* Attach anew, and have the worker poll before it coalesces. */
static void begin_coalescing(struct unit *u)
{
	unit_detach(u);
	unit_attach(u);
	use_separate_cpus(worker_find(getpid(), 's', 0));
	unit_coalesce(u, 0);
	expect_polling(u);
	unit_coalesce(u, COALESCE_MAX_US);
}

static void completions_are_coalesced(void **state)
{
	struct unit *u = *state;
	struct blk_request req[NR];
	uint8_t *buf;

	start_on_fast_disk(u);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	begin_coalescing(u);
	/* Waits that fail on a busy machine make others rare, until the next attach. */
	REPEAT_UNTIL(completes_together(u, req, buf))
		begin_coalescing(u);
}

static void does_not_coalesce_without_a_bound(void **state)
{
	struct unit *u = *state;
	struct blk_request req[NR];
	unsigned int i;
	uint8_t *buf;

	start_coalescing(u);
	unit_coalesce(u, 0);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	for (i = 0; i < 8; i++)
		do_pairs(u, req, buf);
	assert_int_equal(unit_stats(u, 0).signals_coalesced, 0);
}

/* Return the median time of single requests in us. */
static uint64_t median_of_single_requests(struct unit *u)
{
	uint64_t us[2 * NR];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(us); i++) {
		us[i] = -now_us();
		expect_alive(u);
		us[i] += now_us();
	}
	qsort(us, ARRAY_SIZE(us), sizeof(us[0]), compare);
	return us[ARRAY_SIZE(us) / 2];
}

/* Return true if coalescing makes single requests slower by less than half its bound. */
static bool single_requests_are_fast(struct unit *u)
{
	uint64_t without, with;

	unit_coalesce(u, 0);
	without = median_of_single_requests(u);
	unit_coalesce(u, COALESCE_MAX_US);
	with = median_of_single_requests(u);
	return with < without + COALESCE_MAX_US / 2;
}

/* The guest waits for each, so that none is delayed but the first ones. */
static void single_completions_are_not_delayed(void **state)
{
	struct unit *u = *state;

	start_coalescing(u);
	REPEAT_UNTIL(single_requests_are_fast(u))
		;
}

/*
 * Compute for so long that any other task is entitled to the CPU, then make nr requests
 * available, with a kick for each. Return how many batches they were.
 */
static uint64_t batches_of_kicks(struct unit *u, struct blk_request *req, unsigned int nr,
				 uint8_t *buf)
{
	uint64_t before = unit_stats(u, 0).batches;
	int64_t end = now_us() + SHARE_US;
	unsigned int i;

	while (now_us() < end)
		;
	for (i = 0; i < nr; i++) {
		struct vq_segment data = unit_segment(u, buf + i * PAGE, PAGE);

		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i * 8, &data, 1));
		vq_submit(&u->vq[0]);
	}
	for (i = 0; i < nr; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	return unit_stats(u, 0).batches - before;
}

/* Return true if few kicks cost the guest its CPU. */
static bool requests_come_together(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	enum { EACH = 8, ROUNDS = 20 };
	unsigned int i, batches = 0;

	for (i = 0; i < ROUNDS; i++)
		batches += batches_of_kicks(u, req, EACH, buf);
	return batches <= 2 * ROUNDS;
}

/* Attach anew, on one CPU with a worker that the scheduler prefers. */
static void begin_on_one_cpu(struct unit *u)
{
	pid_t worker;

	unit_detach(u);
	unit_attach(u);
	unit_coalesce(u, COALESCE_MAX_US);
	worker = worker_find(getpid(), 's', 0);
	unit_bind(0, 1);
	unit_bind(worker, 1);
	assert_ok(setpriority(PRIO_PROCESS, worker, -5));
}

/*
 * On one CPU with the guest, the worker lets it make more requests before it serves
 * the first one, even if the scheduler prefers the worker.
 */
static void worker_gives_way(void **state)
{
	struct unit *u = *state;
	struct blk_request req[NR];
	uint8_t *buf;

	unit_null(u, &fast, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start_with(u, plain, 1, 64);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	begin_on_one_cpu(u);
	/* Pauses that fail on a busy machine make others rare, until the next attach. */
	REPEAT_UNTIL(requests_come_together(u, req, buf))
		begin_on_one_cpu(u);
}

/* The scheduling policy of a worker is the administrator's. */
static void policy_is_kept(void **state)
{
	static const struct {
		int policy;
		struct sched_param param;
	} chosen[] = { { SCHED_OTHER, { 0 } }, { SCHED_BATCH, { 0 } }, { SCHED_FIFO, { 1 } } };
	struct unit *u = *state;
	unsigned int i, n;
	pid_t worker;

	start_coalescing(u);
	worker = worker_find(getpid(), 's', 0);
	assert_int_equal(sched_getscheduler(worker), SCHED_OTHER);
	for (n = 0; n < ARRAY_SIZE(chosen); n++) {
		assert_ok(sched_setscheduler(worker, chosen[n].policy, &chosen[n].param));
		for (i = 0; i < 2 * NR; i++) {
			expect_alive(u);
			assert_int_equal(sched_getscheduler(worker), chosen[n].policy);
		}
	}
}

static uint32_t timeout_of(struct unit *u)
{
	struct vhost_vring_state state = { .index = 0, .num = 1 };

	assert_ok(ioctl(u->dev.fd, VHOST_GET_VRING_BUSYLOOP_TIMEOUT, &state));
	return state.num;
}

static void timeout_changes_while_running(void **state)
{
	static const uint32_t timeouts[] = { 1, 3, 50, 1000, POLL_MAX_US, UINT32_MAX, 0 };
	struct unit *u = *state;
	unsigned int i;

	start_on_slow_disk(u, *(const uint64_t *)u->param, 0);
	for (i = 0; i < 5 * ARRAY_SIZE(timeouts); i++) {
		unit_poll_timeout(u, 0, timeouts[i % ARRAY_SIZE(timeouts)]);
		assert_int_equal(timeout_of(u), timeouts[i % ARRAY_SIZE(timeouts)]);
		expect_reads(u, i, 1, 8);
	}
}

/* Polling ends at once, even after a hit. */
static void timeout_of_0_ends_polling(void **state)
{
	struct unit *u = *state;
	unsigned int round;

	start_on_slow_disk(u, *(const uint64_t *)u->param, POLL_MAX_US);
	for (round = 0; round < 4; round++) {
		unit_poll_timeout(u, 0, POLL_MAX_US);
		expect_polling(u);
		expect_end_of_polling(u);
	}
}

static void timeout_ends_with_the_owner(void **state)
{
	struct unit *u = *state;

	start_on_slow_disk(u, FEATURES, 77);
	expect_alive(u);
	unit_detach(u);
	assert_int_equal(timeout_of(u), 77);
	unit_attach(u);
	expect_alive(u);
	assert_int_equal(timeout_of(u), 77);
	assert_ok(ioctl(u->dev.fd, VHOST_RESET_OWNER));
	assert_ok(ioctl(u->dev.fd, VHOST_SET_OWNER));
	assert_int_equal(timeout_of(u), 0);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST_ON(poll_hits_need_no_kick, plain),
		TEST_ON(poll_hits_need_no_kick, event_index),
		TEST(does_not_poll_by_default),
		TEST_ON(idle_queue_uses_no_cpu, plain),
		TEST_ON(idle_queue_uses_no_cpu, event_index),
		TEST_ON(poll_interval_is_bounded, plain),
		TEST_ON(poll_interval_is_bounded, event_index),
		TEST_ON(poll_misses_shrink_the_interval, plain),
		TEST_ON(poll_misses_shrink_the_interval, event_index),
		TEST_ON(completions_are_reaped_while_polling, plain),
		TEST_ON(completions_are_reaped_while_polling, event_index),
		TEST(completions_are_coalesced),
		TEST(does_not_coalesce_without_a_bound),
		TEST(single_completions_are_not_delayed),
		TEST(worker_gives_way),
		TEST(policy_is_kept),
		TEST_ON(detach_while_polling, plain),
		TEST_ON(detach_while_polling, event_index),
		TEST_ON(close_while_polling, plain),
		TEST_ON(close_while_polling, event_index),
		TEST_ON(timeout_changes_while_running, plain),
		TEST_ON(timeout_changes_while_running, event_index),
		TEST_ON(timeout_of_0_ends_polling, plain),
		TEST_ON(timeout_of_0_ends_polling, event_index),
		TEST(timeout_ends_with_the_owner),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
