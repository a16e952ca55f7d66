// SPDX-License-Identifier: GPL-2.0
/* Busy polling: it finds requests without a kick, costs an idle device nothing, and ends. */
#define _GNU_SOURCE
#include "unit.h"

#include <sched.h>
#include <stdlib.h>

#define DISK_SIZE	(4 * MIB)
#define POLL_MAX_US	10000U	/* the most that the module polls */
#define NR		32
#define IDLE_MS		1000

static const uint64_t plain = BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_INDIRECT_DESC);
static const uint64_t event_index = FEATURES;

static void start(struct unit *u, uint64_t features, uint32_t timeout_us)
{
	/* Late enough to be waited for, early enough to be polled for. */
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB, .delay_us = 2000 };

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start_with(u, features, 1, 64);
	unit_poll_timeout(u, 0, timeout_us);
}

/* Requests follow each other until one is found by polling and not by a kick. */
static void expect_polling(struct unit *u)
{
	int64_t end = now_ms() + TIMEOUT_MS;
	struct vhost_blk_stats before, after;

	do {
		assert_true(now_ms() < end);
		before = unit_stats(u, 0);
		expect_alive(u);
		after = unit_stats(u, 0);
	} while (after.polled == before.polled || after.kicks != before.kicks);
}

static void poll_hits_need_no_kick(void **state)
{
	struct unit *u = *state;

	start(u, *(const uint64_t *)u->param, POLL_MAX_US);
	expect_polling(u);
	expect_reads(u, 0, 8, NR);
}

static void expect_end_of_polling(struct unit *u)
{
	uint64_t polled;
	unsigned int i;

	unit_poll_timeout(u, 0, 0);
	/* Polling that was under way then may find one more. */
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

	start(u, FEATURES, 0);
	for (i = 0; i < 4 * NR; i++)
		expect_alive(u);
	assert_int_equal(unit_stats(u, 0).polled, 0);
}

/* Nobody wakes its workers, and they use no CPU. */
static void idle_queue_uses_no_cpu(void **state)
{
	struct unit *u = *state;
	int64_t end = now_ms() + TIMEOUT_MS;
	struct vhost_blk_stats before, after;
	pid_t worker[2];
	uint64_t cpu[2];
	unsigned int i;

	start(u, *(const uint64_t *)u->param, POLL_MAX_US);
	expect_polling(u);
	for (i = 0; i < 2; i++)
		worker[i] = worker_find(getpid(), "sc"[i], 0);
	/* The last bit of CPU time may be counted a little late. */
	do {
		assert_true(now_ms() < end);
		for (i = 0; i < 2; i++) {
			wait_for_sleep(worker[i], "");
			cpu[i] = worker_cpu_ns(worker[i]);
		}
		before = unit_stats(u, 0);
		usleep(IDLE_MS * 1000);
		after = unit_stats(u, 0);
	} while (worker_cpu_ns(worker[0]) != cpu[0] || worker_cpu_ns(worker[1]) != cpu[1] ||
		 after.submit_wakeups != before.submit_wakeups ||
		 after.complete_wakeups != before.complete_wakeups);
	expect_alive(u);
}

/* CPU time of a request, and of what is polled after it. */
static uint64_t cost_of_one(struct unit *u, pid_t worker)
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

/* Polling ends early where somebody wants the CPU. */
static void keep_apart(pid_t worker)
{
	unit_bind(0, 0);
	unit_bind(worker, 1);
}

static void poll_interval_is_bounded(void **state)
{
	struct unit *u = *state;
	uint64_t cost[9];
	unsigned int i;
	pid_t worker;

	start(u, *(const uint64_t *)u->param, UINT32_MAX);
	worker = worker_find(getpid(), 's', 0);
	keep_apart(worker);
	wait_for_sleep(worker, "");
	/* It doubles each time: without a bound it would last a second by now. */
	for (i = 0; i < 18; i++)
		cost_of_one(u, worker);
	for (i = 0; i < ARRAY_SIZE(cost); i++)
		cost[i] = cost_of_one(u, worker);
	qsort(cost, ARRAY_SIZE(cost), sizeof(cost[0]), compare);
	print_message("a request and the polling after it took %llu us\n",
		      (unsigned long long)cost[ARRAY_SIZE(cost) / 2] / 1000);
	assert_true(cost[ARRAY_SIZE(cost) / 2] < 10 * POLL_MAX_US * 1000ULL);
}

/* The worker has slept for longer than the owner would have it poll. */
static void pause_for_long(pid_t worker)
{
	wait_for_sleep(worker, "");
	usleep(3 * POLL_MAX_US);
}

