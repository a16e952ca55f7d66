// SPDX-License-Identifier: GPL-2.0
/* Rights: an owner without privileges, other processes with its device, and read-only disks. */
#define _GNU_SOURCE
#include "unit.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define DISK_SIZE	(4 * MIB)
#define NOBODY		65534

static void become_nobody(void)
{
	unsigned int cap;

	for (cap = 0; cap <= CAP_LAST_CAP; cap++)
		child_check(!prctl(PR_CAPBSET_DROP, cap) || errno == EINVAL);
	child_check(!setgroups(0, NULL));
	child_check(!setresgid(NOBODY, NOBODY, NOBODY));
	child_check(!setresuid(NOBODY, NOBODY, NOBODY));
	child_check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	/* A change of user ids clears it. */
	child_check(!prctl(PR_SET_PDEATHSIG, SIGKILL));
	child_check(open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC) == -1 && errno == EACCES);
}

static void child_io(struct unit *u, uint32_t type, void *buf, uint32_t len)
{
	struct vq_segment data = { 0 };

	if (len)
		data = (struct vq_segment){ guest_address(&u->mem, buf), len };
	child_check(blk_add(&u->req, type, 0, &data, len ? 1 : 0) >= 0);
	vq_submit(u->req.vq);
	child_check(blk_wait(&u->req, TIMEOUT_MS) == VIRTIO_BLK_S_OK);
}

static void set_everything(struct unit *u)
{
	struct vhost_blk_serial serial = { .serial = "serial" };
	struct vhost_blk_pin_limit pins = { .bytes = MIB };
	struct vhost_blk_write_cache cache = { .mode = VHOST_BLK_WRITE_THROUGH };
	struct vhost_vring_state busy = { .num = 32 };
	struct vhost_blk_limits limits = { .fd = u->disk };
	struct vhost_blk_coalesce coalesce = { .max_us = 50 };
	struct vhost_blk_hand_back hand_back = { .fd = -1 };

	child_check(!ioctl(u->dev.fd, VHOST_BLK_SET_SERIAL, &serial));
	child_check(!ioctl(u->dev.fd, VHOST_BLK_SET_PIN_LIMIT, &pins));
	child_check(!ioctl(u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &cache));
	child_check(!ioctl(u->dev.fd, VHOST_BLK_SET_COALESCE, &coalesce));
	child_check(!ioctl(u->dev.fd, VHOST_BLK_SET_HAND_BACK, &hand_back));
	child_check(!ioctl(u->dev.fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &busy));
	child_check(!ioctl(u->dev.fd, VHOST_BLK_GET_LIMITS, &limits));
}

/* Switch dirty logging on and off, as a cancelled migration does. */
static void migrate(struct unit *u)
{
	uint64_t log = (uintptr_t)calloc(1, (GUEST_GPA + GUEST_SIZE) / PAGE / 8 + 8);
	uint64_t features = u->dev.features | BIT64(VHOST_F_LOG_ALL);

	child_check(log);
	child_check(!ioctl(u->dev.fd, VHOST_SET_LOG_BASE, &log));
	child_check(!ioctl(u->dev.fd, VHOST_SET_FEATURES, &features));
	features = u->dev.features;
	child_check(!ioctl(u->dev.fd, VHOST_SET_FEATURES, &features));
}

/* Check that the owner can place its threads, and has no control of kernel threads. */
static void expect_control_of(pid_t worker)
{
	char path[64];
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	child_check(ptrace(PTRACE_ATTACH, worker, NULL, NULL) == -1 && errno == EPERM);
	if (workers_are_threads()) {
		child_check(!sched_setaffinity(worker, sizeof(cpu), &cpu));
		child_check(!setpriority(PRIO_PROCESS, worker, 10));
		return;
	}
	child_check(kill(worker, SIGKILL) && errno == EPERM);
	child_check(syscall(SYS_kcmp, getpid(), worker, KCMP_VM, 0, 0) == -1 && errno == EPERM);
	child_check(sched_setaffinity(worker, sizeof(cpu), &cpu) && errno == EPERM);
	child_check(setpriority(PRIO_PROCESS, worker, 10) && errno == EPERM);
	snprintf(path, sizeof(path), "/proc/%d/mem", worker);
	child_check(open(path, O_RDONLY | O_CLOEXEC) == -1 && errno == EACCES);
}

