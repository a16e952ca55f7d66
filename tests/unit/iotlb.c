// SPDX-License-Identifier: GPL-2.0
/* Rings and data behind a virtual IOMMU, which is a thread of the test. */
#define _GNU_SOURCE
#include "unit.h"

#include <linux/vhost_types.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define DISK_SIZE	(4 * MIB)
#define PAGES		(GUEST_SIZE / PAGE)
#define RING		256	/* entries: the descriptor table is one page */
#define IOMMU_FEATURES	(FEATURES | BIT64(VIRTIO_F_ACCESS_PLATFORM))
/* The memory table has other addresses than the IOMMU, so that using the wrong one fails. */
#define TABLE_GPA	0x40000000ULL

/* The reply to a miss: an update, none until reply_to(), or access denied. */
enum reply { REPLY_UPDATE, REPLY_LATER, REPLY_FAULT };

/* The IOMMU maps each page of GUEST_GPA to GUEST_SIZE, by default to the guest memory there. */
struct iommu {
	struct unit *u;
	pthread_t thread;
	pthread_mutex_t lock;
	bool v1;			/* message format */
	volatile bool stop;
	unsigned int delay_ms;
	char *host[PAGES];		/* NULL: the default */
	uint8_t perm[PAGES];
	enum reply reply[PAGES];
	unsigned int misses[PAGES];
	unsigned int all_misses;
};

static struct iommu iommu;

static unsigned int page_of(uint64_t iova)
{
	assert_true(iova - GUEST_GPA < GUEST_SIZE);
	return (iova - GUEST_GPA) / PAGE;
}

static int send_message(int fd, bool v1, const struct vhost_iotlb_msg *iotlb)
{
	struct vhost_msg_v2 v2 = { .type = VHOST_IOTLB_MSG_V2, .iotlb = *iotlb };
	struct vhost_msg old = { .type = VHOST_IOTLB_MSG, .iotlb = *iotlb };

	if (v1)
		return write(fd, &old, sizeof(old)) == sizeof(old) ? 0 : -errno;
	return write(fd, &v2, sizeof(v2)) == sizeof(v2) ? 0 : -errno;
}

static int update_to(uint64_t iova, uint64_t size, void *host, uint8_t perm)
{
	const struct vhost_iotlb_msg msg = {
		.iova = iova, .size = size, .uaddr = (uintptr_t)host, .perm = perm,
		.type = VHOST_IOTLB_UPDATE,
	};

	return send_message(iommu.u->dev.fd, iommu.v1, &msg);
}

static int update_page(unsigned int page)
{
	uint64_t iova = GUEST_GPA + page * PAGE;
	char *host = iommu.host[page];

	return update_to(iova, PAGE, host ? host : unit_host(iommu.u, iova), iommu.perm[page]);
}

/* Map a range to the guest memory there. */
static int map(uint64_t iova, uint64_t size)
{
	return update_to(iova, size, unit_host(iommu.u, iova), VHOST_ACCESS_RW);
}

static int invalidate(uint64_t iova, uint64_t size)
{
	const struct vhost_iotlb_msg msg = {
		.iova = iova, .size = size, .type = VHOST_IOTLB_INVALIDATE,
	};

	return send_message(iommu.u->dev.fd, iommu.v1, &msg);
}

/* A miss has no size, so the reply needs none. */
static int send_fault(uint64_t iova)
{
	const struct vhost_iotlb_msg msg = {
		.iova = iova, .type = VHOST_IOTLB_ACCESS_FAIL,
	};

	return send_message(iommu.u->dev.fd, iommu.v1, &msg);
}

static bool read_miss(uint64_t *iova)
{
	union {
		struct vhost_msg v1;
		struct vhost_msg_v2 v2;
	} msg;
	const struct vhost_iotlb_msg *miss = iommu.v1 ? &msg.v1.iotlb : &msg.v2.iotlb;

	if (read(iommu.u->dev.fd, &msg, sizeof(msg)) != sizeof(msg))
		return false;
	if (msg.v2.type != (iommu.v1 ? VHOST_IOTLB_MSG : VHOST_IOTLB_MSG_V2) ||
	    miss->type != VHOST_IOTLB_MISS || miss->iova - GUEST_GPA >= GUEST_SIZE) {
		fprintf(stderr, "not a miss: message %u, type %u, address %#llx\n", msg.v2.type,
			miss->type, (unsigned long long)miss->iova);
		abort();
	}
	*iova = miss->iova;
	return true;
}

static void *reply_to_misses(void *arg)
{
	struct pollfd pfd = { .fd = iommu.u->dev.fd, .events = POLLIN };
	unsigned int page;
	uint64_t iova;

	(void)arg;
	while (!iommu.stop) {
		if (poll(&pfd, 1, 10) <= 0 || !read_miss(&iova))
			continue;
		usleep(iommu.delay_ms * 1000);
		page = page_of(iova);
		pthread_mutex_lock(&iommu.lock);
		iommu.misses[page]++;
		iommu.all_misses++;
		if (iommu.reply[page] == REPLY_UPDATE)
			update_page(page);
		else if (iommu.reply[page] == REPLY_FAULT)
			send_fault(iova);
		pthread_mutex_unlock(&iommu.lock);
	}
	return NULL;
}

