// SPDX-License-Identifier: GPL-2.0
/* What the unit tests share. */
#define _GNU_SOURCE
#include "unit.h"

#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#define TEST_TIMEOUT_S	120	/* more than any test's own timeouts */
#define SKIP_STATUS	77	/* of Automake */

/* The test that runs, and when it began. */
static const struct CMUnitTest *test;
static int64_t test_begin;

int unit_slower(void)
{
	const char *text = getenv("TESTBED_SLOWER");

	return text ? atoi(text) : 1;
}

unsigned int unit_rounds(unsigned int usual)
{
	const char *text = getenv("ROUNDS");

	return text ? strtoul(text, NULL, 10) : usual;
}

void unit_restart_alarm(void)
{
	alarm(TEST_TIMEOUT_S * unit_slower());
}

int unit_setup(void **state)
{
	struct unit *u = calloc(1, sizeof(*u));

	unit_restart_alarm();
	if (!u)
		return -1;
	u->param = *state;
	u->mark = backend_mark();
	u->disk = -1;
	u->dev.fd = -1;
	u->frozen = -1;
	*state = u;
	if (guest_memory_init(&u->mem))
		return -1;
	return guest_memory_add(&u->mem, GUEST_GPA, GUEST_SIZE) < 0 ? -1 : 0;
}

int unit_teardown(void **state)
{
	struct unit *u = *state;
	unsigned int i;
	int ret;

	if (u->resumer)
		pthread_join(u->resumer, NULL);
	else if (u->suspended[0])
		backend_dm_resume(u->suspended);
	if (u->frozen >= 0)
		unit_thaw(u);
	if (u->call.thread)
		unit_call_join(u);
	unit_unbind(0);
	vhost_blk_close(&u->dev);
	for (i = 0; i < VQS_MAX; i++)
		vq_free(&u->vq[i]);
	guest_memory_free(&u->mem);
	if (u->disk >= 0)
		close(u->disk);
	ret = backend_remove_since(u->mark);
	free(u);
	return ret;
}

int cgroup_setup(void **state)
{
	if (mkdir(CGROUP, 0700) && errno != EEXIST)
		return -1;
	return unit_setup(state);
}

void cgroup_leave(void)
{
	unit_write("/sys/fs/cgroup/cgroup.procs", "0");
}

void cgroup_attach(struct unit *u)
{
	unit_write(CGROUP "/cgroup.procs", "0");
	unit_attach(u);
	/* Threads would leave with their process. */
	if (!workers_are_threads())
		cgroup_leave();
}

int cgroup_teardown(void **state)
{
	int ret = unit_teardown(state);

	cgroup_leave();
	/* The workers' threads stay in it until they are reaped. */
	return wait_until(!rmdir(CGROUP) || errno == ENOENT, TIMEOUT_MS) ? ret : -1;
}

void unit_timed_out(const char *condition, const char *file, int line)
{
	print_error("ERROR: not within %d ms: %s\n", TIMEOUT_MS, condition);
	_fail(file, line);
	abort();
}

