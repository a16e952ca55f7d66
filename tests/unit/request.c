// SPDX-License-Identifier: GPL-2.0
/* The request types: status, used.len, and the data on the backend. */
#define _GNU_SOURCE
#include "unit.h"

#include <stdlib.h>
#include <sys/stat.h>

#define DISK_SIZE	(16 * MIB)
#define SECTORS		(DISK_SIZE / SECTOR_SIZE)
#define LARGE		(8 * MIB)
#define MANY		1022U	/* data segments; with header and status, 1024 */

static const enum disk_io file = DISK_FILE;
static const enum disk_io direct = DISK_DIRECT;

static const uint32_t lengths[] = { 512, 1024, 4096, 4608, 65536, MIB };

static void in_reads_the_disk(void **state)
{
	struct unit *u = *state;
	uint8_t *buf;
	unsigned int i;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	disk_fill(u->disk, 0, 2 * MIB, 1);
	buf = unit_alloc(u, MIB + 1);
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		memset(buf, 0xee, lengths[i] + 1);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 3, buf, lengths[i]), VIRTIO_BLK_S_OK);
		assert_int_equal(u->req.used_len, lengths[i] + 1);
		expect_pattern(buf, lengths[i], 3 * SECTOR_SIZE, 1);
		assert_int_equal(buf[lengths[i]], 0xee);
	}
}

/* Bug 7: used.len counted the data of OUT requests, which the device does not write. */
static void out_writes_the_disk(void **state)
{
	struct unit *u = *state;
	uint64_t offset = 5 * SECTOR_SIZE;
	uint8_t *buf;
	unsigned int i;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	disk_fill(u->disk, 0, 2 * MIB, 1);
	buf = unit_alloc(u, MIB);
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		pattern_fill(buf, lengths[i], offset, 100 + i);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 5, buf, lengths[i]),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(u->req.used_len, 1);
		expect_disk(u->disk, offset, lengths[i], 100 + i);
		expect_disk(u->disk, 0, offset, 1);
		expect_disk(u->disk, offset + lengths[i], 64 * KIB, 1);
	}
}

static void flush_succeeds(void **state)
{
	struct unit *u = *state;
	uint8_t *buf;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	buf = unit_alloc(u, 4096);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(u->req.used_len, 1);
	pattern_fill(buf, 4096, 0, 2);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(u->req.used_len, 1);
	expect_disk(u->disk, 0, 4096, 2);
}

/* The sector of a FLUSH has no meaning and is not checked. */
static void flush_ignores_the_sector(void **state)
{
	struct unit *u = *state;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, UINT64_MAX, NULL, 0), VIRTIO_BLK_S_OK);
}

static void start_with_serial(struct unit *u, const char *text)
{
	struct vhost_blk_serial serial = { 0 };

	unit_memfd(u, MIB);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 16);
	if (text) {
		memcpy(serial.serial, text, strnlen(text, sizeof(serial.serial)));
		assert_ok(ioctl(u->dev.fd, VHOST_BLK_SET_SERIAL, &serial));
	}
	unit_attach(u);
}

/* Check the serial number in a buffer of len bytes, and that no more is written. */
static void expect_serial(struct unit *u, const char *text, uint32_t len)
{
	uint8_t *buf = unit_alloc(u, 64);
	char padded[VIRTIO_BLK_ID_BYTES] = "";
	uint32_t part = len < VIRTIO_BLK_ID_BYTES ? len : VIRTIO_BLK_ID_BYTES, i;

	memcpy(padded, text, strnlen(text, sizeof(padded)));
	memset(buf, 0xee, 64);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_GET_ID, 0, buf, len), VIRTIO_BLK_S_OK);
	assert_int_equal(u->req.used_len, part + 1);
	assert_memory_equal(buf, padded, part);
	for (i = part; i < 64; i++)
		assert_int_equal(buf[i], 0xee);
}

static void get_id_returns_the_serial(void **state)
{
	struct unit *u = *state;

	start_with_serial(u, "disk 7");
	expect_serial(u, "disk 7", VIRTIO_BLK_ID_BYTES);
	expect_serial(u, "disk 7", 1);
	expect_serial(u, "disk 7", 19);
	expect_serial(u, "disk 7", 21);
	expect_serial(u, "disk 7", 64);
}

static void get_id_returns_a_full_serial(void **state)
{
	struct unit *u = *state;

	start_with_serial(u, "01234567890123456789");
	expect_serial(u, "01234567890123456789", VIRTIO_BLK_ID_BYTES);
}

