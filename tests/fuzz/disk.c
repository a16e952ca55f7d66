// SPDX-License-Identifier: GPL-2.0
/* The fuzzer's disks, each with a shadow of its expected contents. */
#define _GNU_SOURCE
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backend.h"
#include "blk.h"
#include "fuzz.h"

#define MIB		(1024UL * 1024)
#define SIZE		(2 * MIB)
/* A file may end within a page, even within a sector. */
#define FILE_SIZE	(SIZE + 3 * SECTOR_SIZE + 100)
#define BLOCK		4096UL		/* unit of direct reads */
#define WINDOW_AT	(1 * MIB)	/* bytes into the device below */
#define BELOW_SIZE	(4 * MIB)
#define CONTENT		0xd15c

static const struct kind {
	enum { ON_FILE, ON_NULL, ON_WINDOW } on;
	int flags;
	unsigned int block_size;
	bool discard;
} kinds[DISKS] = {
	{ ON_FILE, O_RDWR, 512, true },
	{ ON_FILE, O_RDONLY, 512, true },
	{ ON_NULL, O_RDWR | O_DIRECT, 512, true },
	{ ON_NULL, O_RDWR | O_DIRECT, 512, false },
	{ ON_NULL, O_RDWR | O_DIRECT, 4096, true },
	{ ON_NULL, O_RDWR, 512, true },
	{ ON_WINDOW, O_RDWR | O_DIRECT, 512, true },
};

static struct disk disks[DISKS];
static char *block_buf;

static void must(int ret, const char *what)
{
	if (ret < 0) {
		fprintf(stderr, "disk: %s: %s\n", what, strerror(-ret));
		exit(2);
	}
}

static void fill(int fd, uint64_t pos, size_t len)
{
	char *buf = aligned_alloc(BLOCK, (len + BLOCK - 1) / BLOCK * BLOCK);

	pattern_fill(buf, len, pos, CONTENT);
	if (pwrite(fd, buf, len, pos) != (ssize_t)len)
		must(-EIO, "fill");
	free(buf);
}

static void make_file(char *path, unsigned int number)
{
	static char dir[BACKEND_PATH_MAX];
	char name[16];

	if (!dir[0])
		must(backend_tmpfs(dir, 16 * MIB), "tmpfs");
	snprintf(name, sizeof(name), "disk%u", number);
	must(backend_file(path, dir, name, FILE_SIZE), "file");
}

static void make_window(char *path, struct disk *disk)
{
	struct null_blk spec = { .size_mib = BELOW_SIZE / MIB, .discard = true };
	char below[BACKEND_PATH_MAX], table[256];

	must(backend_null(below, &spec), "null_blk");
	disk->below = open(below, O_RDWR | O_DIRECT | O_CLOEXEC);
	must(disk->below, below);
	fill(disk->below, 0, BELOW_SIZE);
	snprintf(table, sizeof(table), "0 %lu linear %s %lu\n", SIZE / SECTOR_SIZE, below,
		 WINDOW_AT / SECTOR_SIZE);
	must(backend_dm(path, table), "window");
}

static void make(struct disk *disk, unsigned int number)
{
	const struct kind *kind = &kinds[number];
	struct null_blk spec = {
		.size_mib = SIZE / MIB, .block_size = kind->block_size, .discard = kind->discard,
	};
	char path[BACKEND_PATH_MAX];
	int device, writer;

	disk->below = -1;
	switch (kind->on) {
	case ON_FILE:
		make_file(path, number);
		break;
	case ON_NULL:
		must(backend_null(path, &spec), "null_blk");
		break;
	case ON_WINDOW:
		make_window(path, disk);
		break;
	}
	disk->fd = open(path, kind->flags | O_CLOEXEC);
	must(disk->fd, path);
	disk->verify_fd = open(path, O_RDONLY | (kind->flags & O_DIRECT) | O_CLOEXEC);
	must(disk->verify_fd, path);

	disk->model.size = backend_size(disk->fd);
	disk->model.block_size = kind->block_size ?: SECTOR_SIZE;
	disk->model.readonly = (kind->flags & O_ACCMODE) == O_RDONLY;
	disk->model.direct = kind->flags & O_DIRECT;
	disk->model.limits.fd = disk->fd;
	device = open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC);
	must(device, VHOST_BLK_DEVICE);
	must(ioctl(device, VHOST_BLK_GET_LIMITS, &disk->model.limits), "GET_LIMITS");
	close(device);

	writer = open(path, O_RDWR | (kind->flags & O_DIRECT) | O_CLOEXEC);
	must(writer, path);
	fill(writer, 0, disk->model.size);
	close(writer);
	disk->shadow = fuzz_shared(FILE_SIZE);
	disk_accept(disk, 0, disk->model.size);
}

struct disk *disk_get(unsigned int number)
{
	if (!block_buf)
		block_buf = aligned_alloc(BLOCK, BELOW_SIZE);
	if (!disks[number].shadow)
		make(&disks[number], number);
	return &disks[number];
}

/* Read the blocks of a range. Return where the range begins in the buffer. */
static const char *read_range(int fd, uint64_t pos, uint64_t len)
{
	uint64_t start = pos / BLOCK * BLOCK, end = (pos + len + BLOCK - 1) / BLOCK * BLOCK;

	if (pread(fd, block_buf, end - start, start) < (ssize_t)(pos + len - start))
		fuzz_fail("the disk cannot be read");
	return block_buf + (pos - start);
}

void disk_accept(struct disk *disk, uint64_t pos, uint64_t len)
{
	memcpy(disk->shadow + pos, read_range(disk->verify_fd, pos, len), len);
}

static int64_t first_difference(const char *a, const char *b, uint64_t len)
{
	uint64_t i;

	if (!memcmp(a, b, len))
		return -1;
	for (i = 0; a[i] == b[i]; i++)
		;
	return i;
}

int64_t disk_differs(struct disk *disk, uint64_t pos, uint64_t len)
{
	const char *data = read_range(disk->verify_fd, pos, len);
	int64_t at = first_difference(data, disk->shadow + pos, len);

	return at < 0 ? at : (int64_t)pos + at;
}

const char *disk_fault(struct disk *disk)
{
	static char text[100];
	const char *below;
	int64_t at;

	if (backend_size(disk->fd) != (int64_t)disk->model.size)
		return "its size has changed";
	at = disk_differs(disk, 0, disk->model.size);
	if (at >= 0) {
		snprintf(text, sizeof(text), "byte %lld has changed", (long long)at);
		return text;
	}
	if (disk->below < 0)
		return NULL;
	below = read_range(disk->below, 0, BELOW_SIZE);
	if (pattern_differs(below, WINDOW_AT, 0, CONTENT) >= 0)
		return "the device below has changed before the window";
	if (pattern_differs(below + WINDOW_AT + SIZE, BELOW_SIZE - WINDOW_AT - SIZE,
			    WINDOW_AT + SIZE, CONTENT) >= 0)
		return "the device below has changed behind the window";
	return NULL;
}

void disk_remove_all(void)
{
	unsigned int i;

	for (i = 0; i < DISKS; i++) {
		if (!disks[i].shadow)
			continue;
		close(disks[i].fd);
		close(disks[i].verify_fd);
		if (disks[i].below >= 0)
			close(disks[i].below);
	}
	if (backend_remove_since(0))
		fuzz_fail("a disk is still in use");
}
