// SPDX-License-Identifier: GPL-2.0
/* The memory and the requests of a malicious guest. */
#define _GNU_SOURCE
#include "guest.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define KIB		1024UL
#define MIB		(1024UL * KIB)
#define RINGS_GPA	0x100000000ULL
#define RINGS_SIZE	(704 * KIB)
#define AFTER_SIZE	(2 * PAGE)
#define LAST_SIZE	(3 * PAGE)
#define PROTECTED_GPA	0xffff0000ULL
#define PROTECTED_SIZE	(5 * PAGE)
#define BIG_GPA		0x2000ULL
#define BIG_SIZE	(1280 * KIB)
/* The table at the end of BIG, for chains that do not fit into a slot. */
#define BIG_TABLE	(DESCS_MAX * sizeof(struct vring_desc))
#define TOP_SIZE	(16 * KIB)
#define LOGGED_TOP_GPA	0x80000000ULL

static char *protected_pages;

static void add_region(struct guest *g, uint64_t gpa, size_t size)
{
	int i = guest_memory_add(&g->mem, gpa, size);

	if (i < 0)
		fuzz_fail("no memory for the guest");
	g->shadow[i] = malloc(size);
	if (!g->shadow[i])
		fuzz_fail("no memory for the guest's shadow");
	pattern_fill(g->mem.region[i].host, size, gpa, 0x5eed);
	memcpy(g->shadow[i], g->mem.region[i].host, size);
}

void guest_init(struct guest *g, bool logged)
{
	struct guest_region *rings = &g->mem.region[RINGS];

	if (guest_memory_init(&g->mem))
		fuzz_fail("no memory for the guest");
	add_region(g, RINGS_GPA, RINGS_SIZE);
	add_region(g, RINGS_GPA + RINGS_SIZE, AFTER_SIZE);
	add_region(g, RINGS_GPA + RINGS_SIZE + AFTER_SIZE, LAST_SIZE);
	add_region(g, PROTECTED_GPA, PROTECTED_SIZE);
	add_region(g, BIG_GPA, BIG_SIZE);
	add_region(g, logged ? LOGGED_TOP_GPA : -TOP_SIZE, TOP_SIZE);

	protected_pages = g->mem.region[PROTECTED].host;
	if (mprotect(protected_pages + PAGE, PAGE, PROT_NONE) ||
	    mprotect(protected_pages + 3 * PAGE, PAGE, PROT_READ))
		fuzz_fail("mprotect");
	/* Requests may cross the end of the last page, into AFTER. */
	g->slots = rings->host + rings->size - PAGE - SLOTS * SLOT_SIZE;
	g->rings_end = g->slots;
}

static int region_of(const struct guest *g, const char *host)
{
	int i;

	for (i = 0; i < NR_REGIONS; i++)
		if (host >= g->mem.region[i].host &&
		    host < g->mem.region[i].host + g->mem.region[i].size)
			return i;
	abort();
}

char *guest_shadow(const struct guest *g, const void *host)
{
	int i = region_of(g, host);

	return g->shadow[i] + ((const char *)host - g->mem.region[i].host);
}

bool guest_allowed(const char *host, size_t len, bool write)
{
	size_t first, last;

	if (!len || host >= protected_pages + PROTECTED_SIZE || host + len <= protected_pages)
		return true;
	first = (host - protected_pages) / PAGE;
	last = (host + len - 1 - protected_pages) / PAGE;
	return !(first <= 1 && last >= 1) && !(write && first <= 3 && last >= 3);
}

size_t guest_first_page(const void *host, size_t len)
{
	size_t part = PAGE - (uintptr_t)host % PAGE;

	return part < len ? part : len;
}

void guest_put(struct guest *g, void *host, const void *from, size_t len)
{
	const char *source = from;
	char *p = host;

	while (len) {
		size_t part = guest_first_page(p, len);

		if (guest_allowed(p, part, true)) {
			memcpy(p, source, part);
			memcpy(guest_shadow(g, p), source, part);
		}
		p += part;
		source += part;
		len -= part;
	}
}

