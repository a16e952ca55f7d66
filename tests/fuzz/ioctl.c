// SPDX-License-Identifier: GPL-2.0
/*
 * All calls of /dev/vhost-blk with valid, nearly valid and invalid arguments, in
 * any order, by several threads and processes, during I/O. Each call returns in
 * bounded time with an errno that the documents name for it, a second device
 * keeps working, and no worker or reference is left.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blk.h"
#include "second_device.h"
#include "disk.h"
#include "fuzz.h"

#define DEVICES		3
#define THREADS_MAX	4
#define STEPS_MAX	24
#define QUEUES		3	/* in use, of 128 */
#define RING		16
#define REQUESTS_MAX	(RING / 3)	/* in flight, of three descriptors each */
#define DATA_SIZE	(512 * 1024UL)
#define ARENA_SIZE	(1024 * 1024UL)
#define GUARD_SIZE	65536UL		/* more than rings and log can exceed the arena by */
#define GPA		0x10000ULL
#define FEATURES	((1ULL << VIRTIO_F_VERSION_1) | (1ULL << VIRTIO_BLK_F_DISCARD) | \
			 (1ULL << VIRTIO_BLK_F_WRITE_ZEROES))

enum count { CALLS, REFUSED, ATTACHES, REQUESTS, FORKS, REUSED };

static const char *const count_names[] = {
	"calls", "refused", "attaches", "requests", "forks", "devices used again", NULL
};

struct queue {
	pthread_mutex_t lock;	/* protects vq and request, not the rings */
	struct vq vq;
	struct blk_request request[REQUESTS_MAX];
};

/* The driver of a device, which threads and processes share. */
struct driver {
	struct vhost_blk dev;
	struct queue queue[QUEUES];
};

static struct second_device second_device;
static struct driver driver[DEVICES];
/* Descriptors of the devices. They keep their numbers when another file replaces the device. */
static int device[DEVICES];
static int event;
/* The only memory whose addresses devices get, so that they write no other. */
static struct guest_memory mem;
static char *arena, *data;
/* Descriptors of other files. */
static int files[16];
static unsigned int nr_files;
static struct disk *disks[3];

union argument {
	uint64_t number;
	int fd;
	struct vhost_vring_file file;
	struct vhost_vring_state state;
	struct vhost_vring_addr addr;
	struct vhost_blk_serial serial;
	struct vhost_blk_stats stats;
	struct vhost_blk_write_cache cache;
	struct vhost_blk_pin_limit limit;
	struct vhost_blk_limits limits;
	struct vhost_blk_resume resume;
	struct vhost_blk_hand_back hand_back;
	struct vhost_blk_unanswered unanswered;
	struct vhost_blk_coalesce coalesce;
	struct vhost_blk_discard discard;
	struct {
		struct vhost_memory table;
		struct vhost_memory_region region[80];
	} memory;
	char bytes[4096];
};

/* A thread that makes calls. */
struct actor {
	struct dice dice;
	pthread_t thread;
	unsigned int steps;
};

static uint32_t any_index(struct dice *d)
{
	static const uint32_t odd[] = { 3, 64, 127, 128, 129, 0x7fffffff, 0x80000000, 0xffffffff };

	return chance(d, 85) ? roll(d, QUEUES) : pick(d, odd);
}

static uint32_t any_number(struct dice *d)
{
	static const uint32_t odd[] = {
		0, 1, 2, 3, 15, 17, 256, 1023, 1024, 1025, 2048, 32768, 65535, 65536, 0x80000000,
		0xffffffff,
	};

	return chance(d, 40) ? RING : pick(d, odd);
}

static int any_file(struct dice *d)
{
	if (chance(d, 50))
		return pick(d, disks)->fd;
	if (chance(d, 10))
		return chance(d, 50) ? -1 : chance(d, 50) ? -2 : 99999;
	if (chance(d, 10))
		return device[roll(d, DEVICES)];
	return files[roll(d, nr_files)];
}

static int any_event(struct dice *d)
{
	const struct queue *q;

	if (chance(d, 60)) {
		if (!chance(d, 50))
			return event;
		q = &driver[roll(d, DEVICES)].queue[roll(d, QUEUES)];
		return q->vq.kick;
	}
	return chance(d, 30) ? VHOST_FILE_UNBIND : any_file(d);
}

