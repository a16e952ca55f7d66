// SPDX-License-Identifier: GPL-2.0
/* The log of guest pages that a device has written. */
#define _GNU_SOURCE
#include "dirtylog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define LOG_SIZE	((GUEST_LOGGED_MAX / PAGE + 7) / 8)

static uint8_t *bits;

bool dirtylog_is_on(void)
{
	return bits;
}

void dirtylog_start(struct vhost_blk *dev)
{
	uint64_t features = dev->features | 1ULL << VHOST_F_LOG_ALL, base;

	bits = calloc(1, LOG_SIZE);
	base = (uintptr_t)bits;
	if (!bits || ioctl(dev->fd, VHOST_SET_LOG_BASE, &base) ||
	    ioctl(dev->fd, VHOST_SET_FEATURES, &features))
		fuzz_fail("the dirty log: %s", strerror(errno));
}

/* Look up the pages of a piece. Return the first that is not in the log, or NULL. */
static const char *look_up(const struct guest *g, const char *host, size_t len, bool clear)
{
	const char *missed = NULL;
	size_t part;

	for (; len; host += part, len -= part) {
		uint64_t page = guest_address(&g->mem, host) / PAGE;

		part = guest_first_page(host, len);
		if (!(bits[page / 8] & 1 << page % 8) && !missed)
			missed = host;
		if (clear)
			bits[page / 8] &= ~(1 << page % 8);
	}
	return missed;
}

const char *dirtylog_lacks(const struct guest *g, const char *host, size_t len)
{
	return look_up(g, host, len, false);
}

void dirtylog_clear(const struct guest *g, const char *host, size_t len)
{
	look_up(g, host, len, true);
}

void dirtylog_clear_all(void)
{
	if (bits)
		memset(bits, 0, LOG_SIZE);
}

bool dirtylog_is_empty(void)
{
	size_t i;

	for (i = 0; bits && i < LOG_SIZE; i++)
		if (bits[i])
			return false;
	return true;
}
