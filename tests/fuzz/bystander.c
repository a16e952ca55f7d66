// SPDX-License-Identifier: GPL-2.0
/* A guest that does no harm. */
#define _GNU_SOURCE
#include "bystander.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK		4096
#define MEMORY_SIZE	65536
#define DISK_SIZE	(1024 * 1024)

static void must(int ret, const char *what)
{
	if (ret < 0)
		fuzz_fail("a harmless guest: %s: %s", what, strerror(-ret));
}

void bystander_start(struct bystander *b, int device)
{
	int disk = memfd_create("disk", MFD_CLOEXEC);

	must(disk < 0 || ftruncate(disk, DISK_SIZE) ? -errno : 0, "disk");
	must(guest_memory_init(&b->mem), "memory");
	must(guest_memory_add(&b->mem, 0, MEMORY_SIZE), "memory");
	memset(&b->dev, 0, sizeof(b->dev));
	b->dev.fd = device;
	b->dev.mem = &b->mem;
	b->dev.features = 1ULL << VIRTIO_F_VERSION_1;
	must(vhost_blk_setup(&b->dev), "set-up");
	must(vq_setup(&b->vq, &b->dev, 0, 8), "ring");
	must(blk_request_init(&b->req, &b->vq, 0), "request");
	b->buf = guest_alloc(&b->mem, 0, BLOCK, BLOCK);
	must(vhost_blk_attach(&b->dev, disk), "attach");
	close(disk);
}

static void do_io(struct bystander *b, uint32_t type, uint64_t sector)
{
	struct vq_segment data = { guest_address(&b->mem, b->buf), BLOCK };
	int status;

	must(blk_add(&b->req, type, sector, &data, 1), "add");
	vq_submit(&b->vq);
	status = blk_wait(&b->req, BOUND_MS);
	must(status, "answer");
	if (status != VIRTIO_BLK_S_OK)
		fuzz_fail("a harmless guest's request ends with status %d", status);
}

void bystander_works(struct bystander *b, struct dice *d)
{
	uint64_t seed = random_next(&d->state), sector = roll(d, (DISK_SIZE - BLOCK) / SECTOR_SIZE);

	pattern_fill(b->buf, BLOCK, 0, seed);
	do_io(b, VIRTIO_BLK_T_OUT, sector);
	memset(b->buf, 0, BLOCK);
	do_io(b, VIRTIO_BLK_T_IN, sector);
	if (pattern_differs(b->buf, BLOCK, 0, seed) >= 0)
		fuzz_fail("a harmless guest's data is wrong");
}

void bystander_stop(struct bystander *b)
{
	must(vhost_blk_detach(&b->dev), "detach");
	must(ioctl(b->dev.fd, VHOST_RESET_OWNER) ? -errno : 0, "RESET_OWNER");
	vq_free(&b->vq);
	guest_memory_free(&b->mem);
}
