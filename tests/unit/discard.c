// SPDX-License-Identifier: GPL-2.0
/* Requests that carry ranges: discard, write zeroes, secure erase; and the limits of backends. */
#define _GNU_SOURCE
#include "disks.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAX_RANGES	256
#define UNMAP		VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP

#define DISCARD		BIT64(VIRTIO_BLK_F_DISCARD)
#define WRITE_ZEROES	BIT64(VIRTIO_BLK_F_WRITE_ZEROES)
#define SECURE_ERASE	BIT64(VIRTIO_BLK_F_SECURE_ERASE)

typedef struct virtio_blk_discard_write_zeroes range_t;

static const uint32_t range_types[] = {
	VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_SECURE_ERASE,
};

/* Return how many of range_types a kind of disk supports. */
static unsigned int nr_types(const struct disk_kind *kind)
{
	return kind->on == ON_ERASABLE ? 3 : 2;
}

static void start_with_ranges(struct unit *u, unsigned int num)
{
	unit_start_with(u, RANGE_FEATURES, 1, num);
}

/* Start on a new disk of a kind, with pattern 1 in its first bytes. */
static void start_on_disk(struct unit *u, const struct disk_kind *kind, size_t filled)
{
	open_disk(u, kind);
	disk_fill(u->disk, 0, filled, 1);
	start_with_ranges(u, 16);
}

static range_t range(uint64_t sector, uint32_t nr, uint32_t flags)
{
	return (range_t) { .sector = sector, .num_sectors = nr, .flags = flags };
}

/* Do one request with these ranges; return its status. */
static int io(struct unit *u, uint32_t type, const range_t *ranges, unsigned int nr)
{
	range_t *list = unit_alloc(u, nr * sizeof(*list));
	int status;

	memcpy(list, ranges, nr * sizeof(*list));
	status = unit_io(u, type, 0, list, nr * sizeof(*list));
	assert_int_equal(u->req.used_len, 1);
	return status;
}

static void expect_byte(int fd, uint64_t offset, size_t len, char byte)
{
	char *buf = aligned_alloc(4096, (len + 4095) & ~4095UL);
	bool cached = !(fcntl(fd, F_GETFL) & O_DIRECT);
	size_t i;

	assert_non_null(buf);
	assert_int_equal(pread(fd, buf, len, offset), len);
	/* The page cache zeroes what it cannot drop, such as a part of a page. */
	if (buf[0] == byte && !memcmp(buf, buf + 1, len - 1)) {
		free(buf);
		return;
	}
	for (i = 0; i < len && (buf[i] == byte || (cached && !buf[i])); i++)
		;
	free(buf);
	if (i < len)
		fail_msg("the disk is not %#x at byte %llu", (unsigned char)byte,
			 (unsigned long long)offset + i);
}

static void expect_zero(int fd, uint64_t offset, size_t len)
{
	expect_byte(fd, offset, len, 0);
}

/* Check the data that a request of this type leaves. */
static void expect_gone(int fd, uint64_t offset, size_t len, uint32_t type)
{
	expect_byte(fd, offset, len, type == VIRTIO_BLK_T_SECURE_ERASE ? BACKEND_ERASED : 0);
}

/* Return the bytes that the file with the disk's data uses. */
static uint64_t space_used(struct unit *u)
{
	int fd = open(u->file, O_RDWR | O_CLOEXEC);
	struct stat st;

	assert_ok(fd);
	assert_ok(fsync(fd));
	assert_ok(fstat(fd, &st));
	close(fd);
	return st.st_blocks * 512;
}

/* Check that a request of two ranges changes these and no others. */
static void two_ranges(struct unit *u, uint32_t type, uint32_t flags, bool freed)
{
	range_t two[] = { range(MIB / 512, MIB / 512, flags), range(3 * MIB / 512, 1024, flags) };
	uint64_t before = 0, after;

	start_on_disk(u, u->param, DISK_SIZE);
	assert_ok(fsync(u->disk));
	if (u->file[0])
		before = space_used(u);
	assert_int_equal(io(u, type, two, 2), VIRTIO_BLK_S_OK);
	/* The host reads the same as the guest. */
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 3 * MIB / 512, unit_alloc(u, 512 * KIB),
				 512 * KIB), VIRTIO_BLK_S_OK);
	expect_gone(u->disk, MIB, MIB, type);
	expect_gone(u->disk, 3 * MIB, 512 * KIB, type);
	expect_disk(u->disk, 0, MIB, 1);
	expect_disk(u->disk, 2 * MIB, MIB, 1);
	expect_disk(u->disk, 3 * MIB + 512 * KIB, DISK_SIZE - 3 * MIB - 512 * KIB, 1);
	assert_int_equal(backend_size(u->disk), DISK_SIZE);
	if (!u->file[0])
		return;
	after = space_used(u);
	if (freed)
		assert_true(before - after >= MIB + 512 * KIB);
	else
		assert_true(after >= before);
}

static void discard_frees(void **state)
{
	two_ranges(*state, VIRTIO_BLK_T_DISCARD, 0, true);
}

static void zeroes_with_unmap_free(void **state)
{
	two_ranges(*state, VIRTIO_BLK_T_WRITE_ZEROES, UNMAP, true);
}

static void zeroes_without_unmap_keep(void **state)
{
	two_ranges(*state, VIRTIO_BLK_T_WRITE_ZEROES, 0, false);
}

static void erases(void **state)
{
	two_ranges(*state, VIRTIO_BLK_T_SECURE_ERASE, 0, false);
}

/* Without the feature for discard the flag to unmap does not free space. */
static void unmap_needs_discard(void **state)
{
	struct unit *u = *state;
	uint64_t before;

	open_disk(u, u->param);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start_with(u, FEATURES | WRITE_ZEROES, 1, 16);
	assert_ok(fsync(u->disk));
	before = space_used(u);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_WRITE_ZEROES, 0, 4096, UNMAP), VIRTIO_BLK_S_OK);
	expect_zero(u->disk, 0, 2 * MIB);
	expect_disk(u->disk, 2 * MIB, MIB, 1);
	assert_true(space_used(u) >= before);
}