void guest_accept(struct guest *g, const void *host, size_t len)
{
	const char *p = host;

	while (len) {
		size_t part = guest_first_page(p, len);

		if (guest_allowed(p, part, false))
			memcpy(guest_shadow(g, p), p, part);
		p += part;
		len -= part;
	}
}

const char *guest_differs(const struct guest *g, const char *host, size_t len)
{
	const char *shadow;
	size_t i;

	for (; len; host += i, len -= i) {
		i = guest_first_page(host, len);
		if (!guest_allowed(host, i, false))
			continue;
		shadow = guest_shadow(g, host);
		if (memcmp(host, shadow, i)) {
			while (*host == *shadow) {
				host++;
				shadow++;
			}
			return host;
		}
	}
	return NULL;
}

/* Return the part of a region that the device may write only for a request. */
static char *checked_part(const struct guest *g, int region, size_t *len)
{
	const struct guest_region *r = &g->mem.region[region];
	char *start = region == RINGS ? g->rings_end : r->host;

	*len = r->host + r->size - start;
	return start;
}

const char *guest_all_differs(const struct guest *g)
{
	const char *start, *at = NULL;
	size_t len;
	int i;

	for (i = 0; i < NR_REGIONS && !at; i++) {
		start = checked_part(g, i, &len);
		at = guest_differs(g, start, len);
	}
	return at;
}

void guest_accept_all(struct guest *g)
{
	const char *start;
	size_t len;
	int i;

	for (i = 0; i < NR_REGIONS; i++) {
		start = checked_part(g, i, &len);
		guest_accept(g, start, len);
	}
}

/* The segments of a request, before they are descriptors. */
struct plan {
	unsigned int nr_out, nr_in;
	struct vq_segment segment[DESCS_MAX];
};

static void add_segment(struct plan *p, bool in, uint64_t addr, uint64_t len)
{
	struct vq_segment *s = &p->segment[p->nr_out + p->nr_in];

	if (p->nr_out + p->nr_in == DESCS_MAX)
		return;
	s->addr = addr;
	s->len = len;
	if (in)
		p->nr_in++;
	else
		p->nr_out++;
}

/* Add a piece of memory as @cuts segments, with some empty ones in between. */
static void add_cut(struct plan *p, struct dice *d, bool in, uint64_t addr, uint64_t len,
		    unsigned int cuts)
{
	while (len) {
		uint64_t part = len;

		if (cuts > 1 && len > 1) {
			uint64_t most = 2 * len / cuts + 1;

			part = 1 + roll(d, most < len ? most : len - 1);
			/* An ordinary guest splits data at sectors. */
			if (cuts % 2 && part > SECTOR_SIZE)
				part -= part % SECTOR_SIZE;
			cuts--;
		}
		add_segment(p, in, addr, part);
		addr += part;
		len -= part;
		if (chance(d, 1))
			add_segment(p, in, random_next(&d->state), 0);
	}
}

static unsigned int choose_cuts(struct dice *d, bool many, bool valid)
{
	unsigned int r = roll(d, valid ? 88 : 100);

	if (r < 65)
		return 1;
	if (r < 88)
		return 2 + roll(d, 3);
	if (r < 97 || !many)
		return 5 + roll(d, 28);
	return 100 + roll(d, 1000);
}

static uint64_t choose_len(struct dice *d, bool valid)
{
	unsigned int r = roll(d, 100);

	if (valid || r < 62)
		return SECTOR_SIZE * (1 + roll(d, 8));
	if (r < 70)
		return PAGE;
	if (r < 74)
		return 0;
	if (r < 76)
		return 1;
	if (r < 78)
		return 511;
	if (r < 80)
		return 513;
	if (r < 86)
		return roll(d, 5000);
	if (r < 97)
		return SECTOR_SIZE * (9 + roll(d, 100));
	if (r < 98)
		return MIB + SECTOR_SIZE * roll(d, 64);
	if (r < 99)
		return 257 * PAGE;
	return roll(d, BIG_SIZE);
}