/*
 * A guest that pauses for longer than the timeout is not polled for: a request
 * that follows upon the one after the pause finds nobody polling.
 */
static void poll_misses_shrink_the_interval(void **state)
{
	struct unit *u = *state;
	unsigned int i;
	uint64_t polled;
	pid_t worker;

	start(u, *(const uint64_t *)u->param, POLL_MAX_US);
	expect_polling(u);
	worker = worker_find(getpid(), 's', 0);
	/* Polling halves each time, down to nothing. */
	for (i = 0; i < 16; i++) {
		pause_for_long(worker);
		expect_alive(u);
	}
	polled = unit_stats(u, 0).polled;
	for (i = 0; i < NR; i++) {
		pause_for_long(worker);
		expect_alive(u);
		expect_alive(u);
	}
	assert_int_equal(unit_stats(u, 0).polled, polled);
	/* And it is taken up again. */
	expect_polling(u);
}

/*
 * Who polls takes in what the disk has finished: the completion worker sleeps
 * on, and the guest's next request is found before polling ends.
 */
static void completions_are_reaped_while_polling(void **state)
{
	struct unit *u = *state;
	int64_t end = now_ms() + TIMEOUT_MS;
	struct vhost_blk_stats before, after;
	uint64_t sector = 0;
	uint8_t *buf;

	start(u, *(const uint64_t *)u->param, POLL_MAX_US);
	buf = unit_alloc(u, 8 * KIB);
	do {
		assert_true(now_ms() < end);
		before = unit_stats(u, 0);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, sector, buf, 4 * KIB),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, sector + 8, buf + 4 * KIB, 4 * KIB),
				 VIRTIO_BLK_S_OK);
		after = unit_stats(u, 0);
		expect_pattern(buf, 8 * KIB, sector * SECTOR_SIZE, 1);
		sector = (sector + 16) % (DISK_SIZE / SECTOR_SIZE);
	} while (after.complete_wakeups != before.complete_wakeups ||
		 after.polled == before.polled);
}

static void submit_reads(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	unsigned int i;

	for (i = 0; i < NR; i++) {
		struct vq_segment data = unit_segment(u, buf + i * 4 * KIB, 4 * KIB);

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

	start(u, *(const uint64_t *)u->param, UINT32_MAX);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * 4 * KIB);
	for (round = 0; round < 5; round++) {
		expect_polling(u);
		memset(buf, 0, NR * 4 * KIB);
		submit_reads(u, req, buf);
		unit_detach(u);
		/* What was accepted has ended, the rest is left for the next attach. */
		assert_int_equal((uint16_t)vq_get_base(&u->vq[0]), vq_used_idx(&u->vq[0]));
		unit_attach(u);
		for (i = 0; i < NR; i++)
			expect_end(&req[i], VIRTIO_BLK_S_OK, 4 * KIB + 1);
		expect_pattern(buf, NR * 4 * KIB, 0, 1);
	}
}

static void close_while_polling(void **state)
{
	struct unit *u = *state;
	struct blk_request req[NR];
	uint8_t *buf;
	uint16_t used;

	start(u, *(const uint64_t *)u->param, UINT32_MAX);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * 4 * KIB);
	expect_polling(u);
	submit_reads(u, req, buf);
	vhost_blk_close(&u->dev);
	expect_workers(getpid(), 0);
	used = vq_used_idx(&u->vq[0]);
	usleep(QUIET_MS * 1000);
	assert_int_equal(vq_used_idx(&u->vq[0]), used);
}

static const struct null_blk fast = { .size_mib = DISK_SIZE / MIB, .delay_us = 50 };

/* On a ring on which every answer is worth a signal. */
static void start_holding(struct unit *u)
{
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start_with(u, plain, 1, 64);
	unit_poll_timeout(u, 0, POLL_MAX_US);
	expect_polling(u);
}

static void start_fast(struct unit *u)
{
	unit_null(u, &fast, O_RDWR | O_DIRECT);
	start_holding(u);
}

/* Whether the guest heard at once of two requests, of which the second came while the first might be held back. */
static bool heard_at_once(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	struct vhost_blk_stats before = unit_stats(u, 0), after;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i * 8, buf + i * 4 * KIB, 4 * KIB);
		usleep(POLL_MAX_US / 10);
	}
	for (i = 0; i < 2; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, 4 * KIB + 1);
	expect_pattern(buf, 2 * 4 * KIB, 0, 1);
	after = unit_stats(u, 0);
	return after.batches == before.batches + 2 && after.signals == before.signals + 1;
}