static void get_id_without_a_serial_is_empty(void **state)
{
	struct unit *u = *state;

	start_with_serial(u, NULL);
	expect_serial(u, "", VIRTIO_BLK_ID_BYTES);
}

static void get_id_fills_split_buffers(void **state)
{
	struct unit *u = *state;
	struct vq_segment part[3];
	char *buf;

	start_with_serial(u, "abcdefghijklmnopqrst");
	buf = unit_alloc(u, 4096);
	part[0] = unit_segment(u, buf + 100, 7);
	part[1] = unit_segment(u, buf + 200, 1);
	part[2] = unit_segment(u, buf + 300, 12);
	assert_ok(blk_add(&u->req, VIRTIO_BLK_T_GET_ID, 0, part, 3));
	vq_submit(&u->vq[0]);
	expect_end(&u->req, VIRTIO_BLK_S_OK, 21);
	assert_memory_equal(buf + 100, "abcdefg", 8);
	assert_memory_equal(buf + 200, "h", 2);
	assert_memory_equal(buf + 300, "ijklmnopqrst", 13);
}

/* Discard, write zeroes and secure erase are not negotiated, hence unknown too. */
static void unknown_types_are_unsupported(void **state)
{
	static const uint32_t type[] = {
		2, 3, 5, 6, 7, 9, 10, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
		VIRTIO_BLK_T_SECURE_ERASE, 15, 16, 255, 0x80000000, 0x80000001, UINT32_MAX,
	};
	struct unit *u = *state;
	unsigned int i;
	uint8_t *buf;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	buf = unit_alloc(u, 512);
	for (i = 0; i < ARRAY_SIZE(type); i++) {
		assert_int_equal(unit_io(u, type[i], 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(u->req.used_len, 1);
		memset(buf, 0xee, 512);
		assert_int_equal(unit_io(u, type[i], 0, buf, 512), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(u->req.used_len, 1);
		assert_int_equal(buf[0], 0xee);
		expect_alive(u);
	}
}

static void zero_length_succeeds(void **state)
{
	struct unit *u = *state;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, NULL, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(u->req.used_len, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, SECTORS - 1, NULL, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(u->req.used_len, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, SECTORS + 1, NULL, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, UINT64_MAX, NULL, 0), VIRTIO_BLK_S_IOERR);
	expect_alive(u);
}

static void lengths_must_be_whole_sectors(void **state)
{
	static const uint32_t len[] = { 1, 100, 511, 513, 1023, 4095, 4097, 65535 };
	struct unit *u = *state;
	uint8_t *buf;
	unsigned int i;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	disk_fill(u->disk, 0, MIB, 3);
	buf = unit_alloc(u, 65536);
	for (i = 0; i < ARRAY_SIZE(len); i++) {
		memset(buf, 0xee, 65536);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, len[i]), VIRTIO_BLK_S_IOERR);
		assert_int_equal(u->req.used_len, 1);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, len[i]), VIRTIO_BLK_S_IOERR);
		assert_int_equal(u->req.used_len, 1);
		expect_alive(u);
	}
	expect_disk(u->disk, 0, MIB, 3);
}

static void wrong_direction_is_an_error(void **state)
{
	struct unit *u = *state;
	struct vq_segment chain[3];
	uint8_t *buf;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	disk_fill(u->disk, 0, MIB, 3);
	buf = unit_alloc(u, 512);
	memset(buf, 0xee, 512);
	chain[0] = unit_segment(u, u->req.header, 16);
	chain[1] = unit_segment(u, buf, 512);
	chain[2] = unit_segment(u, u->req.status, 1);

	blk_request_prepare(&u->req, VIRTIO_BLK_T_IN, 0);
	assert_ok(blk_add_chain(&u->req, chain, 2, 1));
	vq_submit(&u->vq[0]);
	expect_end(&u->req, VIRTIO_BLK_S_IOERR, 1);
	expect_alive(u);

	blk_request_prepare(&u->req, VIRTIO_BLK_T_OUT, 0);
	assert_ok(blk_add_chain(&u->req, chain, 1, 2));
	vq_submit(&u->vq[0]);
	expect_end(&u->req, VIRTIO_BLK_S_IOERR, 1);
	assert_int_equal(buf[0], 0xee);
	expect_alive(u);

	blk_request_prepare(&u->req, VIRTIO_BLK_T_GET_ID, 0);
	assert_ok(blk_add_chain(&u->req, chain, 2, 1));
	vq_submit(&u->vq[0]);
	expect_end(&u->req, VIRTIO_BLK_S_IOERR, 1);
	expect_alive(u);
	expect_disk(u->disk, 0, MIB, 3);
}

