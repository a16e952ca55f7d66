/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Power cuts: device-mapper's log-writes target over a disk logs what the disk
 * has made durable, in that order, and marks in between.
 */
#ifndef TESTS_LIB_POWERCUT_H
#define TESTS_LIB_POWERCUT_H

/*
 * Write to image, an empty file as large as the disk, what the disk holds if
 * the power is cut at a mark. Return 0, -ENOENT if the log has no such mark, or
 * another negative errno.
 */
int powercut_replay(const char *log, const char *mark, const char *image);

#endif