static uint64_t choose_sector(struct dice *d, const struct model_disk *disk, uint64_t len,
			      uint64_t valid_limit)
{
	uint64_t sectors = disk->size / SECTOR_SIZE, used = (len + 511) / SECTOR_SIZE;
	unsigned int block = disk->block_size / SECTOR_SIZE;
	uint64_t any;

	if (valid_limit)
		return roll(d, valid_limit) / block * block;
	any = roll(d, sectors);
	/* Most sectors are aligned, because unaligned ones are errors. */
	if (chance(d, 90))
		any = any / block * block;
	switch (roll(d, 40)) {
	case 0:
		return sectors;
	case 1:
		return sectors + 1 - roll(d, 3);
	case 2:
		return sectors - used;
	case 3:
		return sectors - used + 1;
	case 4:
		return 1ULL << roll(d, 64);
	case 5:
		return UINT64_MAX / SECTOR_SIZE - roll(d, 3) + 1;
	case 6:
		return UINT64_MAX - roll(d, 4096);
	case 7:
		return any | 1ULL << (55 + roll(d, 9));
	default:
		return any + used > sectors && chance(d, 80) ? 0 : any;
	}
}

static uint32_t choose_type(struct dice *d, bool valid)
{
	static const uint32_t odd[] = {
		2, 3, 5, 6, 7, 9, 10, 12, 15, 17, 18, 20, 24, 26, 0x80000000, 0x80000001, 0x100,
		0x101, 0xffffffff,
	};
	unsigned int r = roll(d, 100);

	if (r < 36)
		return VIRTIO_BLK_T_IN;
	if (r < 72)
		return VIRTIO_BLK_T_OUT;
	if (r < 77)
		return VIRTIO_BLK_T_FLUSH;
	if (r < 82)
		return VIRTIO_BLK_T_GET_ID;
	if (valid)
		return VIRTIO_BLK_T_IN;
	if (r < 86)
		return VIRTIO_BLK_T_DISCARD;
	if (r < 93)
		return VIRTIO_BLK_T_WRITE_ZEROES;
	if (r < 95)
		return VIRTIO_BLK_T_SECURE_ERASE;
	return chance(d, 80) ? pick(d, odd) : random_next(&d->state);
}

static bool is_big(uint64_t addr)
{
	return addr >= BIG_GPA && addr < BIG_GPA + BIG_SIZE;
}

static bool take_region(struct budget *budget, int region)
{
	if (budget->taken[region])
		return false;
	budget->taken[region] = true;
	return true;
}

/* Return the address of the data. Reduces the length to the room there. */
static uint64_t choose_buffer(struct guest *g, struct dice *d, struct budget *budget, char *slot,
			      uint64_t *len, bool valid)
{
	const struct guest_region *r = g->mem.region;
	size_t room = SLOT_STATUS - SLOT_DATA, offset;
	unsigned int where = valid ? 100 : roll(d, 100);

	if (*len > room && take_region(budget, BIG)) {
		room = BIG_SIZE - BIG_TABLE;
		if (*len > room)
			*len = room;
		offset = chance(d, 70) ? 0 : roll(d, room - *len + 1);
		return BIG_GPA + offset;
	}
	if (*len && where < 4 && take_region(budget, AFTER)) {
		/* Cross the borders of regions, sometimes that of the last. */
		if (*len > PAGE)
			*len = PAGE;
		return r[AFTER].gpa + roll(d, 2) * AFTER_SIZE +
		       (chance(d, 8) ? LAST_SIZE : 0) - roll(d, *len + 1);
	}
	if (*len && where < 6 && take_region(budget, TOP)) {
		if (*len > TOP_SIZE)
			*len = TOP_SIZE;
		return r[TOP].gpa + TOP_SIZE - *len + (chance(d, 8) ? 1 : 0);
	}
	if (*len && where < 11 && take_region(budget, PROTECTED)) {
		if (*len > PAGE)
			*len = PAGE;
		return PROTECTED_GPA + roll(d, PROTECTED_SIZE - *len + 1);
	}
	if (*len > room)
		*len = chance(d, 50) ? SECTOR_SIZE : PAGE;
	room -= *len;
	offset = roll(d, room + 1);
	if (chance(d, 60))
		offset -= offset % SECTOR_SIZE;
	return guest_address(&g->mem, slot + SLOT_DATA + offset);
}

