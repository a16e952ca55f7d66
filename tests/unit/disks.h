/* SPDX-License-Identifier: GPL-2.0 */
/* Disks of every kind; a test runs on one by the name of its kind. */
#ifndef TESTS_UNIT_DISKS_H
#define TESTS_UNIT_DISKS_H

#include "unit.h"

#define DISK_SIZE	(8 * MIB)
#define SECTORS		(DISK_SIZE / SECTOR_SIZE)

struct disk_kind {
	enum { ON_FILE, ON_NULL, ON_LOOP, ON_DM, ON_SCSI, ON_ERASABLE } on;
	const char *dir;		/* of a file */
	int flags;
	unsigned int block_size;	/* bytes; 0: 512 */
	bool no_discard;
};

extern const struct disk_kind tmpfs_file, ext4_file, ext4_direct, xfs_file, xfs_direct;
extern const struct disk_kind null_cached, null_direct, null_4k, null_no_discard;
extern const struct disk_kind loop_cached, loop_direct, dm_direct;
extern const struct disk_kind scsi_direct, scsi_4k_direct, scsi_4k_cached;
extern const struct disk_kind erasable_cached, erasable_direct;
extern const struct disk_kind erasable_4k_cached, erasable_4k_direct;

/* The device under the ext4 of ext4_file and ext4_direct. */
extern char ext4_device[BACKEND_PATH_MAX];

/* Make the file systems that the kinds need, then do as unit_run(). */
int disks_run(int argc, char **argv, const struct CMUnitTest *tests, size_t nr);
/* Make and open a disk at u->path; u->file is the file that holds its data, or empty. */
void open_disk(struct unit *u, const struct disk_kind *kind);

#endif