static void needs_no_privilege(void **state)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB, .discard = true };
	struct unit *u = *state;
	pid_t pid;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, PAGE, 1);
	pid = child_fork();
	if (!pid) {
		struct virtio_blk_discard_write_zeroes *zeroes;
		struct vhost_blk_stats stats = { 0 };
		char *buf = unit_alloc(u, PAGE);
		pid_t worker;

		/* A privileged process opens the device. */
		u->dev.mem = &u->mem;
		u->dev.features = RANGE_FEATURES;
		u->dev.fd = open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC);
		child_check(u->dev.fd >= 0);
		become_nobody();
		child_check(open(u->path, O_RDONLY | O_CLOEXEC) == -1 && errno == EACCES);

		child_check(!vhost_blk_setup(&u->dev));
		set_everything(u);
		child_check(!vq_setup(&u->vq[0], &u->dev, 0, 16));
		child_check(!blk_request_init(&u->req, &u->vq[0], 3));
		child_check(!vhost_blk_attach(&u->dev, u->disk));
		worker = worker_find(getpid(), 's', 0);
		expect_control_of(worker);

		child_io(u, VIRTIO_BLK_T_IN, buf, PAGE);
		child_check(pattern_differs(buf, PAGE, 0, 1) < 0);
		child_io(u, VIRTIO_BLK_T_OUT, buf, PAGE);
		child_io(u, VIRTIO_BLK_T_FLUSH, NULL, 0);
		child_io(u, VIRTIO_BLK_T_GET_ID, buf, VIRTIO_BLK_ID_BYTES);
		child_check(!strcmp(buf, "serial"));
		expect_control_of(worker);
		zeroes = guest_alloc(&u->mem, 0, sizeof(*zeroes), 16);
		zeroes->num_sectors = 8;
		child_io(u, VIRTIO_BLK_T_WRITE_ZEROES, zeroes, sizeof(*zeroes));
		child_io(u, VIRTIO_BLK_T_DISCARD, zeroes, sizeof(*zeroes));
		migrate(u);
		child_check(!ioctl(u->dev.fd, VHOST_BLK_GET_STATS, &stats));
		child_check(stats.type[VHOST_BLK_STATS_READ].requests == 1 && stats.pin_misses);
		child_check(!vhost_blk_detach(&u->dev));
		child_check(!vhost_blk_attach(&u->dev, u->disk));
		child_io(u, VIRTIO_BLK_T_IN, buf, PAGE);
		child_check(!ioctl(u->dev.fd, VHOST_RESET_OWNER));
		_exit(0);
	}
	assert_int_equal(child_wait(pid), 0);
	expect_workers(pid, 0);
}

