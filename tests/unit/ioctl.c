// SPDX-License-Identifier: GPL-2.0
/* The ioctls: valid and invalid arguments, and wrong order. */
#define _GNU_SOURCE
#include "unit.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define DISK_SIZE	(1 * MIB)

static int set_state(struct unit *u, unsigned long cmd, unsigned int index, unsigned int num)
{
	struct vhost_vring_state state = { .index = index, .num = num };

	return ioctl(u->dev.fd, cmd, &state);
}

static int set_file(struct unit *u, unsigned long cmd, unsigned int index, int fd)
{
	struct vhost_vring_file file = { .index = index, .fd = fd };

	return ioctl(u->dev.fd, cmd, &file);
}

static int set_serial(struct unit *u, const char *text, uint32_t reserved)
{
	struct vhost_blk_serial serial = { .reserved = reserved };

	strncpy((char *)serial.serial, text, sizeof(serial.serial));
	return ioctl(u->dev.fd, VHOST_BLK_SET_SERIAL, &serial);
}

static int set_write_cache(struct unit *u, uint32_t mode, uint32_t flags)
{
	struct vhost_blk_write_cache cache = { .mode = mode, .flags = flags };

	return ioctl(u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &cache);
}

static void open_only(struct unit *u)
{
	u->dev.mem = &u->mem;
	u->dev.fd = open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC);
	assert_ok(u->dev.fd);
}

/*
 * Bug 8: the dirty log must not be offered while not everything is logged.
 * Clients may rely on the other features.
 */
static void offers_the_documented_features(void **state)
{
	const uint64_t want = BIT64(VIRTIO_F_NOTIFY_ON_EMPTY) | BIT64(VHOST_F_LOG_ALL) |
		BIT64(VIRTIO_F_ANY_LAYOUT) |
		BIT64(VIRTIO_RING_F_INDIRECT_DESC) | BIT64(VIRTIO_RING_F_EVENT_IDX) |
		BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_BLK_F_SEG_MAX) |
		BIT64(VIRTIO_BLK_F_GEOMETRY) | BIT64(VIRTIO_BLK_F_RO) |
		BIT64(VIRTIO_BLK_F_BLK_SIZE) | BIT64(VIRTIO_BLK_F_FLUSH) |
		BIT64(VIRTIO_BLK_F_TOPOLOGY) | BIT64(VIRTIO_BLK_F_CONFIG_WCE) |
		BIT64(VIRTIO_BLK_F_MQ) |
		BIT64(VIRTIO_BLK_F_DISCARD) | BIT64(VIRTIO_BLK_F_WRITE_ZEROES) |
		BIT64(VIRTIO_BLK_F_SECURE_ERASE) | BIT64(VIRTIO_F_ACCESS_PLATFORM);
	struct unit *u = *state;
	uint64_t features = 0;

	open_only(u);
	assert_ok(ioctl(u->dev.fd, VHOST_GET_FEATURES, &features));
	assert_int_equal(features, want);
}

static void refuses_unknown_features(void **state)
{
	struct unit *u = *state;
	uint64_t features;
	unsigned int bit;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	for (bit = 0; bit < 64; bit++) {
		uint64_t offered = 0;

		assert_ok(ioctl(u->dev.fd, VHOST_GET_FEATURES, &offered));
		features = BIT64(bit);
		if (offered & features)
			continue;
		assert_errno(ioctl(u->dev.fd, VHOST_SET_FEATURES, &features), EOPNOTSUPP);
	}
	/* The features set before still apply: a ring with an event index works. */
	unit_vqs(u, 1, 8);
	unit_attach(u);
	expect_alive(u);
	expect_alive(u);
}

static void offers_one_backend_feature(void **state)
{
	struct unit *u = *state;
	uint64_t features = ~0ULL;

	unit_open(u, FEATURES);
	assert_ok(ioctl(u->dev.fd, VHOST_GET_BACKEND_FEATURES, &features));
	assert_int_equal(features, BIT64(VHOST_BACKEND_F_IOTLB_MSG_V2));
	assert_ok(ioctl(u->dev.fd, VHOST_SET_BACKEND_FEATURES, &features));
	features |= BIT64(VHOST_BACKEND_F_IOTLB_BATCH);
	assert_errno(ioctl(u->dev.fd, VHOST_SET_BACKEND_FEATURES, &features), EOPNOTSUPP);
}

