// SPDX-License-Identifier: GPL-2.0
/*
 * Start, stop and every way to end: what was accepted is completed once, and
 * nothing outlives its owner.
 */
#define _GNU_SOURCE
#include "unit.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#define DISK_SIZE	(4 * MIB)
#define NR		32

/* A device of a child, in guest memory that it shares with the parent. */
struct child_device {
	struct vhost_blk dev;
	struct vq vq;
	struct blk_request req[NR];
	char *buf;
};

static void child_start(struct child_device *c, struct guest_memory *mem, int disk)
{
	unsigned int i;

	child_check(!vhost_blk_open(&c->dev, mem, FEATURES));
	child_check(!vq_setup(&c->vq, &c->dev, 0, 64));
	for (i = 0; i < NR; i++)
		child_check(!blk_request_init(&c->req[i], &c->vq, 3));
	c->buf = guest_alloc(mem, 0, NR * PAGE, PAGE);
	child_check(c->buf);
	child_check(!vhost_blk_attach(&c->dev, disk));
}

static void child_submit(struct child_device *c, unsigned int nr, uint32_t type)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		struct vq_segment data = {
			.addr = guest_address(c->dev.mem, c->buf + i * PAGE), .len = PAGE,
		};

		if (type == VIRTIO_BLK_T_OUT)
			pattern_fill(c->buf + i * PAGE, PAGE, i * PAGE, 1);
		child_check(blk_add(&c->req[i], type, i * 8, &data, 1) >= 0);
	}
	vq_submit(&c->vq);
}

static void child_finish(struct child_device *c, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		child_check(blk_wait(&c->req[i], TIMEOUT_MS) == VIRTIO_BLK_S_OK);
}

static uint64_t child_inflight(struct child_device *c)
{
	struct vhost_blk_stats stats = { .index = 0 };

	child_check(!ioctl(c->dev.fd, VHOST_BLK_GET_STATS, &stats));
	return stats.inflight;
}

static void child_verifies_io(struct child_device *c)
{
	child_submit(c, NR, VIRTIO_BLK_T_OUT);
	child_finish(c, NR);
	memset(c->buf, 0, NR * PAGE);
	child_submit(c, NR, VIRTIO_BLK_T_IN);
	child_finish(c, NR);
	child_check(pattern_differs(c->buf, NR * PAGE, 0, 1) < 0);
}

/* Send a byte to the parent or child, which waits for it. */
static void tell(int fd)
{
	if (write(fd, "", 1) != 1)
		_exit(2);
}

static int told(int fd)
{
	char byte;

	return read(fd, &byte, 1) == 1;
}

/* Submit nr reads and do not wait for them. */
static void submit_reads(struct unit *u, struct vq *vq, struct blk_request *req, uint8_t *buf,
			 unsigned int nr)
{
	unsigned int i;

	unit_requests(req, nr, vq);
	for (i = 0; i < nr; i++) {
		struct vq_segment data = unit_segment(u, buf + i * PAGE, PAGE);

		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i * 8, &data, 1));
	}
	vq_submit(vq);
}

/* Check that each request has completed once and without an error. */
static void expect_all_completed(struct vq *vq, struct blk_request *req, uint8_t *buf,
				 unsigned int nr)
{
	unsigned int i;

	assert_int_equal(vq_used_idx(vq), nr);
	assert_int_equal(blk_reap(vq), nr);
	for (i = 0; i < nr; i++) {
		assert_true(req[i].done);
		assert_int_equal(*req[i].status, VIRTIO_BLK_S_OK);
		assert_int_equal(req[i].used_len, PAGE + 1);
	}
	expect_pattern(buf, nr * PAGE, 0, 1);
}

static void workers_live_while_attached(void **state)
{
	struct unit *u = *state;
	unsigned int i;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 2, 16);
	assert_int_equal(worker_count(getpid()), 0);
	for (i = 0; i < 2; i++) {
		unit_attach(u);
		assert_int_equal(worker_count(getpid()), 4);
		expect_alive(u);
		unit_detach(u);
		expect_workers(getpid(), 0);
	}
	unit_attach(u);
	for (i = 0; i < 4; i++)
		worker_find(getpid(), "sc"[i % 2], i / 2);
	vhost_blk_close(&u->dev);
	expect_workers(getpid(), 0);
}