static void set_discard(struct unit *u, uint32_t mode)
{
	struct vhost_blk_discard discard = { .mode = mode };

	assert_ok(ioctl(u->dev.fd, VHOST_BLK_SET_DISCARD, &discard));
}

/* A discard that is ignored succeeds and changes nothing, and zeroes free no space. */
static void ignored_discards_keep_space(void **state)
{
	struct unit *u = *state;
	uint64_t before = 0;

	start_on_disk(u, u->param, DISK_SIZE);
	assert_ok(fsync(u->disk));
	if (u->file[0])
		before = space_used(u);
	set_discard(u, VHOST_BLK_DISCARD_IGNORE);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_DISCARD, 0, SECTORS, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_DISCARD, 0, SECTORS + 8, 0),
			 VIRTIO_BLK_S_IOERR);
	expect_disk(u->disk, 0, DISK_SIZE, 1);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_WRITE_ZEROES, 0, 4096, UNMAP), VIRTIO_BLK_S_OK);
	expect_zero(u->disk, 0, 2 * MIB);
	if (!u->file[0])
		return;
	assert_true(space_used(u) >= before);
	set_discard(u, VHOST_BLK_DISCARD_FREE);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_DISCARD, 0, 4096, 0), VIRTIO_BLK_S_OK);
	assert_true(before - space_used(u) >= 2 * MIB);
}

/* Zeroes, writes and reads of random sectors agree with a model of the disk. */
static void random_zeroes_agree_with_a_model(void **state)
{
	enum { ROUNDS = 200, MOST = 512 };
	struct unit *u = *state;
	const struct disk_kind *kind = u->param;
	bool buffered = kind->on != ON_FILE && !(kind->flags & O_DIRECT);
	unsigned int block = buffered || !kind->block_size ? 1 : kind->block_size / SECTOR_SIZE;
	uint8_t *model, *buf, *copy;
	uint64_t seed = 7;
	unsigned int i;

	open_disk(u, kind);
	start_with_ranges(u, 16);
	model = calloc(1, DISK_SIZE);
	copy = aligned_alloc(4096, DISK_SIZE);
	buf = unit_alloc(u, MOST * SECTOR_SIZE);
	assert_non_null(model);
	assert_non_null(copy);
	for (i = 0; i < ROUNDS; i++) {
		/* In a small part of the disk, so that they overlap. */
		uint64_t sector = random_next(&seed) % (2 * MOST) / block * block;
		uint32_t nr = (1 + random_next(&seed) % (MOST / block)) * block;
		uint8_t *at = model + sector * SECTOR_SIZE;

		switch (random_next(&seed) % 4) {
		case 0:
			assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, sector, buf, nr * SECTOR_SIZE),
					 VIRTIO_BLK_S_OK);
			expect_equal(buf, at, nr * SECTOR_SIZE);
			break;
		case 1:
			nr = random_next(&seed) % 8 < 4 ? block : nr;
			assert_int_equal(unit_range(u, VIRTIO_BLK_T_WRITE_ZEROES, sector, nr,
						    random_next(&seed) % 2 ? UNMAP : 0),
					 VIRTIO_BLK_S_OK);
			memset(at, 0, nr * SECTOR_SIZE);
			break;
		default:
			pattern_fill(buf, nr * SECTOR_SIZE, sector * SECTOR_SIZE, i);
			assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, sector, buf,
						 nr * SECTOR_SIZE), VIRTIO_BLK_S_OK);
			memcpy(at, buf, nr * SECTOR_SIZE);
		}
	}
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	unit_detach(u);
	/* From the disk, not from the page cache. */
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_int_equal(pread(u->disk, copy, DISK_SIZE, 0), DISK_SIZE);
	expect_equal(copy, model, DISK_SIZE);
	free(model);
	free(copy);
}

static void at_any_sector(struct unit *u, uint32_t type)
{
	static const struct { uint64_t sector; uint32_t nr; } part[] = {
		{ 1, 1 }, { 9, 7 }, { 17, 30 }, { 65, 1000 }, { SECTORS - 9, 9 },
	};
	unsigned int i;

	start_on_disk(u, u->param, DISK_SIZE);
	for (i = 0; i < ARRAY_SIZE(part); i++)
		assert_int_equal(unit_range(u, type, part[i].sector, part[i].nr, 0),
				 VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	for (i = 0; i < ARRAY_SIZE(part); i++) {
		uint64_t end = part[i].sector + part[i].nr;
		uint64_t next = i + 1 < ARRAY_SIZE(part) ? part[i + 1].sector : SECTORS;

		expect_disk(u->disk, end * SECTOR_SIZE, (next - end) * SECTOR_SIZE, 1);
	}
	expect_disk(u->disk, 0, SECTOR_SIZE, 1);
}

static void discard_at_any_sector(void **state)
{
	at_any_sector(*state, VIRTIO_BLK_T_DISCARD);
}

static void erase_at_any_sector(void **state)
{
	struct unit *u = *state;

	at_any_sector(u, VIRTIO_BLK_T_SECURE_ERASE);
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_DONTNEED), 0);
	expect_gone(u->disk, 9 * SECTOR_SIZE, 7 * SECTOR_SIZE, VIRTIO_BLK_T_SECURE_ERASE);
}

/* On a device that the host has claimed the page cache is invalidated in another way. */
static void device_is_claimed(void **state)
{
	struct unit *u = *state;
	int claim;

	open_disk(u, u->param);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	claim = open(u->path, O_RDONLY | O_EXCL | O_CLOEXEC);
	assert_ok(claim);
	start_with_ranges(u, 64);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_WRITE_ZEROES, 3, 1000, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_DISCARD, 2048, 1000, 0), VIRTIO_BLK_S_OK);
	expect_disk(u->disk, 0, 3 * SECTOR_SIZE, 1);
	expect_zero(u->disk, 3 * SECTOR_SIZE, 1000 * SECTOR_SIZE);
	expect_disk(u->disk, 1003 * SECTOR_SIZE, 1045 * SECTOR_SIZE, 1);
	expect_zero(u->disk, 2048 * SECTOR_SIZE, 1000 * SECTOR_SIZE);
	expect_disk(u->disk, 3048 * SECTOR_SIZE, DISK_SIZE - 3048 * SECTOR_SIZE, 1);
	close(claim);
}