/* Open a device behind the IOMMU and set up rings of RING entries; nothing is mapped. */
static void open_behind_iommu(struct unit *u, unsigned int nr)
{
	uint64_t backend_features = iommu.v1 ? 0 : BIT64(VHOST_BACKEND_F_IOTLB_MSG_V2);
	struct guest_region *region = &u->mem.region[0];

	iommu.u = u;
	unit_open(u, IOMMU_FEATURES);
	assert_ok(ioctl(u->dev.fd, VHOST_SET_BACKEND_FEATURES, &backend_features));
	region->gpa = TABLE_GPA;
	assert_ok(vhost_blk_set_memory(&u->dev));
	region->gpa = GUEST_GPA;
	assert_ok(fcntl(u->dev.fd, F_SETFL, O_RDWR | O_NONBLOCK));
	assert_false(pthread_create(&iommu.thread, NULL, reply_to_misses, NULL));
	unit_vqs(u, nr, RING);
}

static void start_behind_iommu(struct unit *u, unsigned int nr)
{
	open_behind_iommu(u, nr);
	unit_attach(u);
}

/* The same on a memfd of pattern 1. */
static void start_on_memfd_behind_iommu(struct unit *u, unsigned int nr)
{
	unit_memfd(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	start_behind_iommu(u, nr);
}

#define LOAD_VHOST	"rmmod vhost_blk vhost && modprobe vhost $entries && tests/lib/load-module"

/* Load the vhost core with an IOTLB of 16 entries or of the usual size, unless it is so. */
static int load_vhost(bool small)
{
	static bool is_small;

	if (small == is_small)
		return 0;
	is_small = small;
	return system(small ? "entries=max_iotlb_entries=16; " LOAD_VHOST : LOAD_VHOST) ? -1 : 0;
}

static int start_iommu(void **state)
{
	memset(&iommu, 0, sizeof(iommu));
	memset(iommu.perm, VHOST_ACCESS_RW, sizeof(iommu.perm));
	pthread_mutex_init(&iommu.lock, NULL);
	return unit_setup(state);
}

static int setup(void **state)
{
	return load_vhost(false) ? -1 : start_iommu(state);
}

static int small_setup(void **state)
{
	return load_vhost(true) ? -1 : start_iommu(state);
}

static int teardown(void **state)
{
	if (iommu.thread) {
		iommu.stop = true;
		pthread_join(iommu.thread, NULL);
	}
	return unit_teardown(state);
}

static void set_reply(const void *p, size_t len, enum reply reply)
{
	uint64_t iova = guest_address(&iommu.u->mem, p);
	unsigned int page;

	pthread_mutex_lock(&iommu.lock);
	for (page = page_of(iova); page <= page_of(iova + len - 1); page++)
		iommu.reply[page] = reply;
	pthread_mutex_unlock(&iommu.lock);
}

/* Invalidate a mapping and set the reply to the next misses there. */
static void unmap(const void *p, size_t len, enum reply reply)
{
	set_reply(p, len, reply);
	assert_ok(invalidate(guest_address(&iommu.u->mem, p), len));
}

/* Map memory, be there a miss to reply to or not. */
static void reply_to(const void *p, size_t len)
{
	uint64_t iova = guest_address(&iommu.u->mem, p);
	unsigned int page;

	pthread_mutex_lock(&iommu.lock);
	for (page = page_of(iova); page <= page_of(iova + len - 1); page++) {
		iommu.reply[page] = REPLY_UPDATE;
		assert_ok(update_page(page));
	}
	pthread_mutex_unlock(&iommu.lock);
}

static unsigned int misses_at(const void *p)
{
	unsigned int page = page_of(guest_address(&iommu.u->mem, p)), nr;

	pthread_mutex_lock(&iommu.lock);
	nr = iommu.misses[page];
	pthread_mutex_unlock(&iommu.lock);
	return nr;
}

static void wait_for_miss(const void *p, unsigned int nr)
{
	WAIT_UNTIL(misses_at(p) >= nr);
}

/* A request each of whose parts has a page of its own. */
struct spread {
	struct blk_request req;
	char *data;
	struct vq_segment segment[3];
};

static void spread_init(struct unit *u, struct spread *s, struct vq *vq, unsigned int pages)
{
	memset(s, 0, sizeof(*s));
	s->req.vq = vq;
	s->req.header = unit_alloc(u, PAGE);
	s->data = unit_alloc(u, pages * PAGE);
	s->req.status = unit_alloc(u, PAGE);
	s->req.table = unit_alloc(u, PAGE);
	s->req.table_size = 3;
	s->segment[0] = unit_segment(u, s->req.header, sizeof(*s->req.header));
	s->segment[1] = unit_segment(u, s->data, pages * PAGE);
	s->segment[2] = unit_segment(u, s->req.status, 1);
}

static void spread_submit(struct spread *s, uint32_t type, uint64_t sector)
{
	unsigned int nr_out = type == VIRTIO_BLK_T_OUT ? 2 : 1;

	blk_request_prepare(&s->req, type, sector);
	assert_ok(blk_add_chain(&s->req, s->segment, nr_out, 3 - nr_out));
	vq_submit(s->req.vq);
}

static void expect_read(struct spread *s, uint64_t sector)
{
	expect_end(&s->req, VIRTIO_BLK_S_OK, s->segment[1].len + 1);
	expect_pattern(s->data, s->segment[1].len, sector * SECTOR_SIZE, 1);
}

static void expect_waiting(struct vq *vq)
{
	uint16_t used = vq_used_idx(vq);

	ASSERT_NEVER(vq_used_idx(vq) != used);
	assert_int_equal(event_count(vq->err), 0);
}

/* Wait for the status of a request that is not in the used ring yet. */
static void wait_for_status(const struct blk_request *req)
{
	WAIT_UNTIL(*(volatile uint8_t *)req->status != STATUS_UNSET);
}

/* Write, read and invalidate the buffer by turns. */
static void expect_io_with_invalidations(struct unit *u)
{
	char *buf = unit_alloc(u, 16 * PAGE);
	unsigned int i;

	for (i = 0; i < 16; i++) {
		pattern_fill(buf, 16 * PAGE, MIB + i * 16 * PAGE, i);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, (MIB + i * 16 * PAGE) / SECTOR_SIZE,
					 buf, 16 * PAGE), VIRTIO_BLK_S_OK);
		expect_disk(u->disk, MIB + i * 16 * PAGE, 16 * PAGE, i);
		assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, i, buf, 16 * PAGE), VIRTIO_BLK_S_OK);
		expect_pattern(buf, 16 * PAGE, i * SECTOR_SIZE, 1);
		assert_ok(invalidate(guest_address(&u->mem, buf), 16 * PAGE));
	}
	assert_int_equal(event_count(u->vq[0].err), 0);
}

