/* SPDX-License-Identifier: GPL-2.0 */
/* A thread of the guest that changes memory while the device looks at it. */
#ifndef TESTS_FUZZ_RACE_H
#define TESTS_FUZZ_RACE_H

#include <pthread.h>

#include "fuzz.h"

#define FLIPS_MAX	64
#define FLIP_VALUES	4

/* A number that is now this, now that, and in the end the first again. */
struct flip {
	void *at;
	unsigned int size;
	uint64_t value[FLIP_VALUES];
};

enum upset { UPSET_NONE, UPSET_FORGET, UPSET_PUNCH, UPSET_UNMAP, UPSET_PROTECT, UPSETS };

struct race {
	pthread_t thread;
	bool runs, stop;
	uint64_t seed;
	unsigned int nr;
	struct flip flip[FLIPS_MAX];
	/* What happens to a piece of the memory file, mapped there. */
	enum upset upset;
	char *memory;
	size_t len;
	int fd;
	uint64_t offset;
};

/* Adds a flip between what is there and values that the caller sets. */
struct flip *race_add(struct race *race, void *at, unsigned int size);
/* On return it is under way. */
void race_start(struct race *race, uint64_t seed);
void race_stop(struct race *race);

#endif
