// SPDX-License-Identifier: GPL-2.0
/*
 * Busy polling: poll hits need no kick, an idle queue uses no CPU, completions are
 * coalesced, expensive kicks are suppressed, and a busy guest is not preempted.
 */
#define _GNU_SOURCE
#include "unit.h"

#include <sched.h>
#include <stdlib.h>

#define DISK_SIZE	(4 * MIB)
#define POLL_MAX_US	10000U	/* upper bound of the module */
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
	return after.polled != before.polled && after.kicks == before.kicks;
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
	uint64_t polled;
	unsigned int i;

	unit_poll_timeout(u, 0, 0);
	/* The worker may be polling and have one more hit. */
	expect_alive(u);
	polled = unit_stats(u, 0).polled;
	for (i = 0; i < NR; i++)
		expect_alive(u);
	assert_int_equal(unit_stats(u, 0).polled, polled);
}

static void does_not_poll_by_default(void **state)
{
	struct unit *u = *state;
	unsigned int i;

	start_on_slow_disk(u, FEATURES, 0);
	for (i = 0; i < 4 * NR; i++)
		expect_alive(u);
	assert_int_equal(unit_stats(u, 0).polled, 0);
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
	uint64_t polled;
	pid_t worker;

	start_on_slow_disk(u, *(const uint64_t *)u->param, POLL_MAX_US);
	expect_polling(u);
	worker = worker_find(getpid(), 's', 0);
	/* The interval halves each time, down to 0. */
	for (i = 0; i < 16; i++) {
		pause_beyond_timeout(worker);
		expect_alive(u);
	}
	polled = unit_stats(u, 0).polled;
	for (i = 0; i < NR / 2; i++) {
		pause_beyond_timeout(worker);
		expect_alive(u);
		expect_alive(u);
	}
	assert_int_equal(unit_stats(u, 0).polled, polled);
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
	return after.complete_wakeups == before.complete_wakeups && after.polled != before.polled;
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
static void start_coalescing(struct unit *u)
{
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start_with(u, plain, 1, 64);
	unit_poll_timeout(u, 0, POLL_MAX_US);
	expect_polling(u);
}

static void start_on_fast_disk(struct unit *u)
{
	unit_null(u, &fast, O_RDWR | O_DIRECT);
	start_coalescing(u);
}

/*
 * Submit two requests, the second one while the completion of the first may be
 * delayed. Return true if one signal announced both.
 */
static bool completes_together(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	struct vhost_blk_stats before = unit_stats(u, 0), after;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i * 8, buf + i * PAGE, PAGE);
		usleep(POLL_MAX_US / 10);
	}
	for (i = 0; i < 2; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf, 2 * PAGE, 0, 1);
	after = unit_stats(u, 0);
	return after.batches == before.batches + 2 && after.signals == before.signals + 1;
}

static void completions_are_coalesced(void **state)
{
	struct unit *u = *state;
	struct blk_request req[2];
	uint8_t *buf;

	start_on_fast_disk(u);
	unit_requests(req, 2, &u->vq[0]);
	buf = unit_alloc(u, 2 * PAGE);
	REPEAT_UNTIL(completes_together(u, req, buf))
		;
}

/* A worker that blocks in a submission could not signal earlier completions. */
static void no_coalescing_where_submission_may_block(void **state)
{
	enum { ROUNDS = 64 };
	struct unit *u = *state;
	struct blk_request req[2];
	unsigned int i, n = 0;
	uint8_t *buf;

	/* The target "delay" does not support IOCB_NOWAIT. */
	unit_dm(u->path, &fast, "delay", "0");
	assert_ok(unit_disk(u, u->path, O_RDWR | O_DIRECT));
	start_coalescing(u);
	unit_requests(req, 2, &u->vq[0]);
	buf = unit_alloc(u, 2 * PAGE);
	for (i = 0; i < ROUNDS; i++)
		n += completes_together(u, req, buf);
	/* Completions also come together after a stall of the machine. */
	assert_true(n < ROUNDS / 2);
}

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Return how many of 4 * NR single requests complete within half the timeout. */
static unsigned int count_fast_requests(struct unit *u)
{
	unsigned int i, nr = 0;
	int64_t begin;

	for (i = 0; i < 4 * NR; i++) {
		begin = now_us();
		expect_alive(u);
		nr += now_us() - begin < POLL_MAX_US / 2;
	}
	return nr;
}

/*
 * Delayed completions would take half the timeout at least. Most are not delayed,
 * which the median shows even if the machine stalls at times.
 */
static void single_completions_are_not_delayed(void **state)
{
	struct unit *u = *state;

	start_on_fast_disk(u);
	use_separate_cpus(worker_find(getpid(), 's', 0));
	REPEAT_UNTIL(count_fast_requests(u) > 2 * NR)
		;
}

/* How many used entries there were after a quarter of the requests, and after all. */
struct progress {
	uint16_t quarter, all;
};