static void addresses_are_translated(void **state)
{
	struct unit *u = *state;

	start_on_memfd_behind_iommu(u, 1);
	expect_io_with_invalidations(u);
	/* The ring's three pages, the request's one, and the data after each invalidation. */
	assert_in_range(iommu.all_misses, 4 + 16 * 16, 8 + 16 * 16);
}

static void addresses_are_translated_with_v1_messages(void **state)
{
	iommu.v1 = true;
	start_on_memfd_behind_iommu(*state, 1);
	expect_io_with_invalidations(*state);
}

static void slow_replies(void **state)
{
	struct unit *u = *state;
	struct spread s;

	iommu.delay_ms = 20;
	start_on_memfd_behind_iommu(u, 1);
	spread_init(u, &s, &u->vq[0], 8);
	spread_submit(&s, VIRTIO_BLK_T_IN, 0);
	expect_read(&s, 0);
}

/* List the pages that a request needs, one after the other; return their number. */
static unsigned int pages_of(struct spread *s, const void **page)
{
	const struct vq *vq = s->req.vq;
	const void *all[] = {
		vq->desc, vq->avail, vq->used, s->req.table, s->req.header, s->data,
		s->data + PAGE, s->req.status,
	};

	memcpy(page, all, sizeof(all));
	return ARRAY_SIZE(all);
}

static void each_miss_is_waited_for(void **state)
{
	const void *page[8];
	struct unit *u = *state;
	struct blk_request other;
	unsigned int i, j, nr, before;
	struct spread s;

	start_on_memfd_behind_iommu(u, 2);
	unit_request(&other, &u->vq[1]);
	expect_alive(u);
	spread_init(u, &s, &u->vq[0], 2);
	nr = pages_of(&s, page);
	for (i = 0; i < nr; i++) {
		before = misses_at(page[i]);
		unmap(page[i], 1, REPLY_LATER);
		spread_submit(&s, VIRTIO_BLK_T_IN, i);
		wait_for_miss(page[i], before + 1);
		/* Neither kicks nor the misses of another queue repeat the message. */
		for (j = 0; j < 5; j++) {
			vq_kick(&u->vq[0]);
			assert_ok(invalidate(guest_address(&u->mem, u->sector), 1));
			assert_int_equal(unit_io_on(u, &other, VIRTIO_BLK_T_IN, 0, u->sector,
						    SECTOR_SIZE), VIRTIO_BLK_S_OK);
		}
		expect_waiting(&u->vq[0]);
		assert_int_equal(misses_at(page[i]), before + 1);
		reply_to(page[i], 1);
		expect_read(&s, i);
	}
}