static int set_coalesce(struct unit *u, uint32_t max_us, uint32_t reserved)
{
	struct vhost_blk_coalesce coalesce = { .max_us = max_us, .reserved = reserved };

	return ioctl(u->dev.fd, VHOST_BLK_SET_COALESCE, &coalesce);
}

static int set_hand_back(struct unit *u, int fd, uint32_t reserved)
{
	struct vhost_blk_hand_back hand_back = { .fd = fd, .reserved = reserved };

	return ioctl(u->dev.fd, VHOST_BLK_SET_HAND_BACK, &hand_back);
}

static int resume(struct unit *u, uint32_t flags, uint32_t reserved)
{
	struct vhost_blk_resume resume = { .flags = flags, .reserved = reserved };

	return ioctl(u->dev.fd, VHOST_BLK_RESUME, &resume);
}

static void needs_an_owner(void **state)
{
	struct vhost_blk_unanswered list = { 0 };
	struct vhost_memory table = { 0 };
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	open_only(u);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, u->disk), EPERM);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, -1), EPERM);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND_COMPAT, 0, u->disk), EPERM);
	assert_errno(set_serial(u, "serial", 0), EPERM);
	assert_errno(set_write_cache(u, VHOST_BLK_WRITE_THROUGH, 0), EPERM);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_QUIESCE), EPERM);
	assert_errno(resume(u, 0, 0), EPERM);
	assert_errno(set_hand_back(u, -1, 0), EPERM);
	assert_errno(set_coalesce(u, 0, 0), EPERM);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_UNANSWERED, &list), EPERM);
	assert_errno(ioctl(u->dev.fd, VHOST_RESET_OWNER), EPERM);
	assert_errno(ioctl(u->dev.fd, VHOST_SET_MEM_TABLE, &table), EPERM);
	assert_errno(set_state(u, VHOST_SET_VRING_NUM, 0, 8), EPERM);
	assert_errno(set_file(u, VHOST_SET_VRING_KICK, 0, -1), EPERM);
}

static void has_one_owner(void **state)
{
	struct unit *u = *state;

	open_only(u);
	assert_ok(ioctl(u->dev.fd, VHOST_SET_OWNER));
	assert_errno(ioctl(u->dev.fd, VHOST_SET_OWNER), EBUSY);
}

/* Bug 6: fget() returns NULL, not an error pointer, for a bad descriptor. */
static void refuses_bad_descriptors(void **state)
{
	struct vhost_blk_limits limits = { 0 };
	struct unit *u = *state;
	int path;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 8);
	path = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	assert_ok(path);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, path), EBADF);
	limits.fd = path;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_LIMITS, &limits), EBADF);
	close(path);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, path), EBADF);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, -2), EBADF);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, 1 << 30), EBADF);
	unit_attach(u);
	expect_alive(u);
}

static void expect_einval(struct unit *u, int fd)
{
	struct vhost_blk_limits limits = { .fd = fd };

	assert_ok(fd);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, fd), EINVAL);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_LIMITS, &limits), EINVAL);
	close(fd);
}

static void refuses_other_files(void **state)
{
	struct unit *u = *state;
	char dir[BACKEND_PATH_MAX], path[BACKEND_PATH_MAX];
	struct null_blk spec = { .size_mib = 1 };
	int pipe_fd[2];

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 8);
	assert_ok(backend_tmpfs(dir, MIB));
	assert_ok(backend_file(path, dir, "disk", DISK_SIZE));
	expect_einval(u, open(path, O_WRONLY | O_CLOEXEC));
	assert_ok(backend_null(path, &spec));
	expect_einval(u, open(path, O_WRONLY | O_CLOEXEC));
	expect_einval(u, open(path, O_WRONLY | O_DIRECT | O_CLOEXEC));
	expect_einval(u, open("/dev/null", O_WRONLY | O_CLOEXEC));
	expect_einval(u, open("/proc/self/mem", O_RDWR | O_CLOEXEC));
	expect_einval(u, open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	expect_einval(u, open("/dev/null", O_RDWR | O_CLOEXEC));
	expect_einval(u, open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC));
	expect_einval(u, eventfd(0, EFD_CLOEXEC));
	expect_einval(u, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	assert_ok(pipe(pipe_fd));
	expect_einval(u, pipe_fd[0]);
	expect_einval(u, pipe_fd[1]);
	unit_attach(u);
	expect_alive(u);
}