static void requests_beyond_the_end_fail(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
		int status;
	} range[] = {
		{ SECTORS - 1, 512, VIRTIO_BLK_S_OK },
		{ SECTORS - 8, 4096, VIRTIO_BLK_S_OK },
		{ SECTORS, 512, VIRTIO_BLK_S_IOERR },
		{ SECTORS - 1, 1024, VIRTIO_BLK_S_IOERR },
		{ SECTORS - 8, 4608, VIRTIO_BLK_S_IOERR },
		{ SECTORS + 1, 512, VIRTIO_BLK_S_IOERR },
		{ 1ULL << 32, 512, VIRTIO_BLK_S_IOERR },
		{ 1ULL << 54, 512, VIRTIO_BLK_S_IOERR },
		{ (1ULL << 54) - 1, 512, VIRTIO_BLK_S_IOERR },
		/* The offset in bytes overflows 64 bits. */
		{ 1ULL << 55, 512, VIRTIO_BLK_S_IOERR },
		{ (1ULL << 55) + 8, 4096, VIRTIO_BLK_S_IOERR },
		{ 1ULL << 63, 512, VIRTIO_BLK_S_IOERR },
		{ UINT64_MAX, 512, VIRTIO_BLK_S_IOERR },
		{ UINT64_MAX, 1024, VIRTIO_BLK_S_IOERR },
		{ UINT64_MAX - 7, 4096, VIRTIO_BLK_S_IOERR },
		{ UINT64_MAX / 512, 4096, VIRTIO_BLK_S_IOERR },
	};
	struct unit *u = *state;
	uint8_t *buf;
	unsigned int i;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	disk_fill(u->disk, 0, DISK_SIZE, 4);
	buf = unit_alloc(u, 8192);
	for (i = 0; i < ARRAY_SIZE(range); i++) {
		memset(buf, 0xee, 8192);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, range[i].sector, buf, range[i].len),
				 range[i].status);
		if (range[i].status == VIRTIO_BLK_S_OK) {
			expect_pattern(buf, range[i].len, range[i].sector * SECTOR_SIZE, 4);
		} else {
			assert_int_equal(u->req.used_len, 1);
			assert_int_equal(buf[0], 0xee);
			memset(buf, 0xdd, 8192);
		}
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, range[i].sector, buf, range[i].len),
				 range[i].status);
		assert_int_equal(u->req.used_len, 1);
	}
	expect_disk(u->disk, 0, DISK_SIZE, 4);
	assert_int_equal(backend_size(u->disk), DISK_SIZE);
	expect_alive(u);
}

/* The guest cannot access a partial sector at the end of a file. */
static void file_with_a_partial_last_sector(void **state)
{
	struct unit *u = *state;
	uint8_t *buf;

	start_on_memfd(u, 10 * SECTOR_SIZE + 100, 1, 16);
	buf = unit_alloc(u, 1024);
	memset(buf, 0xee, 1024);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 9, buf, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 10, buf, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 10, buf, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 9, buf, 1024), VIRTIO_BLK_S_IOERR);
	assert_int_equal(backend_size(u->disk), 10 * SECTOR_SIZE + 100);
}

static void current_file_size_limits_requests(void **state)
{
	struct unit *u = *state;
	uint8_t *buf;

	start_on_memfd(u, MIB, 1, 16);
	disk_fill(u->disk, 0, MIB, 5);
	buf = unit_alloc(u, 4096);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 1024, buf, 4096), VIRTIO_BLK_S_OK);

	assert_ok(ftruncate(u->disk, 64 * KIB));
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 1024, buf, 4096), VIRTIO_BLK_S_IOERR);
	assert_int_equal(u->req.used_len, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 1024, buf, 4096), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 124, buf, 4096), VIRTIO_BLK_S_IOERR);
	assert_int_equal(backend_size(u->disk), 64 * KIB);
	expect_alive(u);

	assert_ok(ftruncate(u->disk, 2 * MIB));
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 3072, buf, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 4096, buf, 4096), VIRTIO_BLK_S_IOERR);
	assert_int_equal(backend_size(u->disk), 2 * MIB);
}

static void read_only_backends_are_not_written(void **state)
{
	struct unit *u = *state;
	char link[64];
	uint8_t *buf;
	int flags = *(enum disk_io *)u->param == DISK_DIRECT ? O_DIRECT : 0;

	unit_any_disk(u, DISK_SIZE);
	disk_fill(u->disk, 0, MIB, 6);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", u->disk);
	u->disk = open(link, O_RDONLY | O_CLOEXEC | flags);
	assert_ok(u->disk);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, 4096);
	memset(buf, 0xee, 4096);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 4096), VIRTIO_BLK_S_IOERR);
	assert_int_equal(u->req.used_len, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 8, buf, 4096), VIRTIO_BLK_S_OK);
	expect_pattern(buf, 4096, 4096, 6);
	expect_disk(u->disk, 0, MIB, 6);
	close(atoi(strrchr(link, '/') + 1));
}

