// SPDX-License-Identifier: GPL-2.0
/* Checks the results of a predictable case. */
#define _GNU_SOURCE
#include "ring.h"

#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "dirtylog.h"

/* Requests of this case that have completed. */
static bool completed[BATCH_MAX];

static void take_completion(const struct vring_used_elem *elem)
{
	unsigned int i;

	for (i = 0; i < nr_completed; i++)
		if (head[i] == elem->id && !completed[i])
			break;
	if (i == nr_completed)
		fuzz_fail("completion of head %u, which is not in flight", elem->id);
	completed[i] = true;
	if (elem->len != expected[i].used_len)
		fuzz_fail("request %u, type %u: used.len %u, expected %u (status %d, expected %d)",
			  i, expected[i].type, elem->len, expected[i].used_len,
			  expected[i].status_at ? *expected[i].status_at : NO_STATUS,
			  expected[i].status);
}

/* Most requests complete at once, and a sleep of an emulated machine takes longer than those. */
static void poll_delay(unsigned int polls)
{
	if (polls < 20)
		sched_yield();
	else
		usleep(polls < 1000 ? 50 : 2000);
}

/* Take all expected completions, waiting for signals or polling the used ring. */
void check_completions(struct queue *q, bool signals)
{
	unsigned int nr = nr_completed;
	int64_t end = now_ms() + BOUND_MS;
	struct vring_used_elem elem;
	unsigned int polls = 0;
	void *cookie;

	memset(completed, 0, sizeof(completed));
	while (nr) {
		if (vq_take(&q->vq, &elem, &cookie)) {
			take_completion(&elem);
			nr--;
			continue;
		}
		if (signals) {
			if (!vq_wait(&q->vq, 500))
				continue;
			/* The signal follows the used index, on a busy machine after a delay. */
			if (vq_used_idx(&q->vq) != q->vq.used_idx &&
			    event_wait(q->vq.call, BOUND_MS))
				fuzz_fail("a completion without a signal");
		} else {
			poll_delay(polls++);
		}
		if (!stops && event_count(q->vq.err))
			fuzz_fail("the ring stops with %u completions missing", nr);
		if (now_ms() > end)
			fuzz_fail("%u completions are missing", nr);
	}
}

static bool overlap(const struct range *a, const struct range *b)
{
	return a->pos < b->pos + b->len && b->pos < a->pos + a->len;
}

static bool changes_disk(const struct expectation *e)
{
	return e->effect == WRITES || e->effect == ZEROES || e->effect == DISCARDS;
}

static bool overlap_on_disk(const struct expectation *a, const struct expectation *b)
{
	unsigned int i, k;

	if (!changes_disk(a) && !changes_disk(b))
		return false;
	for (i = 0; i < a->nr_ranges; i++)
		for (k = 0; k < b->nr_ranges; k++)
			if (overlap(&a->range[i], &b->range[k]))
				return true;
	return false;
}

/* Requests of a case that overlap on the disk have no expected data. */
static void find_overlaps(void)
{
	unsigned int i, k;

	for (i = 0; i < nr_completed; i++) {
		for (k = 0; k < i; k++) {
			if (!overlap_on_disk(&expected[i], &expected[k]))
				continue;
			expected[i].partial = true;
			expected[k].partial = true;
		}
	}
}

/* Return true if another piece of the request, or its status, was written to the same memory. */
static bool overwritten(const struct expectation *e, unsigned int piece)
{
	const struct piece *a = &e->piece[piece];
	unsigned int k;

	for (k = e->nr_out; k < e->nr_out + e->nr_in; k++) {
		const struct piece *b = &e->piece[k];

		if (k != piece && a->host < b->host + b->len && b->host < a->host + a->len)
			return true;
	}
	return false;
}

/* Check the data that was read from the disk, or the serial number. */
static void check_read(unsigned int request, struct expectation *e, const char *from)
{
	uint64_t left = e->data_len;
	unsigned int k;

	for (k = e->nr_out; k < e->nr_out + e->nr_in && left; k++) {
		struct piece *piece = &e->piece[k];
		uint64_t part = piece->len < left ? piece->len : left;

		if (!e->partial && memcmp(piece->host, from, part) && !overwritten(e, k))
			fuzz_fail("request %u, type %u: wrong data in segment %u", request, e->type,
				  k - e->nr_out);
		guest_accept(&guest, piece->host, part);
		from += part;
		left -= part;
	}
}

static void check_disk(unsigned int request, const struct expectation *e)
{
	uint64_t around = 8 * SECTOR_SIZE, size = disk->model.size;
	unsigned int i;

	for (i = 0; i < e->nr_ranges; i++) {
		uint64_t start = e->range[i].pos, end = start + e->range[i].len;
		int64_t at;

		start -= start < around ? start : around;
		end = end + around > size ? size : end + around;
		at = disk_differs(disk, start, end - start);
		if (at >= 0)
			fuzz_fail("request %u, type %u: byte %" PRId64 " of the disk is wrong",
				  request, e->type, at);
	}
}

