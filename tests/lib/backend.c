// SPDX-License-Identifier: GPL-2.0
/* Disks for tests. */
#define _GNU_SOURCE
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wait.h"

#define NULLB_DIR	"/sys/kernel/config/nullb"
#define SETTLE_MS	5000
#define MADE_MAX	64
#define NAME_LEN	48
#define DIR_LEN		128

enum made_kind {
	MADE_TMPFS, MADE_NULL, MADE_MODULE, MADE_REMOTE, MADE_LOOP, MADE_DM, MADE_MOUNT, MADE_SWAP
};

struct made {
	enum made_kind kind;
	char path[BACKEND_PATH_MAX];
	char name[NAME_LEN];
};

static struct made made[MADE_MAX];
static unsigned int nr_made;
static unsigned int serial_number;

static int failed(const char *what, const char *path)
{
	int ret = -errno;

	fprintf(stderr, "backend: %s %s: %s\n", what, path, strerror(-ret));
	return ret;
}

static struct made *remember(enum made_kind kind, const char *path, const char *name)
{
	struct made *m = &made[nr_made++];

	m->kind = kind;
	snprintf(m->path, sizeof(m->path), "%s", path);
	snprintf(m->name, sizeof(m->name), "%s", name);
	return m;
}

static void unique_name(char *name)
{
	snprintf(name, NAME_LEN, "vhost-blk-%d-%u", getpid(), serial_number++);
}

static int write_text(const char *dir, const char *name, const char *text)
{
	char path[2 * BACKEND_PATH_MAX];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return failed("open", path);
	if (write(fd, text, strlen(text)) < 0)
		ret = failed("write", path);
	close(fd);
	return ret;
}

static int write_number(const char *dir, const char *name, unsigned int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	return write_text(dir, name, text);
}

/* Mounts of a test program are private, and end with it. */
static int private_mounts(void)
{
	static bool done;

	if (done)
		return 0;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return failed("unshare", "mounts");
	done = true;
	return 0;
}

static int make_mount_point(char *dir)
{
	snprintf(dir, BACKEND_PATH_MAX, "/tmp/vhost-blk.XXXXXX");
	if (!mkdtemp(dir))
		return failed("mkdtemp", dir);
	return private_mounts();
}

int backend_tmpfs(char *dir, size_t size)
{
	char options[32];
	int ret = make_mount_point(dir);

	if (ret)
		return ret;
	snprintf(options, sizeof(options), "size=%zu", size);
	if (mount("tmpfs", dir, "tmpfs", 0, options))
		return failed("mount", dir);
	remember(MADE_TMPFS, dir, "");
	return 0;
}