/*
 * The kernel refuses O_DIRECT for files that do not support it, at open() and in
 * fcntl(). A tmpfs takes it since 6.6, and uses the page cache all the same.
 */
static void files_without_direct_io(void **state)
{
	struct unit *u = *state;
	char path[64];
	int fd;

	assert_errno(open("/proc/version", O_RDONLY | O_DIRECT | O_CLOEXEC), EINVAL);
	assert_errno(open("/sys/kernel/mm/transparent_hugepage/enabled",
			  O_RDONLY | O_DIRECT | O_CLOEXEC), EINVAL);
	unit_memfd(u, DISK_SIZE);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", u->disk);
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0) {
		assert_int_equal(errno, EINVAL);
		assert_errno(fcntl(u->disk, F_SETFL, O_DIRECT), EINVAL);
		return;
	}
	close(u->disk);
	u->disk = fd;
	unit_start(u, 1, 8);
	expect_alive(u);
}

/* A file of /proc or /sys is refused, or attached with its size, and does no harm. */
static void files_of_proc_and_sys(void **state)
{
	static const char *const path[] = {
		"/proc/version", "/proc/kallsyms", "/proc/sys/kernel/hostname",
		"/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/vmcoreinfo",
	};
	struct unit *u = *state;
	unsigned int i;
	uint8_t *buf;
	int ret;

	unit_open(u, FEATURES);
	unit_vqs(u, 1, 8);
	buf = unit_alloc(u, PAGE);
	for (i = 0; i < ARRAY_SIZE(path); i++) {
		unit_disk(u, path[i], O_RDONLY);
		ret = vhost_blk_attach(&u->dev, u->disk);
		print_message("%s: %s\n", path[i], ret ? strerror(-ret) : "attached");
		if (ret) {
			assert_int_equal(ret, -EINVAL);
		} else {
			unit_io(u, VIRTIO_BLK_T_IN, 0, buf, PAGE);
			assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, PAGE),
					 VIRTIO_BLK_S_IOERR);
			assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 8, buf, PAGE),
					 VIRTIO_BLK_S_IOERR);
			unit_detach(u);
		}
		close(u->disk);
		u->disk = -1;
	}
}

static void attaches_one_backend(void **state)
{
	struct unit *u = *state;

	start_on_memfd(u, DISK_SIZE, 1, 8);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, u->disk), EBUSY);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND_COMPAT, 0, u->disk), EBUSY);
	expect_alive(u);
	unit_detach(u);
	unit_attach(u);
	expect_alive(u);
}

static void attaches_and_detaches_by_the_old_number(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 8);
	assert_ok(set_file(u, VHOST_BLK_SET_BACKEND_COMPAT, 0, u->disk));
	expect_alive(u);
	assert_ok(set_file(u, VHOST_BLK_SET_BACKEND_COMPAT, 0, -1));
	unit_attach(u);
	expect_alive(u);
}

static void has_one_backend_for_all_rings(void **state)
{
	static const unsigned int index[] = { 1, 127, 128, UINT32_MAX };
	struct unit *u = *state;
	unsigned int i;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 2, 8);
	for (i = 0; i < ARRAY_SIZE(index); i++) {
		assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, index[i], u->disk), ENOBUFS);
		assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, index[i], -1), ENOBUFS);
	}
	unit_attach(u);
	expect_alive(u);
}

static void detaches_when_nothing_is_attached(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_detach(u);
	unit_vqs(u, 1, 8);
	unit_detach(u);
	unit_attach(u);
	unit_detach(u);
	unit_detach(u);
}

static void attach_needs_a_ring(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, u->disk), EFAULT);
	/* The size alone is not enough. */
	assert_ok(set_state(u, VHOST_SET_VRING_NUM, 0, 8));
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, u->disk), EFAULT);
	expect_workers(getpid(), 0);
	unit_vqs(u, 1, 8);
	unit_attach(u);
	expect_alive(u);
}

