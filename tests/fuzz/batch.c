// SPDX-License-Identifier: GPL-2.0
/* The requests of a case, and their expected results. */
#define _GNU_SOURCE
#include "ring.h"

struct request requests[BATCH_MAX];
uint16_t head[BATCH_MAX];
struct expectation expected[BATCH_MAX];
unsigned int nr_requests;
unsigned int nr_completed;
bool stops;

unsigned int batch_choose_size(struct dice *d, unsigned int most)
{
	unsigned int r = roll(d, 100), nr;

	if (r < 70)
		nr = 1 + roll(d, 4);
	else if (r < 95)
		nr = 1 + roll(d, 16);
	else
		nr = 1 + roll(d, BATCH_MAX);
	return nr < most ? nr : most;
}

void batch_make(struct dice *d, struct vq *vq, unsigned int nr, uint64_t valid_limit)
{
	struct budget budget = {
		.free_descs = vq->num, .next = roll(d, vq->num), .stride = 1 + 2 * roll(d, 512),
	};

	for (nr_requests = 0; nr--; ) {
		unsigned int i = nr_requests;

		if (guest_request(&guest, d, vq, &budget, &disk->model, valid_limit,
				  guest.slots + i * SLOT_SIZE, &requests[i]))
			head[nr_requests++] = requests[i].head;
	}
}

unsigned int batch_corrupt(struct dice *d, struct vq *vq)
{
	unsigned int victim, r = roll(d, 100);

	if (!nr_requests)
		return 0;
	victim = roll(d, nr_requests);
	if (r < 7)
		guest_corrupt(&guest, d, vq, &requests[victim]);
	else if (r < 8)
		head[victim] = chance(d, 50) ? vq->num : vq->num + roll(d, 65536 - vq->num);
	else if (r < 9 && nr_requests <= BATCH_DEVICE)
		head[victim] = head[roll(d, nr_requests)];
	else if (r < 10)
		return chance(d, 40) ? vq->num + 1 + roll(d, 60000) : 0;
	return 0;
}

/* The requests of a case that read or write a line of memory. */
#define LINE		64
#define SEVERAL		255
#define REGION_LINES	(2 * 1024 * 1024 / LINE)

struct line {
	uint32_t stamp;		/* of the case */
	uint8_t request;	/* or SEVERAL */
	bool written;
};

static struct line lines[NR_REGIONS][REGION_LINES];
static uint32_t stamp;

/* Return true if another request accesses the piece and one of the two writes it. */
static bool conflicts(unsigned int request, const struct piece *piece, bool write)
{
	const struct guest_region *r = guest.mem.region;
	struct line *line, *last;
	bool bad = false;

	if (!piece->len)
		return false;
	while (piece->host < r->host || piece->host >= r->host + r->size)
		r++;
	line = &lines[r - guest.mem.region][(piece->host - r->host) / LINE];
	last = &lines[r - guest.mem.region][(piece->host + piece->len - 1 - r->host) / LINE];
	for (; line <= last; line++) {
		if (line->stamp != stamp) {
			line->stamp = stamp;
			line->request = request;
			line->written = write;
			continue;
		}
		if (line->request != request) {
			bad |= write || line->written;
			line->request = SEVERAL;
		}
		line->written |= write;
	}
	return bad;
}

static bool in_rings(const struct piece *piece)
{
	const struct guest_region *r = &guest.mem.region[RINGS];

	return piece->len && piece->host < guest.rings_end && piece->host + piece->len > r->host &&
	       piece->host >= r->host;
}

/*
 * Return true if the result depends on the order in which the device accesses
 * memory, because the request shares it with other requests or with the rings.
 */
static bool is_unordered(unsigned int i)
{
	const struct expectation *e = &expected[i];
	bool all = e->effect == READS || e->effect == GETS_ID, bad = e->nr_tables > 1;
	unsigned int k;

	bad |= e->nr_tables && (conflicts(i, &e->table, false) || in_rings(&e->table));
	for (k = 0; k < e->nr_out + e->nr_in; k++) {
		struct piece piece = e->piece[k];
		bool in = k >= e->nr_out;

		bad |= in_rings(&piece);
		if (in && !all) {
			/* Only the status is written. */
			if (k + 1 < e->nr_out + e->nr_in)
				continue;
			piece.host += piece.len - 1;
			piece.len = 1;
		}
		if (in && in_rings(&piece))
			damaged = true;
		bad |= conflicts(i, &piece, in);
	}
	return bad;
}

bool batch_predict(struct queue *q, unsigned int beyond)
{
	unsigned int i, k;
	bool unordered = false;

	stamp++;
	stops = beyond;
	nr_completed = 0;
	for (i = 0; i < nr_requests && !stops; i++) {
		model_predict(&model, &q->vq, head[i], &expected[i]);
		stops = expected[i].stops;
		for (k = 0; k < i && !stops; k++)
			stops = head[k] == head[i];
		if (stops)
			break;
		unordered |= is_unordered(i);
		nr_completed++;
	}
	return !unordered;
}

void batch_make_available(struct queue *q, unsigned int from, unsigned int to)
{
	unsigned int i;

	for (i = from; i < to; i++)
		vq_push(&q->vq, head[i]);
}

void queue_publish(struct dice *d, struct queue *q)
{
	if (chance(d, 70)) {
		vq_submit(&q->vq);
	} else {
		vq_publish(&q->vq);
		q->vq.told_idx = q->vq.avail_idx;
		vq_kick(&q->vq);
	}
}