/* Return an address in the arena, or one that no process may access. */
static uint64_t any_address(struct dice *d)
{
	static const uint64_t odd[] = {
		0, 0x1000, 0x7ffffffff000, 0x800000000000, 0xffff800000000000, 0xffffffff81000000,
		0xfffffffffffff000, UINT64_MAX, 1ULL << 63,
	};

	if (chance(d, 15))
		return pick(d, odd);
	return (uintptr_t)arena + (chance(d, 80) ? roll(d, ARENA_SIZE / 4096) * 4096 :
						   roll(d, ARENA_SIZE));
}

/* Return an address whose bit in the dirty log is in the arena, or too large for any log. */
static uint64_t any_gpa(struct dice *d)
{
	if (chance(d, 10))
		return -(roll(d, 64) * 4096);
	return chance(d, 60) ? GPA : roll(d, 4096) * 4096 + (chance(d, 10) ? 1 : 0);
}

static uint64_t any_features(struct dice *d)
{
	if (chance(d, 60))
		return FEATURES | (chance(d, 50) ? 1ULL << VHOST_F_LOG_ALL : 0);
	if (chance(d, 40))
		return FEATURES | 1ULL << VIRTIO_F_ACCESS_PLATFORM;
	return chance(d, 50) ? 1ULL << roll(d, 64) : random_next(&d->state);
}

static void make_features(struct dice *d, union argument *a)
{
	a->number = any_features(d);
}

static void make_backend_features(struct dice *d, union argument *a)
{
	a->number = chance(d, 70) ? roll(d, 4) : random_next(&d->state);
}

static void make_nothing(struct dice *d, union argument *a)
{
	a->number = random_next(&d->state);
}

static void make_memory(struct dice *d, union argument *a)
{
	struct vhost_memory *table = &a->memory.table;
	unsigned int i;

	table->nregions = chance(d, 80) ? 1 + roll(d, 3) : chance(d, 90) ? roll(d, 80) : UINT32_MAX;
	table->padding = chance(d, 98) ? 0 : 1;
	for (i = 0; i < table->nregions && i < 80; i++) {
		struct vhost_memory_region *r = &a->memory.region[i];

		r->flags_padding = 0;
		r->guest_phys_addr = any_gpa(d);
		r->userspace_addr = any_address(d);
		r->memory_size = roll(d, 65) * 4096;
		if (chance(d, 60)) {
			r->userspace_addr = (uintptr_t)arena;
			r->memory_size = ARENA_SIZE;
		} else if (r->userspace_addr - (uintptr_t)arena < ARENA_SIZE &&
			   r->userspace_addr + r->memory_size > (uintptr_t)arena + ARENA_SIZE) {
			r->memory_size = (uintptr_t)arena + ARENA_SIZE - r->userspace_addr;
		}
	}
}

static void make_log_base(struct dice *d, union argument *a)
{
	a->number = any_address(d);
}

static void make_log_fd(struct dice *d, union argument *a)
{
	a->fd = any_event(d);
}

static void make_state(struct dice *d, union argument *a)
{
	a->state.index = any_index(d);
	a->state.num = any_number(d);
}

static void make_event(struct dice *d, union argument *a)
{
	a->file.index = any_index(d);
	a->file.fd = any_event(d);
}

static void make_addr(struct dice *d, union argument *a)
{
	const struct vq *vq = &driver[roll(d, DEVICES)].queue[roll(d, QUEUES)].vq;

	a->addr.index = any_index(d);
	a->addr.flags = chance(d, 95) ? roll(d, 2) : random_next(&d->state);
	a->addr.log_guest_addr = any_gpa(d);
	a->addr.desc_user_addr = (uintptr_t)vq->desc;
	a->addr.avail_user_addr = (uintptr_t)vq->avail;
	a->addr.used_user_addr = (uintptr_t)vq->used;
	if (chance(d, 20))
		a->addr.desc_user_addr = any_address(d);
	if (chance(d, 20))
		a->addr.avail_user_addr = any_address(d);
	if (chance(d, 20))
		a->addr.used_user_addr = any_address(d);
}

