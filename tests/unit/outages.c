// SPDX-License-Identifier: GPL-2.0
/* Outages: disks that fail, hang or are unplugged, quotas, memory pressure, offline CPUs. */
#define _GNU_SOURCE
#include "disks.h"

#include <linux/fs.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/quota.h>
#include <sys/swap.h>

#include "load.h"

#define RING		64
#define ROUND		(4 * LOAD_DEPTH)	/* completions, of each request several */
#define OWNER_UID	65534

static void start_load(struct load *l, struct unit *u, unsigned int types)
{
	unit_start_with(u, types > LOAD_FLUSHES ? RANGE_FEATURES : FEATURES, 1, RING);
	load_init(l, u, 0, 0, types);
	load_until(l, &l->ok, ROUND);
}

/* Detach and remove the disk, which must have no user left. */
static void expect_released(struct unit *u)
{
	unit_detach(u);
	expect_workers(getpid(), 0);
	close(u->disk);
	u->disk = -1;
	assert_ok(backend_remove_since(u->mark));
}

/*
 * Disks with bad sectors.
 */

#define BAD_SECTORS	8U

struct bad {
	void (*open)(struct unit *u);
	uint64_t first;			/* bad sector */
	bool writable;			/* only reads fail */
};

static void open_bad_null(struct unit *u)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB, .bad_sector = 2048,
				 .bad_sectors = BAD_SECTORS };

	unit_null(u, &spec, O_RDWR | O_DIRECT);
}

static void open_bad_scsi(struct unit *u)
{
	assert_ok(backend_scsi(u->path, "dev_size_mb=8 delay=0 medium_error_start=4660 "
			       "medium_error_count=8"));
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
}

static const struct bad null_bad = { .open = open_bad_null, .first = 2048 };
static const struct bad scsi_bad = { .open = open_bad_scsi, .first = 4660, .writable = true };

/* Only requests with a bad sector fail. */
static void bad_sectors(void **state)
{
	struct unit *u = *state;
	const struct bad *bad = u->param;
	struct blk_request req[4];
	/* Before and behind the bad sectors, and with the first and the last of them. */
	const uint64_t sector[] = { bad->first - 8, bad->first + BAD_SECTORS, bad->first - 7,
				    bad->first + BAD_SECTORS - 1 };
	unsigned int i, round;
	uint8_t *buf;

	bad->open(u);
	disk_fill(u->disk, (bad->first - 64) * SECTOR_SIZE, 64 * SECTOR_SIZE, 1);
	disk_fill(u->disk, (bad->first + BAD_SECTORS) * SECTOR_SIZE, 64 * SECTOR_SIZE, 1);
	if (bad->writable)
		assert_ok(backend_scsi_option("opts", "2"));
	unit_start(u, 1, RING);
	unit_requests(req, 4, &u->vq[0]);
	buf = unit_alloc(u, 4 * PAGE);
	for (round = 0; round < 10; round++) {
		for (i = 0; i < 4; i++)
			unit_submit_one(u, &req[i], VIRTIO_BLK_T_IN, sector[i], buf + i * PAGE,
					PAGE);
		for (i = 0; i < 2; i++) {
			expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
			expect_pattern(buf + i * PAGE, PAGE, sector[i] * SECTOR_SIZE, 1);
		}
		for (; i < 4; i++)
			expect_end(&req[i], VIRTIO_BLK_S_IOERR, 1);
	}
	if (!bad->writable)
		for (i = 2; i < 4; i++)
			assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, sector[i], buf + i * PAGE,
						 PAGE), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_stats(u, 0).type[VHOST_BLK_STATS_READ].errors, 20);
	expect_released(u);
}

/*
 * A SCSI disk on which every nth command fails in a way from which the SCSI layer
 * recovers. No request of the guest fails.
 */
struct recovered {
	const char *opts;		/* of scsi_debug */
	const char *every_nth;
	unsigned int rounds;
};

static const struct recovered lost_commands = { .opts = "4", .every_nth = "50", .rounds = 3 };
static const struct recovered transport_errors = { .opts = "16", .every_nth = "7", .rounds = 10 };
static const struct recovered recovered_errors = { .opts = "8", .every_nth = "3", .rounds = 10 };
static const struct recovered busy_host = { .opts = "0x8000", .every_nth = "5", .rounds = 10 };