static void attach_needs_memory(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	open_only(u);
	u->dev.features = FEATURES;
	assert_ok(ioctl(u->dev.fd, VHOST_SET_OWNER));
	assert_ok(ioctl(u->dev.fd, VHOST_SET_FEATURES, &u->dev.features));
	unit_vqs(u, 1, 8);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, u->disk), EFAULT);
	assert_ok(vhost_blk_set_memory(&u->dev));
	unit_attach(u);
	expect_alive(u);
}

/* Ring addresses that cannot be used fail the attach, and do no harm. */
static void attach_needs_a_usable_ring(void **state)
{
	struct vhost_vring_addr addr = { .index = 0 };
	struct unit *u = *state;
	char *hole;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 8);

	addr.desc_user_addr = 0xffff888000000000ULL;
	addr.avail_user_addr = 0xffff888000010000ULL;
	addr.used_user_addr = 0xffff888000020000ULL;
	assert_ok(ioctl(u->dev.fd, VHOST_SET_VRING_ADDR, &addr));
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, u->disk), EFAULT);

	hole = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(hole != MAP_FAILED);
	addr.desc_user_addr = (uintptr_t)hole;
	addr.avail_user_addr = (uintptr_t)hole + 16384;
	addr.used_user_addr = (uintptr_t)hole + 32768;
	assert_ok(ioctl(u->dev.fd, VHOST_SET_VRING_ADDR, &addr));
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, u->disk), EFAULT);
	munmap(hole, 65536);

	expect_workers(getpid(), 0);
	assert_ok(vq_restart(&u->vq[0], 0));
	unit_attach(u);
	expect_alive(u);
}

static void attach_refuses_larger_rings(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 2048);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, u->disk), EINVAL);
	unit_detach(u);
	vq_free(&u->vq[0]);
	unit_vqs(u, 1, 1024);
	unit_attach(u);
	expect_alive(u);
}

static void ring_sizes_are_checked(void **state)
{
	static const unsigned int bad[] = { 0, 3, 6, 1023, 65536, 0x80000000, UINT32_MAX };
	struct unit *u = *state;
	unsigned int i;

	unit_open(u, FEATURES);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_errno(set_state(u, VHOST_SET_VRING_NUM, 0, bad[i]), EINVAL);
	assert_ok(set_state(u, VHOST_SET_VRING_NUM, 127, 1024));
}

static void has_128_rings(void **state)
{
	static const unsigned int bad[] = { 128, 129, 65535, UINT32_MAX };
	static const unsigned long cmd[] = {
		VHOST_SET_VRING_NUM, VHOST_SET_VRING_BASE, VHOST_GET_VRING_BASE,
		VHOST_SET_VRING_ADDR, VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL,
		VHOST_SET_VRING_ERR,
	};
	struct vhost_vring_addr argument;	/* the largest of all */
	struct unit *u = *state;
	unsigned int i, c;

	unit_open(u, FEATURES);
	for (c = 0; c < ARRAY_SIZE(cmd); c++) {
		for (i = 0; i < ARRAY_SIZE(bad); i++) {
			memset(&argument, 0, sizeof(argument));
			argument.index = bad[i];
			assert_errno(ioctl(u->dev.fd, cmd[c], &argument), ENOBUFS);
		}
	}
	assert_ok(set_state(u, VHOST_GET_VRING_BASE, 127, 0));
}

static void ring_addresses_are_checked(void **state)
{
	struct unit *u = *state;
	struct vhost_vring_addr addr;

	start_on_memfd(u, DISK_SIZE, 1, 8);
	memset(&addr, 0, sizeof(addr));
	addr.desc_user_addr = (uintptr_t)u->vq[0].desc;
	addr.avail_user_addr = (uintptr_t)u->vq[0].avail + 1;
	addr.used_user_addr = (uintptr_t)u->vq[0].used;
	assert_errno(ioctl(u->dev.fd, VHOST_SET_VRING_ADDR, &addr), EINVAL);
	addr.avail_user_addr--;
	addr.used_user_addr += 2;
	assert_errno(ioctl(u->dev.fd, VHOST_SET_VRING_ADDR, &addr), EINVAL);
	addr.used_user_addr -= 2;
	addr.flags = 2;
	assert_errno(ioctl(u->dev.fd, VHOST_SET_VRING_ADDR, &addr), EOPNOTSUPP);
	addr.flags = 0;
	addr.desc_user_addr = 0xffff888000000000ULL;
	assert_errno(ioctl(u->dev.fd, VHOST_SET_VRING_ADDR, &addr), EINVAL);
	expect_alive(u);
}