static void make_backend(struct dice *d, union argument *a)
{
	a->file.index = chance(d, 97) ? 0 : any_index(d);
	a->file.fd = chance(d, 40) ? VHOST_FILE_UNBIND : any_file(d);
}

static uint32_t reserved(struct dice *d)
{
	return chance(d, 95) ? 0 : 1 + roll(d, 1000);
}

static void make_serial(struct dice *d, union argument *a)
{
	memset(&a->serial, roll(d, 256), sizeof(a->serial));
	a->serial.reserved = reserved(d);
}

static void make_stats(struct dice *d, union argument *a)
{
	a->stats.index = any_index(d);
	a->stats.reserved = reserved(d);
}

static void make_cache(struct dice *d, union argument *a)
{
	a->cache.mode = chance(d, 90) ? roll(d, 2) : any_number(d);
	a->cache.flags = chance(d, 90) ? roll(d, 2) : any_number(d);
}

static void make_limit(struct dice *d, union argument *a)
{
	a->limit.bytes = chance(d, 90) ? roll(d, 64) * 4096 : random_next(&d->state) >> roll(d, 64);
	a->limit.reserved = reserved(d);
}

static void make_limits(struct dice *d, union argument *a)
{
	a->limits.fd = any_file(d);
	a->limits.reserved = reserved(d);
}

static void make_resume(struct dice *d, union argument *a)
{
	a->resume.flags = chance(d, 95) ? roll(d, 2) : any_number(d);
	a->resume.reserved = reserved(d);
}

static void make_hand_back(struct dice *d, union argument *a)
{
	a->hand_back.fd = any_event(d);
	a->hand_back.reserved = reserved(d);
}

static void make_unanswered(struct dice *d, union argument *a)
{
	a->unanswered.index = any_index(d);
	a->unanswered.nr = chance(d, 80) ? roll(d, RING + 1) : any_number(d);
	a->unanswered.heads = any_address(d);
}

static void make_coalesce(struct dice *d, union argument *a)
{
	a->coalesce.max_us = chance(d, 90) ? roll(d, 1001) : any_number(d);
	a->coalesce.reserved = reserved(d);
}

static void make_discard(struct dice *d, union argument *a)
{
	a->discard.mode = chance(d, 90) ? roll(d, 2) : any_number(d);
	a->discard.reserved = reserved(d);
}

/* The errors that a call may return. All may return EFAULT. */
struct call {
	const char *name;
	unsigned long number;
	void (*make)(struct dice *d, union argument *a);
	int errors[9];
};

#define CALL(number, make, ...)	{ #number, number, make, { __VA_ARGS__ } }