/* Write guest-physical memory. Skips addresses without memory. */
static void put_address(struct guest *g, uint64_t addr, const void *from, size_t len)
{
	const struct guest_region *r;
	const char *source = from;
	size_t part;

	for (r = g->mem.region; len && r < g->mem.region + NR_REGIONS; r++) {
		if (addr - r->gpa >= r->size)
			continue;
		part = r->size - (addr - r->gpa);
		if (part > len)
			part = len;
		guest_put(g, r->host + (addr - r->gpa), source, part);
		addr += part;
		source += part;
		len -= part;
	}
}

static void put_random(struct guest *g, struct dice *d, uint64_t addr, size_t len)
{
	uint64_t noise[512];
	size_t i, part;

	for (; len; addr += part, len -= part) {
		part = len < sizeof(noise) ? len : sizeof(noise);
		for (i = 0; i < (part + 7) / 8; i++)
			noise[i] = random_next(&d->state);
		put_address(g, addr, noise, part);
	}
}

static uint64_t put_list(struct guest *g, struct dice *d, const struct model_disk *disk,
			 uint64_t addr)
{
	struct virtio_blk_discard_write_zeroes seg;
	unsigned int i, nr = chance(d, 95) ? roll(d, 5) : 250 + roll(d, 10);
	uint32_t most = nr > 8 ? 4 : 300;

	for (i = 0; i < nr; i++) {
		unsigned int block = chance(d, 95) ? disk->block_size / SECTOR_SIZE : 1;

		seg.num_sectors = chance(d, 98) ? roll(d, most) / block * block :
						  random_next(&d->state);
		/* One invalid entry makes the whole list invalid. */
		seg.sector = nr < 8 || chance(d, 1) ?
			     choose_sector(d, disk, seg.num_sectors * SECTOR_SIZE, 0) :
			     roll(d, disk->size / SECTOR_SIZE - most) / block * block;
		seg.flags = chance(d, 90) ? 0 : chance(d, 80) ? 1 : random_next(&d->state);
		put_address(g, addr + i * sizeof(seg), &seg, sizeof(seg));
	}
	return nr * sizeof(seg) + (chance(d, 4) ? 1 + roll(d, 16) : 0);
}

static bool has_list(uint32_t type)
{
	return type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES ||
	       type == VIRTIO_BLK_T_SECURE_ERASE;
}

/* The addresses of header, data and status. */
struct parts {
	bool out;		/* the device reads the data */
	uint64_t header, header_len;
	uint64_t data, data_len;
	uint64_t status;
};

static uint64_t choose_data(struct guest *g, struct dice *d, struct budget *budget, char *slot,
			    uint32_t type, bool valid, uint64_t *len)
{
	*len = choose_len(d, valid);
	if (type == VIRTIO_BLK_T_FLUSH && chance(d, 90))
		*len = 0;
	if (type == VIRTIO_BLK_T_GET_ID && chance(d, 80))
		*len = chance(d, 60) ? VIRTIO_BLK_ID_BYTES : roll(d, 40);
	if (has_list(type))
		*len = PAGE;
	return choose_buffer(g, d, budget, slot, len, valid);
}

static void choose_parts(struct guest *g, struct dice *d, struct budget *budget,
			 const struct model_disk *disk, uint64_t valid_limit, char *slot,
			 struct parts *p)
{
	uint64_t start = guest_address(&g->mem, slot);
	bool valid = valid_limit;
	struct virtio_blk_outhdr header;
	uint8_t unset = STATUS_UNSET;

	header.type = choose_type(d, valid);
	header.ioprio = chance(d, 80) ? 0 : random_next(&d->state);
	p->data = choose_data(g, d, budget, slot, header.type, valid, &p->data_len);
	header.sector = choose_sector(d, disk, p->data_len, valid_limit);
	p->out = header.type == VIRTIO_BLK_T_OUT || has_list(header.type);
	if (!valid && chance(d, 3))
		p->out = !p->out;
	if (has_list(header.type))
		p->data_len = put_list(g, d, disk, p->data);
	else if (p->out && (p->data_len < 8192 || chance(d, 25)))
		put_random(g, d, p->data, p->data_len);