static void workers_are_in_the_owners_cgroup(void **state)
{
	struct unit *u = *state;
	char text[32];
	int up[2], down[2];
	unsigned int i;
	pid_t pid;

	unit_memfd(u, DISK_SIZE);
	assert_ok(pipe(up));
	assert_ok(pipe(down));
	pid = child_fork();
	if (!pid) {
		struct child_device c;

		child_check(told(down[0]));
		child_start(&c, &u->mem, u->disk);
		tell(up[1]);
		child_check(told(down[0]));
		child_verifies_io(&c);
		_exit(0);
	}
	snprintf(text, sizeof(text), "%d", pid);
	unit_write(CGROUP "/cgroup.procs", text);
	tell(down[1]);
	assert_true(told(up[0]));
	for (i = 0; i < 2; i++)
		expect_in_cgroup(worker_find(pid, "sc"[i], 0));
	tell(down[1]);
	assert_int_equal(child_wait(pid), 0);
	expect_workers(pid, 0);
	/* No task is left in it. */
	assert_ok(rmdir(CGROUP));
}

/* The buffers' offset: the worker submits aligned ones and offloads the others. */
static const unsigned int aligned, unaligned = 1;

/* The device has the limits of its owner's cgroup: 80 reads take more than a second at 40 IOPS. */
static void owners_io_limits_apply(void **state)
{
	struct null_blk spec = { .size_mib = 4 };
	struct unit *u = *state;
	char text[64];
	struct stat st;
	int64_t begin;
	int down[2];
	pid_t pid;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	assert_ok(fstat(u->disk, &st));
	snprintf(text, sizeof(text), "%u:%u riops=40", major(st.st_rdev), minor(st.st_rdev));
	unit_write(CGROUP "/io.max", text);
	assert_ok(pipe(down));
	begin = now_ms();
	pid = child_fork();
	if (!pid) {
		struct child_device c;
		unsigned int i;

		child_check(told(down[0]));
		child_start(&c, &u->mem, u->disk);
		c.buf += *(const unsigned int *)u->param;
		for (i = 0; i < 5; i++) {
			child_submit(&c, 16, VIRTIO_BLK_T_IN);
			child_finish(&c, 16);
		}
		_exit(0);
	}
	snprintf(text, sizeof(text), "%d", pid);
	unit_write(CGROUP "/cgroup.procs", text);
	tell(down[1]);
	assert_int_equal(child_wait(pid), 0);
	expect_workers(pid, 0);
	assert_in_range(now_ms() - begin, 1000, TIMEOUT_MS);
}

/* Bug 11: GET_VRING_BASE was read before the requests in flight had completed. */
static void detach_drains(void **state)
{
	enum { RINGS = 4 };
	struct unit *u = *state;
	struct blk_request req[RINGS][NR];
	uint8_t *buf[RINGS];
	unsigned int i;

	unit_slow(u, 300);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start(u, RINGS, 64);
	for (i = 0; i < RINGS; i++) {
		buf[i] = unit_alloc(u, NR * PAGE);
		submit_reads(u, &u->vq[i], req[i], buf[i], NR);
	}
	usleep(50000);
	unit_detach(u);
	for (i = 0; i < RINGS; i++) {
		/* Only requests that were not fetched yet are left for the next attach. */
		uint16_t base = vq_get_base(&u->vq[i]);

		assert_int_equal(vq_used_idx(&u->vq[i]), base);
		if (base == NR)
			expect_all_completed(&u->vq[i], req[i], buf[i], NR);
	}
	expect_workers(getpid(), 0);
	for (i = 0; i < RINGS; i++)
		assert_int_equal(vq_used_idx(&u->vq[i]), vq_get_base(&u->vq[i]));
	/* No request is lost. */
	unit_attach(u);
	for (i = 0; i < RINGS; i++)
		assert_int_equal(blk_wait(&req[i][NR - 1], TIMEOUT_MS), VIRTIO_BLK_S_OK);
	for (i = 0; i < RINGS; i++)
		assert_int_equal(vq_used_idx(&u->vq[i]), NR);
}

