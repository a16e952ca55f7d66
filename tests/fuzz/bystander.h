/* SPDX-License-Identifier: GPL-2.0 */
/* A guest that does no harm, whose device has to work whatever others did. */
#ifndef TESTS_FUZZ_BYSTANDER_H
#define TESTS_FUZZ_BYSTANDER_H

#include "blk.h"
#include "fuzz.h"

struct bystander {
	struct guest_memory mem;
	struct vhost_blk dev;
	struct vq vq;
	struct blk_request req;
	char *buf;
};

/* On an open device without an owner, which stays the caller's to close. */
void bystander_start(struct bystander *b, int device);
/* Writes data somewhere and reads it back. */
void bystander_works(struct bystander *b, struct dice *d);
/* Leaves the device without an owner again. */
void bystander_stop(struct bystander *b);

#endif
