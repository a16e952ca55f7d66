// SPDX-License-Identifier: GPL-2.0
/* A second device with an ordinary guest. */
#define _GNU_SOURCE
#include "second_device.h"

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
		fuzz_fail("second device: %s: %s", what, strerror(-ret));
}

void second_device_start(struct second_device *s, int device)
{
	int disk = memfd_create("disk", MFD_CLOEXEC);

	must(disk < 0 || ftruncate(disk, DISK_SIZE) ? -errno : 0, "disk");
	must(guest_memory_init(&s->mem), "memory");
	must(guest_memory_add(&s->mem, 0, MEMORY_SIZE), "memory");
	memset(&s->dev, 0, sizeof(s->dev));
	s->dev.fd = device;
	s->dev.mem = &s->mem;
	s->dev.features = 1ULL << VIRTIO_F_VERSION_1;
	must(vhost_blk_setup(&s->dev), "set-up");
	must(vq_setup(&s->vq, &s->dev, 0, 8), "ring");
	must(blk_request_init(&s->req, &s->vq, 0), "request");
	s->buf = guest_alloc(&s->mem, 0, BLOCK, BLOCK);
	must(vhost_blk_attach(&s->dev, disk), "attach");
	close(disk);
}

static void do_io(struct second_device *s, uint32_t type, uint64_t sector)
{
	struct vq_segment data = { guest_address(&s->mem, s->buf), BLOCK };
	int status;

	must(blk_add(&s->req, type, sector, &data, 1), "add");
	vq_submit(&s->vq);
	status = blk_wait(&s->req, BOUND_MS);
	must(status, "completion");
	if (status != VIRTIO_BLK_S_OK)
		fuzz_fail("second device: status %d", status);
}

void second_device_verify(struct second_device *s, struct dice *d)
{
	uint64_t seed = random_next(&d->state), sector = roll(d, (DISK_SIZE - BLOCK) / SECTOR_SIZE);

	pattern_fill(s->buf, BLOCK, 0, seed);
	do_io(s, VIRTIO_BLK_T_OUT, sector);
	memset(s->buf, 0, BLOCK);
	do_io(s, VIRTIO_BLK_T_IN, sector);
	if (pattern_differs(s->buf, BLOCK, 0, seed) >= 0)
		fuzz_fail("second device: wrong data");
}

void second_device_stop(struct second_device *s)
{
	must(vhost_blk_detach(&s->dev), "detach");
	must(ioctl(s->dev.fd, VHOST_RESET_OWNER) ? -errno : 0, "RESET_OWNER");
	vq_free(&s->vq);
	guest_memory_free(&s->mem);
}