static void completions_are_coalesced(void **state)
{
	struct unit *u = *state;
	int64_t end = now_ms() + TIMEOUT_MS;
	struct blk_request req[2];
	uint8_t *buf;

	start_fast(u);
	unit_requests(req, 2, &u->vq[0]);
	buf = unit_alloc(u, 2 * 4 * KIB);
	while (!heard_at_once(u, req, buf))
		assert_true(now_ms() < end);
}

/* Whoever is asleep over the next submission tells nobody of the last one. */
static void no_coalescing_where_submission_may_block(void **state)
{
	enum { ROUNDS = 64 };
	struct unit *u = *state;
	struct blk_request req[2];
	unsigned int i, n = 0;
	uint8_t *buf;

	/* The target "delay" cannot be asked not to block. */
	unit_dm(u->path, &fast, "delay", "0");
	assert_ok(unit_disk(u, u->path, O_RDWR | O_DIRECT));
	start_holding(u);
	unit_requests(req, 2, &u->vq[0]);
	buf = unit_alloc(u, 2 * 4 * KIB);
	for (i = 0; i < ROUNDS; i++)
		n += heard_at_once(u, req, buf);
	/* A machine that stands still for a moment brings answers together, too. */
	assert_true(n < ROUNDS / 2);
}

/* A guest that waits for each answer gets most of them without a wait of half the timeout. */
static void single_completions_are_not_delayed(void **state)
{
	struct unit *u = *state;
	int64_t start_ms, end = now_ms() + TIMEOUT_MS;
	unsigned int i;

	start_fast(u);
	keep_apart(worker_find(getpid(), 's', 0));
	do {
		start_ms = now_ms();
		assert_true(start_ms < end);
		for (i = 0; i < 4 * NR; i++)
			expect_alive(u);
	} while (now_ms() - start_ms >= 4 * NR * POLL_MAX_US / 2 / 1000);
}

/* Whether a guest that goes on and on, whose first answers are held back, hears of them before it pauses. */
static bool hears_meanwhile(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	int64_t end = now_ms() + TIMEOUT_MS;
	uint16_t first, midway, last;
	unsigned int i;

	do {
		assert_true(now_ms() < end);
		first = vq_used_idx(&u->vq[0]);
		for (i = 0; i < NR; i++) {
			if (i == NR / 4)
				midway = vq_used_idx(&u->vq[0]);
			unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i * 8, buf + i * 4 * KIB,
					4 * KIB);
			usleep(POLL_MAX_US / 100);
		}
		last = vq_used_idx(&u->vq[0]);
		for (i = 0; i < NR; i++)
			expect_end(&req[i], VIRTIO_BLK_S_OK, 4 * KIB + 1);
		expect_pattern(buf, NR * 4 * KIB, 0, 1);
	} while (midway != first);
	return last != first;
}

static void coalescing_is_bounded_under_load(void **state)
{
	struct unit *u = *state;
	struct blk_request req[NR];
	unsigned int i, heard = 0;
	uint8_t *buf;

	start_fast(u);
	keep_apart(worker_find(getpid(), 's', 0));
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * 4 * KIB);
	/* The worker may be held up, and then hears of all at once. */
	for (i = 0; i < 5; i++)
		heard += hears_meanwhile(u, req, buf);
	assert_true(heard >= 3);
}

enum { DEEP = 16, DEAR_US = 500 };

static void add_pair(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		struct vq_segment data = unit_segment(u, buf + i * 4 * KIB, 4 * KIB);

		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i * 8, &data, 1));
	}
}

static void expect_pair(struct blk_request *req, const uint8_t *buf)
{
	expect_end(&req[0], VIRTIO_BLK_S_OK, 4 * KIB + 1);
	expect_end(&req[1], VIRTIO_BLK_S_OK, 4 * KIB + 1);
	expect_pattern(buf, 8 * KIB, 0, 1);
}

/*
 * How often a guest kicks that has DEEP requests in flight, makes two at a time,
 * 4 * NR of them, and for which kicks are dear.
 */
static unsigned int dear_kicks(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	unsigned int i, kicks = 0;

	for (i = 0; i < 4 * NR + DEEP; i += 2) {
		unsigned int slot = i % DEEP;

		if (i >= DEEP)
			expect_pair(&req[slot], buf + slot * 4 * KIB);
		if (i >= 4 * NR)
			continue;
		add_pair(u, &req[slot], buf + slot * 4 * KIB);
		vq_publish(&u->vq[0]);
		if (vq_kick_wanted(&u->vq[0])) {
			vq_kick(&u->vq[0]);
			usleep(DEAR_US);
			kicks++;
		}
	}
	return kicks;
}