static void running_rings_keep_size_and_base(void **state)
{
	struct unit *u = *state;

	start_on_memfd(u, DISK_SIZE, 1, 8);
	assert_errno(set_state(u, VHOST_SET_VRING_NUM, 0, 16), EBUSY);
	assert_errno(set_state(u, VHOST_SET_VRING_BASE, 0, 5), EBUSY);
	expect_alive(u);
	unit_detach(u);
	assert_ok(set_state(u, VHOST_SET_VRING_NUM, 0, 16));
	assert_errno(set_state(u, VHOST_SET_VRING_BASE, 0, 65536), EINVAL);
	assert_ok(set_state(u, VHOST_SET_VRING_BASE, 0, 65535));
	assert_int_equal(vq_get_base(&u->vq[0]), 65535);
}

static void ring_events_need_eventfds(void **state)
{
	static const unsigned long cmd[] = {
		VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,
	};
	struct unit *u = *state;
	unsigned int i;

	start_on_memfd(u, DISK_SIZE, 1, 8);
	for (i = 0; i < ARRAY_SIZE(cmd); i++) {
		assert_errno(set_file(u, cmd[i], 0, u->disk), EINVAL);
		assert_errno(set_file(u, cmd[i], 0, 1 << 30), EBADF);
	}
	expect_alive(u);
}

static void unknown_ioctls_are_refused(void **state)
{
	struct unit *u = *state;
	char argument[64] = "";

	start_on_memfd(u, DISK_SIZE, 1, 8);
	assert_errno(ioctl(u->dev.fd, _IO(VHOST_VIRTIO, 0x52), argument), ENOTTY);
	/* It was VHOST_BLK_SET_AFFINITY. */
	assert_errno(ioctl(u->dev.fd, _IOW(VHOST_VIRTIO, 0x54, uint64_t[2]), argument), ENOTTY);
	assert_errno(ioctl(u->dev.fd, _IO(VHOST_VIRTIO, 0x90), argument), ENOTTY);
	assert_errno(ioctl(u->dev.fd, VHOST_NET_SET_BACKEND, argument), ENOTTY);
	expect_alive(u);
}

static void bad_pointers_are_refused(void **state)
{
	static const unsigned long cmd[] = {
		VHOST_GET_FEATURES, VHOST_SET_FEATURES, VHOST_GET_BACKEND_FEATURES,
		VHOST_SET_BACKEND_FEATURES, VHOST_SET_MEM_TABLE, VHOST_SET_VRING_NUM,
		VHOST_SET_VRING_ADDR, VHOST_SET_VRING_BASE, VHOST_GET_VRING_BASE,
		VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,
		VHOST_BLK_SET_BACKEND, VHOST_BLK_SET_BACKEND_COMPAT, VHOST_BLK_SET_SERIAL,
		VHOST_BLK_GET_LIMITS, VHOST_BLK_RESUME, VHOST_BLK_SET_HAND_BACK,
		VHOST_BLK_GET_UNANSWERED, VHOST_BLK_SET_COALESCE, VHOST_BLK_SET_DISCARD,
	};
	struct unit *u = *state;
	unsigned int i;
	char *page;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 8);
	/* An argument that begins in a mapped page and ends in an unmapped one. */
	page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(page != MAP_FAILED);
	munmap(page + PAGE, PAGE);
	for (i = 0; i < ARRAY_SIZE(cmd); i++) {
		assert_errno(ioctl(u->dev.fd, cmd[i], NULL), EFAULT);
		assert_errno(ioctl(u->dev.fd, cmd[i], page + PAGE - 4), EFAULT);
	}
	munmap(page, PAGE);
	unit_attach(u);
	expect_alive(u);
}