void unit_print_skip(const char *format, ...)
{
	va_list args;

	printf("SKIP %s:%s: ", program_invocation_short_name, test->name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

void unit_skip_program(const char *reason)
{
	printf("SKIP %s: %s\n", program_invocation_short_name, reason);
	exit(SKIP_STATUS);
}

/* A fixture around each test's own. The initial state is the test's entry in the array. */
static int timed_setup(void **state)
{
	test = *state;
	test_begin = now_ms();
	*state = test->initial_state;
	return test->setup_func(state);
}

static int timed_teardown(void **state)
{
	int ret = test->teardown_func(state);

	printf("TIME %.2f %s:%s\n", (now_ms() - test_begin) / 1000.0,
	       program_invocation_short_name, test->name);
	return ret;
}

static int group_teardown(void **state)
{
	(void)state;
	return backend_remove_since(0);
}

/* Devices, mounts and rings that come and go mostly wait for RCU grace periods. */
static void expedite_rcu(const char *value)
{
	int fd = open("/sys/kernel/rcu_expedited", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		perror("rcu_expedited");
	close(fd);
}

int unit_run_with(int argc, char **argv, const struct CMUnitTest *tests, size_t nr,
		  CMFixtureFunction setup)
{
	struct CMUnitTest timed[nr];
	int failed;
	size_t i;

	for (i = 0; i < nr; i++)
		timed[i] = (struct CMUnitTest){
			tests[i].name, tests[i].test_func, timed_setup, timed_teardown,
			(void *)&tests[i],
		};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	expedite_rcu("1");
	failed = _cmocka_run_group_tests(program_invocation_short_name, timed, nr, setup,
					 group_teardown);
	expedite_rcu("0");
	return failed ? 1 : 0;
}

int unit_run(int argc, char **argv, const struct CMUnitTest *tests, size_t nr)
{
	return unit_run_with(argc, argv, tests, nr, NULL);
}

int unit_memfd(struct unit *u, size_t size)
{
	u->disk = memfd_create("disk", MFD_CLOEXEC);
	assert_ok(u->disk);
	assert_ok(ftruncate(u->disk, size));
	return u->disk;
}

int unit_disk(struct unit *u, const char *path, int flags)
{
	if (u->path != path)
		snprintf(u->path, sizeof(u->path), "%s", path);
	u->disk = open(path, flags | O_CLOEXEC);
	assert_ok(u->disk);
	return u->disk;
}

int unit_null(struct unit *u, const struct null_blk *spec, int flags)
{
	assert_ok(backend_null(u->path, spec));
	return unit_disk(u, u->path, flags);
}

int unit_any_disk(struct unit *u, size_t size)
{
	const enum disk_io *io = u->param;
	struct null_blk spec = { .size_mib = size / MIB };

	if (*io == DISK_FILE)
		return unit_memfd(u, size);
	return unit_null(u, &spec, O_RDWR | O_DIRECT);
}

int unit_slow(struct unit *u, unsigned int delay_ms)
{
	struct null_blk spec = {
		.size_mib = 16, .delay_us = delay_ms * 1000, .queue_depth = 1024,
	};

	return unit_null(u, &spec, O_RDWR | O_DIRECT);
}

void unit_dm(char *path, const struct null_blk *spec, const char *target, const char *more)
{
	char below[BACKEND_PATH_MAX], table[512];

	assert_ok(backend_null(below, spec));
	snprintf(table, sizeof(table), "0 %lu %s %s 0 %s\n", spec->size_mib * MIB / SECTOR_SIZE,
		 target, below, more);
	assert_ok(backend_dm(path, table));
}

int unit_suspendable(struct unit *u, size_t size)
{
	struct null_blk spec = { .size_mib = size / MIB, .queue_depth = 1024 };

	/* Not "linear", which refuses IOCB_NOWAIT: requests would be offloaded. */
	unit_dm(u->path, &spec, "delay", "0");
	return unit_disk(u, u->path, O_RDWR | O_DIRECT);
}

void unit_suspendable_file(struct unit *u, char *device)
{
	struct null_blk spec = { .size_mib = 8, .cache_mib = 1 };
	char dir[BACKEND_PATH_MAX];

	unit_dm(device, &spec, "linear", "");
	assert_ok(backend_mkfs(dir, "ext4", device));
	assert_ok(backend_file(u->path, dir, "disk", SUSPENDABLE_FILE_SIZE));
}

void unit_suspend(struct unit *u, const char *path)
{
	assert_ok(backend_dm_suspend(path));
	snprintf(u->suspended, sizeof(u->suspended), "%s", path);
}

void unit_resume(struct unit *u)
{
	assert_ok(backend_dm_resume(u->suspended));
	u->suspended[0] = 0;
}

static void *resume_later(void *arg)
{
	struct unit *u = arg;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	usleep(QUIET_MS * 1000);
	backend_dm_resume(u->suspended);
	return NULL;
}

void unit_resume_soon(struct unit *u)
{
	assert_int_equal(pthread_create(&u->resumer, NULL, resume_later, u), 0);
}

void unit_freeze(struct unit *u, const char *dir)
{
	u->frozen = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_ok(u->frozen);
	assert_ok(ioctl(u->frozen, FIFREEZE, 0));
}

void unit_thaw(struct unit *u)
{
	assert_ok(ioctl(u->frozen, FITHAW, 0));
	close(u->frozen);
	u->frozen = -1;
}

int unit_half_failing(struct unit *u, size_t size)
{
	struct null_blk spec = { .size_mib = size / MIB, .discard = true };
	unsigned long half = size / SECTOR_SIZE / 2;
	char below[BACKEND_PATH_MAX], table[512];

	assert_ok(backend_null(below, &spec));
	/* Not "error", which takes no discards on older kernels; this "flakey" is always down. */
	snprintf(table, sizeof(table), "0 %lu linear %s 0\n%lu %lu flakey %s 0 0 1\n", half, below,
		 half, half, below);
	assert_ok(backend_dm(u->path, table));
	return unit_disk(u, u->path, O_RDWR | O_DIRECT);
}

void unit_open(struct unit *u, uint64_t features)
{
	assert_ok(vhost_blk_open(&u->dev, &u->mem, features));
}

void unit_vqs(struct unit *u, unsigned int nr, unsigned int num)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		assert_ok(vq_setup(&u->vq[i], &u->dev, i, num));
	u->nr_vqs = nr;
	unit_request(&u->req, &u->vq[0]);
}

void unit_attach(struct unit *u)
{
	assert_ok(vhost_blk_attach(&u->dev, u->disk));
}

void unit_start_with(struct unit *u, uint64_t features, unsigned int nr, unsigned int num)
{
	unit_open(u, features);
	unit_vqs(u, nr, num);
	unit_attach(u);
}

void unit_start(struct unit *u, unsigned int nr, unsigned int num)
{
	unit_start_with(u, FEATURES, nr, num);
}

void start_on_memfd(struct unit *u, size_t size, unsigned int nr, unsigned int num)
{
	unit_memfd(u, size);
	unit_start(u, nr, num);
}

void start_on_any_disk(struct unit *u, size_t size, unsigned int nr, unsigned int num)
{
	unit_any_disk(u, size);
	unit_start(u, nr, num);
}

static void *do_call(void *arg)
{
	struct unit *u = arg;

	u->call.ret = u->call.fn(u);
	__atomic_store_n(&u->call.returned, true, __ATOMIC_RELEASE);
	return NULL;
}

void unit_call(struct unit *u, int (*fn)(struct unit *u))
{
	u->call = (struct unit_call){ .fn = fn };
	assert_int_equal(pthread_create(&u->call.thread, NULL, do_call, u), 0);
}

bool unit_call_returned(struct unit *u)
{
	return __atomic_load_n(&u->call.returned, __ATOMIC_ACQUIRE);
}

int unit_call_join(struct unit *u)
{
	pthread_join(u->call.thread, NULL);
	u->call.thread = 0;
	return u->call.ret;
}

void unit_poll_timeout(struct unit *u, unsigned int queue, uint32_t us)
{
	struct vhost_vring_state state = { .index = queue, .num = us };

	assert_ok(ioctl(u->dev.fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &state));
}

void unit_pin_limit(struct unit *u, uint64_t bytes)
{
	struct vhost_blk_pin_limit limit = { .bytes = bytes };

	assert_ok(ioctl(u->dev.fd, VHOST_BLK_SET_PIN_LIMIT, &limit));
}

int unit_quiesce(struct unit *u)
{
	return ioctl(u->dev.fd, VHOST_BLK_QUIESCE) ? -errno : 0;
}

int unit_resume_queues(struct unit *u, uint32_t flags)
{
	struct vhost_blk_resume resume = { .flags = flags };

	return ioctl(u->dev.fd, VHOST_BLK_RESUME, &resume) ? -errno : 0;
}

void unit_coalesce(struct unit *u, uint32_t us)
{
	struct vhost_blk_coalesce coalesce = { .max_us = us };

	assert_ok(ioctl(u->dev.fd, VHOST_BLK_SET_COALESCE, &coalesce));
}

void unit_detach(struct unit *u)
{
	assert_ok(vhost_blk_detach(&u->dev));
}

void *unit_alloc(struct unit *u, size_t len)
{
	void *p = guest_alloc(&u->mem, 0, len, PAGE);

	assert_non_null(p);
	return p;
}

struct vq_segment unit_segment(struct unit *u, const void *p, uint32_t len)
{
	struct vq_segment segment = { .addr = guest_address(&u->mem, p), .len = len };

	assert_true(segment.addr != UINT64_MAX);
	return segment;
}

void *unit_host(struct unit *u, uint64_t gpa)
{
	return u->mem.region[0].host + (gpa - GUEST_GPA);
}

void unit_request(struct blk_request *req, struct vq *vq)
{
	/* Header, data and status want three descriptors. */
	assert_ok(blk_request_init(req, vq, vq->num < 3 ? 3 : 0));
}

void unit_requests(struct blk_request *req, unsigned int nr, struct vq *vq)
{
	while (nr--)
		assert_ok(blk_request_init(req++, vq, 3));
}

void unit_submit_one(struct unit *u, struct blk_request *req, uint32_t type, uint64_t sector,
		     void *buf, uint32_t len)
{
	struct vq_segment data = { 0 };

	if (len)
		data = unit_segment(u, buf, len);
	assert_ok(blk_add(req, type, sector, &data, len ? 1 : 0));
	vq_submit(req->vq);
}

void unit_submit_range(struct unit *u, struct blk_request *req, uint32_t type, uint64_t sector,
		       uint32_t nr, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes *range = guest_alloc(&u->mem, 0, sizeof(*range), 16);

	assert_non_null(range);
	range->sector = sector;
	range->num_sectors = nr;
	range->flags = flags;
	unit_submit_one(u, req, type, 0, range, sizeof(*range));
}

static int status_of(struct blk_request *req, uint32_t type, uint64_t sector)
{
	int status = blk_wait(req, TIMEOUT_MS);

	if (status < 0)
		fail_msg("type %u sector %llu: %s", type, (unsigned long long)sector,
			 strerror(-status));
	return status;
}

int unit_range(struct unit *u, uint32_t type, uint64_t sector, uint32_t nr, uint32_t flags)
{
	int status;

	unit_submit_range(u, &u->req, type, sector, nr, flags);
	status = status_of(&u->req, type, sector);
	assert_int_equal(u->req.used_len, 1);
	return status;
}

int unit_io_on(struct unit *u, struct blk_request *req, uint32_t type, uint64_t sector, void *buf,
	       uint32_t len)
{
	unit_submit_one(u, req, type, sector, buf, len);
	return status_of(req, type, sector);
}

int unit_io(struct unit *u, uint32_t type, uint64_t sector, void *buf, uint32_t len)
{
	return unit_io_on(u, &u->req, type, sector, buf, len);
}

void expect_end(struct blk_request *req, int status, uint32_t used_len)
{
	int got = blk_wait(req, TIMEOUT_MS);

	if (got < 0)
		fail_msg("no completion: %s", strerror(-got));
	if (got != status || req->used_len != used_len)
		fail_msg("status %d, used.len %u, expected %d, %u", got, req->used_len, status,
			 used_len);
}

static struct vhost_blk_stats stats_of(const struct vhost_blk *dev, unsigned int queue)
{
	struct vhost_blk_stats stats = { .index = queue };

	assert_ok(ioctl(dev->fd, VHOST_BLK_GET_STATS, &stats));
	assert_int_equal(stats.index, queue);
	return stats;
}

struct vhost_blk_stats unit_stats(struct unit *u, unsigned int queue)
{
	return stats_of(&u->dev, queue);
}

void expect_inflight(struct unit *u, unsigned int queue, unsigned int nr)
{
	uint64_t got;

	if (!wait_until((got = unit_stats(u, queue).inflight) == nr, TIMEOUT_MS))
		fail_msg("%llu requests in flight, expected %u", (unsigned long long)got, nr);
}

void expect_alive(struct unit *u)
{
	if (!u->sector)
		u->sector = unit_alloc(u, SECTOR_SIZE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, u->sector, SECTOR_SIZE), VIRTIO_BLK_S_OK);
	assert_int_equal(u->req.used_len, SECTOR_SIZE + 1);
}

void expect_reads(struct unit *u, uint64_t sector, unsigned int stride, unsigned int nr)
{
	uint8_t *buf = unit_alloc(u, PAGE);

	for (; nr; nr--, sector += stride) {
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, sector, buf, PAGE), VIRTIO_BLK_S_OK);
		expect_pattern(buf, PAGE, sector * SECTOR_SIZE, 1);
	}
}

