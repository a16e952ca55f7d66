// SPDX-License-Identifier: GPL-2.0
/*
 * A malicious guest on the rings of /dev/vhost-blk. Where a case is determined
 * each answer, the guest's memory and the disk are those that the model
 * foretells; where memory changes meanwhile, the device gives some answer or
 * stops the ring, and touches nothing that it was not allowed to.
 */
#define _GNU_SOURCE
#include "ring.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "bystander.h"

#define BYSTANDER_CASES	8	/* after so many another device has to work */

static const char *const count_names[] = {
	"requests", "OK", "IOERR", "UNSUPP", "without a status", "stopped rings",
	"with requests in each other's way", "races", "attaches", NULL
};

static struct bystander bystander;

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

/* After a session whose last requests nobody has looked at. */
static void settle(bool failed)
{
	if (!failed)
		check_beyond_race();
	disk_accept(disk, 0, disk->model.size);
}

static void open_session(uint64_t session)
{
	struct dice d = session_dice(session);

	disk = session_disk(&d);
	bystander_start(&bystander, fuzz_device());
	target_open(&d);
}

/* A case in which requests are in each other's way, so that anything may come of it. */
static void run_vague(struct dice *d, struct queue *q)
{
	queue_show(d, q);
	queue_wait_until_quiet(q);
	if (damaged)
		target_attach_anew(d);
	guest_accept_all(&guest);
	disk_accept(disk, 0, disk->model.size);
	fuzz_count(VAGUE, 1);
}

static void run_determined(struct dice *d, struct queue *q)
{
	unsigned int nr = batch_choose_number(d, q->vq.num), beyond, half;
	bool signals = chance(d, 50), foretold;

	batch_make(d, &q->vq, nr, 0);
	beyond = batch_spoil(d, &q->vq);
	foretold = batch_judge(q, beyond);
	fuzz_count(REQUESTS, nr_requests);
	queue_want_signals(q, signals);

	half = foretold && !stops && chance(d, 20) ? roll(d, nr_requests + 1) : 0;
	if (half) {
		batch_make_available(q, 0, half);
		queue_show(d, q);
	}
	batch_make_available(q, half, nr_requests);
	q->vq.avail_idx += beyond;
	if (!foretold) {
		run_vague(d, q);
		return;
	}
	queue_show(d, q);
	check_answers(q, signals);
	if (stops)
		queue_expect_stop(q);
	check_case(q);
	if (!stops && event_count(q->vq.err))
		fuzz_fail("the ring stops without a reason");
}

static void run(uint64_t seed)
{
	struct dice d = dice_of(seed);
	struct queue *q = target_choose_queue(&d);

	if (chance(&d, 90))
		run_determined(&d, q);
	else
		run_race(&d, q);
	if (seed % BYSTANDER_CASES == 0)
		bystander_works(&bystander, &d);
	if (seed % LOOK_CASES == LOOK_CASES - 1)
		check_all();
}

/* The owner ends with requests in flight. */
static void leave_in_flight(struct dice *d)
{
	struct queue *q = target_choose_queue(d);

	batch_make(d, &q->vq, batch_choose_number(d, q->vq.num), RACE_ZONE);
	batch_make_available(q, 0, nr_requests);
	queue_show(d, q);
}

static void close_session(uint64_t session)
{
	struct dice d = dice_of(session);

	check_all();
	bystander_works(&bystander, &d);
	switch (roll(&d, 5)) {
	case 0:
		leave_in_flight(&d);
		fuzz_ends_by_kill();
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
		.settle = settle,
		.finish = disk_remove_all,
		.count_names = count_names,
	};

	return fuzz_main(argc, argv, &fuzzer);
}

