/* SPDX-License-Identifier: GPL-2.0 */
/* Waiting for a condition, for a limited time. */
#ifndef TESTS_LIB_WAIT_H
#define TESTS_LIB_WAIT_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MIN_US	500
#define WAIT_MAX_US	8000

static inline int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/*
 * Evaluate a condition until it is true or the time is over, and yield its last
 * value. The sleeps in between grow from WAIT_MIN_US to WAIT_MAX_US.
 */
#define wait_until(condition, timeout_ms) ({				\
	int64_t wait_end_ = now_ms() + (timeout_ms);			\
	unsigned int wait_us_ = WAIT_MIN_US;				\
	bool wait_met_;							\
									\
	while (!(wait_met_ = (condition)) && now_ms() < wait_end_) {	\
		usleep(wait_us_);					\
		wait_us_ = wait_us_ < WAIT_MAX_US ? 2 * wait_us_ : WAIT_MAX_US; \
	}								\
	wait_met_;							\
})

#endif