int backend_file(char *path, const char *dir, const char *name, size_t size)
{
	int fd;

	snprintf(path, BACKEND_PATH_MAX, "%.100s/%.50s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return failed("open", path);
	if (ftruncate(fd, size)) {
		close(fd);
		return failed("ftruncate", path);
	}
	close(fd);
	return 0;
}

/* The device node may appear later than the device. */
static int wait_for_node(const char *path)
{
	return wait_until(!access(path, R_OK | W_OK), SETTLE_MS) ? 0 : failed("wait for", path);
}

static int null_node(char *path, const char *dir, const char *name)
{
	char file[2 * BACKEND_PATH_MAX], index[16] = "";
	int fd;

	/* Kernels from 6.10 name the disk as its directory, older ones by a number. */
	snprintf(path, BACKEND_PATH_MAX, "/sys/block/%.100s", name);
	if (!access(path, F_OK)) {
		snprintf(path, BACKEND_PATH_MAX, "/dev/%.100s", name);
		return wait_for_node(path);
	}
	snprintf(file, sizeof(file), "%s/index", dir);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return failed("open", file);
	if (read(fd, index, sizeof(index) - 1) < 1) {
		close(fd);
		return failed("read", file);
	}
	close(fd);
	snprintf(path, BACKEND_PATH_MAX, "/dev/nullb%d", atoi(index));
	return wait_for_node(path);
}

int backend_null(char *path, const struct null_blk *spec)
{
	char name[NAME_LEN], dir[DIR_LEN], bad[32];
	struct made *m;
	int ret;

	snprintf(bad, sizeof(bad), "+%u-%u", spec->bad_sector,
		 spec->bad_sector + spec->bad_sectors - 1);
	unique_name(name);
	snprintf(dir, sizeof(dir), NULLB_DIR "/%s", name);
	if (mkdir(dir, 0700))
		return failed("mkdir", dir);
	m = remember(MADE_NULL, "", name);
	ret = write_number(dir, "size", spec->size_mib);
	if (!ret)
		ret = write_number(dir, "blocksize", spec->block_size ?: 512);
	if (!ret)
		ret = write_number(dir, "memory_backed", !spec->forgets);
	if (!ret && spec->discard)
		ret = write_number(dir, "discard", 1);
	if (!ret && spec->bad_sectors)
		ret = write_text(dir, "badblocks", bad);
	if (!ret && spec->cache_mib)
		ret = write_number(dir, "cache_size", spec->cache_mib);
	if (!ret && spec->mbps)
		ret = write_number(dir, "mbps", spec->mbps);
	if (!ret && spec->max_sectors)
		ret = write_number(dir, "max_sectors", spec->max_sectors);
	if (!ret && spec->queue_depth)
		ret = write_number(dir, "hw_queue_depth", spec->queue_depth);
	if (!ret && spec->delay_us)
		ret = write_number(dir, "irqmode", 2);
	if (!ret && spec->delay_us)
		ret = write_number(dir, "completion_nsec", spec->delay_us * 1000);
	if (!ret)
		ret = write_number(dir, "power", 1);
	if (!ret)
		ret = null_node(path, dir, name);
	if (!ret)
		snprintf(m->path, sizeof(m->path), "%s", path);
	return ret;
}

int backend_null_unplug(const char *path)
{
	char dir[DIR_LEN];
	unsigned int i;

	for (i = 0; i < nr_made; i++) {
		if (made[i].kind != MADE_NULL || strcmp(made[i].path, path))
			continue;
		snprintf(dir, sizeof(dir), NULLB_DIR "/%s", made[i].name);
		return write_number(dir, "power", 0);
	}
	return -ENODEV;
}

int backend_loop(char *path, const char *file)
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int control, loop = -1, number, ret = 0;

	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return failed("open", "/dev/loop-control");
	number = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	if (number < 0)
		return failed("find a loop device for", file);
	snprintf(path, BACKEND_PATH_MAX, "/dev/loop%d", number);
	ret = wait_for_node(path);
	if (ret)
		return ret;
	config.fd = open(file, O_RDWR | O_CLOEXEC);
	loop = open(path, O_RDWR | O_CLOEXEC);
	if ((int)config.fd < 0 || loop < 0 || ioctl(loop, LOOP_CONFIGURE, &config)) {
		ret = failed("set up a loop device for", file);
		close(loop);
	} else {
		/* The open file keeps the device from LO_FLAGS_AUTOCLEAR. */
		snprintf(remember(MADE_LOOP, path, "")->name, NAME_LEN, "%d", loop);
	}
	close(config.fd);
	return ret;
}

#define DM_BUF_LEN	8192

static void dm_init(struct dm_ioctl *io, const char *name, uint32_t flags)
{
	memset(io, 0, DM_BUF_LEN);
	io->version[0] = DM_VERSION_MAJOR;
	io->data_size = DM_BUF_LEN;
	io->data_start = sizeof(*io);
	io->flags = flags;
	snprintf(io->name, sizeof(io->name), "%s", name);
}

static int dm_do(unsigned long cmd, struct dm_ioctl *io)
{
	int control, ret = 0;

	control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return failed("open", "/dev/mapper/control");
	if (ioctl(control, cmd, io))
		ret = failed("device-mapper call for", io->name);
	close(control);
	return ret;
}

static int dm_call(unsigned long cmd, const char *name, const char *table, uint32_t flags,
		   uint64_t *dev)
{
	char buf[DM_BUF_LEN] __attribute__((aligned(8)));
	struct dm_ioctl *io = (struct dm_ioctl *)buf;
	size_t at = sizeof(*io);
	const char *line;
	int ret;

	dm_init(io, name, flags);
	for (line = table; line && *line; line = strchr(line, '\n') + 1) {
		struct dm_target_spec *spec = (struct dm_target_spec *)(buf + at);
		unsigned long long start, length;
		int args = 0;

		if (sscanf(line, "%llu %llu %15s %n", &start, &length, spec->target_type,
			   &args) < 3)
			return -EINVAL;
		spec->sector_start = start;
		spec->length = length;
		at += sizeof(*spec);
		at += sprintf(buf + at, "%.*s", (int)(strchr(line, '\n') - line - args),
			      line + args) + 1;
		at = (at + 7) & ~7UL;
		spec->next = buf + at - (char *)spec;
		io->target_count++;
	}
	ret = dm_do(cmd, io);
	if (!ret && dev)
		*dev = io->dev;
	return ret;
}

