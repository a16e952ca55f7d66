/* SPDX-License-Identifier: GPL-2.0 */
/* Disks of every kind, for tests to be run on by the kind's name. */
#ifndef TESTS_UNIT_DISKS_H
#define TESTS_UNIT_DISKS_H

#include "unit.h"

#define DISK_SIZE	(8 * MIB)
#define SECTORS		(DISK_SIZE / SECTOR_SIZE)

struct kind {
	enum { ON_FILE, ON_NULL, ON_LOOP, ON_DM, ON_SCSI, ON_ERASABLE } on;
	const char *dir;		/* of a file */
	int flags;
	unsigned int block_size;	/* bytes; 0: 512 */
	bool keeps;			/* no discard */
};

extern const struct kind tmpfs_file, ext4_file, ext4_direct, xfs_file, xfs_direct;
extern const struct kind null_cached, null_direct, null_4k, null_keeping;
extern const struct kind loop_cached, loop_direct, dm_direct;
extern const struct kind scsi_direct, scsi_4k_direct, scsi_4k_cached;
extern const struct kind erasable_cached, erasable_direct, erasable_4k_cached, erasable_4k_direct;

/* The device under the ext4 of ext4_file and ext4_direct. */
extern char ext4_device[BACKEND_PATH_MAX];

/* unit_run() with the file systems that the kinds need. */
int disks_run(int argc, char **argv, const char *name, const struct CMUnitTest *tests, size_t nr);
/* Opens a new disk at u->path; u->file is what holds its data, or empty if no file does. */
void open_kind(struct unit *u, const struct kind *kind);

#endif
