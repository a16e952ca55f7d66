/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtio driver in userspace that drives /dev/vhost-blk: guest memory, the
 * device's ioctls and split virtqueues.
 *
 * Functions that can fail return 0 or a negative errno. Those between
 * vq_add() and vq_take() are the data path: they do not check what a
 * caller can know.
 */
#ifndef TESTS_LIB_VRING_H
#define TESTS_LIB_VRING_H

#include <linux/vhost.h>
#include <linux/vhost_blk.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wait.h"

#define VHOST_BLK_DEVICE	"/dev/vhost-blk"
#define PAGE		4096UL	/* bytes */
#define BIT64(n)	(1ULL << (n))

#define GUEST_REGIONS_MAX	64

/* Guest memory: regions of one memfd, each at a guest-physical address. */
struct guest_region {
	uint64_t gpa;
	size_t size;	/* bytes */
	char *host;
	size_t used;	/* bytes handed out by guest_alloc() */
};

struct guest_memory {
	int fd;
	size_t size;	/* bytes in the memfd */
	unsigned int nregions;
	struct guest_region region[GUEST_REGIONS_MAX];
};

int guest_memory_init(struct guest_memory *mem);
/* Add a region; return its number. */
int guest_memory_add(struct guest_memory *mem, uint64_t gpa, size_t size);
void guest_memory_free(struct guest_memory *mem);

/* Allocate zeroed memory of a region; return NULL when the region is used up. */
void *guest_alloc(struct guest_memory *mem, unsigned int region, size_t size, size_t align);
uint64_t guest_address(const struct guest_memory *mem, const void *host);

struct vhost_blk {
	int fd;
	/* Replaces the ioctl, returns 0 or -errno; NULL for the ioctl itself. */
	int (*call)(struct vhost_blk *dev, unsigned long request, void *arg);
	uint64_t features;
	struct guest_memory *mem;
};

/* Open the device, become its owner, set features and memory table. */
int vhost_blk_open(struct vhost_blk *dev, struct guest_memory *mem, uint64_t features);
/* The same without the open. */
int vhost_blk_setup(struct vhost_blk *dev);
int vhost_blk_set_memory(struct vhost_blk *dev);
int vhost_blk_attach(struct vhost_blk *dev, int backend);
int vhost_blk_detach(struct vhost_blk *dev);
/*
 * Return the number of workers of a process' queues, and of its threads that
 * requests are offloaded to; with pid 0 those of all processes.
 */
int worker_count(pid_t pid);
int offload_count(pid_t pid);
/* Return the thread id of a worker of a process, or -ESRCH: role 's' submits, 'c' completes. */
pid_t worker_pid(pid_t pid, char role, unsigned int queue);
void vhost_blk_close(struct vhost_blk *dev);

struct vq_segment {
	uint64_t addr;	/* guest-physical */
	uint32_t len;	/* bytes */
};

struct vq {
	struct vhost_blk *dev;
	unsigned int index;
	unsigned int num;
	bool event_idx;
	int kick;
	int call;
	int err;

	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;

	uint16_t avail_idx;	/* may be ahead of what the device was told */
	uint16_t told_idx;	/* available index when a kick was last considered */
	uint16_t used_idx;	/* next used entry to take */
	unsigned int nr_free;
	uint16_t free_head;
	uint16_t *next;		/* free list and chains, out of the device's reach */
	void **cookie;		/* by head */
};

/* Allocate a ring in region 0 and set it up in the device. */
int vq_setup(struct vq *vq, struct vhost_blk *dev, unsigned int index, unsigned int num);
/* Forget what is in flight: the ring is as after vq_setup(), at index base. */
int vq_restart(struct vq *vq, uint16_t base);
void vq_free(struct vq *vq);
/* Return the index of the next available entry that the device will process, or -errno. */
int vq_get_base(struct vq *vq);

/*
 * Add a chain of nr_out readable and nr_in writable segments to the ring.
 * Return its head, or -ENOSPC. The device sees it after vq_submit(). The
 * cookie, which vq_take() returns, must not be NULL.
 */
int vq_add(struct vq *vq, const struct vq_segment *segment, unsigned int nr_out,
	   unsigned int nr_in, void *cookie);
/* The same through a table of nr_out + nr_in descriptors in guest memory. */
int vq_add_indirect(struct vq *vq, struct vring_desc *table,
		    const struct vq_segment *segment, unsigned int nr_out,
		    unsigned int nr_in, void *cookie);

/* The steps of vq_submit(), for tests that do them in another way. */
void vq_push(struct vq *vq, uint16_t head);
void vq_publish(struct vq *vq);
bool vq_kick_wanted(struct vq *vq);
int vq_kick(struct vq *vq);

/* Publish all chains that were added, and kick unless the device suppresses notifications. */
void vq_submit(struct vq *vq);

/* Take a used entry, if there is one; cookie is NULL if its id is not in flight. */
bool vq_take(struct vq *vq, struct vring_used_elem *elem, void **cookie);
/* Add a used entry as the device does, for a request that the device has left to its owner. */
void vq_add_used(struct vq *vq, uint16_t head, uint32_t len);
/* Return the index of the used ring. */
uint16_t vq_used_idx(const struct vq *vq);
/* Sleep on the call eventfd until there is a used entry; return 0 or -ETIMEDOUT. */
int vq_wait(struct vq *vq, int timeout_ms);

/* The event index words, which follow the rings. */
static inline volatile __virtio16 *vq_used_event_word(struct vq *vq)
{
	return &vq->avail->ring[vq->num];
}

static inline volatile __virtio16 *vq_avail_event_word(struct vq *vq)
{
	return (__virtio16 *)&vq->used->ring[vq->num];
}

/* Read the count of an eventfd without sleeping. */
uint64_t event_count(int eventfd);
/* Sleep until an eventfd is signalled, and leave its count; return 0 or -ETIMEDOUT. */
int event_wait(int eventfd, int timeout_ms);

#endif
