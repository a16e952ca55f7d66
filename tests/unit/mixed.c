// SPDX-License-Identifier: GPL-2.0
/*
 * A stress test: requests of all types on several devices, whose disks fail and
 * hang, and which are paused, reset and migrated, with changes of pinning and memory.
 */
#define _GNU_SOURCE
#include "disks.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "load.h"

#define DEVICES		3U
#define QUEUES		2U
#define RING		64
#define SECONDS		10		/* by default */
#define STEPS_MAX	8U		/* of the load between two disturbances */
#define LOG_SIZE	(256 * KIB)	/* bytes: a bit for each page below 8 GiB */
#define REPORT_MS		30000

struct device {
	struct unit *u;
	const struct disk_kind *kind;
	struct load load[QUEUES];
	bool fails;			/* the disk fails at present */
	bool more_memory;
	uint64_t features;
	char works[512], broken[512];	/* tables of a device-mapper disk */
};

static uint64_t seed;
static void *dirty_log;

static unsigned int random_below(unsigned int n)
{
	return random_next(&seed) % n;
}

static void run_load(struct device *d, unsigned int nr)
{
	unsigned int i;

	while (nr--)
		for (i = 0; i < QUEUES; i++)
			load_step(&d->load[i]);
}

/* Disturbances. After each the device processes requests. */

static void pause_and_go_on(struct device *d)
{
	unit_detach(d->u);
	unit_pin_limit(d->u, random_below(3) * MIB);
	usleep(random_below(20000));
	unit_attach(d->u);
}

/* Forget all requests in flight. */
static void restart_rings(struct device *d)
{
	unsigned int i;

	for (i = 0; i < QUEUES; i++) {
		load_forget(&d->load[i]);
		assert_ok(vq_restart(&d->u->vq[i], random_below(65536)));
	}
}

static void reset(struct device *d)
{
	unit_detach(d->u);
	restart_rings(d);
	unit_attach(d->u);
}

static void reset_owner(struct device *d)
{
	assert_ok(ioctl(d->u->dev.fd, VHOST_RESET_OWNER));
	d->u->dev.features = RANGE_FEATURES;
	d->features = RANGE_FEATURES;
	d->more_memory = true;
	assert_ok(vhost_blk_setup(&d->u->dev));
	restart_rings(d);
	unit_attach(d->u);
}

static void log_on_or_off(struct device *d)
{
	uint64_t base = (uintptr_t)dirty_log;

	d->features ^= BIT64(VHOST_F_LOG_ALL);
	assert_ok(ioctl(d->u->dev.fd, VHOST_SET_LOG_BASE, &base));
	assert_ok(ioctl(d->u->dev.fd, VHOST_SET_FEATURES, &d->features));
}

/* Add or remove the second region. */
static void change_memory_table(struct device *d)
{
	d->more_memory = !d->more_memory;
	d->u->mem.nregions = d->more_memory ? 2 : 1;
	assert_ok(vhost_blk_set_memory(&d->u->dev));
	d->u->mem.nregions = 2;
}

static void change_write_cache(struct device *d)
{
	struct vhost_blk_write_cache cache = { .mode = random_below(2) };

	/* The flush fails if the disk does. */
	if (ioctl(d->u->dev.fd, VHOST_BLK_SET_WRITE_CACHE, &cache))
		assert_true(d->fails);
}

static void change_workers(struct device *d)
{
	/* Kernel threads of several devices have the same names. */
	if (workers_are_threads())
		workers_bind(d->u, random_below(QUEUES), 1 + random_below(3));
	unit_poll_timeout(d->u, random_below(QUEUES), random_below(2) * 50);
}

static void owner_forks(struct device *d)
{
	pid_t pid = child_fork();

	(void)d;
	if (!pid)
		_exit(0);
	assert_int_equal(child_wait(pid), 0);
}

static void fail_or_work(struct device *d)
{
	if (d->kind != &dm_direct)
		return;
	d->fails = !d->fails;
	assert_ok(backend_dm_reload(d->u->path, d->fails ? d->broken : d->works));
}

