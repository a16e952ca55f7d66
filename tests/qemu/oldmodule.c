// SPDX-License-Identifier: GPL-2.0
/* Preloaded into QEMU: makes the loaded module look like the first release, which had fewer features and calls. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/vhost.h>
#include <linux/vhost_blk.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define BIT(n) (1ULL << (n))

static const uint64_t first_features =
	BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_GEOMETRY) | BIT(VIRTIO_BLK_F_RO) |
	BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_TOPOLOGY) |
	BIT(VIRTIO_BLK_F_MQ) | BIT(VIRTIO_F_NOTIFY_ON_EMPTY) | BIT(VIRTIO_F_ANY_LAYOUT) |
	BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_VERSION_1);

int ioctl(int fd, unsigned long request, ...)
{
	int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
	va_list arguments;
	void *argument;
	int result;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);

	if (_IOC_TYPE(request) == VHOST_VIRTIO &&
	    _IOC_NR(request) > _IOC_NR(VHOST_BLK_SET_SERIAL) && _IOC_NR(request) < 0x60) {
		errno = ENOTTY;
		return -1;
	}
	if (request == VHOST_SET_FEATURES && *(uint64_t *)argument & ~first_features) {
		errno = EOPNOTSUPP;
		return -1;
	}
	result = next(fd, request, argument);
	if (request == VHOST_GET_FEATURES && result == 0)
		*(uint64_t *)argument &= first_features;
	return result;
}
