// SPDX-License-Identifier: GPL-2.0
/* Kicks and signals: none is lost, and suppressed ones are not sent. */
#define _GNU_SOURCE
#include "unit.h"

#include <sys/eventfd.h>

#define DISK_SIZE	(1 * MIB)
#define NR		32

static const uint64_t plain = BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_INDIRECT_DESC);
static const uint64_t event_index = FEATURES;
static const uint64_t on_empty = BIT64(VIRTIO_F_NOTIFY_ON_EMPTY);

static void start_on_memfd_with(struct unit *u, uint64_t features, unsigned int num)
{
	unit_memfd(u, DISK_SIZE);
	unit_start_with(u, features, 1, num);
}

/* The device signals once after an attach whatever the driver wants. */
static void expect_first_signal(struct unit *u)
{
	expect_alive(u);
	WAIT_UNTIL(unit_stats(u, 0).signals == 1);
	event_count(u->vq[0].call);
}

static void submit_flushes(struct blk_request *req, unsigned int nr)
{
	struct vq_segment none = { 0 };
	unsigned int i;

	for (i = 0; i < nr; i++)
		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_FLUSH, 0, &none, 0));
	vq_submit(req->vq);
}

static void each_single_request_signals_once(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	uint64_t count = 0;
	unsigned int i;

	start_on_memfd_with(u, *(const uint64_t *)u->param, 16);
	expect_first_signal(u);
	for (i = 0; i < NR; i++) {
		*vq_used_event_word(vq) = vq->used_idx;
		unit_submit_one(u, &u->req, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
		assert_ok(event_wait(vq->call, TIMEOUT_MS));
		count += event_count(vq->call);
		assert_int_equal(blk_reap(vq), 1);
	}
	assert_int_equal(count, NR);
	ASSERT_NEVER(event_count(vq->call));
}

static void no_interrupt_flag_suppresses_signals(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct blk_request req[NR];

	start_on_memfd_with(u, plain, NR);
	expect_first_signal(u);
	unit_requests(req, NR, vq);
	vq->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	submit_flushes(req, NR);
	WAIT_UNTIL(vq_used_idx(vq) == NR + 1);
	ASSERT_NEVER(event_count(vq->call));
	/* Without the flag signals are sent again. */
	vq->avail->flags = 0;
	assert_int_equal(blk_reap(vq), NR);
	expect_alive(u);
}

/* A driver that polls leaves the used event behind the used index. */
static void no_signal_before_the_used_event(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct blk_request req[NR];

	start_on_memfd_with(u, event_index, NR);
	expect_first_signal(u);
	unit_requests(req, NR, vq);
	*vq_used_event_word(vq) = vq->used_idx - 1;
	submit_flushes(req, NR);
	WAIT_UNTIL(vq_used_idx(vq) == NR + 1);
	ASSERT_NEVER(event_count(vq->call));
}

static void one_signal_when_the_used_event_is_passed(void **state)
{
	static const uint16_t after[] = { 0, 1, NR / 2, NR - 1 };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct blk_request req[NR];
	unsigned int i;

	start_on_memfd_with(u, event_index, NR);
	expect_first_signal(u);
	unit_requests(req, NR, vq);
	for (i = 0; i < ARRAY_SIZE(after); i++) {
		*vq_used_event_word(vq) = vq->used_idx + after[i];
		submit_flushes(req, NR);
		WAIT_UNTIL(vq_used_idx(vq) == (uint16_t)(vq->used_idx + NR));
		assert_ok(event_wait(vq->call, TIMEOUT_MS));
		assert_int_equal(event_count(vq->call), 1);
		ASSERT_NEVER(event_count(vq->call));
		assert_int_equal(blk_reap(vq), NR);
	}
}

static void one_signal_for_slow_requests(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct blk_request req[NR];
	struct vq_segment data;
	unsigned int i;

	unit_slow(u, 50);
	unit_start_with(u, event_index, 1, NR);
	expect_first_signal(u);
	unit_requests(req, NR, vq);
	data = unit_segment(u, unit_alloc(u, 4096), 4096);
	*vq_used_event_word(vq) = vq->used_idx + NR - 1;
	for (i = 0; i < NR; i++) {
		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i * 8, &data, 1));
		if (i % 8 == 7)
			vq_submit(vq);
	}
	assert_ok(event_wait(vq->call, TIMEOUT_MS));
	assert_int_equal(vq_used_idx(vq), NR + 1);
	assert_int_equal(event_count(vq->call), 1);
	ASSERT_NEVER(event_count(vq->call));
}

/*
 * Submit bursts of random length, kick only if the device wants it and wait only
 * for the call eventfd: a lost kick or signal ends in a timeout.
 */