static void serial_is_checked(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 8);
	assert_errno(set_serial(u, "serial", 1), EINVAL);
	assert_ok(set_serial(u, "serial", 0));
	unit_attach(u);
	assert_errno(set_serial(u, "other", 0), EBUSY);
	unit_detach(u);
	assert_ok(set_serial(u, "other", 0));
}

static void write_cache_is_checked(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 8);
	assert_errno(set_write_cache(u, VHOST_BLK_WRITE_THROUGH, 2), EINVAL);
	assert_errno(set_write_cache(u, 2, 0), EINVAL);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, NULL), EFAULT);
	assert_ok(set_write_cache(u, VHOST_BLK_WRITE_THROUGH, 0));
	unit_attach(u);
	assert_errno(set_write_cache(u, UINT32_MAX, 0), EINVAL);
	assert_ok(set_write_cache(u, VHOST_BLK_WRITE_BACK, 0));
	assert_ok(set_write_cache(u, VHOST_BLK_WRITE_THROUGH, 0));
	unit_detach(u);
	assert_ok(set_write_cache(u, VHOST_BLK_WRITE_BACK, 0));
}

static void discard_mode_is_checked(void **state)
{
	struct vhost_blk_discard good = { .mode = VHOST_BLK_DISCARD_IGNORE };
	struct vhost_blk_discard bad[] = { { .mode = 2 }, { .reserved = 1 } };
	struct unit *u = *state;
	unsigned int i;

	start_on_memfd(u, DISK_SIZE, 1, 8);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_errno(ioctl(u->dev.fd, VHOST_BLK_SET_DISCARD, &bad[i]), EINVAL);
	assert_ok(ioctl(u->dev.fd, VHOST_BLK_SET_DISCARD, &good));
	expect_alive(u);
}

static void coalescing_is_checked(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 8);
	assert_errno(set_coalesce(u, 1001, 0), EINVAL);
	assert_errno(set_coalesce(u, UINT32_MAX, 0), EINVAL);
	assert_errno(set_coalesce(u, 1000, 1), EINVAL);
	assert_ok(set_coalesce(u, 1000, 0));
	unit_attach(u);
	assert_errno(set_coalesce(u, 1001, 0), EINVAL);
	assert_ok(set_coalesce(u, 0, 0));
	assert_ok(set_coalesce(u, 1, 0));
	expect_alive(u);
}

static void hand_back_is_checked(void **state)
{
	int event = eventfd(0, EFD_CLOEXEC);
	struct unit *u = *state;

	assert_ok(event);
	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 8);
	assert_ok(set_hand_back(u, -1, 0));
	assert_errno(set_hand_back(u, event, 1), EINVAL);
	assert_errno(set_hand_back(u, -1, 1), EINVAL);
	assert_errno(set_hand_back(u, 1 << 30, 0), EBADF);
	assert_errno(set_hand_back(u, -2, 0), EBADF);
	assert_errno(set_hand_back(u, u->disk, 0), EINVAL);
	assert_ok(set_hand_back(u, event, 0));
	assert_ok(set_hand_back(u, event, 0));
	unit_attach(u);
	assert_errno(set_hand_back(u, event, 0), EBUSY);
	assert_errno(set_hand_back(u, -1, 0), EBUSY);
	unit_detach(u);
	/* The device has a reference of its own. */
	close(event);
	unit_attach(u);
	assert_int_equal(unit_quiesce(u), 0);
	assert_errno(set_hand_back(u, -1, 0), EBUSY);
	unit_detach(u);
	assert_ok(set_hand_back(u, -1, 0));
}

static void resuming_is_checked(void **state)
{
	struct unit *u = *state;

	start_on_memfd(u, DISK_SIZE, 1, 8);
	assert_errno(resume(u, 0, 1), EINVAL);
	assert_errno(resume(u, 2, 0), EINVAL);
	assert_int_equal(unit_quiesce(u), 0);
	assert_errno(resume(u, VHOST_BLK_RESUME_RETRY, 1), EINVAL);
	assert_errno(resume(u, UINT32_MAX, 0), EINVAL);
	assert_errno(resume(u, 1U << 31, 0), EINVAL);
	unit_submit_one(u, &u->req, VIRTIO_BLK_T_FLUSH, 0, NULL, 0);
	ASSERT_NEVER(vq_used_idx(&u->vq[0]));
	assert_ok(resume(u, VHOST_BLK_RESUME_RETRY, 0));
	expect_end(&u->req, VIRTIO_BLK_S_OK, 1);
	expect_alive(u);
}