/* Polling for so short a time finds nothing. */
static void save_dear_kicks(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	int64_t end = now_ms() + TIMEOUT_MS;
	unsigned int in_turn = 0;

	unit_poll_timeout(u, 0, 1);
	while (in_turn < 3) {
		assert_true(now_ms() < end);
		in_turn = dear_kicks(u, req, buf) <= NR / 2 ? in_turn + 1 : 0;
	}
}

static uint8_t *start_deep(struct unit *u, uint64_t features, struct blk_request *req)
{
	assert_ok(unit_null(u, &(struct null_blk) { .size_mib = DISK_SIZE / MIB },
			    O_RDWR | O_DIRECT));
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start_with(u, features, 1, 64);
	unit_requests(req, DEEP, &u->vq[0]);
	return unit_alloc(u, DEEP * 4 * KIB);
}

/* A guest with one request at a time kicks for each, after some. */
static void expect_kicks_for_lone_requests(struct unit *u)
{
	int64_t end = now_ms() + TIMEOUT_MS;
	struct vhost_blk_stats before;
	unsigned int i;

	do {
		assert_true(now_ms() < end);
		before = unit_stats(u, 0);
		for (i = 0; i < 2 * NR; i++)
			expect_alive(u);
	} while (unit_stats(u, 0).kicks - before.kicks < 2 * NR);
}

static void expensive_kicks_are_suppressed(void **state)
{
	struct unit *u = *state;
	struct blk_request req[DEEP];
	uint8_t *buf = start_deep(u, *(const uint64_t *)u->param, req);

	save_dear_kicks(u, req, buf);
	expect_kicks_for_lone_requests(u);
	save_dear_kicks(u, req, buf);
}

static void kicks_are_not_suppressed_by_default(void **state)
{
	struct unit *u = *state;
	struct blk_request req[DEEP];
	uint8_t *buf = start_deep(u, *(const uint64_t *)u->param, req);
	unsigned int i;

	for (i = 0; i < 4; i++)
		dear_kicks(u, req, buf);
	assert_int_equal(unit_stats(u, 0).polled, 0);
	save_dear_kicks(u, req, buf);
	expect_end_of_polling(u);
}

/* A worker that shares its driver's CPU. */
static pid_t share_cpu(void)
{
	pid_t worker = worker_find(getpid(), 's', 0);

	unit_bind(worker, 0);
	unit_bind(0, 0);
	return worker;
}

/* How often the worker came to look while the guest made NR requests without a pause. */
static unsigned int interruptions(struct unit *u, struct blk_request *req, uint8_t *buf)
{
	struct vhost_blk_stats before = unit_stats(u, 0);
	unsigned int i;

	for (i = 0; i < NR; i++)
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, i * 8, buf + i * 4 * KIB, 4 * KIB);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, 4 * KIB + 1);
	expect_pattern(buf, NR * 4 * KIB, 0, 1);
	return unit_stats(u, 0).batches - before.batches;
}

static void busy_guest_is_not_preempted(void **state)
{
	struct unit *u = *state;
	int64_t end = now_ms() + TIMEOUT_MS;
	struct blk_request req[NR];
	unsigned int in_turn = 0;
	uint8_t *buf;

	start_fast(u);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, NR * 4 * KIB);
	share_cpu();
	/* By chance it may be left alone for once. */
	while (in_turn < 20) {
		assert_true(now_ms() < end);
		in_turn = interruptions(u, req, buf) <= NR / 8 ? in_turn + 1 : 0;
	}
}

static int policy_of(pid_t pid)
{
	int policy = sched_getscheduler(pid);

	assert_ok(policy);
	return policy;
}

/* Most of the time the worker is ready to take the CPU from whoever has it. */
static void single_requests_preempt(void **state)
{
	struct unit *u = *state;
	unsigned int i, patient = 0;
	pid_t worker;

	start_fast(u);
	worker = share_cpu();
	for (i = 0; i < 4 * NR; i++) {
		expect_alive(u);
		wait_for_sleep(worker, "");
		patient += policy_of(worker) != SCHED_OTHER;
	}
	assert_true(patient < NR);
}

/*
 * How long a virtual CPU computes that leaves nobody else the CPU: many times what
 * serving two requests takes.
 */
enum { COMPUTE_MS = 40 };