/* Start with NR reads in flight on a suspended disk, which is about to be resumed. */
static uint8_t *start_with_reads_in_flight(struct unit *u, struct blk_request *req)
{
	uint8_t *buf;

	unit_suspendable(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	unit_start(u, 1, 64);
	buf = unit_alloc(u, NR * PAGE);
	unit_suspend(u, u->path);
	submit_reads(u, &u->vq[0], req, buf, NR);
	expect_inflight(u, 0, NR);
	unit_resume_soon(u);
	return buf;
}

enum stop { RESET_OWNER, CLOSE };
static const enum stop reset_owner = RESET_OWNER, close_device = CLOSE;

static void drains(void **state)
{
	struct unit *u = *state;
	struct blk_request req[NR];
	uint8_t *buf = start_with_reads_in_flight(u, req);

	if (*(const enum stop *)u->param == RESET_OWNER)
		assert_ok(ioctl(u->dev.fd, VHOST_RESET_OWNER));
	else
		vhost_blk_close(&u->dev);
	expect_all_completed(&u->vq[0], req, buf, NR);
	expect_workers(getpid(), 0);
}

static void on_signal(int number)
{
	(void)number;
}

/* Signals do not cut a detach short. */
static void detach_drains_under_signals(void **state)
{
	struct itimerspec every = {
		.it_interval.tv_nsec = 5000000, .it_value.tv_nsec = 5000000,
	};
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct sigaction action = { .sa_handler = on_signal };
	struct unit *u = *state;
	struct blk_request req[NR];
	timer_t timer;
	uint8_t *buf;

	buf = start_with_reads_in_flight(u, req);
	assert_ok(sigaction(SIGUSR1, &action, NULL));
	assert_ok(timer_create(CLOCK_MONOTONIC, &event, &timer));
	assert_ok(timer_settime(timer, 0, &every, NULL));
	unit_detach(u);
	assert_ok(timer_delete(timer));
	expect_all_completed(&u->vq[0], req, buf, NR);
	assert_int_equal(vq_get_base(&u->vq[0]), NR);
}

static void attach_processes_what_is_available(void **state)
{
	enum { RINGS = 3 };
	struct unit *u = *state;
	struct blk_request req[RINGS];
	struct vq_segment data;
	unsigned int i;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, RINGS, 16);
	data = unit_segment(u, unit_alloc(u, 512), 512);
	for (i = 0; i < RINGS; i++) {
		unit_requests(&req[i], 1, &u->vq[i]);
		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, 0, &data, 1));
		vq_publish(&u->vq[i]);
	}
	unit_attach(u);
	/* Without a kick. */
	for (i = 0; i < RINGS; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, 513);
}

static void ring_resumes_where_it_stopped(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct blk_request req[3];
	struct vq_segment data;
	unsigned int i, round;

	start_on_memfd(u, DISK_SIZE, 1, 8);
	unit_requests(req, 3, vq);
	data = unit_segment(u, unit_alloc(u, 512), 512);
	for (round = 0; round < 10; round++) {
		expect_alive(u);
		unit_detach(u);
		for (i = 0; i < 3; i++) {
			assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i, &data, 1));
			vq_publish(vq);
			assert_ok(vq_kick(vq));
		}
		if (!round)
			ASSERT_NEVER(vq_used_idx(vq) != 1);
		assert_int_equal(vq_used_idx(vq), round * 4 + 1);
		assert_int_equal(vq_get_base(vq), round * 4 + 1);
		unit_attach(u);
		for (i = 0; i < 3; i++)
			expect_end(&req[i], VIRTIO_BLK_S_OK, 513);
	}
}

/* If the second ring cannot be started, the first is stopped again. */
static void failed_attach_leaves_nothing(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 16);
	assert_ok(vq_setup(&u->vq[1], &u->dev, 1, 2048));
	assert_int_equal(vhost_blk_attach(&u->dev, u->disk), -EINVAL);
	expect_workers(getpid(), 0);
	vq_free(&u->vq[1]);
	assert_ok(vq_setup(&u->vq[1], &u->dev, 1, 16));
	unit_attach(u);
	expect_alive(u);
}

struct pump {
	struct unit *u;
	struct blk_request req[8];
	uint8_t *buf;
	volatile int stop;
	unsigned int done;
	int bad;
};

