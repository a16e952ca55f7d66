// SPDX-License-Identifier: GPL-2.0
/* The result of a chain of descriptors, according to the documents. */
#define _GNU_SOURCE
#include "model.h"

#include <string.h>

#include "blk.h"

#define TABLE_MAX	65536	/* descriptors in an indirect table */

/* Append the pieces of a guest-physical range, one for each region. */
static bool translate(const struct model *m, uint64_t addr, uint32_t len, struct piece *piece,
		      unsigned int *nr, unsigned int max)
{
	unsigned int i;

	while (len) {
		const struct guest_region *r = NULL;
		uint64_t part;

		for (i = 0; i < m->mem->nregions && !r; i++)
			if (addr - m->mem->region[i].gpa < m->mem->region[i].size)
				r = &m->mem->region[i];
		if (!r || *nr == max)
			return false;
		part = r->size - (addr - r->gpa);
		if (part > len)
			part = len;
		piece[*nr].host = r->host + (addr - r->gpa);
		piece[(*nr)++].len = part;
		addr += part;
		len -= part;
	}
	return true;
}

/* Add a direct descriptor. */
static bool take(const struct model *m, struct expectation *e, const struct vring_desc *desc)
{
	unsigned int nr = e->nr_out + e->nr_in, before = nr;

	if (!translate(m, desc->addr, desc->len, e->piece, &nr, PIECES_MAX))
		return false;
	if (desc->flags & VRING_DESC_F_WRITE) {
		e->nr_in += nr - before;
		return true;
	}
	if (e->nr_in)
		return false;
	e->nr_out += nr - before;
	return true;
}

bool model_access(const struct model *m, const struct piece *piece, unsigned int nr, uint64_t from,
		  size_t len, bool write, void *copy)
{
	for (; nr && len; nr--, piece++) {
		size_t part = piece->len;

		if (from >= part) {
			from -= part;
			continue;
		}
		part = part - from < len ? part - from : len;
		if (!m->allowed(piece->host + from, part, write))
			return false;
		if (copy)
			copy = mempcpy(copy, piece->host + from, part);
		len -= part;
		from = 0;
	}
	return !len;
}

/* Add the descriptors of a table, in order of their addresses. Their next fields are ignored. */
static bool take_table(const struct model *m, struct expectation *e, const struct vring_desc *table)
{
	struct piece piece[GUEST_REGIONS_MAX];
	unsigned int i, nr = 0, count = table->len / sizeof(*table);
	struct vring_desc desc;

	if (table->len % sizeof(*table) || count > TABLE_MAX ||
	    !translate(m, table->addr, table->len, piece, &nr, GUEST_REGIONS_MAX))
		return false;
	if (nr) {
		e->nr_tables++;
		e->table = piece[0];
	}
	for (i = 0; i < count; i++) {
		if (!model_access(m, piece, nr, i * sizeof(desc), sizeof(desc), false, &desc) ||
		    desc.flags & VRING_DESC_F_INDIRECT || !take(m, e, &desc))
			return false;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return true;
	}
	return false;
}

static bool take_chain(const struct model *m, const struct vq *vq, uint16_t head,
		       struct expectation *e)
{
	unsigned int found, i = head;

	for (found = 0; found < vq->num; found++) {
		struct vring_desc desc;

		if (i >= vq->num)
			return false;
		desc = vq->desc[i];
		if (!(desc.flags & VRING_DESC_F_INDIRECT ? take_table(m, e, &desc) :
							   take(m, e, &desc)))
			return false;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return true;
		i = desc.next;
	}
	return false;
}

static bool in_range(const struct model *m, uint64_t sector, uint64_t len)
{
	uint64_t sectors = m->disk->size / SECTOR_SIZE;

	return sector <= sectors && len <= m->disk->size - sector * SECTOR_SIZE;
}

static int io_error(struct expectation *e)
{
	e->effect = NOTHING;
	e->nr_ranges = 0;
	return VIRTIO_BLK_S_IOERR;
}