static const struct call calls[] = {
	CALL(VHOST_GET_FEATURES, make_nothing, 0),
	CALL(VHOST_SET_FEATURES, make_features, EPERM, EOPNOTSUPP, EBUSY),
	CALL(VHOST_GET_BACKEND_FEATURES, make_nothing, 0),
	CALL(VHOST_SET_BACKEND_FEATURES, make_backend_features, EPERM, EOPNOTSUPP),
	CALL(VHOST_SET_OWNER, make_nothing, EBUSY),
	CALL(VHOST_RESET_OWNER, make_nothing, EPERM),
	CALL(VHOST_SET_MEM_TABLE, make_memory, EPERM, EOPNOTSUPP, E2BIG),
	CALL(VHOST_SET_LOG_BASE, make_log_base, EPERM),
	CALL(VHOST_SET_LOG_FD, make_log_fd, EPERM, EBADF, EINVAL),
	CALL(VHOST_SET_VRING_NUM, make_state, EPERM, ENOBUFS, EBUSY, EINVAL),
	CALL(VHOST_SET_VRING_BASE, make_state, EPERM, ENOBUFS, EBUSY, EINVAL),
	CALL(VHOST_GET_VRING_BASE, make_state, EPERM, ENOBUFS),
	CALL(VHOST_SET_VRING_ADDR, make_addr, EPERM, ENOBUFS, EOPNOTSUPP, EINVAL),
	CALL(VHOST_SET_VRING_KICK, make_event, EPERM, ENOBUFS, EBADF, EINVAL),
	CALL(VHOST_SET_VRING_CALL, make_event, EPERM, ENOBUFS, EBADF, EINVAL),
	CALL(VHOST_SET_VRING_ERR, make_event, EPERM, ENOBUFS, EBADF, EINVAL),
	CALL(VHOST_SET_VRING_ENDIAN, make_state, EPERM, ENOBUFS, EBUSY, EINVAL),
	CALL(VHOST_GET_VRING_ENDIAN, make_state, EPERM, ENOBUFS),
	CALL(VHOST_SET_VRING_BUSYLOOP_TIMEOUT, make_state, EPERM, ENOBUFS),
	CALL(VHOST_GET_VRING_BUSYLOOP_TIMEOUT, make_state, EPERM, ENOBUFS),
	CALL(VHOST_BLK_SET_BACKEND, make_backend, EPERM, ENOBUFS, EBADF, EINVAL, EBUSY),
	CALL(VHOST_BLK_SET_BACKEND, make_backend, EPERM, ENOBUFS, EBADF, EINVAL, EBUSY),
	CALL(VHOST_BLK_SET_BACKEND_COMPAT, make_backend, EPERM, ENOBUFS, EBADF, EINVAL, EBUSY),
	CALL(VHOST_BLK_SET_SERIAL, make_serial, EPERM, EINVAL, EBUSY),
	CALL(VHOST_BLK_GET_STATS, make_stats, EINVAL, ENOBUFS),
	CALL(VHOST_BLK_SET_WRITE_CACHE, make_cache, EPERM, EINVAL),
	CALL(VHOST_BLK_SET_PIN_LIMIT, make_limit, EPERM, EINVAL, EBUSY),
	CALL(VHOST_BLK_GET_LIMITS, make_limits, EBADF, EINVAL),
	CALL(VHOST_BLK_QUIESCE, make_nothing, EPERM, EINVAL),
	CALL(VHOST_BLK_RESUME, make_resume, EPERM, EINVAL),
	CALL(VHOST_BLK_SET_HAND_BACK, make_hand_back, EPERM, EINVAL, EBADF, EBUSY),
	CALL(VHOST_BLK_GET_UNANSWERED, make_unanswered, EPERM, ENOBUFS, EBUSY),
	CALL(VHOST_BLK_SET_COALESCE, make_coalesce, EPERM, EINVAL),
	CALL(VHOST_BLK_SET_DISCARD, make_discard, EPERM, EINVAL),
	{ "an unknown call", _IOW(VHOST_VIRTIO, 0xcc, int), make_state, { EPERM, ENOBUFS } },
	/* A call of devices that use the vhost core's workers. */
	{ "VHOST_NEW_WORKER", _IOR(VHOST_VIRTIO, 0x8, int), make_state, { EPERM, ENOBUFS } },
};

static bool is_named(const struct call *call, int err)
{
	unsigned int i;

	/* Bad addresses, unknown calls, and descriptors of other files. */
	if (err == EFAULT || err == ENOTTY)
		return true;
	for (i = 0; i < ARRAY_SIZE(call->errors); i++)
		if (call->errors[i] == err)
			return true;
	return false;
}

static int do_call(const struct call *call, int fd, void *arg)
{
	int64_t begin = now_ms();
	int err = ioctl(fd, call->number, arg) < 0 ? errno : 0;

	if (now_ms() - begin > BOUND_MS)
		fuzz_fail("%s took %" PRId64 " ms", call->name, now_ms() - begin);
	if (err && !is_named(call, err))
		fuzz_fail("%s: %s", call->name, strerror(err));
	fuzz_count(CALLS, 1);
	if (err)
		fuzz_count(REFUSED, 1);
	else if (call->number == VHOST_BLK_SET_BACKEND)
		fuzz_count(ATTACHES, ((struct vhost_vring_file *)arg)->fd >= 0);
	return err;
}

static void any_call(struct dice *d, int fd)
{
	const struct call *call = &pick(d, calls);
	union argument a;

	memset(&a, 0, sizeof(a));
	call->make(d, &a);
	do_call(call, fd, chance(d, 96) ? (void *)&a : (void *)(uintptr_t)any_address(d));
}

static const struct call *call_of(unsigned long number)
{
	const struct call *call = calls;

	while (call->number != number)
		call++;
	return call;
}