static void *pump_requests(void *arg)
{
	struct pump *p = arg;
	unsigned int i;

	while (!p->stop) {
		for (i = 0; i < 8; i++) {
			struct vq_segment data = {
				.addr = guest_address(&p->u->mem, p->buf + i * 512), .len = 512,
			};

			if (blk_add(&p->req[i], VIRTIO_BLK_T_IN, i, &data, 1) < 0)
				p->bad = 1;
		}
		vq_submit(&p->u->vq[0]);
		for (i = 0; i < 8; i++) {
			int status = blk_wait(&p->req[i], TIMEOUT_MS);

			if (status != VIRTIO_BLK_S_OK)
				p->bad = status ?: 1;
		}
		if (p->bad)
			break;
		p->done += 8;
	}
	return NULL;
}

/* The guest submits requests while the device stops and starts. */
static void stops_and_starts_under_load(void **state)
{
	struct null_blk spec = { .size_mib = 4, .delay_us = 300 };
	struct unit *u = *state;
	struct pump p = { .u = u };
	pthread_t thread;
	unsigned int i;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	unit_start(u, 1, 16);
	unit_requests(p.req, 8, &u->vq[0]);
	p.buf = unit_alloc(u, PAGE);
	assert_int_equal(pthread_create(&thread, NULL, pump_requests, &p), 0);
	for (i = 0; i < 40; i++) {
		usleep(i * 300);
		unit_detach(u);
		unit_attach(u);
	}
	p.stop = 1;
	pthread_join(thread, NULL);
	if (p.bad)
		fail_msg("a request ended with %d", p.bad);
	assert_true(p.done > 0);
	assert_int_equal((uint16_t)p.done, vq_used_idx(&u->vq[0]));
	unit_detach(u);
	assert_int_equal(vq_get_base(&u->vq[0]), (uint16_t)p.done);
	expect_workers(getpid(), 0);
}

static void starts_and_stops_many_times(void **state)
{
	struct unit *u = *state;
	unsigned int i;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 4, 16);
	for (i = 0; i < 30; i++) {
		unit_attach(u);
		if (i % 2)
			expect_alive(u);
		unit_detach(u);
	}
	expect_workers(getpid(), 0);
	assert_int_equal(vq_get_base(&u->vq[0]), 15);
}

struct kicker {
	struct vq *vq;
	atomic_bool stop;
};

static void *kick_all_the_time(void *arg)
{
	struct kicker *k = arg;

	while (!k->stop)
		vq_kick(k->vq);
	return NULL;
}

/* No kick is lost, whatever the device is doing when it comes. */
static void kicks_at_any_moment_of_a_start(void **state)
{
	struct unit *u = *state;
	struct kicker k = { .vq = &u->vq[0] };
	pthread_t thread;
	unsigned int i;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 16);
	assert_int_equal(pthread_create(&thread, NULL, kick_all_the_time, &k), 0);
	for (i = 0; i < 30; i++) {
		unit_attach(u);
		expect_alive(u);
		unit_detach(u);
	}
	k.stop = true;
	pthread_join(thread, NULL);
	unit_attach(u);
	expect_alive(u);
}

enum exit { BY_KILL, BY_EXIT, BY_EXEC };
static const enum exit by_kill = BY_KILL, by_exit = BY_EXIT, by_exec = BY_EXEC;