static void faults_stop_the_ring(void **state)
{
	const void *page[8];
	struct unit *u = *state;
	struct blk_request other;
	unsigned int i, nr;
	struct spread s;

	start_on_memfd_behind_iommu(u, 2);
	unit_request(&other, &u->vq[1]);
	expect_alive(u);
	spread_init(u, &s, &u->vq[0], 2);
	nr = pages_of(&s, page);
	for (i = 0; i < nr; i++) {
		unmap(page[i], 1, REPLY_FAULT);
		spread_submit(&s, VIRTIO_BLK_T_IN, i);
		expect_ring_stopped(&u->vq[0]);
		assert_int_equal(event_count(u->vq[1].err), 0);
		assert_int_equal(unit_io_on(u, &other, VIRTIO_BLK_T_IN, 0, u->sector, SECTOR_SIZE),
				 VIRTIO_BLK_S_OK);

		unit_detach(u);
		set_reply(page[i], 1, REPLY_UPDATE);
		assert_ok(vq_restart(&u->vq[0], 0));
		unit_attach(u);
		expect_alive(u);
	}
}

static void permissions_are_enforced(void **state)
{
	static const struct {
		uint32_t type;
		unsigned int segment;
		uint8_t perm;
	} wrong[] = {
		{ VIRTIO_BLK_T_IN, 1, VHOST_ACCESS_RO },
		{ VIRTIO_BLK_T_OUT, 1, VHOST_ACCESS_WO },
		{ VIRTIO_BLK_T_IN, 0, VHOST_ACCESS_WO },
		{ VIRTIO_BLK_T_IN, 2, VHOST_ACCESS_RO },
	};
	struct unit *u = *state;
	unsigned int i, page;
	struct spread s;

	start_on_memfd_behind_iommu(u, 1);
	spread_init(u, &s, &u->vq[0], 1);
	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		memset(s.data, 0x5a, PAGE);
		page = page_of(s.segment[wrong[i].segment].addr);
		iommu.perm[page] = wrong[i].perm;
		assert_ok(invalidate(s.segment[wrong[i].segment].addr, 1));
		spread_submit(&s, wrong[i].type, 0);
		expect_ring_stopped(&u->vq[0]);
		assert_int_equal(*s.req.status, STATUS_UNSET);
		assert_int_equal(s.data[0], 0x5a);
		expect_disk(u->disk, 0, PAGE, 1);

		iommu.perm[page] = VHOST_ACCESS_RW;
		unit_detach(u);
		assert_ok(invalidate(s.segment[wrong[i].segment].addr, 1));
		assert_ok(vq_restart(&u->vq[0], 0));
		unit_attach(u);
		expect_alive(u);
	}
	/* The permissions that are needed suffice. */
	iommu.perm[page_of(s.segment[0].addr)] = VHOST_ACCESS_RO;
	iommu.perm[page_of(s.segment[1].addr)] = VHOST_ACCESS_WO;
	iommu.perm[page_of(s.segment[2].addr)] = VHOST_ACCESS_WO;
	assert_ok(invalidate(GUEST_GPA, GUEST_SIZE));
	spread_submit(&s, VIRTIO_BLK_T_IN, 3);
	expect_read(&s, 3);
}

static void remapped_address(void **state)
{
	struct unit *u = *state;
	char *other = unit_alloc(u, PAGE);
	struct spread s;

	start_on_memfd_behind_iommu(u, 1);
	spread_init(u, &s, &u->vq[0], 1);
	spread_submit(&s, VIRTIO_BLK_T_IN, 0);
	expect_read(&s, 0);

	memset(s.data, 0, PAGE);
	iommu.host[page_of(s.segment[1].addr)] = other;
	assert_ok(invalidate(s.segment[1].addr, PAGE));
	spread_submit(&s, VIRTIO_BLK_T_IN, 8);
	expect_end(&s.req, VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(other, PAGE, PAGE, 1);
	assert_int_equal(s.data[0], 0);

	/* An update replaces what is there. */
	assert_ok(update_to(s.segment[1].addr, PAGE, s.data, VHOST_ACCESS_RW));
	spread_submit(&s, VIRTIO_BLK_T_IN, 16);
	expect_read(&s, 16);
}

/* Pages are pinned by their address in the owner, whatever their I/O virtual address. */
static void remapped_address_with_pinned_pages(void **state)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };
	struct unit *u = *state;
	char *other = unit_alloc(u, PAGE);
	struct spread s;
	unsigned int i;

	unit_null(u, &spec, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
	start_behind_iommu(u, 1);
	unit_detach(u);
	unit_pin_limit(u, MIB);
	/* A queue behind an IOMMU does not poll. */
	unit_poll_timeout(u, 0, UINT32_MAX);
	unit_attach(u);
	spread_init(u, &s, &u->vq[0], 1);
	for (i = 0; i < 10; i++) {
		iommu.host[page_of(s.segment[1].addr)] = i % 2 ? other : s.data;
		assert_ok(invalidate(s.segment[1].addr, PAGE));
		spread_submit(&s, VIRTIO_BLK_T_IN, i * 8);
		expect_end(&s.req, VIRTIO_BLK_S_OK, PAGE + 1);
		expect_pattern(i % 2 ? other : s.data, PAGE, i * PAGE, 1);
	}
	assert_int_equal(unit_stats(u, 0).pin_misses, 2);
	assert_int_equal(unit_stats(u, 0).poll_hits, 0);
}