/* Make all calls with the device of another owner. */
static void try_everything(int fd)
{
	static const struct { unsigned long call; int err; } all[] = {
		{ VHOST_SET_OWNER, EBUSY },
		{ VHOST_RESET_OWNER, EPERM },
		{ VHOST_SET_FEATURES, EPERM },
		{ VHOST_SET_BACKEND_FEATURES, EPERM },
		{ VHOST_SET_MEM_TABLE, EPERM },
		{ VHOST_SET_LOG_BASE, EPERM },
		{ VHOST_SET_LOG_FD, EPERM },
		{ VHOST_SET_VRING_NUM, EPERM },
		{ VHOST_SET_VRING_ADDR, EPERM },
		{ VHOST_SET_VRING_BASE, EPERM },
		{ VHOST_GET_VRING_BASE, EPERM },
		{ VHOST_SET_VRING_KICK, EPERM },
		{ VHOST_SET_VRING_CALL, EPERM },
		{ VHOST_SET_VRING_ERR, EPERM },
		{ VHOST_SET_VRING_BUSYLOOP_TIMEOUT, EPERM },
		{ VHOST_GET_VRING_BUSYLOOP_TIMEOUT, EPERM },
		{ VHOST_SET_VRING_ENDIAN, EPERM },
		{ VHOST_BLK_SET_BACKEND, EPERM },
		{ VHOST_BLK_SET_BACKEND_COMPAT, EPERM },
		{ VHOST_BLK_SET_SERIAL, EPERM },
		{ VHOST_BLK_SET_WRITE_CACHE, EPERM },
		{ VHOST_BLK_SET_DISCARD, EPERM },
		{ VHOST_BLK_QUIESCE, EPERM },
		{ VHOST_BLK_RESUME, EPERM },
		{ VHOST_BLK_SET_HAND_BACK, EPERM },
		{ VHOST_BLK_GET_UNANSWERED, EPERM },
		{ VHOST_BLK_SET_COALESCE, EPERM },
		{ VHOST_BLK_SET_PIN_LIMIT, EPERM },
		/* Calls that any process may make. */
		{ VHOST_GET_FEATURES, 0 },
		{ VHOST_GET_BACKEND_FEATURES, 0 },
		{ VHOST_BLK_GET_STATS, 0 },
	};
	struct vhost_msg message = { .type = VHOST_IOTLB_MSG };
	struct { char zeroes[4096]; } argument;
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(all); i++) {
		memset(&argument, 0, sizeof(argument));
		errno = 0;
		ret = ioctl(fd, all[i].call, &argument);
		if (ret != (all[i].err ? -1 : 0) || errno != all[i].err)
			fprintf(stderr, "call %#lx: %d, %s\n", all[i].call, ret, strerror(errno));
		child_check(errno == all[i].err);
	}
	message.iotlb.type = VHOST_IOTLB_INVALIDATE;
	child_check(write(fd, &message, sizeof(message)) == -1 && errno == EPERM);
	child_check(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
	child_check(read(fd, &message, sizeof(message)) == -1 && errno == EPERM);
	child_check(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
}

/* Run this program with --try-everything and the open device. */
static void exec_with(int fd)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", fd);
	child_check(!fcntl(fd, F_SETFD, 0));
	execl("/proc/self/exe", "rights", "--try-everything", text, NULL);
	child_check(!"exec");
}

static void others_may_only_read(void **state)
{
	struct unit *u = *state;
	pid_t pid;

	start_on_memfd(u, DISK_SIZE, 1, 16);
	pid = child_fork();
	if (!pid) {
		try_everything(u->dev.fd);
		_exit(0);
	}
	assert_int_equal(child_wait(pid), 0);
	expect_alive(u);
	pid = child_fork();
	if (!pid)
		exec_with(u->dev.fd);
	assert_int_equal(child_wait(pid), 0);
	expect_alive(u);
	unit_detach(u);
	unit_attach(u);
	expect_alive(u);
}

/* Ownership ends with the address space, at exec. */
static void exec_ends_ownership(void **state)
{
	struct unit *u = *state;
	pid_t pid;

	unit_memfd(u, DISK_SIZE);
	pid = child_fork();
	if (!pid) {
		child_check(!vhost_blk_open(&u->dev, &u->mem, FEATURES));
		child_check(!vq_setup(&u->vq[0], &u->dev, 0, 16));
		child_check(!vhost_blk_attach(&u->dev, u->disk));
		exec_with(u->dev.fd);
	}
	assert_int_equal(child_wait(pid), 0);
	expect_workers(pid, 0);
}