/* The owner exits with writes in flight, to a file on a suspended device. */
static void owner_exits(void **state)
{
	struct unit *u = *state;
	enum exit how = *(const enum exit *)u->param;
	char device[BACKEND_PATH_MAX];
	int up[2], down[2];
	pid_t pid;

	unit_suspendable_file(u, device);
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, SUSPENDABLE_FILE_SIZE, 1);
	assert_ok(fsync(u->disk));
	assert_ok(pipe(up));
	assert_ok(pipe(down));
	pid = child_fork();
	if (!pid) {
		struct child_device c;

		child_start(&c, &u->mem, u->disk);
		child_verifies_io(&c);
		child_check(!backend_dm_suspend(device));
		child_submit(&c, NR / 2, VIRTIO_BLK_T_OUT);
		child_check(wait_until(child_inflight(&c) == NR / 2, TIMEOUT_MS));
		tell(up[1]);
		child_check(told(down[0]));
		if (how == BY_EXEC) {
			/* The program inherits the open device. */
			fcntl(c.dev.fd, F_SETFD, 0);
			execlp("sleep", "sleep", "0.3", NULL);
		}
		_exit(how == BY_EXIT ? 0 : 1);
	}
	assert_true(told(up[0]));
	assert_int_equal(worker_count(pid), 2);
	if (how == BY_KILL)
		assert_ok(kill(pid, SIGKILL));
	else
		tell(down[1]);
	usleep(QUIET_MS * 1000);
	assert_ok(backend_dm_resume(device));
	assert_int_equal(child_wait(pid), how == BY_KILL ? 256 + SIGKILL : 0);
	expect_workers(pid, 0);
	expect_disk(u->disk, 0, NR / 2 * PAGE, 1);

	/* The file is not in use any more. */
	close(u->disk);
	u->disk = -1;
	assert_ok(backend_remove_since(u->mark));
}

/* The owner is killed at any time; the next owner can use the disk. */
static void killed_at_any_moment(void **state)
{
	struct null_blk spec = { .size_mib = 4, .delay_us = 2000 };
	struct unit *u = *state;
	unsigned int i;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	for (i = 0; i < 12; i++) {
		int up[2];
		pid_t pid;

		assert_ok(pipe(up));
		pid = child_fork();
		if (!pid) {
			struct child_device c;

			child_start(&c, &u->mem, u->disk);
			tell(up[1]);
			for (;;) {
				child_submit(&c, NR, VIRTIO_BLK_T_IN);
				child_finish(&c, NR);
			}
		}
		close(up[1]);
		assert_true(told(up[0]));
		close(up[0]);
		usleep(i * 1700);
		assert_ok(kill(pid, SIGKILL));
		assert_int_equal(child_wait(pid), 256 + SIGKILL);
		expect_workers(pid, 0);
	}
	unit_start(u, 1, 16);
	expect_alive(u);
}

/* A child that inherits the device is not its owner, and its exit changes nothing. */
static void fork_and_child_exits(void **state)
{
	struct unit *u = *state;
	pid_t pid;

	start_on_memfd(u, DISK_SIZE, 1, 16);
	expect_alive(u);
	pid = child_fork();
	if (!pid) {
		child_check(vhost_blk_detach(&u->dev) == -EPERM);
		child_check(vhost_blk_attach(&u->dev, u->disk) == -EPERM);
		child_check(ioctl(u->dev.fd, VHOST_RESET_OWNER) && errno == EPERM);
		_exit(0);
	}
	assert_int_equal(child_wait(pid), 0);
	expect_alive(u);
	assert_int_equal(worker_count(getpid()), 2);
}

/* The owner exits while a child has the device open: the close of the last one releases it. */
static void fork_and_owner_exits(void **state)
{
	struct unit *u = *state;
	int up[2], down[2];
	pid_t pid;

	/* Half of the time for which the workers are watched. */
	unit_slow(u, QUIET_MS / 2);
	assert_ok(pipe(up));
	assert_ok(pipe(down));
	pid = child_fork();
	if (!pid) {
		struct child_device c;

		child_start(&c, &u->mem, u->disk);
		if (!fork()) {
			/* Exits after the owner, when the parent closes its end. */
			close(down[1]);
			told(down[0]);
			_exit(0);
		}
		child_submit(&c, NR, VIRTIO_BLK_T_IN);
		_exit(0);
	}
	close(down[0]);
	assert_int_equal(child_wait(pid), 0);
	/* The device is still open. */
	expect_workers_of_dead_owner(pid, 2);
	close(down[1]);
	expect_workers(pid, 0);
}

/* Return true if no process maps the memfd any more, by sealing it. */
static bool can_seal(int memfd)
{
	return !fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE);
}

/* Keep the ring busy until the other end of a pipe is closed. */
static void child_pumps(struct child_device *c, int up, int down)
{
	struct pollfd closed = { .fd = down };
	unsigned int i, done = 0;

	child_submit(c, NR, VIRTIO_BLK_T_IN);
	while (!poll(&closed, 1, 1)) {
		child_check(blk_reap(&c->vq) >= 0);
		for (i = 0; i < NR; i++) {
			struct vq_segment data = {
				.addr = guest_address(c->dev.mem, c->buf), .len = PAGE,
			};

			if (!c->req[i].done)
				continue;
			child_check(blk_add(&c->req[i], VIRTIO_BLK_T_IN, 0, &data, 1) >= 0);
			if (++done == NR)
				tell(up);
		}
		vq_publish(&c->vq);
		vq_kick(&c->vq);
	}
}

