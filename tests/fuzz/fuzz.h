/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the fuzzers share: cases that follow from a 64-bit seed, run in
 * processes that a supervisor watches.
 *
 * The upper bits of a seed make a session, which sets a device up once for
 * SESSION_CASES cases. Cases with consecutive seeds run one after the other.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SESSION_CASES	256
#define BOUND_MS	30000	/* for what must happen, on a slow emulated machine */

struct fuzzer {
	const char *name;
	/* In the supervisor, before a session: what outlives it. */
	void (*prepare)(uint64_t session);
	/* In the session's own process, which ends with it. */
	void (*open)(uint64_t session);
	void (*run)(uint64_t seed);
	void (*close)(uint64_t session);
	/* In the supervisor: after each session, and at the very end. */
	void (*settle)(bool failed);
	void (*finish)(void);
	const char *const *count_names;	/* what fuzz_count() counts; NULL at the end */
};

int fuzz_main(int argc, char **argv, const struct fuzzer *fuzzer);

/* The case has failed, and with it the session: does not return in one. */
void fuzz_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Adds to a figure of the final report; any thread may. */
void fuzz_count(unsigned int what, uint64_t nr);
/* Says that the session's process is about to kill itself. */
void fuzz_ends_by_kill(void);
/* Memory that sessions and supervisor share. */
void *fuzz_shared(size_t size);

/* Opens another vhost-blk device. */
int fuzz_device(void);
/* No worker of a vhost-blk device is left, nor a reference to the module. */
void fuzz_expect_nothing_left(void);

/* Random numbers; the state is the seed. */
struct dice {
	uint64_t state;
};

struct dice dice_of(uint64_t seed);
/* Below n. */
uint64_t roll(struct dice *d, uint64_t n);
/* True in so many of a hundred times. */
bool chance(struct dice *d, unsigned int percent);
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define pick(d, array)	((array)[roll(d, ARRAY_SIZE(array))])

#endif