void expect_ring_stopped(struct vq *vq)
{
	uint16_t used;

	if (event_wait(vq->err, TIMEOUT_MS))
		fail_msg("the error eventfd was not raised");
	/* Requests in flight complete, except those that have no used ring. */
	wait_until(stats_of(vq->dev, vq->index).inflight == 0, QUIET_MS);
	used = vq_used_idx(vq);
	vq_kick(vq);
	ASSERT_NEVER(vq_used_idx(vq) != used);
}

void disk_fill(int fd, uint64_t offset, size_t len, uint64_t seed)
{
	char *buf = aligned_alloc(PAGE, (len + PAGE - 1) & ~(PAGE - 1));

	assert_non_null(buf);
	pattern_fill(buf, len, offset, seed);
	assert_int_equal(pwrite(fd, buf, len, offset), len);
	free(buf);
}

void expect_disk(int fd, uint64_t offset, size_t len, uint64_t seed)
{
	char *buf = aligned_alloc(PAGE, (len + PAGE - 1) & ~(PAGE - 1));
	long at;

	assert_non_null(buf);
	assert_int_equal(pread(fd, buf, len, offset), len);
	at = pattern_differs(buf, len, offset, seed);
	free(buf);
	if (at >= 0)
		fail_msg("the disk differs at byte %llu", (unsigned long long)offset + at);
}