/* A child that outlives the owner does not become the owner. */
static void ownership_is_not_inherited(void **state)
{
	struct unit *u = *state;
	int owner[2], result[2];
	char byte = 1;
	pid_t pid;

	unit_memfd(u, DISK_SIZE);
	assert_ok(pipe(owner));
	assert_ok(pipe(result));
	pid = child_fork();
	if (!pid) {
		child_check(!vhost_blk_open(&u->dev, &u->mem, FEATURES));
		child_check(!vq_setup(&u->vq[0], &u->dev, 0, 16));
		child_check(!vhost_blk_attach(&u->dev, u->disk));
		if (!fork()) {
			close(owner[1]);
			/* The pipe is closed when the owner has exited. */
			child_check(read(owner[0], &byte, 1) == 0);
			try_everything(u->dev.fd);
			byte = 0;
			child_check(write(result[1], &byte, 1) == 1);
			_exit(0);
		}
		_exit(0);
	}
	close(owner[1]);
	close(result[1]);
	assert_int_equal(child_wait(pid), 0);
	assert_int_equal(read(result[0], &byte, 1), 1);
	assert_int_equal(byte, 0);
	expect_workers(pid, 0);
	close(owner[0]);
	close(result[0]);
}

static pid_t ask_for_features(struct unit *u)
{
	uint64_t features;
	pid_t pid = child_fork();

	if (!pid) {
		ioctl(u->dev.fd, VHOST_GET_FEATURES, &features);
		_exit(0);
	}
	return pid;
}

/* A process that waits while the owner detaches from a hanging disk can be killed. */
static void waiting_for_the_device_lock_is_killable(void **state)
{
	struct unit *u = *state;
	pid_t owner, other;
	char *buf;

	unit_suspendable(u, DISK_SIZE);
	u->dev.mem = &u->mem;
	u->dev.features = FEATURES;
	u->dev.fd = open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC);
	assert_ok(u->dev.fd);
	buf = unit_alloc(u, PAGE);
	unit_suspend(u, u->path);
	owner = child_fork();
	if (!owner) {
		struct vq_segment data = { guest_address(&u->mem, buf), PAGE };

		child_check(!vhost_blk_setup(&u->dev));
		child_check(!vq_setup(&u->vq[0], &u->dev, 0, 16));
		child_check(!blk_request_init(&u->req, &u->vq[0], 3));
		child_check(!vhost_blk_attach(&u->dev, u->disk));
		child_check(blk_add(&u->req, VIRTIO_BLK_T_IN, 0, &data, 1) >= 0);
		vq_submit(&u->vq[0]);
		child_check(wait_until(unit_stats(u, 0).inflight == 1, TIMEOUT_MS));
		_exit(vhost_blk_detach(&u->dev) ? 1 : 0);
	}
	expect_inflight(u, 0, 1);
	wait_for_sleep(owner, "vhost_blk_");
	other = ask_for_features(u);
	wait_for_sleep(other, "vhost_blk_");
	assert_ok(kill(other, SIGKILL));
	assert_int_equal(child_wait(other), 256 + SIGKILL);
	unit_resume(u);
	assert_int_equal(child_wait(owner), 0);
	assert_int_equal(child_wait(ask_for_features(u)), 0);
}

