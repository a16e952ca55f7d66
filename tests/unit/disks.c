// SPDX-License-Identifier: GPL-2.0
/* Disks of every kind. */
#define _GNU_SOURCE
#include "disks.h"

/* One of each for the whole program. */
static char tmpfs[BACKEND_PATH_MAX], ext4[BACKEND_PATH_MAX], xfs[BACKEND_PATH_MAX];
char ext4_device[BACKEND_PATH_MAX];

const struct disk_kind tmpfs_file = { .on = ON_FILE, .dir = tmpfs };
const struct disk_kind ext4_file = { .on = ON_FILE, .dir = ext4 };
const struct disk_kind ext4_direct = { .on = ON_FILE, .dir = ext4, .flags = O_DIRECT };
const struct disk_kind xfs_file = { .on = ON_FILE, .dir = xfs };
const struct disk_kind xfs_direct = { .on = ON_FILE, .dir = xfs, .flags = O_DIRECT };
const struct disk_kind null_cached = { .on = ON_NULL };
const struct disk_kind null_direct = { .on = ON_NULL, .flags = O_DIRECT };
const struct disk_kind null_4k = { .on = ON_NULL, .flags = O_DIRECT, .block_size = 4096 };
const struct disk_kind null_no_discard = { .on = ON_NULL, .flags = O_DIRECT, .no_discard = true };
const struct disk_kind loop_cached = { .on = ON_LOOP };
const struct disk_kind loop_direct = { .on = ON_LOOP, .flags = O_DIRECT };
const struct disk_kind dm_direct = { .on = ON_DM, .flags = O_DIRECT };
const struct disk_kind scsi_direct = { .on = ON_SCSI, .flags = O_DIRECT };
const struct disk_kind scsi_4k_direct = { .on = ON_SCSI, .flags = O_DIRECT, .block_size = 4096 };
const struct disk_kind scsi_4k_cached = { .on = ON_SCSI, .block_size = 4096 };
const struct disk_kind erasable_cached = { .on = ON_ERASABLE };
const struct disk_kind erasable_direct = { .on = ON_ERASABLE, .flags = O_DIRECT };
const struct disk_kind erasable_4k_cached = { .on = ON_ERASABLE, .block_size = 4096 };
const struct disk_kind erasable_4k_direct = {
	.on = ON_ERASABLE, .flags = O_DIRECT, .block_size = 4096
};

static int make_filesystem(char *dir, char *device, const char *fstype, size_t size)
{
	char image[BACKEND_PATH_MAX];

	if (backend_file(image, tmpfs, fstype, size) || backend_loop(device, image))
		return -1;
	return backend_mkfs(dir, fstype, device);
}

static int make_filesystems(void **state)
{
	char device[BACKEND_PATH_MAX];

	(void)state;
	if (backend_tmpfs(tmpfs, 512 * MIB) ||
	    make_filesystem(ext4, ext4_device, "ext4", 64 * MIB))
		return -1;
	return make_filesystem(xfs, device, "xfs", 320 * MIB);
}

int disks_run(int argc, char **argv, const struct CMUnitTest *tests, size_t nr)
{
	return unit_run_with(argc, argv, tests, nr, make_filesystems);
}

void open_disk(struct unit *u, const struct disk_kind *kind)
{
	struct null_blk spec = {
		.size_mib = DISK_SIZE / MIB, .block_size = kind->block_size,
		.discard = !kind->no_discard,
	};
	char options[160];

	u->file[0] = 0;
	switch (kind->on) {
	case ON_FILE:
		assert_ok(backend_file(u->path, kind->dir, "disk", DISK_SIZE));
		memcpy(u->file, u->path, sizeof(u->file));
		break;
	case ON_NULL:
		assert_ok(backend_null(u->path, &spec));
		break;
	case ON_LOOP:
		assert_ok(backend_file(u->file, tmpfs, "image", DISK_SIZE));
		assert_ok(backend_loop(u->path, u->file));
		break;
	case ON_DM:
		unit_dm(u->path, &spec, "linear", "");
		break;
	case ON_SCSI:
		snprintf(options, sizeof(options),
			 "dev_size_mb=%lu sector_size=%u lbpu=1 lbpws=1 lbprz=1 delay=0",
			 DISK_SIZE / MIB, kind->block_size ?: SECTOR_SIZE);
		assert_ok(backend_scsi(u->path, options));
		break;
	case ON_ERASABLE:
		assert_ok(backend_erasable(u->path, DISK_SIZE / MIB,
					   kind->block_size ?: SECTOR_SIZE));
		break;
	}
	unit_disk(u, u->path, O_RDWR | kind->flags);
}