/* The memory of an owner goes with it, though a child of it keeps the shared ring busy. */
static void dead_owner_keeps_no_memory(void **state)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB, .delay_us = 2000 };
	struct unit *u = *state;
	int up[2], down[2], memfd;
	pid_t pid;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	memfd = memfd_create("private", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_ok(memfd);
	assert_ok(ftruncate(memfd, PAGE));
	assert_ok(pipe(up));
	assert_ok(pipe(down));
	pid = child_fork();
	if (!pid) {
		struct child_device c;
		char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);

		child_check(page != MAP_FAILED);
		child_start(&c, &u->mem, u->disk);
		if (!fork()) {
			munmap(page, PAGE);
			close(down[1]);
			child_pumps(&c, up[1], down[0]);
			_exit(0);
		}
		pause();
	}
	close(down[0]);
	assert_true(told(up[0]));
	assert_false(can_seal(memfd));
	assert_ok(kill(pid, SIGKILL));
	assert_int_equal(child_wait(pid), 256 + SIGKILL);
	WAIT_UNTIL(can_seal(memfd));
	close(memfd);
	close(down[1]);
	expect_workers(pid, 0);
	unit_start(u, 1, 16);
	expect_alive(u);
}

static const uint32_t reads = VIRTIO_BLK_T_IN, zeroes = VIRTIO_BLK_T_WRITE_ZEROES;

/*
 * Submit requests that take minutes each: reads whose descriptors name the same
 * memory again and again, or lists of ranges to be overwritten.
 */
static void submit_large_requests(struct unit *u, uint32_t type, struct blk_request *req,
				  unsigned int nr)
{
	enum { SEGMENTS = 20, SEGMENT = 4 * MIB, RANGES = 256, RANGE = 32 * MIB };
	struct virtio_blk_discard_write_zeroes *list;
	struct vq_segment data[SEGMENTS];
	unsigned int i, nr_data = SEGMENTS;

	for (i = 0; i < SEGMENTS; i++)
		data[i] = unit_segment(u, u->sector, SEGMENT);
	if (type == VIRTIO_BLK_T_WRITE_ZEROES) {
		list = u->sector;
		for (i = 0; i < RANGES; i++) {
			list[i].sector = i % 8 * (RANGE / SECTOR_SIZE);
			list[i].num_sectors = RANGE / SECTOR_SIZE;
		}
		data[0].len = RANGES * sizeof(*list);
		nr_data = 1;
	}
	for (i = 0; i < nr; i++) {
		assert_ok(blk_request_init(&req[i], &u->vq[0], SEGMENTS + 2));
		assert_ok(blk_add(&req[i], type, 0, data, nr_data));
	}
	vq_submit(&u->vq[0]);
}

/* What a guest asks of a slow disk does not keep its owner from being killed. */
static void killed_with_large_requests(void **state)
{
	enum { LARGE = 64, BOUND_MS = 5000 };
	struct null_blk spec = {
		.size_mib = 256, .forgets = true, .mbps = 10, .max_sectors = 128,
	};
	struct unit *u = *state;
	int64_t begin;
	int up[2];
	pid_t pid;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	assert_ok(pipe(up));
	pid = child_fork();
	if (!pid) {
		struct blk_request req[LARGE];

		unit_start_with(u, RANGE_FEATURES, 1, 2 * LARGE);
		u->sector = unit_alloc(u, 4 * MIB);
		submit_large_requests(u, *(const uint32_t *)u->param, req, LARGE);
		child_check(wait_until(unit_stats(u, 0).inflight, TIMEOUT_MS));
		usleep(10 * QUIET_MS * 1000);
		tell(up[1]);
		pause();
	}
	assert_true(told(up[0]));
	begin = now_ms();
	assert_ok(kill(pid, SIGKILL));
	assert_int_equal(child_wait(pid), 256 + SIGKILL);
	expect_workers(pid, 0);
	print_message("the owner was gone after %lld ms\n", (long long)(now_ms() - begin));
	assert_true(now_ms() - begin < BOUND_MS * unit_slower());
}