	p->header = start + (valid ? 0 : roll(d, 9) * roll(d, 9));
	p->header_len = sizeof(header);
	p->status = start + SLOT_STATUS + (valid ? 0 : roll(d, 900));
	/* Sometimes the header or status is contiguous with the data. */
	if (!valid && chance(d, 10)) {
		if (p->out)
			p->header = p->data - sizeof(header);
		else
			p->status = p->data + p->data_len;
	}
	put_address(g, p->header, &header, sizeof(header));
	put_address(g, p->status, &unset, 1);
	if (!valid && chance(d, 3))
		p->header_len = roll(d, 17);
}

static void plan_out(struct dice *d, const struct parts *parts, bool valid, struct plan *p)
{
	bool many = is_big(parts->data);

	if (parts->out && parts->header + parts->header_len == parts->data && chance(d, 70)) {
		add_cut(p, d, false, parts->header, parts->header_len + parts->data_len,
			choose_cuts(d, many, valid));
		return;
	}
	add_cut(p, d, false, parts->header, parts->header_len,
		valid || chance(d, 92) ? 1 : 2 + roll(d, 16));
	if (parts->out)
		add_cut(p, d, false, parts->data, parts->data_len, choose_cuts(d, many, valid));
}

static void plan_in(struct dice *d, const struct parts *parts, bool valid, struct plan *p)
{
	bool many = is_big(parts->data);

	if (!parts->out && parts->status == parts->data + parts->data_len && chance(d, 70)) {
		add_cut(p, d, true, parts->data, parts->data_len + 1,
			choose_cuts(d, many, valid));
		return;
	}
	if (!parts->out)
		add_cut(p, d, true, parts->data, parts->data_len, choose_cuts(d, many, valid));
	if (valid || chance(d, 97))
		add_segment(p, true, parts->status, valid || chance(d, 97) ? 1 : 1 + roll(d, 5));
	if (!valid && chance(d, 2))
		add_segment(p, true, random_next(&d->state), 0);
}

static void put_desc(struct guest *g, struct request *req, struct vring_desc *to,
		     const struct vring_desc *desc)
{
	guest_put(g, to, desc, sizeof(*desc));
	req->desc[req->nr_descs++] = to;
}

/* Return a descriptor without its next field. */
static struct vring_desc desc_of(const struct plan *p, unsigned int i)
{
	return (struct vring_desc) {
		.addr = p->segment[i].addr,
		.len = p->segment[i].len,
		.flags = (i >= p->nr_out ? VRING_DESC_F_WRITE : 0) |
			 (i + 1 < p->nr_out + p->nr_in ? VRING_DESC_F_NEXT : 0),
	};
}

static struct vring_desc *table_for(struct guest *g, struct dice *d, struct budget *budget,
				    char *slot, unsigned int nr)
{
	const struct guest_region *big = &g->mem.region[BIG];

	if (nr <= SLOT_DESCS)
		return (void *)(slot + SLOT_TABLE + (chance(d, 80) ? 0 : roll(d, 200)));
	/* Only data in BIG has so many segments. */
	return budget->taken[BIG] ? (void *)(big->host + big->size - BIG_TABLE) : NULL;
}

static uint16_t next_desc(const struct vq *vq, const struct budget *budget)
{
	return budget->next & (vq->num - 1);
}

static struct vring_desc *take_desc(struct vq *vq, struct budget *budget)
{
	struct vring_desc *desc = &vq->desc[next_desc(vq, budget)];

	budget->next += budget->stride;
	budget->free_descs--;
	return desc;
}