static int predict_rw(const struct model *m, struct expectation *e, uint64_t sector)
{
	uint64_t block = m->disk->direct ? m->disk->block_size : SECTOR_SIZE;
	bool read = e->type == VIRTIO_BLK_T_IN, ok;

	if (e->data_len % SECTOR_SIZE || e->data_len >= UINT32_MAX ||
	    !in_range(m, sector, e->data_len))
		return io_error(e);
	e->effect = read ? READS : WRITES;
	e->nr_ranges = 1;
	e->range[0].pos = sector * SECTOR_SIZE;
	e->range[0].len = e->data_len;
	if (!e->data_len)
		return VIRTIO_BLK_S_OK;
	ok = read ? model_access(m, e->piece + e->nr_out, e->nr_in, 0, e->data_len, true, NULL) :
		    model_access(m, e->piece, e->nr_out, sizeof(struct virtio_blk_outhdr),
				 e->data_len, false, NULL);
	e->partial = !ok || (sector * SECTOR_SIZE | e->data_len) % block;
	return e->partial ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static int predict_id(const struct model *m, struct expectation *e)
{
	e->effect = GETS_ID;
	if (e->data_len > VIRTIO_BLK_ID_BYTES)
		e->data_len = VIRTIO_BLK_ID_BYTES;
	e->partial = !model_access(m, e->piece + e->nr_out, e->nr_in, 0, e->data_len, true, NULL);
	return e->partial ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static int predict_segment(const struct model *m, struct expectation *e,
			   const struct virtio_blk_discard_write_zeroes *seg)
{
	bool unmap = seg->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	uint32_t block = SECTOR_SIZE;
	struct range *range;

	if (m->disk->direct || e->type == VIRTIO_BLK_T_SECURE_ERASE)
		block = m->disk->block_size;
	if (seg->flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP ||
	    (unmap && e->type != VIRTIO_BLK_T_WRITE_ZEROES))
		return VIRTIO_BLK_S_UNSUPP;
	if ((e->type == VIRTIO_BLK_T_SECURE_ERASE &&
	     seg->num_sectors > m->disk->limits.max_secure_erase_sectors) ||
	    (seg->sector | seg->num_sectors) % (block / SECTOR_SIZE) ||
	    !in_range(m, seg->sector, (uint64_t)seg->num_sectors * SECTOR_SIZE))
		return VIRTIO_BLK_S_IOERR;
	range = &e->range[e->nr_ranges++];
	range->pos = seg->sector * SECTOR_SIZE;
	range->len = (uint64_t)seg->num_sectors * SECTOR_SIZE;
	return VIRTIO_BLK_S_OK;
}

static int predict_ranges(const struct model *m, struct expectation *e)
{
	const struct vhost_blk_limits *limits = &m->disk->limits;
	struct virtio_blk_discard_write_zeroes seg;
	uint64_t len = e->out_len - sizeof(struct virtio_blk_outhdr), at;
	int feature = VIRTIO_BLK_F_SECURE_ERASE, status = VIRTIO_BLK_S_OK;
	bool supported = limits->max_secure_erase_sectors;

	if (e->type == VIRTIO_BLK_T_DISCARD) {
		feature = VIRTIO_BLK_F_DISCARD;
		supported = limits->max_discard_sectors;
	} else if (e->type == VIRTIO_BLK_T_WRITE_ZEROES) {
		feature = VIRTIO_BLK_F_WRITE_ZEROES;
		supported = limits->max_write_zeroes_sectors;
	}
	if (!(m->features & (1ULL << feature)))
		return VIRTIO_BLK_S_UNSUPP;
	if (e->data_len || m->disk->readonly)
		return VIRTIO_BLK_S_IOERR;
	if (!supported)
		return VIRTIO_BLK_S_UNSUPP;
	if (len % sizeof(seg) || len / sizeof(seg) > RANGES_MAX)
		return VIRTIO_BLK_S_IOERR;
	for (at = 0; at < len && status == VIRTIO_BLK_S_OK; at += sizeof(seg)) {
		if (!model_access(m, e->piece, e->nr_out, sizeof(struct virtio_blk_outhdr) + at,
				  sizeof(seg), false, &seg))
			status = VIRTIO_BLK_S_IOERR;
		else
			status = predict_segment(m, e, &seg);
	}
	if (status != VIRTIO_BLK_S_OK)
		e->nr_ranges = 0;
	else
		e->effect = e->type == VIRTIO_BLK_T_DISCARD ? DISCARDS : ZEROES;
	return status;
}

static int predict_request(const struct model *m, struct expectation *e)
{
	struct virtio_blk_outhdr header;
	bool more_out;

	if (e->out_len < sizeof(header) ||
	    !model_access(m, e->piece, e->nr_out, 0, sizeof(header), false, &header))
		return VIRTIO_BLK_S_IOERR;
	e->type = header.type;
	more_out = e->out_len > sizeof(header);
	e->data_len = e->in_len - 1;

	switch (header.type) {
	case VIRTIO_BLK_T_IN:
		return more_out ? VIRTIO_BLK_S_IOERR : predict_rw(m, e, header.sector);
	case VIRTIO_BLK_T_OUT:
		if (e->data_len || m->disk->readonly)
			return VIRTIO_BLK_S_IOERR;
		e->data_len = e->out_len - sizeof(header);
		return predict_rw(m, e, header.sector);
	case VIRTIO_BLK_T_FLUSH:
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_GET_ID:
		return more_out ? VIRTIO_BLK_S_IOERR : predict_id(m, e);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
	case VIRTIO_BLK_T_SECURE_ERASE:
		return predict_ranges(m, e);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

static void predict_status(const struct model *m, struct expectation *e)
{
	const struct piece *last = &e->piece[e->nr_out + e->nr_in - 1];

	e->status_at = last->host + last->len - 1;
	e->status = predict_request(m, e);
	e->used_len = 1;
	if (e->status == VIRTIO_BLK_S_OK && (e->effect == READS || e->effect == GETS_ID))
		/* GET_ID leaves data beyond the serial number unchanged. */
		e->used_len += e->data_len;
	if (!m->allowed(e->status_at, 1, true)) {
		e->status = NO_STATUS;
		e->used_len = 0;
	}
}

void model_predict(const struct model *m, const struct vq *vq, uint16_t head, struct expectation *e)
{
	unsigned int i;

	/* Ranges and pieces are large and have counts. */
	memset(e, 0, offsetof(struct expectation, range));
	e->type = UINT32_MAX;
	e->status = NO_STATUS;

	e->stops = head >= vq->num || !take_chain(m, vq, head, e);
	if (e->stops)
		return;
	for (i = 0; i < e->nr_out + e->nr_in; i++)
		*(i < e->nr_out ? &e->out_len : &e->in_len) += e->piece[i].len;
	if (e->in_len)
		predict_status(m, e);
}