/* A guest with two requests in flight that needs its CPU for something else. */
static void requests_of_a_computing_guest_preempt(void **state)
{
	static const struct sched_param first = { 1 }, usual = { 0 };
	struct unit *u = *state;
	struct blk_request req[2];
	unsigned int i, patient = 0;
	uint16_t used;
	int64_t end;
	uint8_t *buf;
	pid_t worker;

	start_fast(u);
	unit_requests(req, ARRAY_SIZE(req), &u->vq[0]);
	buf = unit_alloc(u, ARRAY_SIZE(req) * 4 * KIB);
	worker = share_cpu();
	for (i = 0; i < 4 * NR; i++) {
		used = vq_used_idx(&u->vq[0]);
		assert_ok(sched_setscheduler(0, SCHED_FIFO, &first));
		unit_submit_one(u, &req[0], VIRTIO_BLK_T_IN, 0, buf, 4 * KIB);
		unit_submit_one(u, &req[1], VIRTIO_BLK_T_IN, 8, buf + 4 * KIB, 4 * KIB);
		end = now_ms() + COMPUTE_MS;
		while (now_ms() < end)
			;
		assert_ok(sched_setscheduler(0, SCHED_OTHER, &usual));
		end = now_ms() + TIMEOUT_MS;
		while ((uint16_t)(vq_used_idx(&u->vq[0]) - used) < ARRAY_SIZE(req))
			assert_true(now_ms() < end);
		expect_end(&req[0], VIRTIO_BLK_S_OK, 4 * KIB + 1);
		expect_end(&req[1], VIRTIO_BLK_S_OK, 4 * KIB + 1);
		wait_for_sleep(worker, "");
		patient += policy_of(worker) != SCHED_OTHER;
	}
	assert_true(patient < NR);
}

static void administrators_policy_is_kept(void **state)
{
	static const struct {
		int policy;
		struct sched_param param;
	} chosen[] = { { SCHED_BATCH, { 0 } }, { SCHED_FIFO, { 1 } } };
	struct unit *u = *state;
	int64_t end = now_ms() + TIMEOUT_MS;
	unsigned int i, n;
	pid_t worker;

	start_fast(u);
	worker = share_cpu();
	for (n = 0; n < ARRAY_SIZE(chosen); n++) {
		/* It may be at the point of going back to the usual one. */
		do {
			assert_true(now_ms() < end);
			expect_alive(u);
			wait_for_sleep(worker, "");
		} while (policy_of(worker) != SCHED_OTHER && !n);
		assert_ok(sched_setscheduler(worker, chosen[n].policy, &chosen[n].param));
		for (i = 0; i < 4 * NR; i++) {
			expect_alive(u);
			wait_for_sleep(worker, "");
			assert_int_equal(policy_of(worker), chosen[n].policy);
		}
	}
}

static void wait_until_it_gives_way(struct unit *u, pid_t worker)
{
	int64_t end = now_ms() + TIMEOUT_MS;

	do {
		assert_true(now_ms() < end);
		expect_alive(u);
		wait_for_sleep(worker, "");
	} while (policy_of(worker) != SCHED_BATCH);
}

static void batch_policy_returns_after_another(void **state)
{
	static const struct sched_param fifo = { 1 }, usual = { 0 };
	struct unit *u = *state;
	pid_t worker;

	start_fast(u);
	worker = share_cpu();
	wait_until_it_gives_way(u, worker);
	assert_ok(sched_setscheduler(worker, SCHED_FIFO, &fifo));
	expect_alive(u);
	wait_for_sleep(worker, "");
	assert_ok(sched_setscheduler(worker, SCHED_OTHER, &usual));
	wait_until_it_gives_way(u, worker);
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

	start(u, *(const uint64_t *)u->param, 0);
	for (i = 0; i < 10 * ARRAY_SIZE(timeouts); i++) {
		unit_poll_timeout(u, 0, timeouts[i % ARRAY_SIZE(timeouts)]);
		assert_int_equal(timeout_of(u), timeouts[i % ARRAY_SIZE(timeouts)]);
		expect_reads(u, i, 1, 8);
	}
}

/* At once, though polling goes on finding requests. */
static void timeout_of_0_ends_polling(void **state)
{
	struct unit *u = *state;
	unsigned int round;

	start(u, *(const uint64_t *)u->param, POLL_MAX_US);
	for (round = 0; round < 4; round++) {
		unit_poll_timeout(u, 0, POLL_MAX_US);
		expect_polling(u);
		expect_end_of_polling(u);
	}
}

static void timeout_ends_with_the_owner(void **state)
{
	struct unit *u = *state;

	start(u, FEATURES, 77);
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
