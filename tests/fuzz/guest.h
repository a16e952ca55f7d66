/* SPDX-License-Identifier: GPL-2.0 */
/* A malicious guest: its memory with a shadow of the expected contents, and its requests. */
#ifndef TESTS_FUZZ_GUEST_H
#define TESTS_FUZZ_GUEST_H

#include "blk.h"
#include "fuzz.h"
#include "model.h"

#define GUEST_LOGGED_MAX 0x101000000ULL	/* end of the dirty log */

/*
 * Regions of guest memory. AFTER and LAST are contiguous with RINGS in
 * guest-physical addresses, but not in the process. No memory follows LAST, and
 * TOP ends at the last address. In PROTECTED the second page is inaccessible and
 * the fourth is read-only.
 */
enum { RINGS, AFTER, LAST, PROTECTED, BIG, TOP, NR_REGIONS };

/* The memory of a request, unless chosen elsewhere. Offsets are within the slot. */
#define SLOTS		64
#define SLOT_SIZE	8192
#define SLOT_TABLE	256
#define SLOT_DATA	2048
#define SLOT_STATUS	7168
#define SLOT_DESCS	96	/* room in the table */
#define DESCS_MAX	1200	/* in a chain */

struct guest {
	struct guest_memory mem;
	char *shadow[NR_REGIONS];
	char *rings_end;	/* in RINGS; slots follow */
	char *slots;
};

/* With a dirty log TOP is at a lower address, which keeps the log small. */
void guest_init(struct guest *g, bool logged);
/* Return the shadow of an address of the process. */
char *guest_shadow(const struct guest *g, const void *host);
/* Return true if the process may read or write its memory there. */
bool guest_allowed(const char *host, size_t len, bool write);
/* Return how many bytes of a piece are in its first page. */
size_t guest_first_page(const void *host, size_t len);
/* Write guest memory and its shadow. */
void guest_put(struct guest *g, void *host, const void *from, size_t len);
/* Take the present contents as expected. */
void guest_accept(struct guest *g, const void *host, size_t len);
/* Return the first address whose contents differ from the shadow, or NULL. */
const char *guest_differs(const struct guest *g, const char *host, size_t len);
/* The same for all memory but the rings. */
const char *guest_all_differs(const struct guest *g);
void guest_accept_all(struct guest *g);

/* A request in guest memory. Header and status are those of a valid request. */
struct request {
	char *slot;
	struct virtio_blk_outhdr *header;
	char *data;
	size_t data_len;	/* room in the slot, bytes */
	char *status;
	uint16_t head;
	unsigned int nr_descs;
	struct vring_desc *desc[DESCS_MAX];	/* in ring and table, in order */
};

/* What the requests of a case may still use. */
struct budget {
	unsigned int free_descs;
	unsigned int next, stride;	/* order in which free descriptors are used */
	bool taken[NR_REGIONS];	/* regions in use by one request exclusively */
};

/*
 * Make a request. With @valid_limit it is valid, but for the alignment of its
 * sector, and has at most 16 sectors that begin below the limit. Return false if
 * there is no room for it.
 */
bool guest_request(struct guest *g, struct dice *d, struct vq *vq, struct budget *budget,
		   const struct model_disk *disk, uint64_t valid_limit, char *slot,
		   struct request *req);
/* Corrupt one of its descriptors. */
void guest_corrupt(struct guest *g, struct dice *d, struct vq *vq, struct request *req);

#endif