/* Submit a request that could write, with each kind of data. */
static void try_to_write(struct unit *u, uint8_t *buf, uint32_t type)
{
	memset(buf, 0xee, 2 * PAGE);
	assert_int_not_equal(unit_io(u, type, 8, buf, PAGE), VIRTIO_BLK_S_OK);
	/* Misaligned for direct I/O. */
	assert_int_not_equal(unit_io(u, type, 8, buf + 1, PAGE), VIRTIO_BLK_S_OK);
	assert_int_not_equal(unit_range(u, type, 8, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_not_equal(unit_range(u, type, 8, 8, 1), VIRTIO_BLK_S_OK);
}

static void try_all_types(struct unit *u, uint64_t features, unsigned int mode)
{
	struct vhost_blk_write_cache cache = { .mode = mode };
	int flags = *(const int *)u->param;
	uint8_t *buf = unit_alloc(u, 2 * PAGE);
	uint32_t type;
	int disk;

	assert_ok(ioctl(u->dev.fd, VHOST_SET_FEATURES, &features));
	disk = open(u->path, O_RDONLY | O_CLOEXEC | flags);
	assert_ok(disk);
	/* F_SETFL does not change the access mode. */
	assert_ok(fcntl(disk, F_SETFL, O_RDWR | O_APPEND | flags));
	assert_ok(vhost_blk_attach(&u->dev, disk));
	close(disk);
	assert_ok(ioctl(u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &cache));
	for (type = 0; type < 32; type++)
		if (type != VIRTIO_BLK_T_IN && type != VIRTIO_BLK_T_FLUSH &&
		    type != VIRTIO_BLK_T_GET_ID)
			try_to_write(u, buf, type);
	try_to_write(u, buf, VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_BARRIER);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	expect_alive(u);
	unit_detach(u);
}

static const int cached, direct = O_DIRECT;

/*
 * The disk was attached for writing before, and is still open for writing. The
 * access mode of the attached descriptor counts.
 */
static void read_only_stays_read_only(void **state)
{
	const uint64_t features[] = {
		FEATURES, RANGE_FEATURES, RANGE_FEATURES | BIT64(VIRTIO_BLK_F_RO),
	};
	struct unit *u = *state;
	int flags = *(const int *)u->param;
	int64_t written, discarded;
	unsigned int i;
	void *buf;

	assert_ok(backend_erasable(u->path, DISK_SIZE / MIB, 512));
	unit_disk(u, u->path, O_RDWR | flags);
	disk_fill(u->disk, 0, MIB, 1);
	unit_open(u, RANGE_FEATURES);
	unit_pin_limit(u, MIB);
	unit_vqs(u, 1, 16);
	unit_attach(u);
	buf = unit_alloc(u, PAGE);
	pattern_fill(buf, PAGE, 0, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, PAGE), VIRTIO_BLK_S_OK);
	unit_detach(u);
	assert_ok(fsync(u->disk));

	written = backend_stat(u->path, 4);
	discarded = backend_stat(u->path, 11);
	for (i = 0; i < 2 * ARRAY_SIZE(features); i++)
		try_all_types(u, features[i / 2], i % 2);
	assert_int_equal(backend_stat(u->path, 4), written);
	assert_int_equal(backend_stat(u->path, 11), discarded);
	expect_disk(u->disk, 0, MIB, 1);
}

/* RLIMIT_FSIZE of the owner applies, as for its own writes. */
static void file_size_limit_of_the_owner_holds(void **state)
{
	struct rlimit before, now;
	struct unit *u = *state;
	void *buf;

	unit_memfd(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_open(u, RANGE_FEATURES);
	unit_vqs(u, 1, 16);
	assert_ok(getrlimit(RLIMIT_FSIZE, &before));
	now = before;
	now.rlim_cur = MIB;
	assert_ok(setrlimit(RLIMIT_FSIZE, &now));
	unit_attach(u);
	assert_ok(setrlimit(RLIMIT_FSIZE, &before));

	buf = unit_alloc(u, PAGE);
	pattern_fill(buf, PAGE, MIB - PAGE, 1);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, MIB / SECTOR_SIZE - 8, buf, PAGE),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, MIB / SECTOR_SIZE - 7, buf, PAGE),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_range(u, VIRTIO_BLK_T_WRITE_ZEROES, MIB / SECTOR_SIZE, 8, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, MIB / SECTOR_SIZE, buf, PAGE),
			 VIRTIO_BLK_S_OK);
	expect_disk(u->disk, 0, DISK_SIZE, 1);
	unit_detach(u);
	unit_attach(u);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, MIB / SECTOR_SIZE, buf, PAGE),
			 VIRTIO_BLK_S_OK);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST(needs_no_privilege),
		TEST(others_may_only_read),
		TEST(exec_ends_ownership),
		TEST(ownership_is_not_inherited),
		TEST(waiting_for_the_device_lock_is_killable),
		TEST_ON(read_only_stays_read_only, cached),
		TEST_ON(read_only_stays_read_only, direct),
		TEST(file_size_limit_of_the_owner_holds),
	};

	if (argc == 3 && !strcmp(argv[1], "--try-everything")) {
		try_everything(atoi(argv[2]));
		return 0;
	}
	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
