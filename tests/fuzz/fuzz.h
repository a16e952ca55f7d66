/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The fuzzers' common part. A 64-bit seed determines a case. Cases run in
 * sessions, processes that a supervisor watches.
 *
 * The upper bits of a seed determine the session, which sets up a device once
 * for SESSION_CASES cases. Cases with consecutive seeds run one after the other.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SESSION_CASES	256
#define BOUND_MS	30000	/* time limit of an operation on a slow emulated machine */

struct fuzzer {
	const char *name;
	/* Run in the supervisor before a session. */
	void (*prepare)(uint64_t session);
	/* Run in the session's own process. */
	void (*open)(uint64_t session);
	void (*run)(uint64_t seed);
	void (*close)(uint64_t session);
	/* Run in the supervisor after each session, and once at the end. */
	void (*after_session)(bool failed);
	void (*finish)(void);
	const char *const *count_names;	/* names of the counters of fuzz_count(), ended by NULL */
};

int fuzz_main(int argc, char **argv, const struct fuzzer *fuzzer);

/* Report a failure of the case. Ends the process of a session. */
void fuzz_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Add to a counter of the final report. Thread-safe. */
void fuzz_count(unsigned int what, uint64_t nr);
/* Have the supervisor expect that the session ends by SIGKILL. */
void fuzz_expect_kill(void);
/* Allocate memory that sessions and supervisor share. */
void *fuzz_shared(size_t size);

/* Open another vhost-blk device. */
int fuzz_device(void);
/* Check that no worker of a vhost-blk device and no reference to the module is left. */
void fuzz_expect_nothing_left(void);

/* A random number generator. The first state is the seed. */
struct dice {
	uint64_t state;
};

struct dice dice_of(uint64_t seed);
/* Return a random number below n. */
uint64_t roll(struct dice *d, uint64_t n);
/* Return true with a probability of @percent. */
bool chance(struct dice *d, unsigned int percent);
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define pick(d, array)	((array)[roll(d, ARRAY_SIZE(array))])

#endif