static void listing_is_checked(void **state)
{
	struct vhost_blk_unanswered list = { .index = 0 };
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 8);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_UNANSWERED, &list), EBUSY);
	unit_attach(u);
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_UNANSWERED, &list), EBUSY);
	assert_int_equal(unit_quiesce(u), 0);
	assert_ok(ioctl(u->dev.fd, VHOST_BLK_GET_UNANSWERED, &list));
	assert_int_equal(list.nr, 0);
	/* Nothing is written where nothing is listed, and there is none in a stopped queue. */
	list.nr = UINT32_MAX;
	assert_ok(ioctl(u->dev.fd, VHOST_BLK_GET_UNANSWERED, &list));
	assert_int_equal(list.nr, 0);
	list.index = 1;
	list.nr = 1;
	assert_ok(ioctl(u->dev.fd, VHOST_BLK_GET_UNANSWERED, &list));
	assert_int_equal(list.nr, 0);
	list.index = VQS_MAX;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_UNANSWERED, &list), ENOBUFS);
	list.index = UINT32_MAX;
	assert_errno(ioctl(u->dev.fd, VHOST_BLK_GET_UNANSWERED, &list), ENOBUFS);
}

static void memory_table_is_checked(void **state)
{
	struct unit *u = *state;
	struct vhost_memory *table;

	start_on_memfd(u, DISK_SIZE, 1, 8);
	table = calloc(1, sizeof(*table) + 4096 * sizeof(table->regions[0]));
	assert_non_null(table);
	table->padding = 1;
	assert_errno(ioctl(u->dev.fd, VHOST_SET_MEM_TABLE, table), EOPNOTSUPP);
	table->padding = 0;
	table->nregions = 4096;
	assert_errno(ioctl(u->dev.fd, VHOST_SET_MEM_TABLE, table), E2BIG);
	table->nregions = 1;
	table->regions[0].memory_size = PAGE;
	table->regions[0].userspace_addr = 0xffff888000000000ULL;
	assert_errno(ioctl(u->dev.fd, VHOST_SET_MEM_TABLE, table), EFAULT);
	free(table);
	expect_alive(u);
}

static void features_can_be_set_again_after_detach(void **state)
{
	struct unit *u = *state;
	uint64_t features = BIT64(VIRTIO_F_VERSION_1);

	start_on_memfd(u, DISK_SIZE, 1, 8);
	expect_alive(u);
	unit_detach(u);
	assert_ok(ioctl(u->dev.fd, VHOST_SET_FEATURES, &features));
	u->vq[0].event_idx = false;
	assert_ok(vq_restart(&u->vq[0], 0));
	unit_attach(u);
	expect_alive(u);
	expect_alive(u);
}

static void reset_releases_the_device(void **state)
{
	struct unit *u = *state;

	start_on_memfd(u, DISK_SIZE, 1, 8);
	expect_alive(u);
	assert_ok(ioctl(u->dev.fd, VHOST_RESET_OWNER));
	expect_workers(getpid(), 0);
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, u->disk), EPERM);

	assert_ok(ioctl(u->dev.fd, VHOST_SET_OWNER));
	assert_errno(set_file(u, VHOST_BLK_SET_BACKEND, 0, u->disk), EFAULT);
	assert_ok(ioctl(u->dev.fd, VHOST_SET_FEATURES, &u->dev.features));
	assert_ok(vhost_blk_set_memory(&u->dev));
	assert_ok(vq_restart(&u->vq[0], 0));
	unit_attach(u);
	expect_alive(u);
}