/* A request with one invalid range changes nothing. */
static void invalid_ranges_are_refused(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t nr, flags;
		uint32_t type;	/* 0: all */
		int status;
	} bad[] = {
		{ 8, 8, 2, 0, VIRTIO_BLK_S_UNSUPP },
		{ 8, 8, 0x80000000, 0, VIRTIO_BLK_S_UNSUPP },
		{ 8, 8, UINT32_MAX, 0, VIRTIO_BLK_S_UNSUPP },
		{ 8, 8, UNMAP | 4, 0, VIRTIO_BLK_S_UNSUPP },
		{ 8, 8, UNMAP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_S_UNSUPP },
		{ 8, 8, UNMAP, VIRTIO_BLK_T_SECURE_ERASE, VIRTIO_BLK_S_UNSUPP },
		{ SECTORS - 8, 16, 0, 0, VIRTIO_BLK_S_IOERR },
		{ SECTORS, 8, 0, 0, VIRTIO_BLK_S_IOERR },
		{ SECTORS + 8, 0, 0, 0, VIRTIO_BLK_S_IOERR },
		{ 0, SECTORS + 8, 0, 0, VIRTIO_BLK_S_IOERR },
		{ 0, UINT32_MAX, 0, 0, VIRTIO_BLK_S_IOERR },
		{ UINT64_MAX, 8, 0, 0, VIRTIO_BLK_S_IOERR },
		{ UINT64_MAX - 7, 16, 0, 0, VIRTIO_BLK_S_IOERR },
		{ 1ULL << 55, 8, 0, 0, VIRTIO_BLK_S_IOERR },
		{ (1ULL << 55) + 8, 8, 0, 0, VIRTIO_BLK_S_IOERR },
		{ 1ULL << 63, 8, 0, 0, VIRTIO_BLK_S_IOERR },
	};
	struct unit *u = *state;
	range_t three[3];
	unsigned int i, t;

	start_on_disk(u, u->param, DISK_SIZE);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		for (t = 0; t < nr_types(u->param); t++) {
			if (bad[i].type && bad[i].type != range_types[t])
				continue;
			three[0] = range(64, 64, 0);
			three[1] = range(256, 64, 0);
			three[2] = range(bad[i].sector, bad[i].nr, bad[i].flags);
			assert_int_equal(io(u, range_types[t], &three[2], 1), bad[i].status);
			assert_int_equal(io(u, range_types[t], three, 3), bad[i].status);
			expect_alive(u);
		}
	}
	expect_disk(u->disk, 0, DISK_SIZE, 1);
	assert_int_equal(backend_size(u->disk), DISK_SIZE);
}

static void lists_must_be_whole(void **state)
{
	static const uint32_t len[] = { 1, 8, 15, 17, 24, 31, 33, 512 + 8, 16 * 257, 65536 };
	struct unit *u = *state;
	unsigned int i, t;
	range_t *list;

	start_on_disk(u, u->param, MIB);
	list = unit_alloc(u, 65536);
	for (i = 0; i < 65536 / sizeof(*list); i++)
		list[i] = range(i % 64 * 8, 8, 0);
	for (t = 0; t < nr_types(u->param); t++) {
		for (i = 0; i < ARRAY_SIZE(len); i++) {
			assert_int_equal(unit_io(u, range_types[t], 0, list, len[i]),
					 VIRTIO_BLK_S_IOERR);
			assert_int_equal(u->req.used_len, 1);
		}
		/* An empty list and an empty range are valid. */
		assert_int_equal(unit_io(u, range_types[t], 0, NULL, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(unit_range(u, range_types[t], 16, 0, 0), VIRTIO_BLK_S_OK);
	}
	expect_disk(u->disk, 0, MIB, 1);
	expect_alive(u);
}

static void wrong_direction_is_an_error(void **state)
{
	struct unit *u = *state;
	struct vq_segment chain[4];
	unsigned int t;
	range_t *list;

	start_on_disk(u, u->param, MIB);
	list = unit_alloc(u, 64);
	list[0] = range(8, 8, 0);
	chain[0] = unit_segment(u, u->req.header, 16);
	chain[1] = unit_segment(u, list, 16);
	chain[2] = unit_segment(u, list + 1, 16);
	chain[3] = unit_segment(u, u->req.status, 1);
	for (t = 0; t < nr_types(u->param); t++) {
		/* All of the list is writable for the device, or half of it. */
		unsigned int nr_out;

		for (nr_out = 1; nr_out <= 2; nr_out++) {
			blk_request_prepare(&u->req, range_types[t], 0);
			assert_ok(blk_add_chain(&u->req, chain, nr_out, 4 - nr_out));
			vq_submit(&u->vq[0]);
			expect_end(&u->req, VIRTIO_BLK_S_IOERR, 1);
		}
	}
	expect_disk(u->disk, 0, MIB, 1);
	expect_alive(u);
}

static void types_need_their_features(void **state)
{
	static const uint64_t features[] = { DISCARD, WRITE_ZEROES, SECURE_ERASE };
	struct unit *u = *state;
	unsigned int t;

	/* The disk supports all types. */
	open_disk(u, &erasable_direct);
	disk_fill(u->disk, 0, MIB, 1);
	for (t = 0; t < ARRAY_SIZE(range_types); t++) {
		unit_start_with(u, RANGE_FEATURES & ~features[t], 1, 16);
		assert_int_equal(unit_range(u, range_types[t], 8, 8, 0), VIRTIO_BLK_S_UNSUPP);
		expect_disk(u->disk, 0, MIB, 1);
		vhost_blk_close(&u->dev);
		vq_free(&u->vq[0]);
	}
}

static void unsupported_by_the_backend(void **state)
{
	struct unit *u = *state;
	const struct disk_kind *kind = u->param;

	start_on_disk(u, kind, MIB);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_SECURE_ERASE, 8, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_SECURE_ERASE, 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
	if (kind->no_discard)
		assert_int_equal(unit_range(u, VIRTIO_BLK_T_DISCARD, 8, 8, 0), VIRTIO_BLK_S_UNSUPP);
	expect_disk(u->disk, 0, MIB, 1);
}

static void read_only_backends_are_not_changed(void **state)
{
	struct unit *u = *state;
	unsigned int t;

	open_disk(u, u->param);
	disk_fill(u->disk, 0, MIB, 1);
	close(u->disk);
	unit_disk(u, u->path, O_RDONLY | ((const struct disk_kind *)u->param)->flags);
	start_with_ranges(u, 16);
	for (t = 0; t < ARRAY_SIZE(range_types); t++)
		assert_int_equal(unit_range(u, range_types[t], 8, 8, 0), VIRTIO_BLK_S_IOERR);
	expect_disk(u->disk, 0, MIB, 1);
	expect_alive(u);
}

/* A part of a logical block of 4 KiB is not changed. */
static void parts_of_a_block(void **state)
{
	static const struct { uint64_t sector; uint32_t nr; } part[] = {
		{ 0, 1 }, { 1, 8 }, { 4, 4 }, { 8, 12 }, { 7, 1 },
	};
	struct unit *u = *state;
	const struct disk_kind *kind = u->param;
	unsigned int i;
	uint8_t *buf;

	start_on_disk(u, kind, MIB);
	buf = unit_alloc(u, 65536);
	for (i = 0; i < ARRAY_SIZE(part); i++) {
		uint64_t sector = part[i].sector;
		uint32_t nr = part[i].nr;

		if (kind->on == ON_ERASABLE)
			assert_int_equal(unit_range(u, VIRTIO_BLK_T_SECURE_ERASE, sector, nr, 0),
					 VIRTIO_BLK_S_IOERR);
		/* The page cache takes the other types. */
		if (!(kind->flags & O_DIRECT))
			continue;
		assert_int_equal(unit_range(u, VIRTIO_BLK_T_DISCARD, sector, nr, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(unit_range(u, VIRTIO_BLK_T_WRITE_ZEROES, sector, nr, 0),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(unit_range(u, VIRTIO_BLK_T_WRITE_ZEROES, sector, nr, UNMAP),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, sector, buf, nr * SECTOR_SIZE),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, sector, buf, nr * SECTOR_SIZE),
				 VIRTIO_BLK_S_IOERR);
	}
	expect_disk(u->disk, 0, MIB, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 8, buf, 8192), VIRTIO_BLK_S_OK);
	expect_pattern(buf, 8192, 4096, 1);
	/* Whole blocks of the disk from unaligned memory. */
	pattern_fill(buf + 3, 8192, 65536, 2);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 128, buf + 3, 8192), VIRTIO_BLK_S_OK);
	expect_disk(u->disk, 65536, 8192, 2);
}

