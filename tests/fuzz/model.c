// SPDX-License-Identifier: GPL-2.0
/* What becomes of a chain of descriptors, by the documents. */
#define _GNU_SOURCE
#include "model.h"

#include <string.h>

#include "blk.h"

#define TABLE_MAX	65536	/* descriptors in an indirect table */

/* Appends what lies at a guest-physical address, region by region. */
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

/* Adds a descriptor that is none of a table. */
static bool take(const struct model *m, struct verdict *v, const struct vring_desc *desc)
{
	unsigned int nr = v->nr_out + v->nr_in, before = nr;

	if (!translate(m, desc->addr, desc->len, v->piece, &nr, PIECES_MAX))
		return false;
	if (desc->flags & VRING_DESC_F_WRITE) {
		v->nr_in += nr - before;
		return true;
	}
	if (v->nr_in)
		return false;
	v->nr_out += nr - before;
	return true;
}

bool model_touch(const struct model *m, const struct piece *piece, unsigned int nr, uint64_t from,
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

/* The descriptors of a table lie one after the other, whatever they say of the next. */
static bool take_table(const struct model *m, struct verdict *v, const struct vring_desc *table)
{
	struct piece piece[GUEST_REGIONS_MAX];
	unsigned int i, nr = 0, count = table->len / sizeof(*table);
	struct vring_desc desc;

	if (table->len % sizeof(*table) || count > TABLE_MAX ||
	    !translate(m, table->addr, table->len, piece, &nr, GUEST_REGIONS_MAX))
		return false;
	if (nr) {
		v->nr_tables++;
		v->table = piece[0];
	}
	for (i = 0; i < count; i++) {
		if (!model_touch(m, piece, nr, i * sizeof(desc), sizeof(desc), false, &desc) ||
		    desc.flags & VRING_DESC_F_INDIRECT || !take(m, v, &desc))
			return false;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return true;
	}
	return false;
}

static bool take_chain(const struct model *m, const struct vq *vq, uint16_t head,
		       struct verdict *v)
{
	unsigned int found, i = head;

	for (found = 0; found < vq->num; found++) {
		struct vring_desc desc;

		if (i >= vq->num)
			return false;
		desc = vq->desc[i];
		if (!(desc.flags & VRING_DESC_F_INDIRECT ? take_table(m, v, &desc) :
							   take(m, v, &desc)))
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

static int io_error(struct verdict *v)
{
	v->effect = NOTHING;
	v->nr_ranges = 0;
	return VIRTIO_BLK_S_IOERR;
}

static int judge_rw(const struct model *m, struct verdict *v, uint64_t sector)
{
	uint64_t block = m->disk->direct ? m->disk->block_size : SECTOR_SIZE;
	bool read = v->type == VIRTIO_BLK_T_IN, ok;

	if (v->data_len % SECTOR_SIZE || v->data_len >= UINT32_MAX ||
	    !in_range(m, sector, v->data_len))
		return io_error(v);
	v->effect = read ? READS : WRITES;
	v->nr_ranges = 1;
	v->range[0].pos = sector * SECTOR_SIZE;
	v->range[0].len = v->data_len;
	if (!v->data_len)
		return VIRTIO_BLK_S_OK;
	ok = read ? model_touch(m, v->piece + v->nr_out, v->nr_in, 0, v->data_len, true, NULL) :
		    model_touch(m, v->piece, v->nr_out, sizeof(struct virtio_blk_outhdr),
				v->data_len, false, NULL);
	v->partial = !ok || (sector * SECTOR_SIZE | v->data_len) % block;
	return v->partial ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static int judge_id(const struct model *m, struct verdict *v)
{
	v->effect = GETS_ID;
	if (v->data_len > VIRTIO_BLK_ID_BYTES)
		v->data_len = VIRTIO_BLK_ID_BYTES;
	v->partial = !model_touch(m, v->piece + v->nr_out, v->nr_in, 0, v->data_len, true, NULL);
	return v->partial ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static int judge_segment(const struct model *m, struct verdict *v, uint32_t limit,
			 const struct virtio_blk_discard_write_zeroes *seg)
{
	bool unmap = seg->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	uint32_t block = SECTOR_SIZE;
	struct range *range;

	if (m->disk->direct || v->type == VIRTIO_BLK_T_SECURE_ERASE)
		block = m->disk->block_size;
	if (seg->flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP ||
	    (unmap && v->type != VIRTIO_BLK_T_WRITE_ZEROES))
		return VIRTIO_BLK_S_UNSUPP;
	if (seg->num_sectors > limit ||
	    (seg->sector | seg->num_sectors) % (block / SECTOR_SIZE) ||
	    !in_range(m, seg->sector, (uint64_t)seg->num_sectors * SECTOR_SIZE))
		return VIRTIO_BLK_S_IOERR;
	range = &v->range[v->nr_ranges++];
	range->pos = seg->sector * SECTOR_SIZE;
	range->len = (uint64_t)seg->num_sectors * SECTOR_SIZE;
	return VIRTIO_BLK_S_OK;
}

static int judge_ranges(const struct model *m, struct verdict *v)
{
	const struct vhost_blk_limits *limits = &m->disk->limits;
	struct virtio_blk_discard_write_zeroes seg;
	uint64_t len = v->out_len - sizeof(struct virtio_blk_outhdr), at;
	int feature = VIRTIO_BLK_F_SECURE_ERASE, status = VIRTIO_BLK_S_OK;
	uint32_t limit = limits->max_secure_erase_sectors;

	if (v->type == VIRTIO_BLK_T_DISCARD) {
		feature = VIRTIO_BLK_F_DISCARD;
		limit = limits->max_discard_sectors;
	} else if (v->type == VIRTIO_BLK_T_WRITE_ZEROES) {
		feature = VIRTIO_BLK_F_WRITE_ZEROES;
		limit = limits->max_write_zeroes_sectors;
	}
	if (!(m->features & (1ULL << feature)))
		return VIRTIO_BLK_S_UNSUPP;
	if (v->data_len || m->disk->readonly)
		return VIRTIO_BLK_S_IOERR;
	if (!limit)
		return VIRTIO_BLK_S_UNSUPP;
	if (len % sizeof(seg) || len / sizeof(seg) > RANGES_MAX)
		return VIRTIO_BLK_S_IOERR;
	for (at = 0; at < len && status == VIRTIO_BLK_S_OK; at += sizeof(seg)) {
		if (!model_touch(m, v->piece, v->nr_out, sizeof(struct virtio_blk_outhdr) + at,
				 sizeof(seg), false, &seg))
			status = VIRTIO_BLK_S_IOERR;
		else
			status = judge_segment(m, v, limit, &seg);
	}
	if (status != VIRTIO_BLK_S_OK)
		v->nr_ranges = 0;
	else
		v->effect = v->type == VIRTIO_BLK_T_DISCARD ? DISCARDS : ZEROES;
	return status;
}

static int judge_request(const struct model *m, struct verdict *v)
{
	struct virtio_blk_outhdr header;
	bool more_out;

	if (v->out_len < sizeof(header) ||
	    !model_touch(m, v->piece, v->nr_out, 0, sizeof(header), false, &header))
		return VIRTIO_BLK_S_IOERR;
	v->type = header.type;
	more_out = v->out_len > sizeof(header);
	v->data_len = v->in_len - 1;

	switch (header.type) {
	case VIRTIO_BLK_T_IN:
		return more_out ? VIRTIO_BLK_S_IOERR : judge_rw(m, v, header.sector);
	case VIRTIO_BLK_T_OUT:
		if (v->data_len || m->disk->readonly)
			return VIRTIO_BLK_S_IOERR;
		v->data_len = v->out_len - sizeof(header);
		return judge_rw(m, v, header.sector);
	case VIRTIO_BLK_T_FLUSH:
		return VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_GET_ID:
		return more_out ? VIRTIO_BLK_S_IOERR : judge_id(m, v);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
	case VIRTIO_BLK_T_SECURE_ERASE:
		return judge_ranges(m, v);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

static void judge_status(const struct model *m, struct verdict *v)
{
	const struct piece *last = &v->piece[v->nr_out + v->nr_in - 1];

	v->status_at = last->host + last->len - 1;
	v->status = judge_request(m, v);
	v->used_len = 1;
	if (v->status == VIRTIO_BLK_S_OK && (v->effect == READS || v->effect == GETS_ID))
		/* GET_ID leaves what is beyond the serial number. */
		v->used_len += v->data_len;
	if (!m->allowed(v->status_at, 1, true)) {
		v->status = NO_STATUS;
		v->used_len = 0;
	}
}

void model_judge(const struct model *m, const struct vq *vq, uint16_t head, struct verdict *v)
{
	unsigned int i;

	/* All but the ranges and pieces, of which there are many. */
	memset(v, 0, offsetof(struct verdict, range));
	v->type = UINT32_MAX;
	v->status = NO_STATUS;

	v->stops = head >= vq->num || !take_chain(m, vq, head, v);
	if (v->stops)
		return;
	for (i = 0; i < v->nr_out + v->nr_in; i++)
		*(i < v->nr_out ? &v->out_len : &v->in_len) += v->piece[i].len;
	if (v->in_len)
		judge_status(m, v);
}