/* Submit NR requests without a pause. */
static struct progress submit_stream(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	uint16_t first = vq_used_idx(&u->vq[0]);
	struct progress progress;
	unsigned int i;

	for (i = 0; i < NR; i++) {
		if (i == NR / 4)
			progress.quarter = vq_used_idx(&u->vq[0]) - first;
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i * 8, buf + i * PAGE, PAGE);
		usleep(POLL_MAX_US / 100);
	}
	progress.all = vq_used_idx(&u->vq[0]) - first;
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf, NR * PAGE, 0, 1);
	return progress;
}

/* Return true if a device that delays the first completions adds them before the guest pauses. */
static bool completes_under_load(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	struct progress progress = submit_stream(u, req, buf);

	REPEAT_UNTIL(!progress.quarter)
		progress = submit_stream(u, req, buf);
	return progress.all;
}

static void coalescing_is_bounded_under_load(void **state)
{
	struct unit *u = *state;
	struct blk_request req[NR];
	unsigned int i, nr = 0;
	uint8_t *buf;

	start_on_fast_disk(u);
	use_separate_cpus(worker_find(getpid(), 's', 0));
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	/* A stalled worker adds all used entries at once. */
	for (i = 0; i < 5; i++)
		nr += completes_under_load(u, req, buf);
	assert_true(nr >= 3);
}

enum { DEPTH = 16, KICK_US = 500 };

static void add_pair(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		struct vq_segment data = unit_segment(u, buf + i * PAGE, PAGE);

		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i * 8, &data, 1));
	}
}

static void expect_pair(struct blk_request *req, const uint8_t *buf)
{
	expect_end(&req[0], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_end(&req[1], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf, 8 * KIB, 0, 1);
}

/*
 * Do 4 * NR requests, two at a time with DEPTH in flight and expensive kicks.
 * Return the number of kicks.
 */
static unsigned int count_kicks(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	unsigned int i, kicks = 0;

	for (i = 0; i < 4 * NR + DEPTH; i += 2) {
		unsigned int slot = i % DEPTH;

		if (i >= DEPTH)
			expect_pair(&req[slot], buf + slot * PAGE);
		if (i >= 4 * NR)
			continue;
		add_pair(u, &req[slot], buf + slot * PAGE);
		vq_publish(&u->vq[0]);
		if (vq_kick_wanted(&u->vq[0])) {
			vq_kick(&u->vq[0]);
			usleep(KICK_US);
			kicks++;
		}
	}
	return kicks;
}

/* The timeout is too short for poll hits. */
static void expect_kicks_suppressed(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	unsigned int in_a_row = 0;

	unit_poll_timeout(u, 0, 1);
	REPEAT_UNTIL(in_a_row == 3)
		in_a_row = count_kicks(u, req, buf) <= NR / 2 ? in_a_row + 1 : 0;
}

static uint8_t *start_with_depth(struct unit *u, uint64_t features, struct blk_request *req)
{
	assert_ok(unit_null(u, &(struct null_blk) { .size_mib = DISK_SIZE / MIB },
			    O_RDWR | O_DIRECT));
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start_with(u, features, 1, 64);
	unit_requests(req, DEPTH, &u->vq[0]);
	return unit_alloc(u, DEPTH * PAGE);
}

/* Do 2 * NR requests, one at a time. Return the number of kicks. */
static uint64_t kicks_of_single_requests(struct unit *u)
{
	uint64_t before = unit_stats(u, 0).kicks;
	unsigned int i;

	for (i = 0; i < 2 * NR; i++)
		expect_alive(u);
	return unit_stats(u, 0).kicks - before;
}

static void expensive_kicks_are_suppressed(void **state)
{
	struct unit *u = *state;
	struct blk_request req[DEPTH];
	uint8_t *buf = start_with_depth(u, *(const uint64_t *)u->param, req);

	expect_kicks_suppressed(u, req, buf);
	/* After a while the guest kicks for each request. */
	REPEAT_UNTIL(kicks_of_single_requests(u) == 2 * NR)
		;
	expect_kicks_suppressed(u, req, buf);
}

static void kicks_are_not_suppressed_by_default(void **state)
{
	struct unit *u = *state;
	struct blk_request req[DEPTH];
	uint8_t *buf = start_with_depth(u, *(const uint64_t *)u->param, req);
	unsigned int i;

	for (i = 0; i < 4; i++)
		count_kicks(u, req, buf);
	assert_int_equal(unit_stats(u, 0).polled, 0);
	expect_kicks_suppressed(u, req, buf);
	expect_end_of_polling(u);
}

/* Bind the submission worker to the driver's CPU. */
static pid_t share_one_cpu(void)
{
	pid_t worker = worker_find(getpid(), 's', 0);

	unit_bind(worker, 0);
	unit_bind(0, 0);
	return worker;
}

/* Do NR requests at once. Return the number of batches in which the worker fetched them. */
static unsigned int count_batches(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	struct vhost_blk_stats before = unit_stats(u, 0);
	unsigned int i;

	for (i = 0; i < NR; i++)
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i * 8, buf + i * PAGE, PAGE);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf, NR * PAGE, 0, 1);
	return unit_stats(u, 0).batches - before.batches;
}