/* Writes go to the sector of the request, even with O_APPEND. */
static void append_mode_does_not_append(void **state)
{
	struct unit *u = *state;
	uint8_t *buf;

	unit_memfd(u, MIB);
	disk_fill(u->disk, 0, MIB, 1);
	assert_ok(fcntl(u->disk, F_SETFL, O_APPEND));
	unit_start(u, 1, 16);
	buf = unit_alloc(u, 4096);
	pattern_fill(buf, 4096, 8192, 2);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 16, buf, 4096), VIRTIO_BLK_S_OK);
	/* The same with a buffer that is misaligned for direct I/O. */
	pattern_fill(buf + 1, 1024, 16384, 2);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 32, buf + 1, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(backend_size(u->disk), MIB);
	expect_disk(u->disk, 8192, 4096, 2);
	expect_disk(u->disk, 16384, 1024, 2);
	expect_disk(u->disk, 0, 8192, 1);
}

/* More than 256 pages in one descriptor, which the bios of an earlier module could not hold. */
static void large_segments(void **state)
{
	struct unit *u = *state;
	uint8_t *buf;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	disk_fill(u->disk, 0, DISK_SIZE, 7);
	buf = unit_alloc(u, LARGE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 7, buf, LARGE), VIRTIO_BLK_S_OK);
	assert_int_equal(u->req.used_len, LARGE + 1);
	expect_pattern(buf, LARGE, 7 * SECTOR_SIZE, 7);
	pattern_fill(buf, LARGE, 9 * SECTOR_SIZE, 8);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 9, buf, LARGE), VIRTIO_BLK_S_OK);
	assert_int_equal(u->req.used_len, 1);
	expect_disk(u->disk, 9 * SECTOR_SIZE, LARGE, 8);
	expect_disk(u->disk, 9 * SECTOR_SIZE + LARGE, MIB, 7);
}

/* The longest chain of the largest ring. Segments are not contiguous, so that none are merged. */
static void many_segments(struct unit *u, unsigned int table_size, uint32_t segment_len)
{
	uint32_t step = segment_len < 4096 ? 1024 : 8192;
	size_t len = MANY * segment_len;
	struct vq_segment data[MANY];
	struct blk_request req;
	unsigned int i;
	char *buf;

	unit_any_disk(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE, 9);
	unit_start(u, 1, 1024);
	assert_ok(blk_request_init(&req, &u->vq[0], table_size));
	buf = unit_alloc(u, MANY * step);
	for (i = 0; i < MANY; i++)
		data[i] = unit_segment(u, buf + i * step, segment_len);
	assert_ok(blk_add(&req, VIRTIO_BLK_T_IN, 1, data, MANY));
	vq_submit(&u->vq[0]);
	expect_end(&req, VIRTIO_BLK_S_OK, len + 1);
	for (i = 0; i < MANY; i++)
		expect_pattern(buf + i * step, segment_len, SECTOR_SIZE + i * segment_len, 9);
	for (i = 0; i < MANY; i++)
		pattern_fill(buf + i * step, segment_len, SECTOR_SIZE + i * segment_len, 10);
	assert_ok(blk_add(&req, VIRTIO_BLK_T_OUT, 1, data, MANY));
	vq_submit(&u->vq[0]);
	expect_end(&req, VIRTIO_BLK_S_OK, 1);
	expect_disk(u->disk, SECTOR_SIZE, len, 10);
	expect_alive(u);
}

static void many_segments_in_a_table(void **state)
{
	many_segments(*state, 1024, 4096);
}

static void many_segments_on_the_ring(void **state)
{
	many_segments(*state, 0, 4096);
}

static void many_sector_segments(void **state)
{
	many_segments(*state, 1024, 512);
}

/* The guest may use buffers that are misaligned for direct I/O. */
static void misaligned_buffers(void **state)
{
	static const unsigned int at[] = { 1, 2, 3, 4, 7, 8, 15, 16, 255, 511, 513, 3585, 4095 };
	struct unit *u = *state;
	unsigned int i;
	char *buf;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	disk_fill(u->disk, 0, MIB, 11);
	buf = unit_alloc(u, 3 * 65536);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		uint32_t len = i % 2 ? 65536 : 1024;
		char *p = buf + at[i];

		memset(buf, 0xee, 3 * 65536);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, i, p, len), VIRTIO_BLK_S_OK);
		assert_int_equal(u->req.used_len, len + 1);
		expect_pattern(p, len, i * SECTOR_SIZE, 11);
		assert_int_equal((uint8_t)p[-1], 0xee);
		assert_int_equal((uint8_t)p[len], 0xee);
		pattern_fill(p, len, 2 * MIB, i);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 4096, p, len), VIRTIO_BLK_S_OK);
		expect_disk(u->disk, 2 * MIB, len, i);
	}
}