static void dup_keeps_the_device(void **state)
{
	struct unit *u = *state;
	int fd;

	start_on_memfd(u, DISK_SIZE, 1, 16);
	fd = dup(u->dev.fd);
	assert_ok(fd);
	close(u->dev.fd);
	u->dev.fd = fd;
	expect_alive(u);
	unit_detach(u);
	unit_attach(u);
	expect_alive(u);
}

static void send_fd(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = "", byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	assert_int_equal(sendmsg(socket, &msg, 0), 1);
}

static int receive_fd(int socket)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(socket, &msg, 0) != 1 || !CMSG_FIRSTHDR(&msg))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return fd;
}

/* One process opens the device and the disk for another. */
static void device_opened_for_another_process(void **state)
{
	struct unit *u = *state;
	int pair[2], fd;
	pid_t pid;

	unit_memfd(u, DISK_SIZE);
	assert_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pid = child_fork();
	if (!pid) {
		struct child_device c = { .dev.mem = &u->mem, .dev.features = FEATURES };
		unsigned int i;
		int disk;

		close(u->disk);
		c.dev.fd = receive_fd(pair[1]);
		disk = receive_fd(pair[1]);
		child_check(c.dev.fd >= 0 && disk >= 0);
		child_check(!ioctl(c.dev.fd, VHOST_SET_OWNER));
		child_check(!ioctl(c.dev.fd, VHOST_SET_FEATURES, &c.dev.features));
		child_check(!vhost_blk_set_memory(&c.dev));
		child_check(!vq_setup(&c.vq, &c.dev, 0, 64));
		for (i = 0; i < NR; i++)
			child_check(!blk_request_init(&c.req[i], &c.vq, 3));
		c.buf = guest_alloc(&u->mem, 0, NR * PAGE, PAGE);
		child_check(!vhost_blk_attach(&c.dev, disk));
		close(disk);
		child_verifies_io(&c);
		_exit(0);
	}
	fd = open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC);
	assert_ok(fd);
	send_fd(pair[0], fd);
	send_fd(pair[0], u->disk);
	close(fd);
	assert_int_equal(child_wait(pid), 0);
	expect_workers(pid, 0);
	expect_disk(u->disk, 0, NR * PAGE, 1);
	close(pair[0]);
	close(pair[1]);
}

/* A running device that is passed on stays its owner's, and open until the receiver exits. */
static void running_device_passed_on(void **state)
{
	struct unit *u = *state;
	int pair[2], down[2];
	pid_t pid;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	unit_vqs(u, 1, 16);
	assert_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	assert_ok(pipe(down));
	pid = child_fork();
	if (!pid) {
		close(u->dev.fd);
		close(down[1]);
		u->dev.fd = receive_fd(pair[1]);
		child_check(u->dev.fd >= 0);
		child_check(vhost_blk_detach(&u->dev) == -EPERM);
		tell(pair[1]);
		told(down[0]);
		_exit(0);
	}
	close(down[0]);
	unit_attach(u);
	send_fd(pair[0], u->dev.fd);
	assert_true(told(pair[0]));
	vhost_blk_close(&u->dev);
	expect_alive(u);
	assert_int_equal(worker_count(getpid()), 2);
	close(down[1]);
	assert_int_equal(child_wait(pid), 0);
	expect_workers(getpid(), 0);
	close(pair[0]);
	close(pair[1]);
}