static void open_scsi(struct unit *u)
{
	assert_ok(backend_scsi(u->path, "dev_size_mb=8 delay=0"));
	/* Seconds until a command is aborted and retried. */
	assert_ok(backend_scsi_attribute(u->path, "timeout", "1"));
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
}

static void errors_that_scsi_recovers(void **state)
{
	struct unit *u = *state;
	const struct recovered *recovered = u->param;
	static struct load l;

	open_scsi(u);
	start_load(&l, u, LOAD_FLUSHES);
	assert_ok(backend_scsi_option("every_nth", recovered->every_nth));
	assert_ok(backend_scsi_option("opts", recovered->opts));
	load_until(&l, &l.ok, recovered->rounds * ROUND);
	assert_ok(backend_scsi_option("opts", "0"));
	load_expect_ok(&l);
	expect_released(u);
}

/*
 * Disks that fail, temporarily or permanently.
 */

struct tables {
	char works[256], intermittent[256], fails[64];
};

static void open_linear(struct unit *u, struct tables *tables)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB, .discard = true };
	char below[BACKEND_PATH_MAX];

	assert_ok(backend_null(below, &spec));
	snprintf(tables->works, sizeof(tables->works), "0 %lu linear %s 0\n", SECTORS, below);
	/* The disk is alternately up and down for a second. */
	snprintf(tables->intermittent, sizeof(tables->intermittent), "0 %lu flakey %s 0 1 1\n",
		 SECTORS, below);
	snprintf(tables->fails, sizeof(tables->fails), "0 %lu error \n", SECTORS);
	assert_ok(backend_dm(u->path, tables->works));
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
}

/* Make the disk work again. Acknowledged data must be there. */
static void expect_works_again(struct unit *u, struct load *l, const char *table)
{
	assert_ok(backend_dm_reload(u->path, table));
	load_drain(l);
	l->failed = 0;
	load_until(l, &l->ok, ROUND);
	load_expect_ok(l);
	expect_released(u);
}

/* Requests of all types succeed or fail. */
static void fails_intermittently(void **state)
{
	struct unit *u = *state;
	static struct load l;
	struct tables tables;

	open_linear(u, &tables);
	start_load(&l, u, LOAD_ALL);
	assert_ok(backend_dm_reload(u->path, tables.intermittent));
	load_until(&l, &l.failed, ROUND);
	load_until(&l, &l.ok, ROUND);
	load_until(&l, &l.failed, 1);
	expect_works_again(u, &l, tables.works);
}

/* As after dmsetup remove --force all further reads and writes fail. */
static void removed_by_force(void **state)
{
	struct unit *u = *state;
	static struct load l;
	struct tables tables;

	open_linear(u, &tables);
	start_load(&l, u, LOAD_READS_WRITES);
	assert_ok(backend_dm_reload(u->path, tables.fails));
	load_drain(&l);
	l.ok = 0;
	load_until(&l, &l.failed, ROUND);
	assert_int_equal(l.ok, 0);
	expect_works_again(u, &l, tables.works);
}

static int detach_loop(void *path)
{
	int loop = open(path, O_RDWR | O_CLOEXEC), ret;

	ret = ioctl(loop, LOOP_CLR_FD);
	close(loop);
	return ret;
}

/* losetup -d succeeds, but takes effect when the device is closed. */
static void loop_detached_under_load(void **state)
{
	struct unit *u = *state;
	static struct load l;

	open_disk(u, &loop_direct);
	start_load(&l, u, LOAD_ALL);
	load_during(&l, detach_loop, u->path);
	load_until(&l, &l.ok, ROUND);
	load_expect_ok(&l);
	expect_released(u);
}

static int unplug_scsi(void *path)
{
	return backend_scsi_attribute(path, "delete", "1");
}

