/* SPDX-License-Identifier: GPL-2.0 */
/* A file system in userspace of one file, which a thread of the test serves. */
#ifndef TESTS_LIB_FUSE_H
#define TESTS_LIB_FUSE_H

#include <stdbool.h>
#include <stddef.h>

/* Mount it and return the path of its file of zeroes; 0 or -errno. It bypasses the page cache. */
int fuse_start(char *path, size_t size);
/* Unmount it; nothing happens if it is not mounted. */
void fuse_stop(void);
/* Leave reads unanswered, or answer them again, those that wait included. */
void fuse_hang(bool hangs);
/* Return true if a write was not followed by a sync. */
bool fuse_is_dirty(void);

#endif