/* Copy the data from the shadow, because the request's status may have overwritten it. */
static void copy_written(const struct expectation *e, char *to)
{
	uint64_t skip = sizeof(struct virtio_blk_outhdr);
	unsigned int k;

	for (k = 0; k < e->nr_out; k++) {
		const struct piece *piece = &e->piece[k];
		uint64_t from = piece->len < skip ? piece->len : skip;

		skip -= from;
		if (from < piece->len)
			to = mempcpy(to, guest_shadow(&guest, piece->host + from),
				     piece->len - from);
	}
}

static void apply_effect(unsigned int i)
{
	struct expectation *e = &expected[i];
	unsigned int k;

	switch (e->effect) {
	case READS:
		check_read(i, e, disk->shadow + e->range[0].pos);
		return;
	case GETS_ID:
		check_read(i, e, (char *)model.serial);
		return;
	case WRITES:
		if (!e->partial)
			copy_written(e, disk->shadow + e->range[0].pos);
		break;
	case ZEROES:
		for (k = 0; k < e->nr_ranges && !e->partial; k++)
			memset(disk->shadow + e->range[k].pos, 0, e->range[k].len);
		break;
	case DISCARDS:
	case NOTHING:
		break;
	}
	if (e->partial || e->effect == DISCARDS)
		for (k = 0; k < e->nr_ranges; k++)
			disk_accept(disk, e->range[k].pos, e->range[k].len);
}

static void check_status(unsigned int i)
{
	static const enum count counts[] = { OKS, ERRORS, UNSUPPORTED };
	struct expectation *e = &expected[i];

	if (e->status == NO_STATUS) {
		fuzz_count(SILENT, 1);
		return;
	}
	fuzz_count(counts[e->status], 1);
	if (*e->status_at != e->status)
		fuzz_fail("request %u, type %u: status %u, expected %d", i, e->type,
			  *(uint8_t *)e->status_at, e->status);
	guest_accept(&guest, e->status_at, 1);
}

static void check_memory(struct queue *q)
{
	const char *at = guest_differs(&guest, guest.slots, nr_requests * SLOT_SIZE);

	if (at)
		fuzz_fail("memory at 0x%" PRIx64 " (slot %zu, byte %zu) was written",
			  guest_address(&guest.mem, at), (at - guest.slots) / SLOT_SIZE,
			  (at - guest.slots) % SLOT_SIZE);
	if (guest_differs(&guest, (char *)q->vq.desc, q->vq.num * sizeof(struct vring_desc)))
		fuzz_fail("a descriptor was written");
}

void check_all(void)
{
	const char *at = guest_all_differs(&guest), *fault = disk_fault(disk);

	if (!dirtylog_is_empty())
		fuzz_fail("a page is logged that was not written, in one of the last %u cases",
			  CHECK_CASES);
	if (at)
		fuzz_fail("memory at 0x%" PRIx64 " was written, in one of the last %u cases",
			  guest_address(&guest.mem, at), CHECK_CASES);
	if (fault)
		fuzz_fail("the disk: %s, in one of the last %u cases", fault, CHECK_CASES);
}

void check_beyond_race(void)
{
	uint64_t limit = (RACE_ZONE + RACE_REACH) * SECTOR_SIZE;
	int64_t at = disk_differs(disk, limit, disk->model.size - limit);

	if (at >= 0)
		fuzz_fail("byte %" PRId64 " of the disk, which no request may reach, is wrong", at);
}

/* Check that the dirty log has the pages that were written, and clear those. */
static void check_log(void)
{
	unsigned int i, k;

	for (i = 0; i < nr_completed; i++) {
		struct expectation *e = &expected[i];
		uint64_t left = e->effect == READS || e->effect == GETS_ID ? e->data_len : 0;

		if (e->status != NO_STATUS && dirtylog_lacks(&guest, e->status_at, 1))
			fuzz_fail("request %u, type %u: its status is not logged", i, e->type);
		for (k = e->nr_out; k < e->nr_out + e->nr_in && !e->partial; k++) {
			uint32_t part = e->piece[k].len < left ? e->piece[k].len : left;

			if (dirtylog_lacks(&guest, e->piece[k].host, part))
				fuzz_fail("request %u, type %u: its data is not logged", i,
					  e->type);
			left -= part;
		}
	}
	for (i = 0; i < nr_completed; i++)
		for (k = expected[i].nr_out; k < expected[i].nr_out + expected[i].nr_in; k++)
			dirtylog_clear(&guest, expected[i].piece[k].host, expected[i].piece[k].len);
}

void check_case(struct queue *q)
{
	unsigned int i;

	find_overlaps();
	for (i = 0; i < nr_completed; i++)
		apply_effect(i);
	for (i = 0; i < nr_completed; i++) {
		check_status(i);
		check_disk(i, &expected[i]);
	}
	check_memory(q);
	if (dirtylog_is_on())
		check_log();
}
