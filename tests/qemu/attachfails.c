// SPDX-License-Identifier: GPL-2.0
/* Preloaded into QEMU: makes the module refuse to attach while there is a file of the name in ATTACH_FAILS. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/vhost_blk.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

int ioctl(int fd, unsigned long request, ...)
{
	int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);

	if (request == VHOST_BLK_SET_BACKEND && ((struct vhost_vring_file *)argument)->fd >= 0 &&
	    access(getenv("ATTACH_FAILS"), F_OK) == 0) {
		errno = ENOMEM;
		return -1;
	}
	return next(fd, request, argument);
}