static int invalidate_all(struct unit *u)
{
	(void)u;
	return invalidate(GUEST_GPA, GUEST_SIZE);
}

/* What the thread of unit_call() invalidates. */
static uint64_t invalid_page;

static int invalidate_page(struct unit *u)
{
	(void)u;
	return invalidate(invalid_page, PAGE);
}

/*
 * When the call returns, the IOMMU may give the page to something else: no request
 * in flight accesses it. It does not wait for requests that use other pages.
 */
static void invalidation_waits_for_requests(void **state)
{
	static const unsigned int segments[] = { 1, 2 };	/* data, status */
	struct unit *u = *state;
	struct spread s;
	unsigned int i;
	char *other;

	unit_suspendable(u, MIB);
	disk_fill(u->disk, 0, MIB, 1);
	start_behind_iommu(u, 1);
	spread_init(u, &s, &u->vq[0], 1);
	other = unit_alloc(u, PAGE);
	reply_to(other, PAGE);
	for (i = 0; i < ARRAY_SIZE(segments); i++) {
		unit_suspend(u, u->path);
		spread_submit(&s, VIRTIO_BLK_T_IN, i);
		expect_inflight(u, 0, 1);
		invalid_page = guest_address(&u->mem, other);
		unit_call(u, invalidate_page);
		WAIT_UNTIL(unit_call_returned(u));
		assert_ok(unit_call_join(u));
		invalid_page = s.segment[segments[i]].addr;
		unit_call(u, invalidate_page);
		ASSERT_NEVER(unit_call_returned(u));
		unit_resume(u);
		WAIT_UNTIL(unit_call_returned(u));
		assert_ok(unit_call_join(u));
		assert_int_equal(*s.req.status, VIRTIO_BLK_S_OK);
		expect_read(&s, i);
	}
}

static void invalidated_in_flight(void **state)
{
	enum { NR = 80 };	/* more than are added to the used ring at once */
	struct blk_request req[NR];
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	unsigned int i;
	char *buf;

	unit_suspendable(u, MIB);
	start_behind_iommu(u, 2);
	unit_requests(req, NR, vq);
	buf = unit_alloc(u, NR * PAGE);
	for (i = 0; i < NR; i++) {
		struct vq_segment data = unit_segment(u, buf + i * PAGE, PAGE);

		/* Mapped in advance, so that all are in flight at the same time. */
		assert_ok(update_page(page_of(data.addr)));
		assert_ok(blk_add(&req[i], VIRTIO_BLK_T_IN, i, &data, 1));
	}
	unit_suspend(u, u->path);
	vq_submit(vq);
	expect_inflight(u, 0, NR);
	unmap(vq->used, 1, REPLY_LATER);
	unit_call(u, invalidate_all);
	ASSERT_NEVER(unit_call_returned(u));
	unit_resume(u);
	WAIT_UNTIL(unit_call_returned(u));
	assert_ok(unit_call_join(u));
	for (i = 0; i < NR; i++)
		assert_int_equal(*req[i].status, VIRTIO_BLK_S_OK);
	wait_for_miss(vq->used, 2);
	expect_waiting(vq);
	assert_int_equal(vq_used_idx(vq), 0);
	/* Both workers ask, and again after each reply for another part of the ring. */
	assert_in_range(misses_at(vq->used), 2, 6);
	reply_to(vq->used, 1);
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_alive(u);
}

static void detach_while_fetching_waits(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct spread s;

	start_on_memfd_behind_iommu(u, 2);
	expect_alive(u);
	spread_init(u, &s, vq, 1);
	unmap(s.data, 1, REPLY_LATER);
	spread_submit(&s, VIRTIO_BLK_T_IN, 5);
	wait_for_miss(s.data, 1);
	unit_detach(u);
	assert_int_equal(vq_get_base(vq), vq_used_idx(vq));
	/* A reply to the old miss does not count after the attach. */
	assert_ok(send_fault(s.segment[1].addr));
	unit_attach(u);
	wait_for_miss(s.data, 2);
	expect_waiting(vq);
	reply_to(s.data, 1);
	expect_read(&s, 5);
}