/* Suspend the disk or freeze its file system for a while. */
static void hang(struct device *d)
{
	if (d->kind == &dm_direct)
		unit_suspend(d->u, d->u->path);
	else if (d->kind->on == ON_FILE)
		unit_freeze(d->u, d->kind->dir);
	run_load(d, 1);
	if (d->kind == &dm_direct)
		unit_resume(d->u);
	else if (d->kind->on == ON_FILE)
		unit_thaw(d->u);
}

static void (*const disturbances[])(struct device *d) = {
	pause_and_go_on, reset, reset_owner, log_on_or_off, change_memory_table, change_write_cache,
	change_workers, owner_forks, fail_or_work, hang,
};

static void start_device(struct device *d, const struct disk_kind *kind)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB, .discard = true };
	char below[BACKEND_PATH_MAX];
	unsigned int i;

	d->kind = kind;
	d->u->mark = backend_mark();
	if (kind == &dm_direct) {
		assert_ok(backend_null(below, &spec));
		snprintf(d->works, sizeof(d->works), "0 %lu linear %s 0\n", SECTORS, below);
		/* The disk is never up. */
		snprintf(d->broken, sizeof(d->broken), "0 %lu flakey %s 0 0 1\n", SECTORS, below);
		assert_ok(backend_dm(d->u->path, d->works));
		unit_disk(d->u, d->u->path, O_RDWR | O_DIRECT);
	} else {
		open_disk(d->u, kind);
	}
	assert_ok(guest_memory_add(&d->u->mem, 2 * GUEST_GPA - GUEST_SIZE, MIB));
	unit_start_with(d->u, RANGE_FEATURES, QUEUES, RING);
	d->more_memory = true;
	d->features = RANGE_FEATURES;
	for (i = 0; i < QUEUES; i++)
		load_init(&d->load[i], d->u, i, i * (LOAD_SIZE / SECTOR_SIZE), LOAD_ALL);
}

static void finish_device(struct device *d)
{
	unsigned int i;

	if (d->fails)
		fail_or_work(d);
	for (i = 0; i < QUEUES; i++) {
		load_drain(&d->load[i]);
		if (d->kind != &dm_direct)
			assert_int_equal(d->load[i].failed, 0);
		load_verify(&d->load[i]);
	}
}

static void everything_at_once(void **state)
{
	static const struct disk_kind * const kinds[DEVICES] = {
		&dm_direct, &ext4_direct, &loop_cached,
	};
	unsigned int seconds = unit_rounds(0) * 60 ?: SECONDS, i, nr = 0;
	int64_t end, reported;
	struct device *device = *state, *d;

	dirty_log = mmap(NULL, LOG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(dirty_log != MAP_FAILED);
	for (i = 0; i < DEVICES; i++)
		start_device(&device[i], kinds[i]);
	reported = now_ms();
	seed = reported;
	for (end = now_ms() + seconds * 1000LL; now_ms() < end; nr++) {
		unit_restart_alarm();
		for (i = 0; i < DEVICES; i++)
			run_load(&device[i], random_below(STEPS_MAX));
		d = &device[random_below(DEVICES)];
		disturbances[random_below(ARRAY_SIZE(disturbances))](d);
		if (now_ms() - reported > REPORT_MS) {
			print_message("%u disturbances, %u requests of the first queue\n", nr,
				      device->load->ok + device->load->failed);
			reported = now_ms();
		}
	}
	for (i = 0; i < DEVICES; i++)
		finish_device(&device[i]);
	print_message("%u disturbances\n", nr);
	munmap(dirty_log, LOG_SIZE);
}

static int mixed_setup(void **state)
{
	struct device *device = calloc(DEVICES, sizeof(*device));
	unsigned int i;

	if (!device)
		return -1;
	*state = device;
	for (i = 0; i < DEVICES; i++)
		if (unit_setup((void **)&device[i].u))
			return -1;
	return 0;
}

static int mixed_teardown(void **state)
{
	struct device *device = *state;
	unsigned int i = DEVICES;
	int ret = 0;

	while (i--)
		ret = unit_teardown((void **)&device[i].u) ?: ret;
	free(device);
	return ret;
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		{ "everything_at_once", everything_at_once, mixed_setup, mixed_teardown, NULL },
	};

	return disks_run(argc, argv, tests, ARRAY_SIZE(tests));
}