/* All requests complete, and all later ones fail. */
static void scsi_disk_unplugged_under_load(void **state)
{
	struct unit *u = *state;
	static struct load l;

	open_scsi(u);
	start_load(&l, u, LOAD_FLUSHES);
	load_during(&l, unplug_scsi, u->path);
	load_until(&l, &l.failed, ROUND);
	load_drain(&l);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, l.buf, PAGE), VIRTIO_BLK_S_IOERR);
	expect_released(u);
}

/*
 * Disks that hang and recover.
 */

struct hang {
	const char *remote;		/* a kind of tests/lib/remote-disk */
	bool scsi;			/* else a device-mapper device */
};

static const struct hang dm = { 0 };
static const struct hang scsi = { .scsi = true };
static const struct hang nbd = { .remote = "nbd" };
static const struct hang nvme_tcp = { .remote = "nvme" };

static const struct hang *hanging;	/* to be resumed after a failed test */

static void open_hang(struct unit *u, const struct hang *hang)
{
	char dir[BACKEND_PATH_MAX];

	if (hang->scsi) {
		open_scsi(u);
	} else if (!hang->remote) {
		unit_suspendable(u, DISK_SIZE);
	} else {
		assert_ok(backend_tmpfs(dir, 2 * DISK_SIZE));
		assert_ok(backend_file(u->file, dir, "image", DISK_SIZE));
		assert_ok(backend_remote(u->path, hang->remote, u->file));
		unit_disk(u, u->path, O_RDWR | O_DIRECT);
	}
}

static int suspend(struct unit *u, const struct hang *hang)
{
	hanging = hang;
	if (hang->remote)
		return backend_remote_do(hang->remote, "stop");
	if (!hang->scsi)
		return backend_dm_suspend(u->path);
	/* All commands are lost. */
	return backend_scsi_option("every_nth", "-1") ?: backend_scsi_option("opts", "4");
}

static int resume(struct unit *u)
{
	const struct hang *hang = hanging;

	hanging = NULL;
	if (hang->remote)
		return backend_remote_do(hang->remote, "go");
	if (!hang->scsi)
		return backend_dm_resume(u->path);
	return backend_scsi_option("opts", "0");
}

static int hang_teardown(void **state)
{
	if (hanging)
		resume(*state);
	return unit_teardown(state);
}

#define TEST_HANG(fn, p)	{ #fn "_on_" #p, fn, unit_setup, hang_teardown, (void *)&(p) }

/* Run the load until no request has completed for a while. */
static void load_until_hung(struct load *l)
{
	unsigned int completed = l->ok + l->failed;
	int64_t last = now_ms();

	REPEAT_UNTIL(now_ms() - last >= 2 * QUIET_MS) {
		load_step(l);
		if (l->ok + l->failed != completed)
			last = now_ms();
		completed = l->ok + l->failed;
	}
}

/* Requests wait while the disk hangs, and succeed when it has recovered. */
static void hangs_and_recovers(void **state)
{
	struct unit *u = *state;
	static struct load l;
	unsigned int i;
	void *id;

	open_hang(u, u->param);
	start_load(&l, u, LOAD_FLUSHES);
	id = unit_alloc(u, VIRTIO_BLK_ID_BYTES);
	for (i = 0; i < 2; i++) {
		assert_ok(suspend(u, u->param));
		load_until_hung(&l);
		assert_int_equal(unit_stats(u, 0).inflight, LOAD_DEPTH);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_GET_ID, 0, id, VIRTIO_BLK_ID_BYTES),
				 VIRTIO_BLK_S_OK);
		assert_ok(resume(u));
		load_until(&l, &l.ok, ROUND);
	}
	load_expect_ok(&l);
	expect_released(u);
}

/* How the owner of a hanging disk uses it. */
struct owner {
	const struct hang *hang;
	unsigned int offset;		/* of the memory; misaligned I/O is offloaded */
	uint64_t pin;
};

static const struct owner dm_direct_io = { .hang = &dm };
static const struct owner dm_bounced = { .hang = &dm, .offset = 1 };
static const struct owner dm_pinned = { .hang = &dm, .pin = 4 * MIB };
static const struct owner scsi_direct_io = { .hang = &scsi };
static const struct owner nbd_direct_io = { .hang = &nbd };
static const struct owner nvme_tcp_direct_io = { .hang = &nvme_tcp };