/* Several processes have several devices each, all with I/O at the same time. */
static void many_devices_of_many_processes(void **state)
{
	enum { PROCESSES = 3, DEVICES = 6 };
	struct unit *u = *state;
	pid_t pid[PROCESSES];
	unsigned int p;

	for (p = 0; p < PROCESSES; p++) {
		pid[p] = child_fork();
		if (!pid[p]) {
			struct child_device c[DEVICES];
			struct guest_memory mem;
			unsigned int d, round;

			child_check(!guest_memory_init(&mem));
			child_check(guest_memory_add(&mem, GUEST_GPA, 16 * MIB) == 0);
			for (d = 0; d < DEVICES; d++) {
				close(u->disk);
				unit_memfd(u, DISK_SIZE);
				child_start(&c[d], &mem, u->disk);
			}
			child_check(worker_count(getpid()) == 2 * DEVICES);
			for (round = 0; round < 5; round++) {
				for (d = 0; d < DEVICES; d++)
					child_submit(&c[d], NR, VIRTIO_BLK_T_OUT);
				for (d = 0; d < DEVICES; d++)
					child_finish(&c[d], NR);
				for (d = 0; d < DEVICES; d++)
					child_verifies_io(&c[d]);
			}
			_exit(0);
		}
	}
	for (p = 0; p < PROCESSES; p++)
		assert_int_equal(child_wait(pid[p]), 0);
	for (p = 0; p < PROCESSES; p++)
		expect_workers(pid[p], 0);
}

static void module_is_in_use_while_open(void **state)
{
	struct unit *u = *state;

	unit_memfd(u, DISK_SIZE);
	unit_open(u, FEATURES);
	assert_errno(unit_remove_module(), EWOULDBLOCK);
	unit_vqs(u, 2, 16);
	unit_attach(u);
	assert_errno(unit_remove_module(), EWOULDBLOCK);
	expect_alive(u);
	unit_detach(u);
	assert_errno(unit_remove_module(), EWOULDBLOCK);
	vhost_blk_close(&u->dev);
	assert_ok(unit_remove_module());
	assert_errno(access(VHOST_BLK_DEVICE, F_OK), ENOENT);
	assert_int_equal(system("tests/lib/load-module"), 0);
	unit_open(u, FEATURES);
	assert_ok(vq_setup(&u->vq[2], &u->dev, 0, 16));
	unit_request(&u->req, &u->vq[2]);
	unit_attach(u);
	expect_alive(u);
}

static void device_costs_less_than_4_mib(void **state)
{
	enum { DEVICES = 24 };
	struct unit *u = *state;
	struct vhost_blk dev[DEVICES];
	struct vq vq[DEVICES];
	long before, after;
	unsigned int i;

	unit_memfd(u, DISK_SIZE);
	memset(u->mem.region[0].host, 1, 2 * MIB);
	before = available_kib();
	for (i = 0; i < DEVICES; i++) {
		assert_ok(vhost_blk_open(&dev[i], &u->mem, FEATURES));
		assert_ok(vq_setup(&vq[i], &dev[i], 0, 256));
		assert_ok(vhost_blk_attach(&dev[i], u->disk));
	}
	after = available_kib();
	print_message("a device costs %ld KiB\n", (before - after) / DEVICES);
	for (i = 0; i < DEVICES; i++) {
		vhost_blk_close(&dev[i]);
		vq_free(&vq[i]);
	}
	assert_true(before - after < DEVICES * 4096L);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(workers_live_while_attached),
		TEST_CGROUP(workers_are_in_the_owners_cgroup),
		TEST_CGROUP_ON(owners_io_limits_apply, aligned),
		TEST_CGROUP_ON(owners_io_limits_apply, unaligned),
		TEST(detach_drains),
		TEST_ON(drains, reset_owner),
		TEST_ON(drains, close_device),
		TEST(detach_drains_under_signals),
		TEST(attach_processes_what_is_available),
		TEST(ring_resumes_where_it_stopped),
		TEST(failed_attach_leaves_nothing),
		TEST(stops_and_starts_under_load),
		TEST(starts_and_stops_many_times),
		TEST(kicks_at_any_moment_of_a_start),
		TEST_ON(owner_exits, by_kill),
		TEST_ON(owner_exits, by_exit),
		TEST_ON(owner_exits, by_exec),
		TEST(killed_at_any_moment),
		TEST(fork_and_child_exits),
		TEST(fork_and_owner_exits),
		TEST(dead_owner_keeps_no_memory),
		TEST_ON(killed_with_large_requests, reads),
		TEST_ON(killed_with_large_requests, zeroes),
		TEST(dup_keeps_the_device),
		TEST(device_opened_for_another_process),
		TEST(running_device_passed_on),
		TEST(many_devices_of_many_processes),
		TEST(module_is_in_use_while_open),
		TEST(device_costs_less_than_4_mib),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
