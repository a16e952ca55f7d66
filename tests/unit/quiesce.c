// SPDX-License-Identifier: GPL-2.0
/* VHOST_BLK_QUIESCE and VHOST_BLK_RESUME: the rings stand still, and all else stays. */
#define _GNU_SOURCE
#include "load.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define DISK_SIZE	(4 * MIB)
#define NR		16

static int resume(struct unit *u)
{
	return unit_resume_queues(u, 0);
}

static void start_on_suspendable(struct unit *u, unsigned int queues)
{
	unit_suspendable(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start(u, queues, 64);
}

static void add_read(struct unit *u, struct blk_request *req, unsigned int i, uint8_t *buf)
{
	struct vq_segment data = unit_segment(u, buf + i * PAGE, PAGE);

	assert_ok(blk_add(req, VIRTIO_BLK_T_IN, i * 8, &data, 1));
}

static void expect_end_of_reads(struct blk_request *req, unsigned int nr, const uint8_t *buf)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf, nr * PAGE, 0, 1);
}

/* Requests in flight are used when the call returns, later ones are not fetched. */
static void requests_in_flight_are_waited_for(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct blk_request req[NR + 1];
	unsigned int i;
	uint8_t *buf;

	start_on_suspendable(u, 1);
	unit_requests(req, NR + 1, vq);
	buf = unit_alloc(u, (NR + 1) * PAGE);
	unit_suspend(u, u->path);
	for (i = 0; i < NR; i++)
		add_read(u, &req[i], i, buf);
	vq_submit(vq);
	expect_inflight(u, 0, NR);
	unit_call(u, unit_quiesce);
	ASSERT_NEVER(unit_call_returned(u));
	add_read(u, &req[NR], NR, buf);
	vq_publish(vq);
	vq_kick(vq);
	ASSERT_NEVER(unit_stats(u, 0).inflight != NR);
	unit_resume(u);
	WAIT_UNTIL(unit_call_returned(u));
	assert_int_equal(unit_call_join(u), 0);

	assert_int_equal(vq_used_idx(vq), NR);
	assert_int_equal(vq_get_base(vq), NR);
	assert_int_equal(unit_stats(u, 0).inflight, 0);
	assert_int_equal(worker_count(getpid()), 2);
	ASSERT_NEVER(vq_used_idx(vq) != NR);
	assert_ok(resume(u));
	expect_end_of_reads(req, NR + 1, buf);
}

/* Requests that became available meanwhile are served without a kick. */
static void resume_serves_what_is_available(void **state)
{
	enum { QUEUES = 3 };
	struct unit *u = *state;
	struct blk_request req[QUEUES];
	unsigned int i, round;
	uint8_t *buf;

	unit_memfd(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start(u, QUEUES, 16);
	buf = unit_alloc(u, QUEUES * PAGE);
	for (i = 0; i < QUEUES; i++)
		unit_requests(&req[i], 1, &u->vq[i]);
	for (round = 0; round < 4; round++) {
		assert_ok(unit_quiesce(u));
		memset(buf, 0, QUEUES * PAGE);
		for (i = 0; i < QUEUES; i++) {
			add_read(u, &req[i], i, buf);
			vq_publish(&u->vq[i]);
			/* A kick neither wakes the queue now nor does it harm later. */
			if (round % 2)
				vq_kick(&u->vq[i]);
		}
		ASSERT_NEVER(vq_used_idx(&u->vq[0]) != round);
		for (i = 0; i < QUEUES; i++)
			assert_int_equal(vq_get_base(&u->vq[i]), round);
		assert_ok(resume(u));
		expect_end_of_reads(req, QUEUES, buf);
	}
	expect_alive(u);
}

/* The owner takes over the ring and hands it back, with another index for the device. */
static void owner_serves_in_between(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct vhost_vring_state base = { .index = 0 };
	struct blk_request req;
	uint8_t *buf;
	int head;

	start_on_memfd(u, DISK_SIZE, 1, 16);
	unit_requests(&req, 1, vq);
	buf = unit_alloc(u, PAGE);
	expect_alive(u);
	assert_ok(unit_quiesce(u));
	head = blk_add(&req, VIRTIO_BLK_T_IN, 0, &(struct vq_segment){
		       .addr = guest_address(&u->mem, buf), .len = PAGE }, 1);
	assert_ok(head);
	vq_publish(vq);
	*req.status = VIRTIO_BLK_S_OK;
	vq_add_used(vq, head, PAGE + 1);
	base.num = vq_get_base(vq) + 1;
	assert_int_equal(base.num, 2);
	assert_ok(ioctl(u->dev.fd, VHOST_SET_VRING_BASE, &base));
	assert_ok(resume(u));
	expect_end(&req, VIRTIO_BLK_S_OK, PAGE + 1);
	expect_alive(u);
	assert_int_equal(vq_used_idx(vq), 3);
	assert_ok(unit_quiesce(u));
	assert_int_equal(vq_get_base(vq), 3);

	/* The guest's driver may begin anew, too. */
	assert_ok(vq_restart(vq, 1000));
	assert_ok(resume(u));
	expect_alive(u);
	assert_int_equal(vq_used_idx(vq), 1001);
	assert_ok(unit_quiesce(u));
	assert_int_equal(vq_get_base(vq), 1001);
	assert_ok(resume(u));
	base.num = 5;
	assert_errno(ioctl(u->dev.fd, VHOST_SET_VRING_BASE, &base), EBUSY);
	expect_alive(u);
}

static void expect_quiesced(struct unit *u)
{
	uint16_t used = vq_used_idx(&u->vq[0]);

	unit_submit_one(u, &u->req, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
	vq_kick(&u->vq[0]);
	ASSERT_NEVER(vq_used_idx(&u->vq[0]) != used);
}

/* Resuming that fails leaves the device quiesced, and it can be tried again. */
static void rings_that_do_not_fit_are_refused(void **state)
{
	struct vhost_vring_state num = { .index = 0, .num = 8 };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];

	start_on_memfd(u, DISK_SIZE, 2, 16);
	expect_alive(u);
	assert_ok(unit_quiesce(u));
	assert_ok(ioctl(u->dev.fd, VHOST_SET_VRING_NUM, &num));
	assert_int_equal(resume(u), -EINVAL);
	expect_quiesced(u);
	num.num = 16;
	assert_ok(ioctl(u->dev.fd, VHOST_SET_VRING_NUM, &num));
	assert_ok(mprotect(vq->used, PAGE, PROT_NONE));
	assert_int_equal(resume(u), -EFAULT);
	assert_ok(mprotect(vq->used, PAGE, PROT_READ | PROT_WRITE));
	ASSERT_NEVER(vq_used_idx(vq) != 1);
	assert_ok(resume(u));
	expect_end(&u->req, VIRTIO_BLK_S_OK, 1);
	expect_alive(u);
}

static void calls_may_be_repeated(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 16);
	assert_int_equal(unit_quiesce(u), -EINVAL);
	assert_int_equal(resume(u), -EINVAL);
	unit_attach(u);
	assert_ok(resume(u));
	expect_alive(u);
	assert_ok(unit_quiesce(u));
	assert_ok(unit_quiesce(u));
	expect_quiesced(u);
	assert_ok(resume(u));
	assert_ok(resume(u));
	expect_end(&u->req, VIRTIO_BLK_S_OK, 1);
	expect_alive(u);
	unit_detach(u);
	assert_int_equal(unit_quiesce(u), -EINVAL);
	assert_int_equal(resume(u), -EINVAL);
}