/* Return an entry of a table of 64-bit numbers in /proc, or 0. */
static uint64_t proc_entry(const char *path, uint64_t index)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t entry;

	if (pread(fd, &entry, sizeof(entry), index * sizeof(entry)) != sizeof(entry))
		entry = 0;
	close(fd);
	return entry;
}

static uint64_t frame_of(const void *p)
{
	return proc_entry("/proc/self/pagemap", (uintptr_t)p / PAGE) & ((1ULL << 55) - 1);
}

/* Return true if a page frame is in use as process memory. */
static bool is_in_use(uint64_t frame)
{
	enum { KPF_BUDDY = 10, KPF_SWAPBACKED = 14 };
	uint64_t flags = proc_entry("/proc/kpageflags", frame);

	return (flags & BIT64(KPF_SWAPBACKED)) && !(flags & BIT64(KPF_BUDDY));
}

/* Own a device with reads in flight, report their page frames and wait for SIGKILL. */
static void own_and_wait(struct unit *u, const struct owner *owner, int up)
{
	static struct blk_request req[LOAD_DEPTH];
	struct unit *own = calloc(1, sizeof(*own));
	uint64_t frame[LOAD_DEPTH];
	unsigned int i;
	uint8_t *buf;

	child_check(own && !guest_memory_init(&own->mem));
	child_check(guest_memory_add(&own->mem, GUEST_GPA, 4 * MIB) == 0);
	own->disk = u->disk;
	unit_open(own, FEATURES);
	unit_pin_limit(own, owner->pin);
	unit_vqs(own, 1, RING);
	unit_attach(own);
	unit_requests(req, LOAD_DEPTH, &own->vq[0]);
	buf = unit_alloc(own, (LOAD_DEPTH + 1) * PAGE);
	/* Fault the pages in, and into the cache of pinned pages if there is one. */
	child_check(unit_io(own, VIRTIO_BLK_T_IN, 0, buf, LOAD_DEPTH * PAGE) == VIRTIO_BLK_S_OK);
	child_check(!suspend(u, owner->hang));
	for (i = 0; i < LOAD_DEPTH; i++) {
		unit_submit_one(own, &req[i], VIRTIO_BLK_T_IN, i * 8,
				buf + i * PAGE + owner->offset, PAGE);
		frame[i] = frame_of(buf + i * PAGE);
	}
	expect_inflight(own, 0, LOAD_DEPTH);
	/* The offloaded request waits in the disk a little after it is in flight. */
	usleep(QUIET_MS * 1000);
	child_check(write(up, frame, sizeof(frame)) == sizeof(frame));
	for (;;)
		pause();
}

/*
 * The owner of a hanging disk is killed. Its pages are not freed before the disk
 * recovers. Then the owner exits and no worker is left.
 */
static void owner_killed_while_disk_hangs(void **state)
{
	struct unit *u = *state;
	const struct owner *owner = u->param;
	uint64_t frame[LOAD_DEPTH];
	unsigned int i;
	pid_t pid;
	int up[2];

	open_hang(u, owner->hang);
	assert_ok(pipe(up));
	hanging = owner->hang;
	pid = child_fork();
	if (!pid)
		own_and_wait(u, owner, up[1]);
	close(up[1]);
	assert_int_equal(read(up[0], frame, sizeof(frame)), sizeof(frame));
	close(up[0]);
	assert_ok(kill(pid, SIGKILL));
	WAIT_UNTIL(!has_memory(pid));
	/* A completion worker that is a thread stays until its requests have ended. */
	expect_workers(pid, workers_are_threads() ? 1 : 2);
	for (i = 0; i < LOAD_DEPTH; i++)
		assert_true(is_in_use(frame[i]));
	assert_ok(resume(u));
	assert_int_equal(child_wait(pid), 256 + SIGKILL);
	expect_workers(pid, 0);
	/* The disk works for the next owner. Its blocks may be larger than a sector. */
	unit_start(u, 1, RING);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, unit_alloc(u, PAGE), PAGE),
			 VIRTIO_BLK_S_OK);
	expect_released(u);
}