/* A request that was not fetched completely is fetched after the device is resumed. */
static void quiesce_while_fetching_waits(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct spread s;

	start_on_memfd_behind_iommu(u, 2);
	expect_alive(u);
	spread_init(u, &s, vq, 1);
	unmap(s.data, 1, REPLY_LATER);
	spread_submit(&s, VIRTIO_BLK_T_IN, 5);
	wait_for_miss(s.data, 1);
	unit_call(u, unit_quiesce);
	WAIT_UNTIL(unit_call_returned(u));
	assert_int_equal(unit_call_join(u), 0);
	assert_int_equal(vq_get_base(vq), vq_used_idx(vq));
	reply_to(s.data, 1);
	expect_waiting(vq);
	assert_ok(unit_resume_queues(u, 0));
	expect_read(&s, 5);
	expect_alive(u);
}

/*
 * Start with all of memory mapped and a read in flight on a disk that is suspended. The
 * memory is mapped before the attach, as a late reply would replace the mapping.
 */
static void start_with_read_in_flight(struct unit *u, struct spread *s)
{
	uint64_t used, end = GUEST_GPA + GUEST_SIZE;

	open_behind_iommu(u, 1);
	/* The used ring has a mapping of its own, which no request in flight uses. */
	used = guest_address(&u->mem, u->vq[0].used);
	assert_ok(map(GUEST_GPA, used - GUEST_GPA));
	assert_ok(map(used, PAGE));
	assert_ok(map(used + PAGE, end - used - PAGE));
	unit_attach(u);
	spread_init(u, s, &u->vq[0], 1);
	unit_suspend(u, u->path);
	spread_submit(s, VIRTIO_BLK_T_IN, 0);
	expect_inflight(u, 0, 1);
	/* The worker looks at the ring once more, and would report a miss there. */
	WAIT_UNTIL(*vq_avail_event_word(&u->vq[0]) == u->vq[0].avail_idx);
}

/* Complete a request whose used ring is not mapped. */
static void start_with_deferred_used(struct unit *u, struct spread *s)
{
	struct vq *vq = &u->vq[0];

	start_with_read_in_flight(u, s);
	unmap(vq->used, 1, REPLY_LATER);
	unit_resume(u);
	wait_for_miss(vq->used, 1);
	wait_for_status(&s->req);
	expect_waiting(vq);
}

static void detach_with_deferred_used(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct spread s;

	unit_suspendable(u, MIB);
	start_with_deferred_used(u, &s);
	unit_detach(u);
	assert_int_equal(vq_used_idx(vq), 0);
	expect_workers(getpid(), 0);
	reply_to(vq->used, 1);
	assert_ok(vq_restart(vq, 0));
	unit_attach(u);
	expect_alive(u);
}

/* The used ring is mapped in time, without a reply to the miss. */
static void detach_adds_used_if_mapped(void **state)
{
	struct unit *u = *state;
	struct spread s;

	unit_suspendable(u, MIB);
	start_with_read_in_flight(u, &s);
	assert_ok(invalidate(guest_address(&u->mem, u->vq[0].used), PAGE));
	assert_ok(map(guest_address(&u->mem, u->vq[0].used), PAGE));
	unit_resume_soon(u);
	unit_detach(u);
	assert_int_equal(vq_used_idx(&u->vq[0]), 1);
	assert_int_equal(vq_get_base(&u->vq[0]), 1);
}

static void closed_while_waiting(void **state)
{
	struct unit *u = *state;
	struct spread s;

	unit_suspendable(u, MIB);
	start_with_deferred_used(u, &s);
	iommu.stop = true;
	pthread_join(iommu.thread, NULL);
	iommu.thread = 0;
	vhost_blk_close(&u->dev);
	expect_workers(getpid(), 0);
}

static void owner_killed_while_waiting(void **state)
{
	struct unit *u = *state;
	struct spread s;
	int up[2];
	pid_t pid;
	char c;

	unit_suspendable(u, MIB);
	assert_ok(pipe(up));
	pid = child_fork();
	if (!pid) {
		start_with_deferred_used(u, &s);
		assert_true(write(up[1], "", 1) == 1);
		pause();
	}
	close(up[1]);
	assert_int_equal(read(up[0], &c, 1), 1);
	close(up[0]);
	assert_ok(kill(pid, SIGKILL));
	assert_int_equal(child_wait(pid), 256 + SIGKILL);
	expect_workers(pid, 0);
}

static int detach(struct unit *u)
{
	return vhost_blk_detach(&u->dev);
}

/* A process that is not the owner does not wait for a detach that waits for the disk. */
static void stranger_writes_during_detach(void **state)
{
	struct unit *u = *state;
	struct spread s;
	pid_t pid;

	unit_suspendable(u, MIB);
	start_with_read_in_flight(u, &s);
	unit_call(u, detach);
	ASSERT_NEVER(unit_call_returned(u));
	pid = child_fork();
	if (!pid)
		_exit(invalidate(GUEST_GPA, PAGE) != -EPERM);
	assert_int_equal(child_wait(pid), 0);
	assert_false(unit_call_returned(u));
	unit_resume(u);
	WAIT_UNTIL(unit_call_returned(u));
	assert_ok(unit_call_join(u));
}

