// SPDX-License-Identifier: GPL-2.0
/* A file system in userspace of one file, which a thread of the test serves. */
#define _GNU_SOURCE
#include "fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "backend.h"

#define FILE_NAME	"disk"
#define FILE_ID		2	/* 1 is the root directory */
#define WRITE_MAX	(128 * 1024)
#define REQUEST_MAX	(WRITE_MAX + 4096)
#define HANGING_MAX	1024

/* A read that waits for its answer. */
struct hanging_read {
	uint64_t unique;
	struct fuse_read_in read;
};

static struct {
	int fd;
	char dir[BACKEND_PATH_MAX];
	pthread_t thread;
	char *data;
	size_t size;
	bool dirty;
	pthread_mutex_t lock;		/* of the members below */
	bool hangs;
	unsigned int nr_hanging;
	struct hanging_read hanging[HANGING_MAX];
} fs = { .fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

static void reply(uint64_t unique, int error, const void *data, size_t len)
{
	struct fuse_out_header header = {
		.len = sizeof(header) + len, .error = error, .unique = unique,
	};
	struct iovec iov[] = { { &header, sizeof(header) }, { (void *)data, len } };

	/* It fails for a request whose process was killed. */
	if (writev(fs.fd, iov, len ? 2 : 1) < 0 && errno != ENOENT)
		perror("fuse: reply");
}

static void fill_attributes(uint64_t id, struct fuse_attr *attr)
{
	attr->ino = id;
	attr->mode = id == FILE_ID ? S_IFREG | 0600 : S_IFDIR | 0700;
	attr->size = id == FILE_ID ? fs.size : 0;
	attr->blocks = attr->size / 512;
	attr->nlink = 1;
	attr->blksize = 4096;
}

static void reply_to_init(uint64_t unique, const struct fuse_init_in *in)
{
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead, .flags = in->flags & FUSE_BIG_WRITES,
		.max_background = HANGING_MAX, .congestion_threshold = HANGING_MAX,
		.max_write = WRITE_MAX, .time_gran = 1,
	};

	reply(unique, 0, &out, sizeof(out));
}

static void reply_to_lookup(uint64_t unique, const char *name)
{
	struct fuse_entry_out out = { .nodeid = FILE_ID, .entry_valid = 3600, .attr_valid = 3600 };

	if (strcmp(name, FILE_NAME)) {
		reply(unique, -ENOENT, NULL, 0);
		return;
	}
	fill_attributes(FILE_ID, &out.attr);
	reply(unique, 0, &out, sizeof(out));
}

static void reply_to_getattr(uint64_t unique, uint64_t id)
{
	struct fuse_attr_out out = { .attr_valid = 3600 };

	fill_attributes(id, &out.attr);
	reply(unique, 0, &out, sizeof(out));
}

static void reply_to_read(uint64_t unique, const struct fuse_read_in *in)
{
	size_t left = in->offset < fs.size ? fs.size - in->offset : 0;

	reply(unique, 0, fs.data + in->offset, in->size < left ? in->size : left);
}

static void handle_read(uint64_t unique, const struct fuse_read_in *in)
{
	bool hangs;

	pthread_mutex_lock(&fs.lock);
	hangs = fs.hangs && fs.nr_hanging < HANGING_MAX;
	if (hangs)
		fs.hanging[fs.nr_hanging++] = (struct hanging_read){ unique, *in };
	pthread_mutex_unlock(&fs.lock);
	if (!hangs)
		reply_to_read(unique, in);
}

static void handle_write(uint64_t unique, const struct fuse_write_in *in)
{
	struct fuse_write_out out = { .size = in->size };

	if (in->offset > fs.size || in->size > fs.size - in->offset) {
		reply(unique, -ENOSPC, NULL, 0);
		return;
	}
	memcpy(fs.data + in->offset, in + 1, in->size);
	__atomic_store_n(&fs.dirty, true, __ATOMIC_RELEASE);
	reply(unique, 0, &out, sizeof(out));
}

static void handle(const struct fuse_in_header *in)
{
	static const struct fuse_open_out opened = { .open_flags = FOPEN_DIRECT_IO };
	const void *arg = in + 1;

	switch (in->opcode) {
	case FUSE_INIT:
		reply_to_init(in->unique, arg);
		break;
	case FUSE_LOOKUP:
		reply_to_lookup(in->unique, arg);
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		reply_to_getattr(in->unique, in->nodeid);
		break;
	case FUSE_OPEN:
		reply(in->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_READ:
		handle_read(in->unique, arg);
		break;
	case FUSE_WRITE:
		handle_write(in->unique, arg);
		break;
	case FUSE_FSYNC:
		__atomic_store_n(&fs.dirty, false, __ATOMIC_RELEASE);
		reply(in->unique, 0, NULL, 0);
		break;
	case FUSE_FLUSH:
	case FUSE_RELEASE:
		reply(in->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		reply(in->unique, -ENOSYS, NULL, 0);
	}
}

static void *serve(void *buf)
{
	ssize_t len;

	/* The read fails with ENODEV when the file system is unmounted. */
	while ((len = read(fs.fd, buf, REQUEST_MAX)) >= 0 || errno != ENODEV)
		if (len >= (ssize_t)sizeof(struct fuse_in_header))
			handle(buf);
	free(buf);
	return NULL;
}

int fuse_start(char *path, size_t size)
{
	char options[100];
	void *buf = malloc(REQUEST_MAX);

	fs.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fs.fd < 0)
		return -errno;
	fs.size = size;
	fs.data = calloc(1, size);
	fs.dirty = false;
	fs.hangs = false;
	fs.nr_hanging = 0;
	if (!buf || !fs.data)
		return -ENOMEM;
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fs.fd);
	snprintf(fs.dir, sizeof(fs.dir), "/tmp/fuse.XXXXXX");
	if (!mkdtemp(fs.dir) || mount("fuse", fs.dir, "fuse", MS_NOSUID | MS_NODEV, options))
		return -errno;
	if (pthread_create(&fs.thread, NULL, serve, buf))
		return -EAGAIN;
	snprintf(path, BACKEND_PATH_MAX, "%.100s/" FILE_NAME, fs.dir);
	return 0;
}

void fuse_stop(void)
{
	if (fs.fd < 0)
		return;
	umount2(fs.dir, MNT_DETACH);
	if (fs.thread)
		pthread_join(fs.thread, NULL);
	rmdir(fs.dir);
	close(fs.fd);
	free(fs.data);
	fs.fd = -1;
	fs.thread = 0;
}

void fuse_hang(bool hangs)
{
	unsigned int i;

	pthread_mutex_lock(&fs.lock);
	fs.hangs = hangs;
	for (i = 0; !hangs && i < fs.nr_hanging; i++)
		reply_to_read(fs.hanging[i].unique, &fs.hanging[i].read);
	if (!hangs)
		fs.nr_hanging = 0;
	pthread_mutex_unlock(&fs.lock);
}

bool fuse_is_dirty(void)
{
	return __atomic_load_n(&fs.dirty, __ATOMIC_ACQUIRE);
}