/* Requests fail when the server is killed, and the disk works with the next server. */
static void nbd_server_killed(void **state)
{
	struct unit *u = *state;
	static struct load l;

	open_hang(u, &nbd);
	start_load(&l, u, LOAD_FLUSHES);
	assert_ok(backend_remote_do("nbd", "kill"));
	load_until(&l, &l.failed, ROUND);
	load_drain(&l);
	unit_detach(u);
	expect_workers(getpid(), 0);
	close(u->disk);
	assert_ok(backend_remote_do("nbd", "replace"));
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
	unit_attach(u);
	l.failed = 0;
	load_until(&l, &l.ok, ROUND);
	load_expect_ok(&l);
	expect_released(u);
}

/*
 * File systems.
 */

static int freeze_and_thaw(void *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), ret = 0;
	unsigned int i;

	for (i = 0; i < 20 && !ret; i++) {
		ret = ioctl(fd, FIFREEZE, 0);
		usleep(i * 1000);
		ret = ret ?: ioctl(fd, FITHAW, 0);
		usleep(i * 1000);
	}
	close(fd);
	return ret;
}

static void frozen_and_thawed_under_load(void **state)
{
	struct unit *u = *state;
	const struct disk_kind *kind = u->param;
	static struct load l;

	open_disk(u, kind);
	start_load(&l, u, LOAD_ALL);
	load_during(&l, freeze_and_thaw, (void *)kind->dir);
	load_until(&l, &l.ok, ROUND);
	load_expect_ok(&l);
	unit_detach(u);
}

struct quota {
	const char *fstype;
	unsigned int size_mib;
	int flags;
};

static const struct quota quota_ext4 = { "ext4", 32, 0 };
static const struct quota quota_ext4_direct = { "ext4", 32, O_DIRECT };
static const struct quota quota_xfs_direct = { "xfs", 48, O_DIRECT };

static void set_quota(const char *device, unsigned int mib)
{
	struct dqblk limit = { .dqb_bhardlimit = mib * KIB, .dqb_valid = QIF_BLIMITS };

	assert_ok(quotactl(QCMD(Q_SETQUOTA, USRQUOTA), device, OWNER_UID, (void *)&limit));
}

/* Write a sparse file of 16 MiB from its start. Return the number of steps that succeeded. */
static unsigned int fill(struct unit *u, uint8_t *buf)
{
	enum { STEP = 256 * 1024 };
	unsigned int i;

	for (i = 0; i < 16 * MIB / STEP; i++) {
		pattern_fill(buf, STEP, i * STEP, 1);
		if (unit_io(u, VIRTIO_BLK_T_OUT, i * STEP / SECTOR_SIZE, buf, STEP))
			break;
	}
	return i;
}

/* Writes beyond the owner's quota fail, until it is increased. */
static void owner_has_a_quota(void **state)
{
	struct unit *u = *state;
	const struct quota *quota = u->param;
	struct null_blk spec = { .size_mib = quota->size_mib };
	char device[BACKEND_PATH_MAX], dir[BACKEND_PATH_MAX];
	int up[2], down[2];
	char byte;
	pid_t pid;

	assert_ok(backend_null(device, &spec));
	assert_ok(backend_mkfs_quota(dir, quota->fstype, device));
	assert_ok(backend_file(u->path, dir, "disk", 16 * MIB));
	unit_disk(u, u->path, O_RDWR | quota->flags);
	assert_ok(fchown(u->disk, OWNER_UID, -1));
	set_quota(device, 4);
	assert_ok(pipe(up));
	assert_ok(pipe(down));
	pid = child_fork();
	if (!pid) {
		uint8_t *buf;

		unit_open(u, FEATURES);
		unit_vqs(u, 1, RING);
		child_check(!setresuid(OWNER_UID, OWNER_UID, OWNER_UID));
		unit_attach(u);
		buf = unit_alloc(u, 256 * KIB);
		child_check(fill(u, buf) < 17);
		child_check(u->req.used_len == 1);
		child_check(*u->req.status == VIRTIO_BLK_S_IOERR);
		child_check(write(up[1], "", 1) == 1 && read(down[0], &byte, 1) == 1);
		child_check(fill(u, buf) == 64);
		child_check(unit_io(u, VIRTIO_BLK_T_FLUSH, 0, NULL, 0) == VIRTIO_BLK_S_OK);
		_exit(0);
	}
	close(up[1]);
	assert_int_equal(read(up[0], &byte, 1), 1);
	set_quota(device, 20);
	assert_int_equal(write(down[1], "", 1), 1);
	assert_int_equal(child_wait(pid), 0);
	expect_workers(pid, 0);
	expect_disk(u->disk, 0, 16 * MIB, 1);
	close(up[0]);
	close(down[0]);
	close(down[1]);
}