/* The longest list, cut into descriptors anywhere; header and list share a descriptor. */
static void lists_in_pieces(void **state)
{
	static const uint32_t cut[] = { 16 * MAX_RANGES, 16, 7, 1000, 4095 };
	struct unit *u = *state;
	struct vq_segment piece[1000];
	unsigned int i, c, n;
	uint32_t left, len;
	uint32_t type;
	char *area, *p;

	open_disk(u, &erasable_direct);
	start_with_ranges(u, 1024);
	assert_ok(blk_request_init(&u->req, &u->vq[0], 1024));
	area = unit_alloc(u, 65536);
	for (c = 0; c < ARRAY_SIZE(cut); c++) {
		disk_fill(u->disk, 0, DISK_SIZE, c);
		/* Every second 16 KiB. */
		for (i = 0; i < MAX_RANGES; i++)
			((range_t *)(area + 16))[i] = range(i * 64, 32, 0);
		memset(area, 0, 16);
		type = range_types[c % 3];
		((struct virtio_blk_outhdr *)area)->type = type;
		left = 16 + 16 * MAX_RANGES;
		n = 0;
		for (p = area; left; p += len, left -= len) {
			len = left < cut[c] ? left : cut[c];
			/* The first has the header, too. */
			if (!n && cut[c] >= 16)
				len = left < cut[c] + 16 ? left : cut[c] + 16;
			piece[n++] = unit_segment(u, p, len);
		}
		piece[n] = unit_segment(u, u->req.status, 1);
		blk_request_prepare(&u->req, 0, 0);
		assert_ok(blk_add_chain(&u->req, piece, n, 1));
		vq_submit(&u->vq[0]);
		expect_end(&u->req, VIRTIO_BLK_S_OK, 1);
		for (i = 0; i < MAX_RANGES; i++) {
			expect_gone(u->disk, i * 32 * KIB, 16 * KIB, type);
			expect_disk(u->disk, i * 32 * KIB + 16 * KIB, 16 * KIB, c);
		}
	}
}

static void list_is_unmapped(void **state)
{
	struct unit *u = *state;
	char *area;

	start_on_disk(u, &null_direct, MIB);
	area = unit_alloc(u, 8192);
	((range_t *)(area + 4096))[-1] = range(8, 8, 0);
	assert_ok(munmap(area + 4096, 4096));
	unit_submit_one(u, &u->req, VIRTIO_BLK_T_DISCARD, 0, area + 4096 - 16, 32);
	expect_end(&u->req, VIRTIO_BLK_S_IOERR, 1);
	expect_disk(u->disk, 0, MIB, 1);
}

struct changer {
	volatile range_t *range;
	volatile bool stop;
};

static void *change_ranges(void *arg)
{
	struct changer *c = arg;

	while (!c->stop) {
		c->range->sector = SECTORS / 2;
		c->range->num_sectors = 8;
		c->range->flags = 0;
		c->range->num_sectors = SECTORS;
		c->range->sector = UINT64_MAX - 15;
		c->range->flags = 8;
		c->range->num_sectors = 16;
	}
	return NULL;
}

