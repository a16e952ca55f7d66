/* SPDX-License-Identifier: GPL-2.0 */
/* The fuzzer's disks, each with a shadow that tells what it should hold. */
#ifndef TESTS_FUZZ_DISK_H
#define TESTS_FUZZ_DISK_H

#include "model.h"

#define DISKS	7

struct disk {
	struct model_disk model;
	int fd;		/* what the device gets */
	int eye;	/* what is read to see what became of it */
	char *shadow;
	int below;	/* a larger device that it is a window of, or -1 */
};

/* The disk of that number, made when it is asked for the first time. */
struct disk *disk_get(unsigned int number);
/* It may hold anything in a range. */
void disk_accept(struct disk *disk, uint64_t pos, uint64_t len);
/* The first byte of a range that is not as it should be, or -1. */
int64_t disk_differs(struct disk *disk, uint64_t pos, uint64_t len);
/* What is wrong with all of it, its size, and what lies around it; NULL if nothing is. */
const char *disk_fault(struct disk *disk);
/* Gives all disks back, which nobody must hold any more. */
void disk_remove_all(void);

#endif