/* Segments of any length whose sum is a multiple of the sector size. */
static void segments_of_any_length(void **state)
{
	static const uint32_t lens[][5] = {
		{ 1, 511 }, { 511, 1 }, { 3, 509, 512 }, { 1000, 24 }, { 513, 511 },
		{ 1, 1, 1, 1, 508 }, { 4095, 1, 4096 }, { 511, 513, 4096, 2047, 1 },
		{ 65535, 513 }, { 256, 256 }, { 4096, 100, 412 },
	};
	struct unit *u = *state;
	struct vq_segment data[5];
	unsigned int i, n;
	char *buf, *p;

	start_on_any_disk(u, DISK_SIZE, 1, 16);
	disk_fill(u->disk, 0, MIB, 12);
	buf = unit_alloc(u, 256 * KIB);
	for (i = 0; i < 2 * ARRAY_SIZE(lens); i++) {
		const uint32_t *len = lens[i / 2];
		uint32_t total = 0;

		/* First aligned, then misaligned. */
		memset(buf, 0xee, 256 * KIB);
		for (n = 0; n < 5 && len[n]; n++) {
			p = buf + n * 72 * KIB % (256 * KIB) + (i % 2 ? n * 13 + 1 : 0);
			data[n] = unit_segment(u, p, len[n]);
			total += len[n];
		}
		assert_ok(blk_add(&u->req, VIRTIO_BLK_T_IN, i, data, n));
		vq_submit(&u->vq[0]);
		expect_end(&u->req, VIRTIO_BLK_S_OK, total + 1);
		total = 0;
		for (n = 0; n < 5 && len[n]; n++) {
			p = unit_host(u, data[n].addr);
			expect_pattern(p, len[n], i * SECTOR_SIZE + total, 12);
			assert_int_equal((uint8_t)p[len[n]], 0xee);
			pattern_fill(p, len[n], 2 * MIB + total, 100 + i);
			total += len[n];
		}
		assert_ok(blk_add(&u->req, VIRTIO_BLK_T_OUT, 4096, data, n));
		vq_submit(&u->vq[0]);
		expect_end(&u->req, VIRTIO_BLK_S_OK, 1);
		expect_disk(u->disk, 2 * MIB, total, 100 + i);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_ON(in_reads_the_disk, file),
		TEST_ON(in_reads_the_disk, direct),
		TEST_ON(out_writes_the_disk, file),
		TEST_ON(out_writes_the_disk, direct),
		TEST_ON(flush_succeeds, file),
		TEST_ON(flush_succeeds, direct),
		TEST_ON(flush_ignores_the_sector, file),
		TEST(get_id_returns_the_serial),
		TEST(get_id_returns_a_full_serial),
		TEST(get_id_without_a_serial_is_empty),
		TEST(get_id_fills_split_buffers),
		TEST_ON(unknown_types_are_unsupported, file),
		TEST_ON(zero_length_succeeds, file),
		TEST_ON(zero_length_succeeds, direct),
		TEST_ON(lengths_must_be_whole_sectors, file),
		TEST_ON(lengths_must_be_whole_sectors, direct),
		TEST_ON(wrong_direction_is_an_error, file),
		TEST_ON(wrong_direction_is_an_error, direct),
		TEST_ON(requests_beyond_the_end_fail, file),
		TEST_ON(requests_beyond_the_end_fail, direct),
		TEST(file_with_a_partial_last_sector),
		TEST(current_file_size_limits_requests),
		TEST_ON(read_only_backends_are_not_written, file),
		TEST_ON(read_only_backends_are_not_written, direct),
		TEST(append_mode_does_not_append),
		TEST_ON(large_segments, file),
		TEST_ON(large_segments, direct),
		TEST_ON(many_segments_in_a_table, file),
		TEST_ON(many_segments_in_a_table, direct),
		TEST_ON(many_segments_on_the_ring, direct),
		TEST_ON(many_sector_segments, direct),
		TEST_ON(misaligned_buffers, file),
		TEST_ON(misaligned_buffers, direct),
		TEST_ON(segments_of_any_length, file),
		TEST_ON(segments_of_any_length, direct),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