/* A list that changes while it is parsed is refused, or done as one of its versions. */
static void list_changes_while_parsed(void **state)
{
	unsigned int i, tries = 3000 / unit_slower(), ended[3] = { 0 };
	struct unit *u = *state;
	struct changer changer = { 0 };
	pthread_t thread;
	range_t *list;
	int status;

	start_on_disk(u, u->param, DISK_SIZE);
	list = unit_alloc(u, 4096);
	changer.range = list;
	assert_int_equal(pthread_create(&thread, NULL, change_ranges, &changer), 0);
	for (i = 0; i < tries; i++) {
		status = unit_io(u, range_types[i % 2], 0, list, sizeof(*list));
		assert_in_range(status, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP);
		ended[status]++;
	}
	changer.stop = true;
	pthread_join(thread, NULL);
	/* Any valid mixture is within 16 sectors from the middle. */
	expect_disk(u->disk, 0, DISK_SIZE / 2, 1);
	expect_disk(u->disk, DISK_SIZE / 2 + 16 * SECTOR_SIZE, DISK_SIZE / 2 - 16 * SECTOR_SIZE, 1);
	expect_alive(u);
}

/* Ranges that wait for the device, more than can be offloaded, do not block other requests. */
static void others_are_not_blocked(void **state)
{
	enum { NR = 400 };
	struct unit *u = *state;
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB, .discard = true };
	struct blk_request *req = calloc(NR, sizeof(*req));
	unsigned int i;
	uint8_t *buf;

	assert_non_null(req);
	unit_dm(u->path, &spec, "linear", "");
	unit_disk(u, u->path, O_RDWR);
	disk_fill(u->disk, 0, MIB, 1);
	assert_ok(fsync(u->disk));
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_RANDOM), 0);
	start_with_ranges(u, 1024);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, 4096);
	unit_suspend(u, u->path);
	for (i = 0; i < NR; i++)
		unit_submit_range(u, &req[i], range_types[i % 2], MIB / 512 + i * 32, 32, 0);
	/* From the page cache and into it. */
	for (i = 0; i < 16; i++) {
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, i * 8, buf, 4096), VIRTIO_BLK_S_OK);
		expect_pattern(buf, 4096, i * 4096, 1);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, i * 8, buf, 4096), VIRTIO_BLK_S_OK);
	}
	for (i = 0; i < NR; i++)
		assert_false(req[i].done);
	unit_resume(u);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, 1);
	free(req);
}

/* Ranges and writes to a frozen file system wait until it is thawed, and do not block reads. */
static void frozen_file_system(void **state)
{
	enum { NR = 300 };
	struct unit *u = *state;
	struct blk_request *req = calloc(NR, sizeof(*req));
	unsigned int i;
	uint8_t *buf;

	assert_non_null(req);
	open_disk(u, u->param);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	assert_ok(fsync(u->disk));
	start_with_ranges(u, 1024);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, 4096);
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_DONTNEED), 0);
	unit_freeze(u, ((const struct disk_kind *)u->param)->dir);
	/* One in three is a write; more than can be offloaded at once, of all types together. */
	for (i = 0; i < NR; i++) {
		if (i % 3 < 2)
			unit_submit_range(u, &req[i], range_types[i % 3], 4096 + i * 8, 8, 0);
		else
			unit_submit_one(u, &req[i], VIRTIO_BLK_T_OUT, 4096 + i * 8, buf, 4096);
	}
	expect_reads(u, 0, 64, 16);
	ASSERT_NEVER(blk_reap(&u->vq[0]));
	for (i = 0; i < NR; i++)
		assert_false(req[i].done);
	unit_thaw(u);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, 1);
	expect_zero(u->disk, 2 * MIB, NR * 4096);
	free(req);
}

/* More writes than can be offloaded at once do not block reads. */
static void many_writes_to_a_frozen_file_system(void **state)
{
	enum { NR = 600 };
	struct unit *u = *state;
	struct blk_request *req = calloc(NR, sizeof(*req));
	unsigned int i;
	uint8_t *buf;

	assert_non_null(req);
	open_disk(u, &ext4_file);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	assert_ok(fsync(u->disk));
	start_with_ranges(u, 1024);
	unit_requests(req, NR, &u->vq[0]);
	buf = unit_alloc(u, 4096);
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_RANDOM), 0);
	unit_freeze(u, ext4_file.dir);
	for (i = 0; i < NR; i++)
		unit_submit_one(u, &req[i], VIRTIO_BLK_T_OUT, 4096 + i * 8, buf, 4096);
	expect_reads(u, 0, 64, 8);
	unit_thaw(u);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, 1);
	free(req);
}

static void failing_device(void **state)
{
	static const struct { uint32_t type, flags; } how[] = {
		{ VIRTIO_BLK_T_DISCARD, 0 },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0 },
		{ VIRTIO_BLK_T_WRITE_ZEROES, UNMAP },
	};
	struct unit *u = *state;
	unsigned int half = SECTORS / 2, i;

	unit_half_failing(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE / 2, 1);
	start_with_ranges(u, 16);
	for (i = 0; i < ARRAY_SIZE(how); i++) {
		assert_int_equal(unit_range(u, how[i].type, half, 8, how[i].flags),
				 VIRTIO_BLK_S_IOERR);
		assert_int_equal(unit_range(u, how[i].type, half - 8, 16, how[i].flags),
				 VIRTIO_BLK_S_IOERR);
	}
	expect_disk(u->disk, 0, (half - 8) * SECTOR_SIZE, 1);
	expect_alive(u);
}

/* -ENOSPC fails the request, and the file does not grow. */
static void full_file_system(void **state)
{
	struct unit *u = *state;
	char dir[BACKEND_PATH_MAX];

	assert_ok(backend_tmpfs(dir, MIB));
	assert_ok(backend_file(u->path, dir, "disk", DISK_SIZE));
	unit_disk(u, u->path, O_RDWR);
	start_with_ranges(u, 16);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_WRITE_ZEROES, 0, SECTORS, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_WRITE_ZEROES, 0, SECTORS, UNMAP),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(backend_size(u->disk), DISK_SIZE);
	expect_zero(u->disk, 0, DISK_SIZE);
}

