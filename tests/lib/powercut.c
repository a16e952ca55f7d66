// SPDX-License-Identifier: GPL-2.0
/* A reader of device-mapper's log-writes logs; see log-writes.rst in the kernel's documentation. */
#define _GNU_SOURCE
#include "powercut.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_MAGIC	0x6a736677736872ULL
#define LOG_DISCARD	(1 << 2)
#define LOG_MARK	(1 << 3)
#define LOG_SECTOR_MAX	4096

/* In the log's first sector. */
struct log_super {
	uint64_t magic;
	uint64_t version;
	uint64_t nr_entries;
	uint32_t sector_size;
} __attribute__((packed));

/* In a sector of its own, the text of a mark behind it; the data follows. */
struct log_entry {
	uint64_t sector;
	uint64_t nr_sectors;
	uint64_t flags;
	uint64_t data_len;
} __attribute__((packed));

static int read_all(int fd, void *buf, size_t len, off_t at)
{
	ssize_t n = pread(fd, buf, len, at);

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

static int copy_data(int log, off_t from, int image, off_t to, size_t len)
{
	char *buf = malloc(len);
	int ret = buf ? read_all(log, buf, len, from) : -ENOMEM;

	if (!ret && pwrite(image, buf, len, to) != (ssize_t)len)
		ret = -errno;
	free(buf);
	return ret;
}

static int replay(int log, const char *mark, int image)
{
	char sector[LOG_SECTOR_MAX];
	struct log_entry *entry = (struct log_entry *)sector;
	struct log_super super;
	uint64_t i, flags;
	off_t at, to;
	size_t size, len;
	int ret;

	ret = read_all(log, &super, sizeof(super), 0);
	if (ret)
		return ret;
	size = le32toh(super.sector_size);
	if (le64toh(super.magic) != LOG_MAGIC || le64toh(super.version) != 1 ||
	    size < sizeof(*entry) || size > LOG_SECTOR_MAX)
		return -EINVAL;

	at = size;
	for (i = 0; i < le64toh(super.nr_entries) && !ret; i++) {
		ret = read_all(log, sector, size, at);
		if (ret)
			break;
		at += size;
		flags = le64toh(entry->flags);
		to = le64toh(entry->sector) * size;
		len = le64toh(entry->nr_sectors) * size;
		if (flags & LOG_MARK) {
			if (le64toh(entry->data_len) == strlen(mark) &&
			    !memcmp(entry + 1, mark, strlen(mark)))
				return 0;
		} else if (flags & LOG_DISCARD) {
			if (fallocate(image, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, to, len))
				ret = -errno;
		} else if (len) {
			ret = copy_data(log, at, image, to, len);
			at += len;
		}
	}
	return ret ?: -ENOENT;
}

int powercut_replay(const char *log, const char *mark, const char *image)
{
	int from = open(log, O_RDONLY | O_CLOEXEC);
	int to = open(image, O_WRONLY | O_CLOEXEC);
	int ret = from < 0 || to < 0 ? -errno : replay(from, mark, to);

	close(from);
	close(to);
	return ret;
}