/* Make a call for the driver. It ignores errors, which other threads and processes cause. */
static int call_for_driver(struct vhost_blk *dev, unsigned long number, void *arg)
{
	do_call(call_of(number), dev->fd, arg);
	return 0;
}

static void forget_requests(struct queue *q)
{
	unsigned int i;

	for (i = 0; i < REQUESTS_MAX; i++)
		q->request[i].done = true;
}

/* Make all calls that a device needs, in order. Other threads may interfere. */
static void set_up(struct dice *d, struct driver *driver)
{
	struct vhost_vring_file file = { 0 };
	unsigned int i;

	vhost_blk_setup(&driver->dev);
	for (i = 0; i < QUEUES; i++) {
		struct queue *q = &driver->queue[i];

		pthread_mutex_lock(&q->lock);
		vq_restart(&q->vq, q->vq.avail_idx);
		forget_requests(q);
		pthread_mutex_unlock(&q->lock);
	}
	file.fd = disks[roll(d, 3)]->fd;
	do_call(call_of(VHOST_BLK_SET_BACKEND), driver->dev.fd, &file);
}

static void add_request(struct dice *d, struct queue *q)
{
	struct vq_segment segment;
	uint64_t sector;
	uint32_t type;
	unsigned int i;

	segment.addr = guest_address(&mem, data) + SECTOR_SIZE * roll(d, 800);
	segment.len = SECTOR_SIZE * roll(d, 64);
	type = chance(d, 50) ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	sector = roll(d, 4000);
	if (chance(d, 5))
		type = roll(d, 15);
	for (i = 0; i < REQUESTS_MAX && !q->request[i].done; i++)
		;
	if (i < REQUESTS_MAX && blk_add(&q->request[i], type, sector, &segment, 1) >= 0)
		fuzz_count(REQUESTS, 1);
}

/* Make requests available, whether a backend is attached or not. */
static void submit(struct dice *d, struct queue *q)
{
	unsigned int nr = 1 + roll(d, 3);
	int ret;

	pthread_mutex_lock(&q->lock);
	/* Another device may have written this used ring, so bad ids are ignored. */
	blk_reap(&q->vq);
	while (nr--)
		add_request(d, q);
	vq_publish(&q->vq);
	pthread_mutex_unlock(&q->lock);
	ret = vq_kick(&q->vq);
	if (ret && ret != -EAGAIN)
		fuzz_fail("kick: %s", strerror(-ret));
}

static void any_message(struct dice *d, int fd)
{
	struct vhost_msg_v2 msg = {
		.type = chance(d, 95) ? (int)roll(d, 3) : (int)any_number(d),
		.iotlb = {
			.iova = any_gpa(d), .size = roll(d, 65) * 4096, .uaddr = any_address(d),
			.perm = chance(d, 90) ? 1 + roll(d, 3) : roll(d, 256),
			.type = chance(d, 95) ? roll(d, 6) : roll(d, 256),
		},
	};
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	size_t size = chance(d, 90) ? sizeof(struct vhost_msg) : roll(d, sizeof(msg));
	ssize_t ret;

	if (msg.iotlb.uaddr - (uintptr_t)arena < ARENA_SIZE &&
	    msg.iotlb.uaddr + msg.iotlb.size > (uintptr_t)arena + ARENA_SIZE)
		msg.iotlb.size = (uintptr_t)arena + ARENA_SIZE - msg.iotlb.uaddr;
	ret = chance(d, 50) ? write(fd, &msg, size) : read(fd, &msg, size);
	if (ret < 0 && errno != EFAULT && errno != EINVAL && errno != EAGAIN && errno != EPERM)
		fuzz_fail("a message: %s", strerror(errno));
	poll(&pfd, 1, 0);
}

/* Close the device and open a new one, or another file, under its number. */
static void replace(struct dice *d, unsigned int dev)
{
	int fd = chance(d, 90) ? fuzz_device() : open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0 || dup2(fd, device[dev]) < 0)
		fuzz_fail("open: %s", strerror(errno));
	close(fd);
}

