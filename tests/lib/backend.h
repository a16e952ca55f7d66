/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks for tests: files on several filesystems, null_blk, loop and
 * device-mapper devices.
 *
 * Functions return 0 or a negative errno, and print on stderr what failed.
 */
#ifndef TESTS_LIB_BACKEND_H
#define TESTS_LIB_BACKEND_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#define BACKEND_PATH_MAX	160

struct null_blk {
	unsigned int size_mib;
	unsigned int block_size;	/* bytes; 0: 512 */
	unsigned int delay_us;		/* of each completion; 0: completes at once */
	unsigned int queue_depth;	/* 0: the driver's own */
	unsigned int cache_mib;		/* volatile write cache; 0: none */
	unsigned int mbps;		/* bandwidth; larger requests than for 20 ms wait for ever */
	unsigned int max_sectors;	/* of a request that the disk takes; 0: the driver's own */
	bool discard;
	bool forgets;			/* has no memory for data */
	unsigned int bad_sector;	/* first of the bad sectors */
	unsigned int bad_sectors;
};

/* Mount a tmpfs of size bytes for this process only. */
int backend_tmpfs(char *dir, size_t size);
/* Make a sparse file. */
int backend_file(char *path, const char *dir, const char *name, size_t size);
/* Make a null_blk device. */
int backend_null(char *path, const struct null_blk *spec);
/* Unplug the null_blk device at path. */
int backend_null_unplug(const char *path);
/* Make a disk of the module scsi_debug, loaded with these options; one at a time. */
int backend_scsi(char *path, const char *options);
/* Set an option of it, or an attribute of its disk at path. */
int backend_scsi_option(const char *name, const char *value);
int backend_scsi_attribute(const char *path, const char *name, const char *value);
/* Make a disk of tests/lib/remote-disk with the image's size; one of each kind at a time. */
int backend_remote(char *path, const char *kind, const char *image);
/* Run a command of tests/lib/remote-disk on its server. */
int backend_remote_do(const char *kind, const char *what);
/* Make the disk of tests/modules/erasable.c; one at a time. */
int backend_erasable(char *path, unsigned int size_mib, unsigned int block_size);
#define BACKEND_ERASED		0xe5	/* what a securely erased byte reads as */
/* Make a loop device over a file. */
int backend_loop(char *path, const char *file);
/* Make a device-mapper device from lines of "start length target arguments". */
int backend_dm(char *path, const char *table);
/* Suspend a device-mapper device, whose I/O waits until it is resumed. */
int backend_dm_suspend(const char *path);
int backend_dm_resume(const char *path);
/* Replace the table of a device-mapper device, with requests in flight. */
int backend_dm_reload(const char *path, const char *table);
/* Send a message to the target of a device-mapper device. */
int backend_dm_message(const char *path, const char *text);
/* Make a filesystem on a device or file and mount it. */
int backend_mkfs(char *dir, const char *fstype, const char *device);
/* The same with user quotas. */
int backend_mkfs_quota(char *dir, const char *fstype, const char *device);
/* Mount an existing filesystem. */
int backend_mount(char *dir, const char *fstype, const char *device);
/* Swap to a device. */
int backend_swap(const char *device);
/* Check a filesystem that is not mounted, without repairs. */
int backend_fsck(const char *fstype, const char *device);

/* Remove what was made since the mark, latest first; mark 0 is the start. */
unsigned int backend_mark(void);
int backend_remove_since(unsigned int mark);

/* Return the size of a file or block device in bytes, or -errno. */
int64_t backend_size(int fd);
/* Return a field of Documentation/block/stat.rst, counted from 0. */
int64_t backend_stat(const char *path, unsigned int field);

#endif
