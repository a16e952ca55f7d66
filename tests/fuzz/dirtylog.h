/* SPDX-License-Identifier: GPL-2.0 */
/* The log of guest pages that a device has written, as a migration uses it. */
#ifndef TESTS_FUZZ_DIRTYLOG_H
#define TESTS_FUZZ_DIRTYLOG_H

#include "guest.h"

/* Start logging on an attached device whose guest has no memory beyond the log. */
void dirtylog_start(struct vhost_blk *dev);
bool dirtylog_is_on(void);
/* Return the first page of a piece of memory that is not in the log, or NULL. */
const char *dirtylog_lacks(const struct guest *g, const char *host, size_t len);
void dirtylog_clear(const struct guest *g, const char *host, size_t len);
void dirtylog_clear_all(void);
/* Return true if no page is logged that was not cleared. */
bool dirtylog_is_empty(void);

#endif
