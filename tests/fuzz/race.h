/* SPDX-License-Identifier: GPL-2.0 */
/* A thread of the guest that changes memory while the device looks at it. */
#ifndef TESTS_FUZZ_RACE_H
#define TESTS_FUZZ_RACE_H

#include <pthread.h>

#include "fuzz.h"

#define FLIPS_MAX	64
#define FLIP_VALUES	4

/* A word in memory that takes these values at random, and the first of them in the end. */
struct flip {
	void *at;
	unsigned int size;
	uint64_t value[FLIP_VALUES];
};

enum invalidation {
	INVALIDATE_NONE, INVALIDATE_DONTNEED, INVALIDATE_PUNCH, INVALIDATE_UNMAP,
	INVALIDATE_PROTECT, INVALIDATIONS
};

struct race {
	pthread_t thread;
	bool runs, stop;
	uint64_t seed;
	unsigned int nr;
	struct flip flip[FLIPS_MAX];
	/* How the mapping of a part of the memory file is invalidated. */
	enum invalidation invalidation;
	char *memory;
	size_t len;
	int fd;
	uint64_t offset;
};

/* Add a flip whose values are all that of the memory. The caller changes those from 1 on. */
struct flip *race_add(struct race *race, void *at, unsigned int size);
/* Start the thread and wait until it runs. */
void race_start(struct race *race, uint64_t seed);
void race_stop(struct race *race);

#endif