/* The end of a quiesced device leaves nothing, and the next attach is not quiesced. */
static void detach_while_quiesced(void **state)
{
	struct unit *u = *state;
	unsigned int i;

	start_on_memfd(u, DISK_SIZE, 2, 16);
	for (i = 0; i < 2; i++) {
		expect_alive(u);
		assert_ok(unit_quiesce(u));
		expect_quiesced(u);
		unit_detach(u);
		expect_workers(getpid(), 0);
		assert_int_equal(vq_get_base(&u->vq[0]), 2 * i + 1);
		unit_attach(u);
		expect_end(&u->req, VIRTIO_BLK_S_OK, 1);
	}
	assert_ok(unit_quiesce(u));
	assert_ok(ioctl(u->dev.fd, VHOST_RESET_OWNER));
	expect_workers(getpid(), 0);
	assert_ok(vhost_blk_setup(&u->dev));
	for (i = 0; i < 2; i++)
		assert_ok(vq_restart(&u->vq[i], 0));
	unit_attach(u);
	expect_alive(u);
	assert_ok(unit_quiesce(u));
	vhost_blk_close(&u->dev);
	expect_workers(getpid(), 0);
}

/* The same threads go on, on their CPUs. */
static void threads_stay(void **state)
{
	struct vhost_blk_stats before, after;
	struct unit *u = *state;
	pid_t s, c;
	cpu_set_t set;

	start_on_memfd(u, DISK_SIZE, 2, 16);
	workers_bind(u, 1, 2);
	s = worker_find(getpid(), 's', 1);
	c = worker_find(getpid(), 'c', 1);
	before = unit_stats(u, 1);
	assert_ok(unit_quiesce(u));
	assert_int_equal(worker_find(getpid(), 's', 1), s);
	assert_ok(resume(u));
	after = unit_stats(u, 1);
	assert_int_equal(worker_find(getpid(), 's', 1), s);
	assert_int_equal(worker_find(getpid(), 'c', 1), c);
	assert_int_equal(after.submit_tid, before.submit_tid);
	assert_int_equal(after.complete_tid, before.complete_tid);
	assert_ok(sched_getaffinity(s, sizeof(set), &set));
	assert_int_equal(CPU_COUNT(&set), 1);
	expect_alive(u);
}

static void on_signal(int signal)
{
	(void)signal;
}