/* Return true if a process' first thread has ended. */
static bool has_ended(pid_t pid)
{
	char path[64], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, pid);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*d (%*[^)]) %c", &state), 1);
	fclose(f);
	return state == 'Z';
}

/* A thread of the owner waits for the detach, and can be killed. */
static void owner_killed_while_writing(void **state)
{
	struct unit *u = *state;
	struct spread s;
	int up[2];
	pid_t pid;
	char c;

	unit_suspendable(u, MIB);
	assert_ok(pipe(up));
	pid = child_fork();
	if (!pid) {
		start_with_read_in_flight(u, &s);
		unit_call(u, detach);
		usleep(QUIET_MS * 1000);
		assert_true(write(up[1], "", 1) == 1);
		invalidate(GUEST_GPA, PAGE);
		pause();
	}
	assert_int_equal(read(up[0], &c, 1), 1);
	usleep(QUIET_MS * 1000);
	assert_false(has_ended(pid));
	assert_ok(kill(pid, SIGKILL));
	WAIT_UNTIL(has_ended(pid));
	assert_ok(backend_dm_resume(u->path));
	assert_int_equal(child_wait(pid), 256 + SIGKILL);
	expect_workers(pid, 0);
}

static void used_ring_must_be_writable(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];

	start_on_memfd_behind_iommu(u, 1);
	expect_alive(u);
	iommu.perm[page_of(guest_address(&u->mem, vq->used))] = VHOST_ACCESS_RO;
	reply_to(vq->used, 1);
	unit_submit_one(u, &u->req, VIRTIO_BLK_T_IN, 0, u->sector, SECTOR_SIZE);
	assert_ok(event_wait(vq->err, TIMEOUT_MS));
	assert_false(u->req.done);
	unit_detach(u);
	iommu.perm[page_of(guest_address(&u->mem, vq->used))] = VHOST_ACCESS_RW;
	reply_to(vq->used, 1);
	unit_attach(u);
	expect_end(&u->req, VIRTIO_BLK_S_OK, SECTOR_SIZE + 1);
}

static void bad_messages_are_refused(void **state)
{
	const struct vhost_iotlb_msg good = {
		.iova = GUEST_GPA, .size = PAGE, .perm = VHOST_ACCESS_RW,
		.type = VHOST_IOTLB_UPDATE,
	};
	struct vhost_msg_v2 raw = { .type = VHOST_IOTLB_MSG_V2 };
	struct vhost_iotlb_msg msg[10];
	struct unit *u = *state;
	uint64_t features = FEATURES;
	char *host = u->mem.region[0].host;
	unsigned int i;
	pid_t pid;

	start_on_memfd_behind_iommu(u, 1);
	expect_alive(u);
	for (i = 0; i < ARRAY_SIZE(msg); i++) {
		msg[i] = good;
		msg[i].uaddr = (uintptr_t)host;
	}
	msg[0].perm = 0;
	msg[1].perm = VHOST_ACCESS_RW | 4;
	msg[2].size = 0;
	msg[3].iova = UINT64_MAX;
	msg[4].uaddr = 1ULL << 63;
	msg[5].uaddr = UINT64_MAX;
	msg[6].size = 1ULL << 63;
	msg[7].type = VHOST_IOTLB_MISS;
	msg[8].type = VHOST_IOTLB_BATCH_BEGIN;
	msg[9].type = 0;
	for (i = 0; i < ARRAY_SIZE(msg); i++) {
		int err = send_message(u->dev.fd, i & 1, &msg[i]);

		/* The core checks the size first. */
		if (err != (msg[i].size ? -EFAULT : -EINVAL))
			fail_msg("message %u: %s", i, strerror(-err));
	}
	raw.iotlb = good;
	assert_errno(write(u->dev.fd, &raw, sizeof(raw) / 2), EINVAL);
	assert_errno(write(u->dev.fd, &raw, 2), EINVAL);
	raw.type = 3;
	assert_errno(write(u->dev.fd, &raw, sizeof(raw)), EINVAL);

	pid = child_fork();
	if (!pid)
		_exit(update_to(GUEST_GPA, PAGE, host, VHOST_ACCESS_RW) != -EPERM);
	assert_int_equal(child_wait(pid), 0);
	expect_alive(u);

	/* Without the feature there is no IOTLB, and addresses are not translated. */
	unit_detach(u);
	assert_ok(ioctl(u->dev.fd, VHOST_SET_FEATURES, &features));
	u->dev.features = features;
	assert_int_equal(update_to(GUEST_GPA, PAGE, host, VHOST_ACCESS_RW), -EFAULT);
	assert_ok(vhost_blk_set_memory(&u->dev));
	assert_ok(vq_restart(&u->vq[0], 0));
	unit_attach(u);
	expect_alive(u);
}