static const bool pausing, detaching = true;

/* A kill of the owner ends requests for half a terabyte of zeroes, and a detach that waits. */
static void owner_dies(void **state)
{
	enum { NR = 16 };
	struct null_blk spec = { .size_mib = 1 << 20, .forgets = true };
	struct unit *u = *state;
	int64_t begin;
	pid_t pid;
	int go[2];

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	assert_ok(pipe2(go, O_CLOEXEC));
	pid = child_fork();
	if (!pid) {
		struct blk_request req[NR];
		range_t *list;
		unsigned int i;

		start_with_ranges(u, 64);
		unit_requests(req, NR, &u->vq[0]);
		list = unit_alloc(u, 4096);
		for (i = 0; i < MAX_RANGES; i++)
			list[i] = range((uint64_t)i * 8 * MIB, 128 * MIB / SECTOR_SIZE, 0);
		for (i = 0; i < NR; i++)
			unit_submit_one(u, &req[i], VIRTIO_BLK_T_WRITE_ZEROES, 0, list, 4096);
		expect_inflight(u, 0, NR);
		if (write(go[1], "", 1) != 1)
			_exit(1);
		if (*(const bool *)u->param)
			unit_detach(u);
		else
			pause();
		_exit(1);
	}
	assert_int_equal(read(go[0], &(char){ 0 }, 1), 1);
	ASSERT_NEVER(worker_count(pid) != 2);
	begin = now_ms();
	kill(pid, SIGKILL);
	assert_int_equal(child_wait(pid), 256 + SIGKILL);
	expect_workers(pid, 0);
	assert_true(now_ms() - begin < TIMEOUT_MS);
	close(go[0]);
	close(go[1]);
}

/* Neither dirty pages, which are written back, nor clean ones in the page cache bring it back. */
static void erased_data_stays_away(void **state)
{
	static const uint64_t start_of[] = { MIB, 3 * MIB, 5 * MIB };
	struct unit *u = *state;
	range_t list[ARRAY_SIZE(start_of)];
	unsigned int i;
	char *buf;

	open_disk(u, &erasable_cached);
	start_with_ranges(u, 16);
	buf = unit_alloc(u, MIB);
	disk_fill(u->disk, 0, 2 * MIB, 1);
	assert_ok(fsync(u->disk));
	disk_fill(u->disk, 2 * MIB, 2 * MIB, 1);
	pattern_fill(buf, MIB, 5 * MIB, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 5 * MIB / SECTOR_SIZE, buf, MIB),
			 VIRTIO_BLK_S_OK);
	for (i = 0; i < ARRAY_SIZE(start_of); i++)
		list[i] = range(start_of[i] / SECTOR_SIZE, 256, 0);
	assert_int_equal(io(u, VIRTIO_BLK_T_SECURE_ERASE, list, i), VIRTIO_BLK_S_OK);
	for (i = 0; i < ARRAY_SIZE(start_of); i++) {
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, start_of[i] / SECTOR_SIZE, buf, MIB),
				 VIRTIO_BLK_S_OK);
		expect_gone(u->disk, start_of[i], 128 * KIB, VIRTIO_BLK_T_SECURE_ERASE);
		expect_pattern(buf + 128 * KIB, MIB - 128 * KIB, start_of[i] + 128 * KIB, 1);
	}
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(posix_fadvise(u->disk, 0, 0, POSIX_FADV_DONTNEED), 0);
	for (i = 0; i < ARRAY_SIZE(start_of); i++) {
		expect_gone(u->disk, start_of[i], 128 * KIB, VIRTIO_BLK_T_SECURE_ERASE);
		expect_disk(u->disk, start_of[i] + 128 * KIB, MIB - 128 * KIB, 1);
	}
}

static void ranges_are_counted_by_type(void **state)
{
	static const unsigned int count[] = {
		VHOST_BLK_STATS_DISCARD, VHOST_BLK_STATS_WRITE_ZEROES,
		VHOST_BLK_STATS_SECURE_ERASE,
	};
	struct unit *u = *state;
	struct vhost_blk_stats stats = { 0 };
	unsigned int t, i;

	open_disk(u, &erasable_direct);
	start_with_ranges(u, 16);
	for (t = 0; t < ARRAY_SIZE(count); t++) {
		for (i = 0; i <= t; i++)
			assert_int_equal(unit_range(u, range_types[t], 8, 8, 0), VIRTIO_BLK_S_OK);
		assert_int_equal(unit_range(u, range_types[t], SECTORS, 8, 0), VIRTIO_BLK_S_IOERR);
	}
	assert_ok(ioctl(u->dev.fd, VHOST_BLK_GET_STATS, &stats));
	for (t = 0; t < ARRAY_SIZE(count); t++) {
		assert_int_equal(stats.type[count[t]].requests, t + 2);
		assert_int_equal(stats.type[count[t]].bytes, (t + 1) * sizeof(range_t));
		assert_int_equal(stats.type[count[t]].errors, 1);
	}
}

static struct vhost_blk_limits limits_of(struct unit *u, int fd)
{
	struct vhost_blk_limits limits = { .fd = fd };

	assert_ok(ioctl(u->dev.fd, VHOST_BLK_GET_LIMITS, &limits));
	assert_int_equal(limits.fd, fd);
	assert_int_equal(limits.reserved, 0);
	return limits;
}