/* Signals that do not kill the caller do not interrupt it. */
static void waits_under_signals(void **state)
{
	static const struct itimerspec every = { { 0, 1000000 }, { 0, 1000000 } };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct sigaction action = { .sa_handler = on_signal };
	struct unit *u = *state;
	timer_t timer;

	start_on_suspendable(u, 1);
	unit_suspend(u, u->path);
	unit_submit_one(u, &u->req, VIRTIO_BLK_T_IN, 0, unit_alloc(u, PAGE), PAGE);
	expect_inflight(u, 0, 1);
	unit_resume_soon(u);
	assert_ok(sigaction(SIGUSR1, &action, NULL));
	assert_ok(timer_create(CLOCK_MONOTONIC, &event, &timer));
	assert_ok(timer_settime(timer, 0, &every, NULL));
	assert_ok(unit_quiesce(u));
	assert_ok(timer_delete(timer));
	assert_int_equal(vq_used_idx(&u->vq[0]), 1);
	assert_ok(resume(u));
	expect_end(&u->req, VIRTIO_BLK_S_OK, PAGE + 1);
}

/* An owner that waits for a disk which hangs can be killed. */
static void killed_while_waiting(void **state)
{
	struct unit *u = *state;
	int up[2];
	pid_t pid;
	char byte;

	unit_suspendable(u, DISK_SIZE);
	assert_ok(pipe(up));
	pid = child_fork();
	if (!pid) {
		unit_start(u, 1, 16);
		unit_suspend(u, u->path);
		unit_submit_one(u, &u->req, VIRTIO_BLK_T_IN, 0, unit_alloc(u, PAGE), PAGE);
		expect_inflight(u, 0, 1);
		child_check(write(up[1], "", 1) == 1);
		unit_quiesce(u);
		_exit(1);
	}
	assert_int_equal(read(up[0], &byte, 1), 1);
	wait_for_sleep(pid, "vhost_blk_");
	assert_ok(kill(pid, SIGKILL));
	WAIT_UNTIL(!has_memory(pid));
	assert_ok(backend_dm_resume(u->path));
	assert_int_equal(child_wait(pid), 256 + SIGKILL);
	expect_workers(pid, 0);
	unit_start(u, 1, 16);
	expect_alive(u);
}

/* What load_during() calls: the device is quiesced and resumed, with its rings at rest between. */
static int quiesce_and_resume(void *arg)
{
	struct unit *u = arg;
	unsigned int i;
	int ret = 0;

	for (i = 0; i < 40 && !ret; i++) {
		uint16_t used;

		usleep(i * 300);
		ret = unit_quiesce(u);
		if (ret)
			break;
		used = vq_used_idx(&u->vq[0]);
		if (used != vq_get_base(&u->vq[0]) || unit_stats(u, 0).inflight)
			ret = -EINVAL;
		usleep(1000);
		if (used != vq_used_idx(&u->vq[0]))
			ret = -EINVAL;
		ret = resume(u) ?: ret;
	}
	return ret;
}

static const uint32_t sleeping, polling = 1000;

static void under_load(void **state)
{
	struct null_blk spec = { .size_mib = 8, .delay_us = 1000, .discard = true };
	static struct load l;
	struct unit *u = *state;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	unit_open(u, RANGE_FEATURES);
	unit_pin_limit(u, MIB);
	unit_vqs(u, 1, 64);
	unit_attach(u);
	unit_poll_timeout(u, 0, *(const uint32_t *)u->param);
	unit_coalesce(u, *(const uint32_t *)u->param);
	load_init(&l, u, 0, 0, LOAD_ALL);
	load_during(&l, quiesce_and_resume, u);
	load_expect_ok(&l);
}

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Quiescing and resuming takes at most a tenth of detaching and attaching. */
static void costs_a_fraction_of_a_detach(void **state)
{
	enum { ROUNDS = 20, DETACHES = 4 };
	struct unit *u = *state;
	int64_t begin, quiesce = INT64_MAX, detach = INT64_MAX;
	unsigned int i;

	start_on_memfd(u, DISK_SIZE, VQS_MAX, 16);
	for (i = 0; i < ROUNDS; i++) {
		begin = now_us();
		assert_ok(unit_quiesce(u));
		assert_ok(resume(u));
		if (now_us() - begin < quiesce)
			quiesce = now_us() - begin;
		if (i >= DETACHES)
			continue;
		begin = now_us();
		unit_detach(u);
		unit_attach(u);
		if (now_us() - begin < detach)
			detach = now_us() - begin;
	}
	print_message("%u queues: %lld us to quiesce and resume, %lld us to detach and attach\n",
		      VQS_MAX, (long long)quiesce, (long long)detach);
	assert_true(quiesce * 10 <= detach);
	expect_alive(u);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST(requests_in_flight_are_waited_for),
		TEST(resume_serves_what_is_available),
		TEST(owner_serves_in_between),
		TEST(rings_that_do_not_fit_are_refused),
		TEST(calls_may_be_repeated),
		TEST(detach_while_quiesced),
		TEST(threads_stay),
		TEST(waits_under_signals),
		TEST(killed_while_waiting),
		TEST_ON(under_load, sleeping),
		TEST_ON(under_load, polling),
		TEST(costs_a_fraction_of_a_detach),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