static void reading_without_an_iotlb_ends(void **state)
{
	struct unit *u = *state;
	struct vhost_msg_v2 msg;

	unit_open(u, FEATURES);
	assert_errno(read(u->dev.fd, &msg, sizeof(msg)), EBADFD);
	assert_ok(fcntl(u->dev.fd, F_SETFL, O_RDWR | O_NONBLOCK));
	assert_errno(read(u->dev.fd, &msg, sizeof(msg)), EAGAIN);
}


/* Mappings, those of the rings among them, are evicted at any time. */
static void small_iotlb(void **state)
{
	struct unit *u = *state;
	struct spread s[8];
	unsigned int i, j;

	start_on_memfd_behind_iommu(u, 1);
	for (i = 0; i < ARRAY_SIZE(s); i++)
		spread_init(u, &s[i], &u->vq[0], 8);
	for (j = 0; j < 4; j++) {
		for (i = 0; i < ARRAY_SIZE(s); i++)
			spread_submit(&s[i], VIRTIO_BLK_T_IN, i + j);
		for (i = 0; i < ARRAY_SIZE(s); i++)
			expect_read(&s[i], i + j);
	}
	assert_int_equal(event_count(u->vq[0].err), 0);
}

/* Map one page after another; the thread of unit_call() does so. */
static int fill_iotlb(struct unit *u)
{
	unsigned int i;

	(void)u;
	for (i = 0; i < 64; i++) {
		if (update_page(i))
			return -1;
	}
	return 0;
}

/* A mapping that a request uses is not dropped, or no invalidation could wait for it. */
static void full_iotlb_waits_for_requests(void **state)
{
	struct unit *u = *state;
	struct spread s;

	unit_suspendable(u, MIB);
	disk_fill(u->disk, 0, MIB, 1);
	start_behind_iommu(u, 1);
	spread_init(u, &s, &u->vq[0], 1);
	unit_suspend(u, u->path);
	spread_submit(&s, VIRTIO_BLK_T_IN, 0);
	expect_inflight(u, 0, 1);
	unit_call(u, fill_iotlb);
	ASSERT_NEVER(unit_call_returned(u));
	unit_resume(u);
	WAIT_UNTIL(unit_call_returned(u));
	assert_ok(unit_call_join(u));
	expect_read(&s, 0);
}

static void chain_larger_than_the_iotlb(void **state)
{
	struct unit *u = *state;
	struct blk_request other;
	struct spread s;

	start_on_memfd_behind_iommu(u, 2);
	unit_request(&other, &u->vq[1]);
	spread_init(u, &s, &u->vq[0], 20);
	spread_submit(&s, VIRTIO_BLK_T_IN, 0);
	expect_ring_stopped(&u->vq[0]);
	assert_int_equal(unit_io_on(u, &other, VIRTIO_BLK_T_IN, 0, s.data, SECTOR_SIZE),
			 VIRTIO_BLK_S_OK);
}

int main(int argc, char **argv)
{
#define TEST_IOTLB(fn)	{ #fn, fn, setup, teardown, NULL }
	const struct CMUnitTest tests[] = {
		TEST_IOTLB(addresses_are_translated),
		TEST_IOTLB(addresses_are_translated_with_v1_messages),
		TEST_IOTLB(slow_replies),
		TEST_IOTLB(each_miss_is_waited_for),
		TEST_IOTLB(faults_stop_the_ring),
		TEST_IOTLB(permissions_are_enforced),
		TEST_IOTLB(remapped_address),
		TEST_IOTLB(remapped_address_with_pinned_pages),
		TEST_IOTLB(invalidation_waits_for_requests),
		TEST_IOTLB(invalidated_in_flight),
		TEST_IOTLB(detach_while_fetching_waits),
		TEST_IOTLB(quiesce_while_fetching_waits),
		TEST_IOTLB(detach_with_deferred_used),
		TEST_IOTLB(detach_adds_used_if_mapped),
		TEST_IOTLB(closed_while_waiting),
		TEST_IOTLB(owner_killed_while_waiting),
		TEST_IOTLB(stranger_writes_during_detach),
		TEST_IOTLB(owner_killed_while_writing),
		TEST_IOTLB(used_ring_must_be_writable),
		TEST_IOTLB(bad_messages_are_refused),
		TEST_IOTLB(reading_without_an_iotlb_ends),
		{ "small_iotlb", small_iotlb, small_setup, teardown, NULL },
		{ "full_iotlb_waits_for_requests", full_iotlb_waits_for_requests, small_setup,
		  teardown, NULL },
		{ "chain_larger_than_the_iotlb", chain_larger_than_the_iotlb, small_setup,
		  teardown, NULL },
	};
	int status = unit_run(argc, argv, tests, ARRAY_SIZE(tests));

	return load_vhost(false) ? 1 : status;
}
