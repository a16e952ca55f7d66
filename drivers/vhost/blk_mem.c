// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk memory: changes of the owner's memory table, and messages about the
 * device IOTLB.  Memory that goes is waited for.
 */

#include <linux/bitmap.h>
#include <linux/slab.h>

#include "blk.h"

/* Waits until no request uses a range of the owner's memory. */
static int vhost_blk_wait_unused(struct vhost_blk *blk, u64 first, u64 last)
{
	struct vhost_blk_queue *q;
	int err = 0;

	vhost_blk_for_each_queue(blk, q)
		err = err ?: vhost_blk_vring_wait_unused(q, first, last);
	return err;
}

/* Whether all of a region is still where it was. */
static bool vhost_blk_region_stays(struct vhost_blk *blk,
				   const struct vhost_memory_region *region)
{
	u64 addr = region->guest_phys_addr;
	u64 last = addr + region->memory_size - 1;
	struct vhost_iotlb_map *map;

	do {
		map = vhost_iotlb_itree_first(blk->dev.umem, addr, addr);
		if (!map || map->addr - map->start !=
			    region->userspace_addr - region->guest_phys_addr)
			return false;
		addr = map->last + 1;
	} while (addr && addr <= last);
	return true;
}

/* The memory table of now; NULL without memory for it. */
static struct vhost_memory_region *vhost_blk_regions(struct vhost_blk *blk,
						     unsigned int *nr)
{
	struct vhost_iotlb *umem = blk->dev.umem;
	struct vhost_memory_region *regions;
	struct vhost_iotlb_map *map;

	*nr = 0;
	regions = kvcalloc(umem ? umem->nmaps + 1 : 1, sizeof(*regions),
			   GFP_KERNEL_ACCOUNT);
	if (!regions || !umem)
		return regions;
	list_for_each_entry(map, &umem->list, link)
		regions[(*nr)++] = (struct vhost_memory_region) {
			.guest_phys_addr = map->start,
			.memory_size = map->size,
			.userspace_addr = map->addr,
		};
	return regions;
}

/**
 * vhost_blk_set_mem_table - set the memory table
 * @blk:	the device
 * @argp:	of VHOST_SET_MEM_TABLE
 *
 * The owner may do what it likes with memory that is not in the new table, so
 * requests that use it are waited for.
 *
 * Context: process context of the owner, vhost_dev.mutex held.
 * Return: 0, what the vhost core gives, -ENOMEM, or -EINTR if the caller is
 *	   killed.
 */
long vhost_blk_set_mem_table(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_memory_region *old, *region;
	unsigned int nr;
	long err;

	old = vhost_blk_regions(blk, &nr);
	if (!old)
		return -ENOMEM;
	err = vhost_dev_ioctl(&blk->dev, VHOST_SET_MEM_TABLE, argp);
	vhost_blk_pin_stale(blk, 0, ULONG_MAX);
	for (region = old; !err && region < old + nr; region++)
		if (!vhost_blk_region_stays(blk, region))
			err = vhost_blk_wait_unused(blk, region->userspace_addr,
						    region->userspace_addr +
						    region->memory_size - 1);
	kvfree(old);
	return err;
}

static int vhost_blk_iotlb_invalidate(struct vhost_blk *blk,
				      struct vhost_iotlb_msg *msg)
{
	u64 first, last;
	int err = 0;

	while (!err && vhost_blk_iotlb_remove(blk, msg, &first, &last))
		err = vhost_blk_wait_unused(blk, first, last);
	return err;
}

/*
 * Make room for a mapping.  A full IOTLB drops its oldest mapping, and a later
 * invalidation of that would not wait for the requests that use it.
 */
static int vhost_blk_iotlb_make_room(struct vhost_blk *blk)
{
	struct vhost_iotlb *iotlb = blk->dev.iotlb;
	struct vhost_iotlb_map *oldest;
	struct vhost_iotlb_msg msg = { .type = VHOST_IOTLB_INVALIDATE };

	if (iotlb->nmaps < iotlb->limit)
		return 0;
	/* vhost_dev.mutex keeps others from changing the IOTLB. */
	oldest = list_first_entry(&iotlb->list, struct vhost_iotlb_map, link);
	msg.iova = oldest->start;
	msg.size = oldest->size;
	return vhost_blk_iotlb_invalidate(blk, &msg);
}

/* Lets those queues go on that asked for what the message is about. */
static void vhost_blk_iotlb_reply(struct vhost_blk *blk,
				  struct vhost_iotlb_msg *msg)
{
	DECLARE_BITMAP(asked, VHOST_BLK_MAX_QUEUES) = {};
	unsigned int i;

	vhost_blk_iotlb_asked(blk, msg, asked);
	for_each_set_bit(i, asked, VHOST_BLK_MAX_QUEUES)
		vhost_blk_vring_reply(&blk->queues[i],
				      msg->type == VHOST_IOTLB_ACCESS_FAIL);
}

static int vhost_blk_do_msg(struct vhost_blk *blk, struct vhost_iotlb_msg *msg)
{
	int err;

	if (!blk->dev.iotlb)
		return -EINVAL;

	switch (msg->type) {
	case VHOST_IOTLB_UPDATE:
		if (!vhost_blk_iotlb_valid(msg))
			return -EFAULT;
		err = vhost_blk_iotlb_invalidate(blk, msg) ?:
		      vhost_blk_iotlb_make_room(blk) ?:
		      vhost_blk_iotlb_update(blk, msg);
		if (!err)
			vhost_blk_iotlb_reply(blk, msg);
		return err;
	case VHOST_IOTLB_INVALIDATE:
		return vhost_blk_iotlb_invalidate(blk, msg);
	case VHOST_IOTLB_ACCESS_FAIL:
		/* Of the one address that was asked for, if no size is given. */
		msg->size = max_t(u64, msg->size, 1);
		vhost_blk_iotlb_reply(blk, msg);
		return 0;
	default:
		return -EINVAL;
	}
}

/**
 * vhost_blk_msg - take in a message about the IOTLB
 * @dev:	the vhost core's part of the device
 * @asid:	address space, of which there is one
 * @msg:	an update, an invalidation, or that an address is not mapped
 *
 * The core's own handling is not used: it takes the mutexes of all virtqueues
 * at once, and wakes a worker that this module does not have.
 *
 * Context: process context.
 * Return: 0 or a negative errno.
 */
int vhost_blk_msg(struct vhost_dev *dev, u32 asid, struct vhost_iotlb_msg *msg)
{
	struct vhost_blk *blk = container_of(dev, struct vhost_blk, dev);
	int err;

	if (asid)
		return -EINVAL;
	if (mutex_lock_killable(&dev->mutex))
		return -EINTR;
	err = vhost_dev_check_owner(dev) ?: vhost_blk_do_msg(blk, msg);
	mutex_unlock(&dev->mutex);
	return err;
}