void expect_equal(const void *buf, const void *expected, size_t len)
{
	const char *a = buf, *b = expected;
	size_t at;

	if (!memcmp(a, b, len))
		return;
	for (at = 0; a[at] == b[at]; at++)
		;
	fail_msg("the data differs at byte %zu of %zu", at, len);
}

void expect_pattern(const void *buf, size_t len, uint64_t offset, uint64_t seed)
{
	long at = pattern_differs(buf, len, offset, seed);

	if (at >= 0)
		fail_msg("the data differs at byte %ld of %zu", at, len);
}

pid_t worker_find(pid_t pid, char role, unsigned int queue)
{
	pid_t worker = worker_pid(pid, role, queue);

	if (worker < 0)
		fail_msg("no worker %c%u", role, queue);
	return worker;
}

/* Return whether a task sleeps in a kernel function of that prefix; a running one has "0". */
static bool sleeps_in(pid_t pid, const char *function)
{
	char path[64], where[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/wchan", pid);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%63s", where), 1);
	fclose(f);
	return strcmp(where, "0") && !strncmp(where, function, strlen(function));
}

void wait_for_sleep(pid_t pid, const char *function)
{
	/* The task may need the CPU that the test runs on. */
	usleep(1000);
	WAIT_UNTIL(sleeps_in(pid, function));
}

