// SPDX-License-Identifier: GPL-2.0
/*
 * A malicious guest on the rings of /dev/vhost-blk. In a predictable case each
 * completion, the guest's memory and the disk are as the model predicts. In a
 * case where memory changes while the device reads it, the device completes
 * each request or stops the ring, and accesses only what a request allows.
 */
#define _GNU_SOURCE
#include "ring.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "second_device.h"

#define SECOND_DEVICE_CASES	8	/* between checks of the second device */

static const char *const count_names[] = {
	"requests", "OK", "IOERR", "UNSUPP", "without a status", "stopped rings",
	"unordered", "races", "attaches", NULL
};

static struct second_device second_device;

static struct dice session_dice(uint64_t session)
{
	return dice_of(session ^ 0x5e55104000000000ULL);
}

static struct disk *session_disk(struct dice *d)
{
	return disk_get(roll(d, DISKS));
}

static void prepare(uint64_t session)
{
	struct dice d = session_dice(session);

	disk = session_disk(&d);
}

/* Requests may have been in flight at the end of the session. */
static void after_session(bool failed)
{
	if (!failed)
		check_beyond_race();
	disk_accept(disk, 0, disk->model.size);
}

static void open_session(uint64_t session)
{
	struct dice d = session_dice(session);

	disk = session_disk(&d);
	second_device_start(&second_device, fuzz_device());
	target_open(&d);
}

/* Each request of an unordered case must complete or stop the ring. Results are not checked. */
static void run_unordered(struct dice *d, struct queue *q)
{
	queue_publish(d, q);
	queue_drain(q);
	if (damaged)
		target_reattach(d);
	guest_accept_all(&guest);
	disk_accept(disk, 0, disk->model.size);
	fuzz_count(UNORDERED, 1);
}

static void run_predictable(struct dice *d, struct queue *q)
{
	unsigned int nr = batch_choose_size(d, q->vq.num), beyond, half;
	bool signals = chance(d, 50), predictable;

	batch_make(d, &q->vq, nr, 0);
	beyond = batch_corrupt(d, &q->vq);
	predictable = batch_predict(q, beyond);
	fuzz_count(REQUESTS, nr_requests);
	queue_want_signals(q, signals);

	half = predictable && !stops && chance(d, 20) ? roll(d, nr_requests + 1) : 0;
	if (half) {
		batch_make_available(q, 0, half);
		queue_publish(d, q);
	}
	batch_make_available(q, half, nr_requests);
	q->vq.avail_idx += beyond;
	if (!predictable) {
		run_unordered(d, q);
		return;
	}
	queue_publish(d, q);
	check_completions(q, signals);
	if (stops)
		queue_expect_stop(q);
	check_case(q);
	if (!stops && event_count(q->vq.err))
		fuzz_fail("the ring stops at valid chains");
}

static void run(uint64_t seed)
{
	struct dice d = dice_of(seed);
	struct queue *q = target_choose_queue(&d);

	if (chance(&d, 90))
		run_predictable(&d, q);
	else
		run_race(&d, q);
	if (seed % SECOND_DEVICE_CASES == 0)
		second_device_verify(&second_device, &d);
	if (seed % CHECK_CASES == CHECK_CASES - 1)
		check_all();
}

/* Leave requests in flight at the end of the session. */
static void leave_in_flight(struct dice *d)
{
	struct queue *q = target_choose_queue(d);

	batch_make(d, &q->vq, batch_choose_size(d, q->vq.num), RACE_ZONE);
	batch_make_available(q, 0, nr_requests);
	queue_publish(d, q);
}

static void close_session(uint64_t session)
{
	struct dice d = dice_of(session);

	check_all();
	second_device_verify(&second_device, &d);
	switch (roll(&d, 5)) {
	case 0:
		leave_in_flight(&d);
		fuzz_expect_kill();
		kill(getpid(), SIGKILL);
		break;
	case 1:
		leave_in_flight(&d);
		break;
	case 2:
		leave_in_flight(&d);
		target_close();
		break;
	case 3:
		target_close();
		break;
	default:
		target_detach();
		target_close();
	}
}

int main(int argc, char **argv)
{
	static const struct fuzzer fuzzer = {
		.name = "ring",
		.prepare = prepare,
		.open = open_session,
		.run = run,
		.close = close_session,
		.after_session = after_session,
		.finish = disk_remove_all,
		.count_names = count_names,
	};

	return fuzz_main(argc, argv, &fuzzer);
}

