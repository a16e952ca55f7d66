// SPDX-License-Identifier: GPL-2.0
/* Cases in which memory changes while the device looks at it. */
#define _GNU_SOURCE
#include "ring.h"

#include <unistd.h>

#include "race.h"

/* The part of the guest's memory that changes. */
enum race_kind {
	RACE_HEADER, RACE_DATA, RACE_CHAIN, RACE_ANYTHING, RACE_RING, RACE_MEMORY, RACE_KINDS
};

static void flip_header(struct dice *d, struct race *race, struct request *req)
{
	static const uint32_t types[] = {
		VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, 77,
	};
	uint64_t sectors = disk->model.size / SECTOR_SIZE;
	struct flip *flip = race_add(race, &req->header->type, 4);

	flip->value[1] = pick(d, types);
	flip->value[2] = pick(d, types);
	flip = race_add(race, &req->header->sector, 8);
	flip->value[1] = roll(d, RACE_ZONE);
	flip->value[2] = sectors + roll(d, 2);
	/* A device that reads the sector again after its check writes there. */
	flip->value[3] = (1ULL << 55) + RACE_ZONE + RACE_REACH +
			 roll(d, sectors - RACE_ZONE - RACE_REACH - 16);
}

static void flip_data(struct dice *d, struct race *race, struct request *req)
{
	unsigned int i;

	for (i = 0; i < 4; i++)
		race_add(race, req->data + 8 * roll(d, req->data_len / 8), 8)->value[1] =
			random_next(&d->state);
	race_add(race, req->status, 1)->value[1] = 0x77;
}

static uint64_t racy_address(struct dice *d, struct request *req)
{
	const struct guest_region *r = &guest.mem.region[roll(d, NR_REGIONS - 1) + 1];

	if (chance(d, 60))
		return guest_address(&guest.mem, req->data + roll(d, req->data_len));
	return chance(d, 50) ? r->gpa + roll(d, r->size) : random_next(&d->state);
}

static void flip_desc(struct dice *d, struct race *race, struct vq *vq, struct request *req,
		      struct vring_desc *desc)
{
	struct flip *flip;

	switch (roll(d, 4)) {
	case 0:
		flip = race_add(race, &desc->addr, 8);
		flip->value[1] = racy_address(d, req);
		flip->value[2] = racy_address(d, req);
		break;
	case 1:
		flip = race_add(race, &desc->len, 4);
		flip->value[1] = roll(d, 4097);
		flip->value[2] = SECTOR_SIZE * roll(d, 9);
		break;
	case 2:
		flip = race_add(race, &desc->flags, 2);
		flip->value[1] = roll(d, 8);
		flip->value[2] = roll(d, 8);
		break;
	default:
		flip = race_add(race, &desc->next, 2);
		flip->value[1] = roll(d, vq->num + 1);
		flip->value[2] = roll(d, vq->num);
	}
}

/* Flip all descriptors but the header's and that of the indirect table. */
static void flip_chain(struct dice *d, struct race *race, struct vq *vq, struct request *req)
{
	uint64_t header = guest_address(&guest.mem, req->header);
	unsigned int i;

	for (i = 0; i < req->nr_descs; i++)
		if (req->desc[i]->addr != header && !(req->desc[i]->flags & VRING_DESC_F_INDIRECT))
			flip_desc(d, race, vq, req, req->desc[i]);
}

static void flip_anything(struct dice *d, struct race *race, struct vq *vq, struct request *req)
{
	unsigned int i;

	for (i = 0; i < 4; i++)
		flip_desc(d, race, vq, req, req->desc[roll(d, req->nr_descs)]);
	flip_header(d, race, req);
}

static void flip_ring(struct dice *d, struct race *race, struct vq *vq)
{
	uint16_t *const words[] = {
		&vq->avail->idx, &vq->avail->idx, &vq->avail->idx, &vq->avail->flags,
		(uint16_t *)vq_used_event_word(vq), (uint16_t *)vq_avail_event_word(vq),
		&vq->used->flags, &vq->used->idx, &vq->avail->ring[roll(d, vq->num)],
		(uint16_t *)&vq->used->ring[roll(d, vq->num)].id,
	};
	unsigned int i;

	for (i = 0; i < 5; i++) {
		uint16_t *word = pick(d, words);
		struct flip *flip = race_add(race, word, 2);

		flip->value[1] += 1 + roll(d, 3);
		flip->value[2] += roll(d, vq->num + 2);
		flip->value[3] = chance(d, 20) ? random_next(&d->state) : flip->value[0];
	}
}

static void invalidate_memory(struct dice *d, struct race *race, struct request *req)
{
	const struct guest_region *r = &guest.mem.region[RINGS];
	bool ring = chance(d, 15);

	/* The page of a header and table or that of data, or all rings. */
	race->invalidation = INVALIDATE_NONE + 1 + roll(d, INVALIDATIONS - 1);
	race->memory = req->slot + roll(d, 2) * PAGE;
	race->len = PAGE;
	if (ring) {
		race->memory = r->host;
		race->len = guest.rings_end - r->host;
		damaged = true;
	}
	race->fd = guest.mem.fd;
	race->offset = race->memory - r->host;
}

static void add_race(struct dice *d, struct race *race, enum race_kind kind, struct vq *vq,
		     struct request *req)
{
	switch (kind) {
	case RACE_HEADER:
		flip_header(d, race, req);
		break;
	case RACE_DATA:
		flip_data(d, race, req);
		break;
	case RACE_CHAIN:
		flip_chain(d, race, vq, req);
		break;
	case RACE_ANYTHING:
		flip_anything(d, race, vq, req);
		break;
	case RACE_RING:
		flip_ring(d, race, vq);
		damaged = true;
		break;
	default:
		invalidate_memory(d, race, req);
	}
}

void run_race(struct dice *d, struct queue *q)
{
	enum race_kind kind = roll(d, RACE_KINDS);
	/* Chains that flip into each other must not reach beyond RACE_REACH. */
	unsigned int i, most = kind == RACE_HEADER ? 16 : 4;
	struct race race = { 0 };
	bool anything;

	batch_make(d, &q->vq, batch_choose_size(d, q->vq.num < most ? q->vq.num : most),
		   RACE_ZONE);
	if (!nr_requests)
		return;
	fuzz_count(REQUESTS, nr_requests);
	fuzz_count(RACES, 1);
	queue_want_signals(q, chance(d, 50));
	batch_make_available(q, 0, nr_requests);
	vq_publish(&q->vq);
	for (i = 0; i < nr_requests; i++)
		add_race(d, &race, kind, &q->vq, &requests[i]);
	race_start(&race, random_next(&d->state));
	vq_kick(&q->vq);
	usleep(roll(d, 1500));
	race_stop(&race);
	queue_drain(q);
	q->vq.told_idx = q->vq.avail_idx;

	anything = kind == RACE_ANYTHING || damaged;
	/* The device writes used entries until it is detached. */
	if (damaged)
		target_reattach(d);
	if (!anything)
		check_beyond_race();
	disk_accept(disk, 0, disk->model.size);
	if (anything || kind == RACE_CHAIN)
		guest_accept_all(&guest);
	else
		guest_accept(&guest, guest.slots, nr_requests * SLOT_SIZE);
}