/*
 * Memory pressure: a cgroup with less memory than the guest, and a swap device.
 */

#define SWAPPED		(16 * MIB)
#define CHUNK		(64 * KIB)
#define CHUNKS		(SWAPPED / CHUNK)

struct pressure {
	bool private;		/* guest memory is private */
	bool cached;		/* the disk is a memfd, which is swapped out, too */
	uint64_t pin;
};

static const struct pressure shared_memory = { 0 };
static const struct pressure private_memory = { .private = true };
static const struct pressure pinned_memory = { .private = true, .pin = 4 * MIB };
static const struct pressure shared_memory_and_disk = { .cached = true };

static long pages_swapped(const char *counter)
{
	char line[128];
	long nr = -1;
	FILE *f;

	f = fopen("/proc/vmstat", "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, counter, strlen(counter)))
			nr = atol(line + strlen(counter));
	fclose(f);
	return nr;
}

static void do_chunks(struct unit *u, struct blk_request *req, uint32_t type, uint8_t *buf)
{
	unsigned int i;

	for (i = 0; i < CHUNKS + LOAD_DEPTH; i++) {
		struct blk_request *r = &req[i % LOAD_DEPTH];

		if (i >= LOAD_DEPTH)
			expect_end(r, VIRTIO_BLK_S_OK, type == VIRTIO_BLK_T_IN ? CHUNK + 1 : 1);
		if (i < CHUNKS)
			unit_submit_one(u, r, type, i * (CHUNK / SECTOR_SIZE), buf + i * CHUNK,
					CHUNK);
	}
}

static void guest_memory_is_swapped(void **state)
{
	struct unit *u = *state;
	const struct pressure *pressure = u->param;
	struct null_blk spec = { .size_mib = SWAPPED / MIB };
	/* A deeper queue can have all pages of the cgroup under writeback. */
	struct null_blk swap = { .size_mib = 128, .queue_depth = 2 };
	struct guest_region *region = &u->mem.region[0];
	struct blk_request req[LOAD_DEPTH];
	char path[BACKEND_PATH_MAX];
	long out = pages_swapped("pswpout "), in = pages_swapped("pswpin ");
	uint8_t *buf;

	assert_ok(backend_null(path, &swap));
	assert_ok(backend_swap(path));
	if (pressure->private)
		assert_ptr_equal(mmap(region->host, region->size, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
				 region->host);
	unit_write(CGROUP "/memory.max", "10M");
	unit_write(CGROUP "/cgroup.procs", "0");
	if (pressure->cached)
		unit_memfd(u, SWAPPED);
	else
		unit_null(u, &spec, O_RDWR | O_DIRECT);
	unit_open(u, FEATURES);
	unit_pin_limit(u, pressure->pin);
	unit_vqs(u, 1, RING);
	unit_attach(u);
	unit_requests(req, LOAD_DEPTH, &u->vq[0]);
	buf = unit_alloc(u, SWAPPED);
	pattern_fill(buf, SWAPPED, 0, 1);
	do_chunks(u, req, VIRTIO_BLK_T_OUT, buf);
	memset(buf, 0, SWAPPED);
	do_chunks(u, req, VIRTIO_BLK_T_IN, buf);
	expect_pattern(buf, SWAPPED, 0, 1);
	print_message("pages swapped out: %ld, in: %ld\n", pages_swapped("pswpout ") - out,
		      pages_swapped("pswpin ") - in);
	/* Writes and reads find more than half of the memory swapped out. */
	assert_true(pages_swapped("pswpout ") - out > (long)(SWAPPED / PAGE));
	assert_true(pages_swapped("pswpin ") - in > (long)(SWAPPED / PAGE / 2));
	vhost_blk_close(&u->dev);
	expect_workers(getpid(), 0);
	/* The limit is too low for swapoff, which swaps all pages in. */
	cgroup_leave();
	unit_write(CGROUP "/memory.max", "max");
}

/*
 * CPUs.
 */

static const bool bound = true, unbound = false;

static int cpu_off_and_on(void *arg)
{
	static const char * const online[] = { "0", "1" };
	unsigned int i;
	int fd, ret = 0;

	(void)arg;
	for (i = 0; i < 8 && !ret; i++) {
		fd = open("/sys/devices/system/cpu/cpu1/online", O_WRONLY | O_CLOEXEC);
		if (write(fd, online[i % 2], 1) != 1)
			ret = -errno;
		close(fd);
		usleep(50000);
	}
	return ret;
}

/* The CPU of the workers goes offline repeatedly. They continue on the other one. */
static void cpu_offline_under_load(void **state)
{
	struct null_blk spec = { .size_mib = 8, .delay_us = 1000, .discard = true };
	struct unit *u = *state;
	static struct load l;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	start_load(&l, u, LOAD_FLUSHES);
	if (*(const bool *)u->param)
		workers_bind(u, 0, 2);
	load_during(&l, cpu_off_and_on, NULL);
	/* When it is online again, workers can be bound to it. */
	workers_bind(u, 0, 2);
	load_until(&l, &l.ok, ROUND);
	load_expect_ok(&l);
	expect_released(u);
}

static int cpu_teardown(void **state)
{
	unit_write("/sys/devices/system/cpu/cpu1/online", "1");
	return unit_teardown(state);
}

#define TEST_CPU(fn, p)	{ #fn "_on_" #p, fn, unit_setup, cpu_teardown, (void *)&(p) }

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_ON(bad_sectors, null_bad),
		TEST_ON(bad_sectors, scsi_bad),
		TEST_ON(errors_that_scsi_recovers, lost_commands),
		TEST_ON(errors_that_scsi_recovers, transport_errors),
		TEST_ON(errors_that_scsi_recovers, recovered_errors),
		TEST_ON(errors_that_scsi_recovers, busy_host),
		TEST(fails_intermittently),
		TEST(removed_by_force),
		TEST(loop_detached_under_load),
		TEST(scsi_disk_unplugged_under_load),
		TEST_HANG(hangs_and_recovers, dm),
		TEST_HANG(hangs_and_recovers, scsi),
		TEST_HANG(hangs_and_recovers, nbd),
		TEST_HANG(hangs_and_recovers, nvme_tcp),
		TEST_HANG(owner_killed_while_disk_hangs, dm_direct_io),
		TEST_HANG(owner_killed_while_disk_hangs, dm_bounced),
		TEST_HANG(owner_killed_while_disk_hangs, dm_pinned),
		TEST_HANG(owner_killed_while_disk_hangs, scsi_direct_io),
		TEST_HANG(owner_killed_while_disk_hangs, nbd_direct_io),
		TEST_HANG(owner_killed_while_disk_hangs, nvme_tcp_direct_io),
		TEST(nbd_server_killed),
		TEST_ON(frozen_and_thawed_under_load, ext4_file),
		TEST_ON(frozen_and_thawed_under_load, ext4_direct),
		TEST_ON(frozen_and_thawed_under_load, xfs_direct),
		TEST_ON(owner_has_a_quota, quota_ext4),
		TEST_ON(owner_has_a_quota, quota_ext4_direct),
		TEST_ON(owner_has_a_quota, quota_xfs_direct),
		TEST_CGROUP_ON(guest_memory_is_swapped, shared_memory),
		TEST_CGROUP_ON(guest_memory_is_swapped, private_memory),
		TEST_CGROUP_ON(guest_memory_is_swapped, pinned_memory),
		TEST_CGROUP_ON(guest_memory_is_swapped, shared_memory_and_disk),
		TEST_CPU(cpu_offline_under_load, unbound),
		TEST_CPU(cpu_offline_under_load, bound),
	};

	return disks_run(argc, argv, tests, ARRAY_SIZE(tests));
}
