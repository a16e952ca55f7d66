// SPDX-License-Identifier: GPL-2.0
/* What became of a case whose end was foretold. */
#define _GNU_SOURCE
#include "ring.h"

#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "dirtylog.h"

/* Requests of this case that were. */
static bool answered[BATCH_MAX];

static void take_answer(const struct vring_used_elem *elem)
{
	unsigned int i;

	for (i = 0; i < nr_answered; i++)
		if (head[i] == elem->id && !answered[i])
			break;
	if (i == nr_answered)
		fuzz_fail("head %u is answered, which is not in flight", elem->id);
	answered[i] = true;
	if (elem->len != verdict[i].used_len)
		fuzz_fail("request %u, type %u: used.len %u, expected %u (status %d, expected %d)",
			  i, verdict[i].type, elem->len, verdict[i].used_len,
			  verdict[i].status_at ? *verdict[i].status_at : NO_STATUS,
			  verdict[i].status);
}

/* Most answers come at once, and on emulated machines to sleep costs more than a request. */
static void wait_moment(unsigned int looks)
{
	if (looks < 20)
		sched_yield();
	else
		usleep(looks < 1000 ? 50 : 2000);
}

/* Waits for signals or looks. */
void check_answers(struct queue *q, bool signals)
{
	unsigned int nr = nr_answered;
	int64_t end = now_ms() + BOUND_MS;
	struct vring_used_elem elem;
	unsigned int looks = 0;
	void *cookie;

	memset(answered, 0, sizeof(answered));
	while (nr) {
		if (vq_take(&q->vq, &elem, &cookie)) {
			take_answer(&elem);
			nr--;
			continue;
		}
		if (signals) {
			if (!vq_wait(&q->vq, 500))
				continue;
			/* The signal follows the answer, on a busy machine a moment later. */
			if (vq_used_idx(&q->vq) != q->vq.used_idx &&
			    event_wait(q->vq.call, BOUND_MS))
				fuzz_fail("an answer without a signal");
		} else {
			wait_moment(looks++);
		}
		if (!stops && event_count(q->vq.err))
			fuzz_fail("the ring stops, with %u answers missing", nr);
		if (now_ms() > end)
			fuzz_fail("%u answers are missing", nr);
	}
}

static bool overlap(const struct range *a, const struct range *b)
{
	return a->pos < b->pos + b->len && b->pos < a->pos + a->len;
}

static bool changes_disk(const struct verdict *v)
{
	return v->effect == WRITES || v->effect == ZEROES || v->effect == DISCARDS;
}

static bool meet_on_disk(const struct verdict *a, const struct verdict *b)
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

/* Requests of a case that are in each other's way on the disk may move anything. */
static void find_overlaps(void)
{
	unsigned int i, k;

	for (i = 0; i < nr_answered; i++) {
		for (k = 0; k < i; k++) {
			if (!meet_on_disk(&verdict[i], &verdict[k]))
				continue;
			verdict[i].partial = true;
			verdict[k].partial = true;
		}
	}
}

/* Another piece of the same request has been written as well, or the status. */
static bool overwritten(const struct verdict *v, unsigned int piece)
{
	const struct piece *a = &v->piece[piece];
	unsigned int k;

	for (k = v->nr_out; k < v->nr_out + v->nr_in; k++) {
		const struct piece *b = &v->piece[k];

		if (k != piece && a->host < b->host + b->len && b->host < a->host + a->len)
			return true;
	}
	return false;
}

/* What was read from the disk, or as the serial number. */
static void check_read(unsigned int request, struct verdict *v, const char *from)
{
	uint64_t left = v->data_len;
	unsigned int k;

	for (k = v->nr_out; k < v->nr_out + v->nr_in && left; k++) {
		struct piece *piece = &v->piece[k];
		uint64_t part = piece->len < left ? piece->len : left;

		if (!v->partial && memcmp(piece->host, from, part) && !overwritten(v, k))
			fuzz_fail("request %u, type %u: wrong data in segment %u", request, v->type,
				  k - v->nr_out);
		guest_accept(&guest, piece->host, part);
		from += part;
		left -= part;
	}
}

