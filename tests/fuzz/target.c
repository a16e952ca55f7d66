// SPDX-License-Identifier: GPL-2.0
/* The device under test: its set-up, its queues, and which of those are stopped. */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "dirtylog.h"
#include "iommu.h"

struct guest guest;
struct disk *disk;
struct model model;
bool damaged;

static struct vhost_blk dev;
static unsigned int nr_queues;
static struct queue queue[QUEUES_MAX];

static void must(int ret, const char *what)
{
	if (ret < 0)
		fuzz_fail("%s: %s", what, strerror(-ret));
}

static uint64_t choose_features(struct dice *d)
{
	static const struct {
		unsigned int percent, feature;
	} some[] = {
		{ 90, VIRTIO_F_VERSION_1 }, { 90, VIRTIO_RING_F_INDIRECT_DESC },
		{ 60, VIRTIO_RING_F_EVENT_IDX }, { 10, VIRTIO_F_NOTIFY_ON_EMPTY },
		{ 80, VIRTIO_BLK_F_DISCARD }, { 80, VIRTIO_BLK_F_WRITE_ZEROES },
		{ 30, VIRTIO_BLK_F_SECURE_ERASE }, { 15, VIRTIO_F_ACCESS_PLATFORM },
	};
	uint64_t features = BIT64(VIRTIO_F_ANY_LAYOUT) | BIT64(VIRTIO_BLK_F_FLUSH);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(some); i++)
		if (chance(d, some[i].percent))
			features |= BIT64(some[i].feature);
	return features;
}

static void set_up_queues(struct dice *d)
{
	static const unsigned int nums[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 1024 };
	static const uint32_t polls[] = { 0, 0, 32, 1000, 20000 };
	struct vhost_vring_state poll;
	unsigned int i;

	nr_queues = 1 + roll(d, QUEUES_MAX);
	for (i = 0; i < nr_queues; i++) {
		must(vq_setup(&queue[i].vq, &dev, i, pick(d, nums)), "ring");
		must(vq_restart(&queue[i].vq, roll(d, 65536)), "ring");
		guest_accept(&guest, queue[i].vq.desc, queue[i].vq.num * sizeof(struct vring_desc));
		poll.index = i;
		poll.num = pick(d, polls);
		must(ioctl(dev.fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &poll) ? -errno : 0, "poll");
	}
}

static void attach(void)
{
	must(vhost_blk_attach(&dev, disk->fd), "attach");
	fuzz_count(ATTACHES, 1);
}

void target_open(struct dice *d)
{
	static const uint64_t limits[] = { 0, 0, 32768, 65536, 1 << 20, 1 << 30 };
	struct vhost_blk_write_cache cache = { 0 };
	struct vhost_blk_pin_limit limit = { 0 };
	struct vhost_blk_serial serial = { 0 };
	bool logged = chance(d, 25);
	unsigned int i;

	guest_init(&guest, logged);
	must(vhost_blk_open(&dev, &guest.mem, choose_features(d)), "open");
	if (dev.features & BIT64(VIRTIO_F_ACCESS_PLATFORM))
		iommu_start(&dev);
	for (i = 0; i < sizeof(serial.serial); i++)
		serial.serial[i] = roll(d, 256);
	cache.mode = roll(d, 2);
	limit.bytes = pick(d, limits);
	if (ioctl(dev.fd, VHOST_BLK_SET_SERIAL, &serial) ||
	    ioctl(dev.fd, VHOST_BLK_SET_WRITE_CACHE, &cache) ||
	    ioctl(dev.fd, VHOST_BLK_SET_PIN_LIMIT, &limit))
		fuzz_fail("set-up: %s", strerror(errno));
	set_up_queues(d);
	attach();
	if (logged)
		dirtylog_start(&dev);

	model.mem = &guest.mem;
	model.allowed = guest_allowed;
	model.disk = &disk->model;
	model.features = dev.features;
	memcpy(model.serial, serial.serial, sizeof(model.serial));
}

/* Check that the used index of stopped rings has not changed. */
static void expect_broken_stays(void)
{
	unsigned int i;

	for (i = 0; i < nr_queues; i++)
		if (queue[i].broken && !damaged && vq_used_idx(&queue[i].vq) != queue[i].used)
			fuzz_fail("the used index of a stopped ring has changed");
}

void target_detach(void)
{
	unsigned int i;

	expect_broken_stays();
	must(vhost_blk_detach(&dev), "detach");
	for (i = 0; i < nr_queues && !damaged; i++)
		if (!queue[i].broken && vq_get_base(&queue[i].vq) != vq_used_idx(&queue[i].vq))
			fuzz_fail("base and used index differ when nothing is in flight");
}

void target_reattach(struct dice *d)
{
	unsigned int i;

	target_detach();
	dirtylog_clear_all();
	for (i = 0; i < nr_queues; i++) {
		must(vq_restart(&queue[i].vq, roll(d, 65536)), "ring");
		guest_accept(&guest, queue[i].vq.desc, queue[i].vq.num * sizeof(struct vring_desc));
		queue[i].broken = false;
	}
	damaged = false;
	attach();
}

struct queue *target_choose_queue(struct dice *d)
{
	unsigned int i, first = roll(d, nr_queues);

	for (i = 0; i < nr_queues; i++) {
		struct queue *q = &queue[(first + i) % nr_queues];

		if (!q->broken)
			return q;
	}
	target_reattach(d);
	return &queue[first];
}

void queue_want_signals(struct queue *q, bool want)
{
	if (q->vq.event_idx)
		*vq_used_event_word(&q->vq) = want ? q->vq.used_idx : q->vq.used_idx + 32768;
	else
		q->vq.avail->flags = want ? 0 : VRING_AVAIL_F_NO_INTERRUPT;
}

/* Return true if all requests have completed or the ring has stopped. */
static bool is_drained(struct queue *q)
{
	struct vhost_blk_stats stats = { .index = q->vq.index };

	if (!event_wait(q->vq.err, 0))
		q->broken = true;
	must(ioctl(dev.fd, VHOST_BLK_GET_STATS, &stats) ? -errno : 0, "GET_STATS");
	if (stats.inflight)
		return false;
	/* The available index of a damaged ring is unknown. */
	return q->broken || damaged || vq_used_idx(&q->vq) == q->vq.avail_idx;
}

void queue_drain(struct queue *q)
{
	vq_kick(&q->vq);
	if (!wait_until(is_drained(q), BOUND_MS))
		fuzz_fail("requests neither complete nor stop the ring");
	if (q->broken)
		fuzz_count(STOPS, 1);
	dirtylog_clear_all();
	event_count(q->vq.err);
	event_count(q->vq.call);
	q->vq.used_idx = vq_used_idx(&q->vq);
	q->used = q->vq.used_idx;
}

void queue_expect_stop(struct queue *q)
{
	if (event_wait(q->vq.err, BOUND_MS))
		fuzz_fail("the ring does not stop");
	event_count(q->vq.err);
	q->broken = true;
	q->used = vq_used_idx(&q->vq);
	/* The next detach checks that this had no effect. */
	vq_kick(&q->vq);
	fuzz_count(STOPS, 1);
}

void target_close(void)
{
	vhost_blk_close(&dev);
}