static void busy_guest_is_not_preempted(void **state)
{
	struct unit *u = *state;
	struct blk_request req[NR];
	unsigned int in_a_row = 0;
	uint8_t *buf;

	start_on_fast_disk(u);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * PAGE);
	share_one_cpu();
	/* A single success may be chance. */
	REPEAT_UNTIL(in_a_row == 20)
		in_a_row = count_batches(u, req, buf) <= NR / 8 ? in_a_row + 1 : 0;
}

/* Do one request. Return the scheduling policy with which the worker sleeps after it. */
static int policy_after_request(struct unit *u, pid_t worker)
{
	int policy;

	expect_alive(u);
	wait_for_sleep(worker, "");
	policy = sched_getscheduler(worker);
	assert_ok(policy);
	return policy;
}

/* Most of the time the worker has the policy with which it preempts other tasks. */
static void single_requests_preempt(void **state)
{
	struct unit *u = *state;
	unsigned int i, batch = 0;
	pid_t worker;

	start_on_fast_disk(u);
	worker = share_one_cpu();
	for (i = 0; i < 4 * NR; i++)
		batch += policy_after_request(u, worker) != SCHED_OTHER;
	assert_true(batch < NR);
}

/* How long a virtual CPU computes: many times the processing of two requests. */
enum { COMPUTE_MS = 40 };

/* A guest computes with two requests in flight and leaves the worker no CPU time. */
static void requests_of_a_computing_guest_preempt(void **state)
{
	static const struct sched_param first = { 1 }, usual = { 0 };
	struct unit *u = *state;
	struct blk_request req[2];
	unsigned int i, batch = 0;
	uint16_t used;
	int64_t end;
	uint8_t *buf;
	pid_t worker;

	start_on_fast_disk(u);
	unit_requests(req, ARRAY_SIZE(req), &u->vq[0]);
	buf = unit_alloc(u, ARRAY_SIZE(req) * PAGE);
	worker = share_one_cpu();
	for (i = 0; i < 2 * NR; i++) {
		used = vq_used_idx(&u->vq[0]);
		assert_ok(sched_setscheduler(0, SCHED_FIFO, &first));
		unit_submit_one(u, &req[0], VIRTIO_BLK_T_IN, 0, buf, PAGE);
		unit_submit_one(u, &req[1], VIRTIO_BLK_T_IN, 8, buf + PAGE, PAGE);
		end = now_ms() + COMPUTE_MS;
		while (now_ms() < end)
			;
		assert_ok(sched_setscheduler(0, SCHED_OTHER, &usual));
		REPEAT_UNTIL((uint16_t)(vq_used_idx(&u->vq[0]) - used) == ARRAY_SIZE(req))
			;
		expect_end(&req[0], VIRTIO_BLK_S_OK, PAGE + 1);
		expect_end(&req[1], VIRTIO_BLK_S_OK, PAGE + 1);
		wait_for_sleep(worker, "");
		batch += sched_getscheduler(worker) != SCHED_OTHER;
	}
	assert_true(batch < NR / 2);
}

static void administrators_policy_is_kept(void **state)
{
	static const struct {
		int policy;
		struct sched_param param;
	} chosen[] = { { SCHED_BATCH, { 0 } }, { SCHED_FIFO, { 1 } } };
	struct unit *u = *state;
	unsigned int i, n;
	pid_t worker;

	start_on_fast_disk(u);
	worker = share_one_cpu();
	/* The worker may be about to change its policy. */
	REPEAT_UNTIL(policy_after_request(u, worker) == SCHED_OTHER)
		;
	for (n = 0; n < ARRAY_SIZE(chosen); n++) {
		assert_ok(sched_setscheduler(worker, chosen[n].policy, &chosen[n].param));
		for (i = 0; i < 2 * NR; i++)
			assert_int_equal(policy_after_request(u, worker), chosen[n].policy);
	}
}

static void batch_policy_returns_after_another(void **state)
{
	static const struct sched_param fifo = { 1 }, usual = { 0 };
	struct unit *u = *state;
	pid_t worker;

	start_on_fast_disk(u);
	worker = share_one_cpu();
	REPEAT_UNTIL(policy_after_request(u, worker) == SCHED_BATCH)
		;
	assert_ok(sched_setscheduler(worker, SCHED_FIFO, &fifo));
	assert_int_equal(policy_after_request(u, worker), SCHED_FIFO);
	assert_ok(sched_setscheduler(worker, SCHED_OTHER, &usual));
	REPEAT_UNTIL(policy_after_request(u, worker) == SCHED_BATCH)
		;
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
		TEST(no_coalescing_where_submission_may_block),
		TEST(single_completions_are_not_delayed),
		TEST(coalescing_is_bounded_under_load),
		TEST_ON(expensive_kicks_are_suppressed, plain),
		TEST_ON(expensive_kicks_are_suppressed, event_index),
		TEST_ON(kicks_are_not_suppressed_by_default, plain),
		TEST_ON(kicks_are_not_suppressed_by_default, event_index),
		TEST(busy_guest_is_not_preempted),
		TEST(single_requests_preempt),
		TEST(requests_of_a_computing_guest_preempt),
		TEST(administrators_policy_is_kept),
		TEST(batch_policy_returns_after_another),
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