static void limits_of_bad_arguments(void **state)
{
	struct unit *u = *state;
	struct vhost_blk_limits limits = { 0 };
	int fds[2];
	void *page;

	unit_memfd(u, MIB);
	/* The call needs no owner. */
	u->dev.fd = open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC);
	assert_ok(u->dev.fd);
	limits_of(u, u->disk);
	limits.fd = u->disk;
	limits.reserved = 1;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_LIMITS, &limits), EINVAL);
	limits.reserved = 0;
	limits.fd = -1;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_LIMITS, &limits), EBADF);
	limits.fd = 1000;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_LIMITS, &limits), EBADF);
	assert_ok(pipe2(fds, O_CLOEXEC));
	limits.fd = fds[0];
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_LIMITS, &limits), EINVAL);
	close(fds[0]);
	close(fds[1]);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_LIMITS, NULL), EFAULT);
	page = unit_alloc(u, 4096);
	((struct vhost_blk_limits *)page)->fd = u->disk;
	assert_ok(mprotect(page, 4096, PROT_READ));
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_LIMITS, page), EFAULT);
}

static void limits_of_a_file(void **state)
{
	struct unit *u = *state;
	struct vhost_blk_limits limits;
	int ro;

	open_disk(u, &ext4_file);
	unit_open(u, FEATURES);
	limits = limits_of(u, u->disk);
	assert_int_equal(limits.logical_block_size, 512);
	assert_int_equal(limits.max_discard_sectors, UINT32_MAX / 512);
	assert_int_equal(limits.max_discard_seg, MAX_RANGES);
	assert_true(limits.discard_sector_alignment >= 2);
	assert_int_equal(limits.max_write_zeroes_sectors, UINT32_MAX / 512);
	assert_int_equal(limits.max_write_zeroes_seg, MAX_RANGES);
	assert_int_equal(limits.write_zeroes_may_unmap, 1);
	assert_int_equal(limits.max_secure_erase_sectors, 0);
	assert_int_equal(limits.max_secure_erase_seg, 0);

	ro = open(u->path, O_RDONLY | O_CLOEXEC);
	assert_ok(ro);
	limits.fd = ro;
	expect_equal(&limits, &(struct vhost_blk_limits[1]){ limits_of(u, ro) },
			    sizeof(limits));
	close(ro);
}

static void limits_of_a_device(void **state)
{
	struct unit *u = *state;
	struct vhost_blk_limits limits;

	assert_ok(backend_scsi(u->path,
			       "dev_size_mb=8 sector_size=4096 physblk_exp=2 lowest_aligned=1 "
			       "opt_blks=64 opt_xferlen_exp=3 lbpu=1 unmap_max_blocks=1024 "
			       "unmap_granularity=16 write_same_length=512"));
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
	unit_open(u, RANGE_FEATURES);
	limits = limits_of(u, u->disk);
	assert_int_equal(limits.logical_block_size, 4096);
	assert_int_equal(limits.physical_block_size, 16384);
	assert_int_equal(limits.alignment_offset, 4096);
	assert_int_equal(limits.min_io_size, 8 * 4096);
	assert_int_equal(limits.opt_io_size, 64 * 4096);
	assert_int_equal(limits.max_discard_sectors, 1024 * 8);
	assert_int_equal(limits.discard_sector_alignment, 16 * 8);
	assert_int_equal(limits.max_write_zeroes_sectors, 512 * 8);

	/* They bind a driver that is told of them; the owner may have told it others. */
	disk_fill(u->disk, 0, 8 * MIB, 1);
	unit_vqs(u, 1, 16);
	unit_attach(u);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_DISCARD, 0, 1024 * 8 + 8, 0), VIRTIO_BLK_S_OK);
	expect_zero(u->disk, 0, 4 * MIB);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_WRITE_ZEROES, 8192, 512 * 8 + 8, 0),
			 VIRTIO_BLK_S_OK);
	expect_zero(u->disk, 4 * MIB, 2 * MIB + 4096);
}

static void limits_without_an_offload(void **state)
{
	struct unit *u = *state;
	struct vhost_blk_limits limits;

	open_disk(u, &null_no_discard);
	unit_open(u, RANGE_FEATURES);
	limits = limits_of(u, u->disk);
	assert_int_equal(limits.max_discard_sectors, 0);
	assert_int_equal(limits.max_discard_seg, 0);
	assert_true(limits.max_write_zeroes_sectors > 0);
	assert_int_equal(limits.write_zeroes_may_unmap, 0);
}