static void bursts(struct unit *u, unsigned int nr_bursts)
{
	struct vq *vq = &u->vq[0];
	struct blk_request req[NR];
	struct vq_segment data;
	uint64_t seed = 5, signals = 0, requests = 0;
	unsigned int i, b, nr;

	expect_first_signal(u);
	unit_requests(req, NR, vq);
	data = unit_segment(u, unit_alloc(u, 512), 512);
	for (b = 0; b < nr_bursts; b++) {
		nr = 1 + random_next(&seed) % (b % 4 ? 3 : NR);
		for (i = 0; i < nr; i++) {
			assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i, &data, 1));
			if (random_next(&seed) % 2)
				vq_submit(vq);
		}
		vq_submit(vq);
		for (i = 0; i < nr; i++)
			expect_end(&req[i], VIRTIO_BLK_S_OK, 513);
		requests += nr;
		if (random_next(&seed) % 8 == 0)
			usleep(random_next(&seed) % 500);
	}
	signals = event_count(vq->call);
	assert_true(signals <= requests);
}

static void no_kick_or_signal_is_lost(void **state)
{
	struct unit *u = *state;

	start_on_memfd_with(u, *(const uint64_t *)u->param, NR);
	bursts(u, 1500);
}

static void no_kick_or_signal_is_lost_on_a_device(void **state)
{
	struct null_blk spec = { .size_mib = 1, .delay_us = 100 };
	struct unit *u = *state;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	unit_start_with(u, *(const uint64_t *)u->param, 1, NR);
	bursts(u, 500);
}

static bool kicks_are_enabled(struct vq *vq)
{
	if (vq->event_idx)
		return *vq_avail_event_word(vq) == vq->avail_idx;
	return !(vq->used->flags & VRING_USED_F_NO_NOTIFY);
}

static void idle_device_enables_kicks(void **state)
{
	struct unit *u = *state;
	unsigned int i;

	start_on_memfd_with(u, *(const uint64_t *)u->param, 16);
	for (i = 0; i < 20; i++) {
		expect_alive(u);
		WAIT_UNTIL(kicks_are_enabled(&u->vq[0]));
	}
}

static void spurious_kicks_are_ignored(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	unsigned int i;

	start_on_memfd_with(u, *(const uint64_t *)u->param, 16);
	expect_first_signal(u);
	for (i = 0; i < 200; i++)
		assert_ok(vq_kick(vq));
	ASSERT_NEVER(vq_used_idx(vq) != 1 || event_count(vq->call) || event_count(vq->err));
	expect_alive(u);
}

static void works_without_a_call_eventfd(void **state)
{
	struct vhost_vring_file none = { .index = 0, .fd = VHOST_FILE_UNBIND };
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 16);
	assert_ok(ioctl(u->dev.fd, VHOST_SET_VRING_CALL, &none));
	unit_attach(u);
	unit_submit_one(u, &u->req, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
	WAIT_UNTIL(vq_used_idx(&u->vq[0]) == 1);
	assert_int_equal(event_count(u->vq[0].call), 0);
}

static void call_eventfd_can_be_replaced(void **state)
{
	struct vhost_vring_file file = { .index = 0 };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	int old;

	start_on_memfd_with(u, event_index, 16);
	expect_alive(u);
	old = vq->call;
	vq->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	file.fd = vq->call;
	assert_ok(ioctl(u->dev.fd, VHOST_SET_VRING_CALL, &file));
	event_count(old);
	expect_alive(u);
	assert_int_equal(event_count(old), 0);
	close(old);
}

static void kick_eventfd_can_be_replaced(void **state)
{
	struct vhost_vring_file file = { .index = 0 };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	int old;

	start_on_memfd_with(u, event_index, 16);
	expect_alive(u);
	old = vq->kick;
	vq->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	file.fd = vq->kick;
	assert_ok(ioctl(u->dev.fd, VHOST_SET_VRING_KICK, &file));
	expect_alive(u);
	expect_alive(u);
	close(old);
}

static void notify_on_empty_signals(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	unsigned int i;

	start_on_memfd_with(u, on_empty, 16);
	vq->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	for (i = 0; i < 5; i++) {
		unit_submit_one(u, &u->req, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
		assert_ok(event_wait(vq->call, TIMEOUT_MS));
		event_count(vq->call);
		WAIT_UNTIL(vq_used_idx(vq) == i + 1);
		assert_int_equal(blk_reap(vq), 1);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_ON(each_single_request_signals_once, plain),
		TEST_ON(each_single_request_signals_once, event_index),
		TEST(no_interrupt_flag_suppresses_signals),
		TEST(no_signal_before_the_used_event),
		TEST(one_signal_when_the_used_event_is_passed),
		TEST(one_signal_for_slow_requests),
		TEST_ON(no_kick_or_signal_is_lost, plain),
		TEST_ON(no_kick_or_signal_is_lost, event_index),
		TEST_ON(no_kick_or_signal_is_lost_on_a_device, plain),
		TEST_ON(no_kick_or_signal_is_lost_on_a_device, event_index),
		TEST_ON(idle_device_enables_kicks, plain),
		TEST_ON(idle_device_enables_kicks, event_index),
		TEST_ON(spurious_kicks_are_ignored, plain),
		TEST_ON(spurious_kicks_are_ignored, event_index),
		TEST(works_without_a_call_eventfd),
		TEST(call_eventfd_can_be_replaced),
		TEST(kick_eventfd_can_be_replaced),
		TEST(notify_on_empty_signals),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