static void messages_are_refused_without_a_platform_iommu(void **state)
{
	struct vhost_msg message = { .type = VHOST_IOTLB_MSG };
	struct unit *u = *state;

	start_on_memfd(u, DISK_SIZE, 1, 8);
	message.iotlb.size = PAGE;
	message.iotlb.uaddr = (uintptr_t)u->mem.region[0].host;
	message.iotlb.perm = VHOST_ACCESS_RW;
	message.iotlb.type = VHOST_IOTLB_UPDATE;
	assert_true(write(u->dev.fd, &message, sizeof(message)) < 0);
	assert_true(write(u->dev.fd, &message, 3) < 0);
	assert_ok(fcntl(u->dev.fd, F_SETFL, O_RDWR | O_NONBLOCK));
	assert_true(read(u->dev.fd, &message, sizeof(message)) < 0);
	expect_alive(u);
}

struct flipper {
	volatile unsigned int num;
	volatile int stop;
};

static void *flip(void *arg)
{
	struct flipper *f = arg;

	while (!f->stop)
		f->num = f->num == 4 ? 1024 : 4;
	return NULL;
}

/*
 * Bug 2: VRING_NUM was read from user memory a second time after it was
 * checked, and the request array was sized by the first value. The device must
 * use the size that it has checked, whichever it was.
 */
static void ring_size_is_read_once(void **state)
{
	struct {
		unsigned int index;
		struct flipper f;
	} argument = { .f.num = 4 };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	pthread_t thread;
	int i;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 1024);
	assert_int_equal(pthread_create(&thread, NULL, flip, &argument.f), 0);
	for (i = 0; i < 20; i++) {
		assert_ok(vq_restart(vq, 0));
		assert_ok(ioctl(u->dev.fd, VHOST_SET_VRING_NUM, &argument));
		unit_attach(u);
		/* Completed in a ring of 1024, an error in one of 4: nothing else. */
		blk_request_prepare(&u->req, VIRTIO_BLK_T_FLUSH, 0);
		vq->desc[900].addr = guest_address(&u->mem, u->req.header);
		vq->desc[900].len = sizeof(*u->req.header);
		vq->desc[900].flags = VRING_DESC_F_NEXT;
		vq->desc[900].next = 901;
		vq->desc[901].addr = guest_address(&u->mem, u->req.status);
		vq->desc[901].len = 1;
		vq->desc[901].flags = VRING_DESC_F_WRITE;
		vq_push(vq, 900);
		vq_publish(vq);
		vq_kick(vq);
		WAIT_UNTIL(vq_used_idx(vq) || !event_wait(vq->err, 0));
		unit_detach(u);
	}
	argument.f.stop = 1;
	pthread_join(thread, NULL);
	assert_ok(vq_restart(vq, 0));
	unit_attach(u);
	expect_alive(u);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(offers_the_documented_features),
		TEST(refuses_unknown_features),
		TEST(offers_one_backend_feature),
		TEST(needs_an_owner),
		TEST(has_one_owner),
		TEST(refuses_bad_descriptors),
		TEST(refuses_other_files),
		TEST(files_without_direct_io),
		TEST(files_of_proc_and_sys),
		TEST(attaches_one_backend),
		TEST(attaches_and_detaches_by_the_old_number),
		TEST(has_one_backend_for_all_rings),
		TEST(detaches_when_nothing_is_attached),
		TEST(attach_needs_a_ring),
		TEST(attach_needs_memory),
		TEST(attach_needs_a_usable_ring),
		TEST(attach_refuses_larger_rings),
		TEST(ring_sizes_are_checked),
		TEST(has_128_rings),
		TEST(ring_addresses_are_checked),
		TEST(running_rings_keep_size_and_base),
		TEST(ring_events_need_eventfds),
		TEST(unknown_ioctls_are_refused),
		TEST(bad_pointers_are_refused),
		TEST(serial_is_checked),
		TEST(write_cache_is_checked),
		TEST(discard_mode_is_checked),
		TEST(coalescing_is_checked),
		TEST(hand_back_is_checked),
		TEST(resuming_is_checked),
		TEST(listing_is_checked),
		TEST(memory_table_is_checked),
		TEST(features_can_be_set_again_after_detach),
		TEST(reset_releases_the_device),
		TEST(messages_are_refused_without_a_platform_iommu),
		TEST(ring_size_is_read_once),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
