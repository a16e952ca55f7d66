/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks for tests: files on several filesystems, null_blk, loop and
 * device-mapper devices.
 *
 * Makers return 0 or a negative errno, having said on stderr what failed.
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
	bool discard;
	bool forgets;			/* keeps nothing that is written to it */
	unsigned int bad_sector;	/* the first of those that fail */
	unsigned int bad_sectors;
};

/* A tmpfs of this process' own, with room for size bytes. */
int backend_tmpfs(char *dir, size_t size);
/* A sparse file. */
int backend_file(char *path, const char *dir, const char *name, size_t size);
/* A null_blk device. */
int backend_null(char *path, const struct null_blk *spec);
/* Makes the null_blk device at path disappear, as if it were unplugged. */
int backend_null_unplug(const char *path);
/* A disk of the module scsi_debug, loaded with these options; one at a time. */
int backend_scsi(char *path, const char *options);
/* Sets an option of it, and an attribute of its disk at path. */
int backend_scsi_option(const char *name, const char *value);
int backend_scsi_attribute(const char *path, const char *name, const char *value);
/* A disk of tests/lib/remote-disk, with a server and of the image's size; one of each kind at a time. */
int backend_remote(char *path, const char *kind, const char *image);
/* Does something to its server. */
int backend_remote_do(const char *kind, const char *what);
/* The disk of tests/modules/erasable.c; likewise one at a time. */
int backend_erasable(char *path, unsigned int size_mib, unsigned int block_size);
#define BACKEND_ERASED		0xe5	/* each byte there that was erased securely */
/* A loop device over a file. */
int backend_loop(char *path, const char *file);
/* A device-mapper device from lines of "start length target arguments". */
int backend_dm(char *path, const char *table);
/* Keeps all I/O of a device-mapper device waiting until it is resumed. */
int backend_dm_suspend(const char *path);
int backend_dm_resume(const char *path);
/* Replaces the table of a device-mapper device, with requests on their way. */
int backend_dm_reload(const char *path, const char *table);
/* Sends a message to the target of a device-mapper device. */
int backend_dm_message(const char *path, const char *text);
/* Makes a filesystem on a device or file and mounts it. */
int backend_mkfs(char *dir, const char *fstype, const char *device);
/* The same with quotas of users. */
int backend_mkfs_quota(char *dir, const char *fstype, const char *device);
/* Mounts what is there already. */
int backend_mount(char *dir, const char *fstype, const char *device);
/* Has memory swapped out to a device. */
int backend_swap(const char *device);
/* Looks for damage in a filesystem that is not mounted, and repairs none. */
int backend_fsck(const char *fstype, const char *device);

/* Takes away what was made since the mark, latest first; mark 0 is the start. */
unsigned int backend_mark(void);
int backend_remove_since(unsigned int mark);

/* Size of a file or block device in bytes, or -errno. */
int64_t backend_size(int fd);
/* A field of a block device's statistics, counted from 0; see Documentation/block/stat.rst. */
int64_t backend_stat(const char *path, unsigned int field);

#endif