/* Put a random number of descriptors into the ring and the others into a table. */
static bool put_chain(struct guest *g, struct dice *d, struct vq *vq, struct budget *budget,
		      const struct plan *p, struct request *req)
{
	unsigned int i, nr = p->nr_out + p->nr_in, direct = nr, free = budget->free_descs;
	struct vring_desc desc, *table = NULL;

	req->nr_descs = 0;
	if (!nr || !free)
		return false;
	if (chance(d, 55) || nr > free)
		direct = chance(d, 85) ? 0 : roll(d, nr < free ? nr : free);
	if (direct < nr) {
		table = table_for(g, d, budget, req->slot, nr - direct);
		if (!table)
			return false;
	}
	req->head = next_desc(vq, budget);
	for (i = 0; i < direct; i++) {
		struct vring_desc *to = take_desc(vq, budget);

		desc = desc_of(p, i);
		if (i + 1 < nr)
			desc.next = next_desc(vq, budget);
		put_desc(g, req, to, &desc);
	}
	if (!table)
		return true;
	desc.addr = guest_address(&g->mem, table);
	desc.len = (nr - direct) * sizeof(desc);
	desc.flags = VRING_DESC_F_INDIRECT | (chance(d, 5) ? VRING_DESC_F_WRITE : 0);
	desc.next = roll(d, 65536);
	put_desc(g, req, take_desc(vq, budget), &desc);
	for (; i < nr; i++) {
		desc = desc_of(p, i);
		/* The device ignores it in a table. */
		desc.next = i + 1 - direct;
		put_desc(g, req, table++, &desc);
	}
	return true;
}

bool guest_request(struct guest *g, struct dice *d, struct vq *vq, struct budget *budget,
		   const struct model_disk *disk, uint64_t valid_limit, char *slot,
		   struct request *req)
{
	static struct plan plan;
	struct parts parts;

	req->slot = slot;
	req->header = (void *)slot;
	req->data = slot + SLOT_DATA;
	req->data_len = SLOT_STATUS - SLOT_DATA;
	req->status = slot + SLOT_STATUS;

	choose_parts(g, d, budget, disk, valid_limit, slot, &parts);
	plan.nr_out = 0;
	plan.nr_in = 0;
	plan_out(d, &parts, valid_limit, &plan);
	plan_in(d, &parts, valid_limit, &plan);
	return put_chain(g, d, vq, budget, &plan, req);
}

static uint64_t odd_address(struct guest *g, struct dice *d, const struct vring_desc *desc)
{
	const struct guest_region *r = &g->mem.region[roll(d, NR_REGIONS)];

	switch (roll(d, 10)) {
	case 0:
		return r->gpa - 1;
	case 1:
		return r->gpa + r->size - 1;
	case 2:
		return r->gpa + r->size - desc->len;
	case 3:
		return r->gpa + r->size - desc->len + 1;
	case 4:
		return r->gpa + r->size;
	case 5:
		return -(uint64_t)desc->len;
	case 6:
		return desc->addr + (1ULL << roll(d, 64));
	case 7:
		return random_next(&d->state);
	case 8:
		return r->gpa + roll(d, r->size);
	default:
		return desc->addr + 1 - roll(d, 3);
	}
}

static uint32_t odd_len(struct dice *d, const struct vring_desc *desc)
{
	static const uint32_t lens[] = {
		0, 1, 15, 16, 17, 511, 512, 513, 4096, MIB + 512, 0x7fffffff, 0x80000000,
		0xfffffff0, 0xffffffff, 65537 * 16,
	};

	return chance(d, 70) ? pick(d, lens) : desc->len + 1 - roll(d, 3);
}

void guest_corrupt(struct guest *g, struct dice *d, struct vq *vq, struct request *req)
{
	struct vring_desc *at = req->desc[roll(d, req->nr_descs)], desc;
	const uint16_t next[] = {
		req->head, roll(d, vq->num), vq->num, vq->num - 1, vq->num + 1, 65535, 32768,
	};

	/* Tables may be unaligned. */
	memcpy(&desc, at, sizeof(desc));
	switch (roll(d, 6)) {
	case 0:
		desc.addr = odd_address(g, d, &desc);
		break;
	case 1:
		desc.len = odd_len(d, &desc);
		break;
	case 2:
		desc.flags ^= 1 << roll(d, 3);
		break;
	case 3:
		desc.flags = random_next(&d->state);
		break;
	case 4:
		desc.next = pick(d, next);
		desc.flags |= chance(d, 50) ? VRING_DESC_F_NEXT : 0;
		break;
	default:
		desc.addr = odd_address(g, d, &desc);
		desc.len = odd_len(d, &desc);
		desc.flags = roll(d, 8);
		desc.next = pick(d, next);
	}
	guest_put(g, at, &desc, sizeof(desc));
}