/* Use a descriptor that was passed through a socket. */
static void pass(struct dice *d, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int pair[2], got;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		fuzz_fail("socketpair: %s", strerror(errno));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(pair[0], &msg, 0) != 1)
		fuzz_fail("sendmsg: %s", strerror(errno));
	/* Sometimes it is never received. */
	if (chance(d, 70) && recvmsg(pair[1], &msg, MSG_CMSG_CLOEXEC) == 1) {
		memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(got));
		any_call(d, got);
		close(got);
	}
	close(pair[0]);
	close(pair[1]);
}

/* Use the inherited devices, and a new one that SIGKILL may close. */
static void be_child(struct dice *d)
{
	struct driver *own = &driver[roll(d, DEVICES)];
	unsigned int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	own->dev.fd = fuzz_device();
	if (chance(d, 80))
		set_up(d, own);
	for (i = roll(d, 10); i; i--) {
		submit(d, &own->queue[roll(d, QUEUES)]);
		any_call(d, chance(d, 50) ? own->dev.fd : pick(d, device));
	}
	if (chance(d, 50))
		pause();
	_exit(0);
}

/* Lock all queues, so that a child inherits a consistent state. */
static void lock_drivers(void)
{
	unsigned int i, k;

	for (i = 0; i < DEVICES; i++)
		for (k = 0; k < QUEUES; k++)
			pthread_mutex_lock(&driver[i].queue[k].lock);
}

static void unlock_drivers(void)
{
	unsigned int i, k;

	for (i = 0; i < DEVICES; i++)
		for (k = 0; k < QUEUES; k++)
			pthread_mutex_unlock(&driver[i].queue[k].lock);
}

static void fork_child(struct dice *d)
{
	struct dice young = dice_of(random_next(&d->state));
	unsigned int us = roll(d, 8000);
	int status;
	pid_t pid;

	lock_drivers();
	pid = fork();
	unlock_drivers();
	if (pid < 0)
		fuzz_fail("fork: %s", strerror(errno));
	if (!pid)
		be_child(&young);
	fuzz_count(FORKS, 1);
	usleep(us);
	kill(pid, SIGKILL);
	if (!wait_until(waitpid(pid, &status, WNOHANG), BOUND_MS))
		fuzz_fail("a killed child does not exit");
	if (WIFEXITED(status) && WEXITSTATUS(status))
		_exit(1);
}

static void change_memory(struct dice *d)
{
	char *page = arena + 4096 * roll(d, ARENA_SIZE / 4096);
	size_t len = 4096 * (1 + roll(d, 4));

	if (page + len <= arena + ARENA_SIZE)
		madvise(page, len, chance(d, 50) ? MADV_DONTNEED : MADV_REMOVE);
}

static void do_step(struct dice *d)
{
	unsigned int dev = roll(d, DEVICES), r = roll(d, 100);
	int fd = device[dev];

	if (r < 50) {
		any_call(d, fd);
	} else if (r < 62) {
		set_up(d, &driver[dev]);
	} else if (r < 80) {
		submit(d, &driver[dev].queue[roll(d, QUEUES)]);
	} else if (r < 86) {
		any_message(d, fd);
	} else if (r < 90) {
		replace(d, dev);
	} else if (r < 93) {
		int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

		any_call(d, copy);
		close(copy);
	} else if (r < 95) {
		pass(d, fd);
	} else if (r < 97) {
		change_memory(d);
	} else if (r < 98) {
		fork_child(d);
	} else {
		usleep(roll(d, 1000));
	}
}

static void *act(void *arg)
{
	struct actor *actor = arg;

	while (actor->steps--)
		do_step(&actor->dice);
	return NULL;
}

/* Check that a device works like a new one after VHOST_RESET_OWNER. */
static void reuse(struct dice *d, int fd)
{
	static struct second_device next;

	if (ioctl(fd, VHOST_RESET_OWNER)) {
		/* The owner is a child, or there is none. */
		if (errno != EPERM && errno != ENOTTY)
			fuzz_fail("RESET_OWNER: %s", strerror(errno));
		if (ioctl(fd, VHOST_SET_OWNER))
			return;
		if (ioctl(fd, VHOST_RESET_OWNER))
			fuzz_fail("RESET_OWNER by the owner: %s", strerror(errno));
	}
	second_device_start(&next, fd);
	second_device_verify(&next, d);
	second_device_stop(&next);
	fuzz_count(REUSED, 1);
}

