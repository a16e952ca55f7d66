// SPDX-License-Identifier: GPL-2.0
/* Memory that changes while the device looks at it. */
#define _GNU_SOURCE
#include "race.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#define FLIPS_PER_INVALIDATION	200

struct flip *race_add(struct race *race, void *at, unsigned int size)
{
	struct flip *flip = &race->flip[race->nr == FLIPS_MAX ? FLIPS_MAX - 1 : race->nr++];
	unsigned int i;

	flip->at = at;
	flip->size = size;
	flip->value[0] = 0;
	memcpy(&flip->value[0], at, size);
	for (i = 1; i < FLIP_VALUES; i++)
		flip->value[i] = flip->value[0];
	return flip;
}

static void set(const struct flip *flip, unsigned int i)
{
	switch (flip->size) {
	case 1:
		__atomic_store_n((uint8_t *)flip->at, flip->value[i], __ATOMIC_RELAXED);
		break;
	case 2:
		__atomic_store_n((uint16_t *)flip->at, flip->value[i], __ATOMIC_RELAXED);
		break;
	case 4:
		__atomic_store_n((uint32_t *)flip->at, flip->value[i], __ATOMIC_RELAXED);
		break;
	default:
		__atomic_store_n((uint64_t *)flip->at, flip->value[i], __ATOMIC_RELAXED);
	}
}

static void map(struct race *race)
{
	if (mmap(race->memory, race->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, race->fd,
		 race->offset) == MAP_FAILED)
		fuzz_fail("the guest's memory cannot be mapped");
}

static void invalidate(struct race *race)
{
	switch (race->invalidation) {
	case INVALIDATE_DONTNEED:
		madvise(race->memory, race->len, MADV_DONTNEED);
		break;
	case INVALIDATE_PUNCH:
		fallocate(race->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, race->offset,
			  race->len);
		break;
	case INVALIDATE_UNMAP:
		munmap(race->memory, race->len);
		map(race);
		break;
	case INVALIDATE_PROTECT:
		mprotect(race->memory, race->len, PROT_NONE);
		mprotect(race->memory, race->len, PROT_READ);
		mprotect(race->memory, race->len, PROT_READ | PROT_WRITE);
		break;
	default:
		break;
	}
}

static void *run(void *arg)
{
	struct race *race = arg;
	struct dice d = dice_of(race->seed);
	unsigned int i;

	__atomic_store_n(&race->runs, true, __ATOMIC_RELAXED);
	while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
		for (i = 0; i < FLIPS_PER_INVALIDATION && race->nr; i++)
			set(&race->flip[roll(&d, race->nr)], roll(&d, FLIP_VALUES));
		invalidate(race);
	}
	for (i = 0; i < race->nr; i++)
		set(&race->flip[i], 0);
	return NULL;
}

void race_start(struct race *race, uint64_t seed)
{
	race->runs = false;
	race->stop = false;
	race->seed = seed;
	if (pthread_create(&race->thread, NULL, run, race))
		fuzz_fail("no thread");
	while (!__atomic_load_n(&race->runs, __ATOMIC_RELAXED))
		sched_yield();
}

void race_stop(struct race *race)
{
	__atomic_store_n(&race->stop, true, __ATOMIC_RELAXED);
	pthread_join(race->thread, NULL);
}