void workers_bind(struct unit *u, unsigned int queue, uint64_t mask)
{
	struct vhost_blk_stats stats = unit_stats(u, queue);
	pid_t s = stats.submit_tid, c = stats.complete_tid;
	unsigned int cpu;
	cpu_set_t set;

	CPU_ZERO(&set);
	for (cpu = 0; cpu < 64; cpu++)
		if (mask & BIT64(cpu))
			CPU_SET(cpu, &set);
	assert_ok(sched_setaffinity(s ?: worker_find(getpid(), 's', queue), sizeof(set), &set));
	assert_ok(sched_setaffinity(c ?: worker_find(getpid(), 'c', queue), sizeof(set), &set));
}

bool workers_are_threads(void)
{
	unsigned int version, patchlevel;
	struct utsname name;

	assert_ok(uname(&name));
	assert_int_equal(sscanf(name.release, "%u.%u", &version, &patchlevel), 2);
	return version > 6 || (version == 6 && patchlevel >= 10);
}

uint64_t worker_cpu_ns(pid_t worker)
{
	unsigned long long ns;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", worker);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu", &ns), 1);
	fclose(f);
	return ns;
}

void unit_bind(pid_t pid, unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	assert_ok(sched_setaffinity(pid, sizeof(set), &set));
}

void unit_unbind(pid_t pid)
{
	cpu_set_t all;

	memset(&all, 0xff, sizeof(all));
	assert_ok(sched_setaffinity(pid, sizeof(all), &all));
}

void expect_in_cgroup(pid_t pid)
{
	char path[64], text[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	assert_string_equal(text, "0::" CGROUP_NAME "\n");
}

int unit_remove_module(void)
{
	return syscall(SYS_delete_module, "vhost_blk", O_NONBLOCK);
}

void unit_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		fail_msg("%s to %s: %s", text, path, strerror(errno));
	close(fd);
}

void set_fault(const char *capability, const char *attribute, const char *value)
{
	char path[100];

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", capability, attribute);
	unit_write(path, value);
}

long available_kib(void)
{
	char line[128];
	long kib = -1;
	FILE *f;

	unit_write("/proc/sys/vm/drop_caches", "3");
	f = fopen("/proc/meminfo", "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) && sscanf(line, "MemAvailable: %ld", &kib) != 1)
		;
	fclose(f);
	return kib;
}

void expect_workers(pid_t pid, int nr)
{
	int got;

	/* A thread that ended is counted until it is reaped. */
	if (!wait_until((got = worker_count(pid)) == nr, TIMEOUT_MS))
		fail_msg("%d workers, expected %d", got, nr);
	if (!nr && !wait_until(!(got = offload_count(pid)), TIMEOUT_MS))
		fail_msg("%d threads for offloaded requests are left", got);
}

void expect_workers_of_dead_owner(pid_t pid, int nr)
{
	if (workers_are_threads())
		expect_workers(pid, 0);
	else
		ASSERT_NEVER(worker_count(pid) != nr);
}

pid_t child_fork(void)
{
	pid_t pid = fork();

	/* The child of a test that failed must not keep the device open. */
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

bool has_memory(pid_t pid)
{
	char path[64], line[128];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		found |= !strncmp(line, "VmSize:", 7);
	fclose(f);
	return found;
}

int child_wait(pid_t pid)
{
	int status;

	if (!wait_until(waitpid(pid, &status, WNOHANG), 2 * TIMEOUT_MS)) {
		kill(pid, SIGKILL);
		fail_msg("child %d does not end", pid);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}
