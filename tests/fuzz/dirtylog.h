/* SPDX-License-Identifier: GPL-2.0 */
/* The log of guest pages that a device has written, as a migration uses it. */
#ifndef TESTS_FUZZ_DIRTYLOG_H
#define TESTS_FUZZ_DIRTYLOG_H

#include "guest.h"

/* From now on, on an attached device whose guest has no memory beyond the log. */
void dirtylog_start(struct vhost_blk *dev);
bool dirtylog_is_on(void);
/* The first page of a piece of memory that is not in the log, or NULL. */
const char *dirtylog_misses(const struct guest *g, const char *host, size_t len);
void dirtylog_forget(const struct guest *g, const char *host, size_t len);
void dirtylog_forget_all(void);
/* Nothing is there that was not forgotten. */
bool dirtylog_is_empty(void);

#endif
