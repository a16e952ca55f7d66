// SPDX-License-Identifier: GPL-2.0
/*
 * Keeps a number of 4 KiB random reads in flight on a virtqueue of
 * /dev/vhost-blk, and marks start and end for the icount plugin.
 *
 *   ringcount [--poll_us=N] [--pin=N] DISK DEPTH READS
 *   ringcount [--poll_us=N] [--pin=N] --idle=QUEUES DISK
 *
 * The options are those of the fio engine. With --idle it starts so many queues
 * instead, says so, and keeps them until its input ends.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "backend.h"
#include "blk.h"
#include "icount/mark.h"

#define QUEUE_SIZE	256
#define QUEUES_MAX	128
#define DEPTH_MAX	64
#define READ_SIZE	4096
#define MEMORY_SIZE	(4u << 20)
#define TIMEOUT_MS	60000

struct read_slot {
	struct blk_request req;
	struct vq_segment data;
};

static uint64_t disk_reads;	/* size of the disk, in reads */
static uint64_t seed = 1;
static struct vhost_vring_state poll_us;
static struct vhost_blk_pin_limit pin;
static unsigned long idle;	/* queues; 0: one, that reads */

static void add_read(struct read_slot *slot)
{
	uint64_t sector = random_next(&seed) % disk_reads * (READ_SIZE / SECTOR_SIZE);
	int ret = blk_add(&slot->req, VIRTIO_BLK_T_IN, sector, &slot->data, 1);

	if (ret < 0)
		errx(1, "ring full: %d", ret);
}

/* Completes so many reads, each followed by a new one; in_flight stays as it is. */
static void run(struct vq *vq, unsigned long reads)
{
	while (reads) {
		struct vring_used_elem elem;
		void *cookie;
		int ret = vq_wait(vq, TIMEOUT_MS);

		if (ret)
			errx(1, "no completion: %d", ret);
		while (reads && vq_take(vq, &elem, &cookie)) {
			struct read_slot *slot = cookie;

			if (!slot || *slot->req.status != VIRTIO_BLK_S_OK)
				errx(1, "a read failed");
			add_read(slot);
			reads--;
		}
		vq_submit(vq);
	}
}

static void read_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "poll_us", required_argument, NULL, 'u' },
		{ "pin", required_argument, NULL, 'p' },
		{ "idle", required_argument, NULL, 'i' },
		{ }
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'u')
			poll_us.num = strtoul(optarg, NULL, 0);
		else if (c == 'p')
			pin.bytes = strtoull(optarg, NULL, 0);
		else if (c == 'i')
			idle = strtoul(optarg, NULL, 0);
		else
			exit(2);
	}
	if (argc - optind != (idle ? 1 : 3))
		errx(2, "usage: ringcount [--poll_us=N] [--pin=N] DISK DEPTH READS | --idle=QUEUES DISK");
	if (idle > QUEUES_MAX)
		errx(2, "at most %d queues", QUEUES_MAX);
}

static void set_up(struct vhost_blk *dev, struct vq *vq, unsigned int index)
{
	int ret = vq_setup(vq, dev, index, QUEUE_SIZE);

	if (ret)
		errx(1, "%s: %d", VHOST_BLK_DEVICE, ret);
	poll_us.index = index;
	if (poll_us.num && ioctl(dev->fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &poll_us))
		err(1, "VHOST_SET_VRING_BUSYLOOP_TIMEOUT");
}

static void attach(struct vhost_blk *dev, int disk)
{
	int ret = vhost_blk_attach(dev, disk);

	if (ret)
		errx(1, "attach: %d", ret);
}

static void stay_idle(struct vhost_blk *dev, int disk)
{
	static struct vq vq[QUEUES_MAX];
	unsigned long i;
	char c;

	for (i = 0; i < idle; i++)
		set_up(dev, &vq[i], i);
	attach(dev, disk);
	puts("idle");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
}

int main(int argc, char **argv)
{
	static struct read_slot slot[DEPTH_MAX];
	struct guest_memory mem;
	struct vhost_blk dev;
	struct vq vq;
	unsigned long depth, reads, i;
	int disk, ret;

	read_options(argc, argv);
	argv += optind;
	disk = open(argv[0], O_RDONLY | O_DIRECT);
	if (disk < 0)
		err(1, "%s", argv[0]);
	disk_reads = backend_size(disk) / READ_SIZE;

	ret = guest_memory_init(&mem);
	if (!ret)
		ret = guest_memory_add(&mem, 0, MEMORY_SIZE);
	if (ret < 0)
		errx(1, "guest memory: %d", ret);
	ret = vhost_blk_open(&dev, &mem, 1ULL << VIRTIO_F_VERSION_1 |
			     1ULL << VIRTIO_RING_F_EVENT_IDX);
	if (ret)
		errx(1, "%s: %d", VHOST_BLK_DEVICE, ret);
	if (pin.bytes && ioctl(dev.fd, VHOST_BLK_SET_PIN_LIMIT, &pin))
		err(1, "VHOST_BLK_SET_PIN_LIMIT");
	if (idle) {
		stay_idle(&dev, disk);
		return 0;
	}

	depth = strtoul(argv[1], NULL, 0);
	reads = strtoul(argv[2], NULL, 0);
	if (!depth || depth > DEPTH_MAX)
		errx(2, "depth is 1 to %d", DEPTH_MAX);
	set_up(&dev, &vq, 0);
	for (i = 0; i < depth; i++) {
		char *data = guest_alloc(&mem, 0, READ_SIZE, READ_SIZE);

		if (!data || blk_request_init(&slot[i].req, &vq, 0))
			errx(1, "guest memory used up");
		slot[i].data.addr = guest_address(&mem, data);
		slot[i].data.len = READ_SIZE;
	}
	attach(&dev, disk);

	for (i = 0; i < depth; i++)
		add_read(&slot[i]);
	vq_submit(&vq);
	/* The first ones fault memory in and find caches cold. */
	run(&vq, reads / 10);
	mark();
	run(&vq, reads);
	mark();

	ret = vhost_blk_detach(&dev);
	if (ret)
		errx(1, "detach: %d", ret);
	vhost_blk_close(&dev);
	vq_free(&vq);
	guest_memory_free(&mem);
	return 0;
}
