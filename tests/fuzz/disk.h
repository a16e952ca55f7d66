/* SPDX-License-Identifier: GPL-2.0 */
/* The fuzzer's disks, each with a shadow of its expected contents. */
#ifndef TESTS_FUZZ_DISK_H
#define TESTS_FUZZ_DISK_H

#include "model.h"

#define DISKS	7

struct disk {
	struct model_disk model;
	int fd;		/* the backend */
	int verify_fd;	/* for reads that check the contents */
	char *shadow;
	int below;	/* the larger device of a window, or -1 */
};

/* Return the disk of that number, and create it at the first call. */
struct disk *disk_get(unsigned int number);
/* Take the present contents of a range as expected. */
void disk_accept(struct disk *disk, uint64_t pos, uint64_t len);
/* Return the first byte of a range that differs from the shadow, or -1. */
int64_t disk_differs(struct disk *disk, uint64_t pos, uint64_t len);
/* Check size, contents and the device below. Return a description of the error, or NULL. */
const char *disk_fault(struct disk *disk);
/* Remove all disks, which must not be in use. */
void disk_remove_all(void);

#endif
