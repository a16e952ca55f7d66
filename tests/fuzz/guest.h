/* SPDX-License-Identifier: GPL-2.0 */
/* A malicious guest: its memory, with a shadow that tells what it should hold, and its requests. */
#ifndef TESTS_FUZZ_GUEST_H
#define TESTS_FUZZ_GUEST_H

#include "blk.h"
#include "fuzz.h"
#include "model.h"

#define GUEST_PAGE	4096UL
#define GUEST_LOGGED_MAX 0x101000000ULL	/* addresses that a dirty log has room for */

/*
 * Regions. AFTER and LAST follow on RINGS in the guest's view, but not in the
 * process; LAST is followed by nothing, and TOP by the end of all addresses. Of
 * TORN's pages the second may not be touched, and the fourth not be written.
 */
enum { RINGS, AFTER, LAST, TORN, BIG, TOP, NR_REGIONS };

/* Where a request normally has all that belongs to it; offsets in the slot. */
#define SLOTS		64
#define SLOT_SIZE	8192
#define SLOT_TABLE	256
#define SLOT_DATA	2048
#define SLOT_STATUS	7168
#define SLOT_DESCS	96	/* that the table has room for */
#define DESCS_MAX	1200	/* in a chain, at most */

struct guest {
	struct guest_memory mem;
	char *shadow[NR_REGIONS];
	char *rings_end;	/* in RINGS; slots follow */
	char *slots;
};

/* With a dirty log, TOP is where that can be of a reasonable size. */
void guest_init(struct guest *g, bool logged);
/* What the memory at a place of the process should hold. */
char *guest_shadow(const struct guest *g, const void *host);
bool guest_allowed(const char *host, size_t len, bool write);
/* How much of a piece lies in its first page. */
size_t guest_first_page(const void *host, size_t len);
/* The guest writes its memory. */
void guest_put(struct guest *g, void *host, const void *from, size_t len);
/* Whatever is there is right. */
void guest_accept(struct guest *g, const void *host, size_t len);
/* The first place of those after the rings that is not as it should be, or NULL. */
const char *guest_differs(const struct guest *g, const char *host, size_t len);
const char *guest_all_differs(const struct guest *g);
void guest_accept_all(struct guest *g);

/* A request as it lies in the guest's memory; of a decent one header and status are there. */
struct crime {
	char *slot;
	struct virtio_blk_outhdr *header;
	char *data;
	size_t data_len;	/* bytes in the slot */
	char *status;
	uint16_t head;
	unsigned int nr_descs;
	struct vring_desc *desc[DESCS_MAX];	/* of ring and table, in order */
};

/* What one case may use up. */
struct loot {
	unsigned int free_descs;
	unsigned int next, stride;	/* of the free descriptors, in the order of their use */
	bool taken[NR_REGIONS];	/* that only one request of a case may be in */
};

/* Decent requests are right but for sectors, and have at most 16 sectors below the limit. */
bool guest_request(struct guest *g, struct dice *d, struct vq *vq, struct loot *loot,
		   const struct model_disk *disk, uint64_t decent_limit, char *slot,
		   struct crime *crime);
/* Spoils a descriptor of it. */
void guest_corrupt(struct guest *g, struct dice *d, struct vq *vq, struct crime *crime);

#endif