static void check_disk(unsigned int request, const struct verdict *v)
{
	uint64_t around = 8 * SECTOR_SIZE, size = disk->model.size;
	unsigned int i;

	for (i = 0; i < v->nr_ranges; i++) {
		uint64_t start = v->range[i].pos, end = start + v->range[i].len;
		int64_t at;

		start -= start < around ? start : around;
		end = end + around > size ? size : end + around;
		at = disk_differs(disk, start, end - start);
		if (at >= 0)
			fuzz_fail("request %u, type %u: byte %" PRId64 " of the disk is wrong",
				  request, v->type, at);
	}
}

/* As the guest wrote it: by now the request's own status may lie in its data. */
static void take_written(const struct verdict *v, char *to)
{
	uint64_t skip = sizeof(struct virtio_blk_outhdr);
	unsigned int k;

	for (k = 0; k < v->nr_out; k++) {
		const struct piece *piece = &v->piece[k];
		uint64_t from = piece->len < skip ? piece->len : skip;

		skip -= from;
		if (from < piece->len)
			to = mempcpy(to, guest_shadow(&guest, piece->host + from),
				     piece->len - from);
	}
}

static void note_effect(unsigned int i)
{
	struct verdict *v = &verdict[i];
	unsigned int k;

	switch (v->effect) {
	case READS:
		check_read(i, v, disk->shadow + v->range[0].pos);
		return;
	case GETS_ID:
		check_read(i, v, (char *)model.serial);
		return;
	case WRITES:
		if (!v->partial)
			take_written(v, disk->shadow + v->range[0].pos);
		break;
	case ZEROES:
		for (k = 0; k < v->nr_ranges && !v->partial; k++)
			memset(disk->shadow + v->range[k].pos, 0, v->range[k].len);
		break;
	case DISCARDS:
	case NOTHING:
		break;
	}
	if (v->partial || v->effect == DISCARDS)
		for (k = 0; k < v->nr_ranges; k++)
			disk_accept(disk, v->range[k].pos, v->range[k].len);
}

static void check_status(unsigned int i)
{
	static const enum count counts[] = { OKS, ERRORS, UNSUPPORTED };
	struct verdict *v = &verdict[i];

	if (v->status == NO_STATUS) {
		fuzz_count(SILENT, 1);
		return;
	}
	fuzz_count(counts[v->status], 1);
	if (*v->status_at != v->status)
		fuzz_fail("request %u, type %u: status %u, expected %d", i, v->type,
			  *(uint8_t *)v->status_at, v->status);
	guest_accept(&guest, v->status_at, 1);
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
			  LOOK_CASES);
	if (at)
		fuzz_fail("memory at 0x%" PRIx64 " was written, in one of the last %u cases",
			  guest_address(&guest.mem, at), LOOK_CASES);
	if (fault)
		fuzz_fail("the disk: %s, in one of the last %u cases", fault, LOOK_CASES);
}

void check_beyond_race(void)
{
	uint64_t limit = (RACE_ZONE + RACE_REACH) * SECTOR_SIZE;
	int64_t at = disk_differs(disk, limit, disk->model.size - limit);

	if (at >= 0)
		fuzz_fail("byte %" PRId64 " of the disk, which no request may reach, is wrong", at);
}

/* What was written is in the dirty log, and after all cases nothing else. */
static void check_log(void)
{
	unsigned int i, k;

	for (i = 0; i < nr_answered; i++) {
		struct verdict *v = &verdict[i];
		uint64_t left = v->effect == READS || v->effect == GETS_ID ? v->data_len : 0;

		if (v->status != NO_STATUS && dirtylog_misses(&guest, v->status_at, 1))
			fuzz_fail("request %u, type %u: its status is not logged", i, v->type);
		for (k = v->nr_out; k < v->nr_out + v->nr_in && !v->partial; k++) {
			uint32_t part = v->piece[k].len < left ? v->piece[k].len : left;

			if (dirtylog_misses(&guest, v->piece[k].host, part))
				fuzz_fail("request %u, type %u: its data is not logged", i,
					  v->type);
			left -= part;
		}
	}
	for (i = 0; i < nr_answered; i++)
		for (k = verdict[i].nr_out; k < verdict[i].nr_out + verdict[i].nr_in; k++)
			dirtylog_forget(&guest, verdict[i].piece[k].host, verdict[i].piece[k].len);
}

void check_case(struct queue *q)
{
	unsigned int i;

	find_overlaps();
	for (i = 0; i < nr_answered; i++)
		note_effect(i);
	for (i = 0; i < nr_answered; i++) {
		check_status(i);
		check_disk(i, &verdict[i]);
	}
	check_memory(q);
	if (dirtylog_is_on())
		check_log();
}