int backend_dm(char *path, const char *table)
{
	char name[NAME_LEN];
	uint64_t dev = 0;
	struct made *m;
	int ret;

	unique_name(name);
	ret = dm_call(DM_DEV_CREATE, name, NULL, 0, NULL);
	if (ret)
		return ret;
	m = remember(MADE_DM, "", name);
	ret = dm_call(DM_TABLE_LOAD, name, table, 0, NULL);
	if (!ret)	/* without the suspend flag this resumes */
		ret = dm_call(DM_DEV_SUSPEND, name, NULL, 0, &dev);
	if (ret)
		return ret;
	snprintf(path, BACKEND_PATH_MAX, "/dev/dm-%u", minor(dev));
	snprintf(m->path, sizeof(m->path), "%s", path);
	return wait_for_node(path);
}

static const char *dm_name(const char *path)
{
	unsigned int i;

	for (i = 0; i < nr_made; i++)
		if (made[i].kind == MADE_DM && !strcmp(made[i].path, path))
			return made[i].name;
	return NULL;
}

static int dm_suspend(const char *path, uint32_t flags)
{
	const char *name = dm_name(path);

	return name ? dm_call(DM_DEV_SUSPEND, name, NULL, flags, NULL) : -ENODEV;
}

int backend_dm_suspend(const char *path)
{
	return dm_suspend(path, DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG);
}

int backend_dm_resume(const char *path)
{
	return dm_suspend(path, 0);
}

int backend_dm_reload(const char *path, const char *table)
{
	const char *name = dm_name(path);
	int ret = name ? dm_call(DM_TABLE_LOAD, name, table, 0, NULL) : -ENODEV;

	return ret ?: backend_dm_suspend(path) ?: backend_dm_resume(path);
}

int backend_dm_message(const char *path, const char *text)
{
	char buf[DM_BUF_LEN] __attribute__((aligned(8)));
	struct dm_ioctl *io = (struct dm_ioctl *)buf;
	struct dm_target_msg *msg = (struct dm_target_msg *)(io + 1);
	const char *name = dm_name(path);

	if (!name)
		return -ENODEV;
	dm_init(io, name, 0);
	snprintf(msg->message, DM_BUF_LEN - sizeof(*io) - sizeof(*msg), "%s", text);
	return dm_do(DM_TARGET_MSG, io);
}