static void run(uint64_t seed)
{
	struct actor actor[THREADS_MAX];
	struct dice d = dice_of(seed);
	unsigned int i, nr = 1 + roll(&d, THREADS_MAX);

	for (i = 0; i < nr; i++) {
		actor[i].dice = dice_of(random_next(&d.state));
		actor[i].steps = 1 + roll(&d, STEPS_MAX);
	}
	for (i = 1; i < nr; i++)
		if (pthread_create(&actor[i].thread, NULL, act, &actor[i]))
			fuzz_fail("no thread");
	act(&actor[0]);
	for (i = 1; i < nr; i++)
		pthread_join(actor[i].thread, NULL);
	second_device_verify(&second_device, &d);
	if (chance(&d, 20))
		reuse(&d, pick(&d, device));
}

static void prepare(uint64_t session)
{
	(void)session;
	/* A file, direct I/O, and a device behind the page cache. */
	disks[0] = disk_get(0);
	disks[1] = disk_get(2);
	disks[2] = disk_get(5);
}

static void add_file(int fd)
{
	if (fd < 0)
		fuzz_fail("file: %s", strerror(errno));
	files[nr_files++] = fd;
}

/* Accesses beyond the arena fault in the guard. */
static void add_memory(void)
{
	if (guest_memory_init(&mem) || guest_memory_add(&mem, GPA, ARENA_SIZE + GUARD_SIZE) < 0)
		fuzz_fail("memory: %s", strerror(errno));
	arena = mem.region[0].host;
	if (mprotect(arena + ARENA_SIZE, GUARD_SIZE, PROT_NONE))
		fuzz_fail("mprotect: %s", strerror(errno));
	data = guest_alloc(&mem, 0, DATA_SIZE, SECTOR_SIZE);
}

/* Allocate the rings. The device has no owner yet and refuses the calls. */
static void init_driver(struct driver *driver, int fd)
{
	unsigned int i, k;

	driver->dev.fd = fd;
	driver->dev.call = call_for_driver;
	driver->dev.features = FEATURES;
	driver->dev.mem = &mem;
	for (i = 0; i < QUEUES; i++) {
		struct queue *q = &driver->queue[i];

		pthread_mutex_init(&q->lock, NULL);
		if (vq_setup(&q->vq, &driver->dev, i, RING))
			fuzz_fail("no ring");
		for (k = 0; k < REQUESTS_MAX; k++)
			if (blk_request_init(&q->request[k], &q->vq, 0))
				fuzz_fail("no request");
		forget_requests(q);
	}
}

static void open_session(uint64_t session)
{
	struct dice d = dice_of(session);
	unsigned int i;
	int pipes[2];

	nr_files = 0;
	add_file(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	add_file(open("/dev/null", O_RDWR | O_CLOEXEC));
	add_file(open("/proc/self/stat", O_RDONLY | O_CLOEXEC));
	add_file(open("/tmp", O_PATH | O_CLOEXEC));
	add_file(open("/tmp", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
	add_file(open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
	if (pipe2(pipes, O_CLOEXEC))
		fuzz_fail("pipe: %s", strerror(errno));
	add_file(pipes[0]);
	event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	add_file(event);
	add_memory();
	second_device_start(&second_device, fuzz_device());
	for (i = 0; i < DEVICES; i++) {
		device[i] = fuzz_device();
		init_driver(&driver[i], device[i]);
		if (chance(&d, 80))
			set_up(&d, &driver[i]);
	}
}

/* Exit, or be killed, with open devices. */
static void close_session(uint64_t session)
{
	struct dice d = dice_of(session);

	if (chance(&d, 30)) {
		fuzz_expect_kill();
		kill(getpid(), SIGKILL);
	}
}

int main(int argc, char **argv)
{
	static const struct fuzzer fuzzer = {
		.name = "ioctl",
		.prepare = prepare,
		.open = open_session,
		.run = run,
		.close = close_session,
		.finish = disk_remove_all,
		.count_names = count_names,
	};

	return fuzz_main(argc, argv, &fuzzer);
}