static void limits_of_an_erasable_device(void **state)
{
	struct unit *u = *state;
	const struct disk_kind *kind = u->param;
	/* The device's limit is 3001. */
	unsigned int most = kind->block_size == 4096 ? 3000 : 3001;
	unsigned int block = (kind->block_size ?: SECTOR_SIZE) / SECTOR_SIZE;
	range_t two[] = { range(0, block, 0), range(block, most + block, 0) };
	struct vhost_blk_limits limits;

	open_disk(u, kind);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_open(u, RANGE_FEATURES);
	limits = limits_of(u, u->disk);
	assert_int_equal(limits.max_secure_erase_sectors, most);
	assert_int_equal(limits.max_secure_erase_seg, MAX_RANGES);
	assert_int_equal(limits.secure_erase_sector_alignment, 16);

	/* The first is enforced for each range; the alignment is advice. */
	unit_vqs(u, 1, 16);
	unit_attach(u);
	assert_int_equal(io(u, VIRTIO_BLK_T_SECURE_ERASE, two, 2), VIRTIO_BLK_S_IOERR);
	expect_disk(u->disk, 0, DISK_SIZE, 1);
	two[1].num_sectors = most;
	assert_int_equal(io(u, VIRTIO_BLK_T_SECURE_ERASE, two, 2), VIRTIO_BLK_S_OK);
	expect_gone(u->disk, 0, (most + block) * SECTOR_SIZE, VIRTIO_BLK_T_SECURE_ERASE);
	expect_disk(u->disk, (most + block) * SECTOR_SIZE,
		    DISK_SIZE - (most + block) * SECTOR_SIZE, 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_ON(discard_frees, tmpfs_file),
		TEST_ON(discard_frees, ext4_file),
		TEST_ON(discard_frees, ext4_direct),
		TEST_ON(discard_frees, xfs_file),
		TEST_ON(discard_frees, xfs_direct),
		TEST_ON(discard_frees, null_cached),
		TEST_ON(discard_frees, null_direct),
		TEST_ON(discard_frees, loop_cached),
		TEST_ON(discard_frees, loop_direct),
		TEST_ON(discard_frees, scsi_direct),
		TEST_ON(discard_frees, scsi_4k_direct),
		TEST_ON(zeroes_with_unmap_free, tmpfs_file),
		TEST_ON(zeroes_with_unmap_free, ext4_file),
		TEST_ON(zeroes_with_unmap_free, ext4_direct),
		TEST_ON(zeroes_with_unmap_free, xfs_direct),
		TEST_ON(zeroes_with_unmap_free, null_direct),
		TEST_ON(zeroes_with_unmap_free, loop_cached),
		TEST_ON(zeroes_with_unmap_free, loop_direct),
		TEST_ON(zeroes_with_unmap_free, scsi_direct),
		TEST_ON(zeroes_without_unmap_keep, tmpfs_file),
		TEST_ON(zeroes_without_unmap_keep, ext4_file),
		TEST_ON(zeroes_without_unmap_keep, ext4_direct),
		TEST_ON(zeroes_without_unmap_keep, xfs_file),
		TEST_ON(zeroes_without_unmap_keep, xfs_direct),
		TEST_ON(zeroes_without_unmap_keep, null_cached),
		TEST_ON(zeroes_without_unmap_keep, null_no_discard),
		TEST_ON(zeroes_without_unmap_keep, loop_cached),
		TEST_ON(zeroes_without_unmap_keep, loop_direct),
		TEST_ON(zeroes_without_unmap_keep, scsi_4k_direct),
		TEST_ON(device_is_claimed, null_cached),
		TEST_ON(device_is_claimed, null_direct),
		TEST_ON(erases, erasable_cached),
		TEST_ON(erases, erasable_direct),
		TEST_ON(erases, erasable_4k_cached),
		TEST_ON(erases, erasable_4k_direct),
		TEST_ON(unmap_needs_discard, tmpfs_file),
		TEST_ON(unmap_needs_discard, ext4_direct),
		TEST_ON(ignored_discards_keep_space, tmpfs_file),
		TEST_ON(ignored_discards_keep_space, ext4_direct),
		TEST_ON(ignored_discards_keep_space, loop_direct),
		TEST_ON(ignored_discards_keep_space, null_no_discard),
		TEST_ON(random_zeroes_agree_with_a_model, tmpfs_file),
		TEST_ON(random_zeroes_agree_with_a_model, ext4_file),
		TEST_ON(random_zeroes_agree_with_a_model, ext4_direct),
		TEST_ON(random_zeroes_agree_with_a_model, xfs_direct),
		TEST_ON(random_zeroes_agree_with_a_model, null_cached),
		TEST_ON(random_zeroes_agree_with_a_model, null_direct),
		TEST_ON(random_zeroes_agree_with_a_model, loop_cached),
		TEST_ON(random_zeroes_agree_with_a_model, loop_direct),
		TEST_ON(random_zeroes_agree_with_a_model, scsi_4k_direct),
		TEST_ON(random_zeroes_agree_with_a_model, scsi_4k_cached),
		TEST_ON(discard_at_any_sector, ext4_file),
		TEST_ON(discard_at_any_sector, ext4_direct),
		TEST_ON(discard_at_any_sector, null_cached),
		TEST_ON(discard_at_any_sector, null_direct),
		TEST_ON(discard_at_any_sector, scsi_4k_cached),
		TEST_ON(erase_at_any_sector, erasable_cached),
		TEST_ON(erase_at_any_sector, erasable_direct),
		TEST_ON(invalid_ranges_are_refused, tmpfs_file),
		TEST_ON(invalid_ranges_are_refused, ext4_direct),
		TEST_ON(invalid_ranges_are_refused, null_direct),
		TEST_ON(invalid_ranges_are_refused, null_cached),
		TEST_ON(invalid_ranges_are_refused, erasable_direct),
		TEST_ON(lists_must_be_whole, tmpfs_file),
		TEST_ON(lists_must_be_whole, null_direct),
		TEST_ON(lists_must_be_whole, erasable_direct),
		TEST_ON(wrong_direction_is_an_error, tmpfs_file),
		TEST_ON(wrong_direction_is_an_error, null_direct),
		TEST_ON(wrong_direction_is_an_error, erasable_direct),
		TEST(types_need_their_features),
		TEST_ON(unsupported_by_the_backend, tmpfs_file),
		TEST_ON(unsupported_by_the_backend, null_no_discard),
		TEST_ON(unsupported_by_the_backend, loop_direct),
		TEST_ON(unsupported_by_the_backend, scsi_direct),
		TEST_ON(read_only_backends_are_not_changed, tmpfs_file),
		TEST_ON(read_only_backends_are_not_changed, null_direct),
		TEST_ON(read_only_backends_are_not_changed, erasable_direct),
		TEST_ON(parts_of_a_block, scsi_4k_direct),
		TEST_ON(parts_of_a_block, erasable_4k_direct),
		TEST_ON(parts_of_a_block, erasable_4k_cached),
		TEST(lists_in_pieces),
		TEST(list_is_unmapped),
		TEST_ON(list_changes_while_parsed, tmpfs_file),
		TEST_ON(list_changes_while_parsed, null_direct),
		TEST(others_are_not_blocked),
		TEST_ON(frozen_file_system, ext4_file),
		TEST_ON(frozen_file_system, xfs_direct),
		TEST(many_writes_to_a_frozen_file_system),
		TEST(failing_device),
		TEST(full_file_system),
		TEST_ON(owner_dies, pausing),
		TEST_ON(owner_dies, detaching),
		TEST(erased_data_stays_away),
		TEST(ranges_are_counted_by_type),
		TEST(limits_of_bad_arguments),
		TEST(limits_of_a_file),
		TEST(limits_of_a_device),
		TEST(limits_without_an_offload),
		TEST_ON(limits_of_an_erasable_device, erasable_direct),
		TEST_ON(limits_of_an_erasable_device, erasable_4k_direct),
	};

	return disks_run(argc, argv, tests, ARRAY_SIZE(tests));
}