static int run(char *const argv[])
{
	int status;
	pid_t pid;

	pid = fork();
	if (pid < 0)
		return failed("fork", argv[0]);
	if (!pid) {
		execvp(argv[0], argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid)
		return failed("wait for", argv[0]);
	if (status) {
		fprintf(stderr, "backend: %s failed\n", argv[0]);
		return -EIO;
	}
	return 0;
}

static int mount_with(char *dir, const char *fstype, const char *device, const char *options)
{
	int ret = make_mount_point(dir);

	if (ret)
		return ret;
	if (mount(device, dir, fstype, 0, options))
		return failed("mount", dir);
	remember(MADE_MOUNT, dir, "");
	return 0;
}

int backend_mount(char *dir, const char *fstype, const char *device)
{
	return mount_with(dir, fstype, device, NULL);
}

/* Only in xfstests mkfs.xfs makes less than 300 MiB, with a log of less than 64 MiB. */
static int run_mkfs(char **argv)
{
	setenv("TEST_DIR", "", 1);
	setenv("TEST_DEV", "", 1);
	setenv("QA_CHECK_FS", "", 1);
	return run(argv);
}

int backend_mkfs(char *dir, const char *fstype, const char *device)
{
	char program[32];
	char *argv[] = { program, "-q", (char *)device, NULL };
	/* It has no option to be quiet. */
	char *vfat[] = { "sh", "-c", "exec mkfs.vfat \"$0\" >/dev/null", (char *)device, NULL };
	int ret;

	snprintf(program, sizeof(program), "mkfs.%s", fstype);
	ret = run_mkfs(strcmp(fstype, "vfat") ? argv : vfat);
	return ret ?: backend_mount(dir, fstype, device);
}

int backend_mkfs_quota(char *dir, const char *fstype, const char *device)
{
	char *ext4[] = { "mkfs.ext4", "-q", "-O", "quota", (char *)device, NULL };
	char *xfs[] = { "mkfs.xfs", "-q", (char *)device, NULL };
	int ret = run_mkfs(strcmp(fstype, "xfs") ? ext4 : xfs);

	return ret ?: mount_with(dir, fstype, device, "usrquota");
}

int backend_swap(const char *device)
{
	int ret = run((char *[]){ "mkswap", "-q", (char *)device, NULL });

	if (ret)
		return ret;
	if (swapon(device, 0))
		return failed("swapon", device);
	remember(MADE_SWAP, device, "");
	return 0;
}

int backend_fsck(const char *fstype, const char *device)
{
	char *checker = strcmp(fstype, "xfs") ? "e2fsck -f" : "xfs_repair";
	/* Quiet unless it fails. */
	char *argv[] = { "sh", "-c", "text=$($0 -n \"$1\" 2>&1) || { echo \"$text\"; exit 1; }",
			 checker, (char *)device, NULL };

	return run(argv);
}

int backend_scsi(char *path, const char *options)
{
	static const char pattern[] =
		"/sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block/*";
	char command[1024];
	glob_t found;
	int ret;

	snprintf(command, sizeof(command),
		 "{ [ -d /sys/module/sd_mod ] || modprobe sd_mod; } && exec modprobe scsi_debug %s",
		 options);
	ret = run((char *[]){ "sh", "-c", command, NULL });
	if (ret)
		return ret;
	remember(MADE_MODULE, "scsi_debug", "");
	if (!wait_until(!glob(pattern, 0, NULL, &found), SETTLE_MS)) {
		fprintf(stderr, "backend: scsi_debug has no disk\n");
		return -ENODEV;
	}
	snprintf(path, BACKEND_PATH_MAX, "/dev/%.100s", strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	return wait_for_node(path);
}

int backend_scsi_option(const char *name, const char *value)
{
	return write_text("/sys/bus/pseudo/drivers/scsi_debug", name, value);
}

int backend_scsi_attribute(const char *path, const char *name, const char *value)
{
	char dir[2 * BACKEND_PATH_MAX];

	snprintf(dir, sizeof(dir), "/sys/block/%s/device", strrchr(path, '/') + 1);
	return write_text(dir, name, value);
}

int backend_remote_do(const char *kind, const char *what)
{
	return run((char *[]){ "tests/lib/remote-disk", (char *)kind, (char *)what, NULL });
}

int backend_remote(char *path, const char *kind, const char *image)
{
	char command[2 * BACKEND_PATH_MAX];
	FILE *f;
	int nr;

	snprintf(command, sizeof(command), "tests/lib/remote-disk %s make %s", kind, image);
	f = popen(command, "re");
	if (!f)
		return failed("run", command);
	nr = fscanf(f, "%159s", path);
	if (pclose(f) || nr != 1)
		return -ENODEV;
	remember(MADE_REMOTE, path, kind);
	return wait_for_node(path);
}

int backend_erasable(char *path, unsigned int size_mib, unsigned int block_size)
{
	char size[32], block[32];
	int ret;

	snprintf(size, sizeof(size), "dev_size_mb=%u", size_mib);
	snprintf(block, sizeof(block), "sector_size=%u", block_size);
	ret = run((char *[]){ "tests/lib/load-module", "tests/erasable", size, block, NULL });
	if (ret)
		return ret;
	remember(MADE_MODULE, "erasable", "");
	snprintf(path, BACKEND_PATH_MAX, "/dev/erasable");
	return wait_for_node(path);
}

static int try_to_remove(struct made *m)
{
	char dir[DIR_LEN];

	switch (m->kind) {
	case MADE_TMPFS:
	case MADE_MOUNT:
		if (umount(m->path))
			return -1;
		rmdir(m->path);
		return 0;
	case MADE_SWAP:
		return swapoff(m->path);
	case MADE_LOOP:
		return close(atoi(m->name));
	case MADE_DM:
		return dm_call(DM_DEV_REMOVE, m->name, NULL, 0, NULL);
	case MADE_MODULE:
		return syscall(SYS_delete_module, m->path, O_NONBLOCK);
	case MADE_REMOTE:
		return backend_remote_do(m->name, "remove");
	case MADE_NULL:
		snprintf(dir, sizeof(dir), NULLB_DIR "/%s", m->name);
		return rmdir(dir);
	}
	return -1;
}

static int remove_one(struct made *m)
{
	/* The last reference to a disk may be dropped asynchronously. */
	return wait_until(!try_to_remove(m), SETTLE_MS) ? 0 : failed("remove", m->path);
}

unsigned int backend_mark(void)
{
	return nr_made;
}

int backend_remove_since(unsigned int mark)
{
	int ret = 0, err;

	while (nr_made > mark) {
		err = remove_one(&made[--nr_made]);
		ret = ret ?: err;
	}
	return ret;
}

int64_t backend_size(int fd)
{
	struct stat st;
	uint64_t size;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISBLK(st.st_mode))
		return st.st_size;
	return ioctl(fd, BLKGETSIZE64, &size) ? -errno : (int64_t)size;
}

int64_t backend_stat(const char *path, unsigned int field)
{
	char file[2 * BACKEND_PATH_MAX];
	long long value = -1;
	unsigned int i;
	FILE *f;

	snprintf(file, sizeof(file), "/sys/block/%s/stat", strrchr(path, '/') + 1);
	f = fopen(file, "re");
	if (!f)
		return failed("open", file);
	for (i = 0; i <= field; i++) {
		if (fscanf(f, "%lld", &value) != 1) {
			value = -EINVAL;
			break;
		}
	}
	fclose(f);
	return value;
}
