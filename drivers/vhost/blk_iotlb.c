// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk behind a virtual IOMMU: the device IOTLB, its messages, and the
 * queues that wait for a mapping.
 *
 * The vhost core's own handling of messages is not used: it takes the mutexes
 * of all 128 virtqueues at once, and wakes a worker that we do not have.
 */

#include <linux/bitmap.h>
#include <linux/uio.h>

#include "blk.h"

/* Whether a part of a ring is mapped, but not for what is done to it. */
static bool vhost_blk_iotlb_denies(struct vhost_virtqueue *vq,
				   const void __user *ring, size_t size,
				   u32 perm)
{
	u64 first = (uintptr_t)ring, last = first + size - 1;
	struct vhost_iotlb_map *map;

	for (map = vhost_iotlb_itree_first(vq->iotlb, first, last); map;
	     map = vhost_iotlb_itree_next(map, first, last))
		if (!(map->perm & perm))
			return true;
	return false;
}

/**
 * vhost_blk_iotlb_enter - make sure that a queue's ring can be accessed
 * @q:		the queue, on whose device an IOTLB is set up
 *
 * On success no mapping changes until vhost_blk_iotlb_leave().
 *
 * Context: one of the queue's workers, on the owner's memory, vq->mutex held.
 * Return: 0; -EAGAIN if the owner has been asked for a mapping; -EFAULT if
 *	   there is one that does not permit what is done to the ring.
 */
int vhost_blk_iotlb_enter(struct vhost_blk_queue *q)
{
	struct vhost_virtqueue *vq = &q->vq;
	int err = -EAGAIN;

	down_read(&q->blk->iotlb_lock);
	if (vq_meta_prefetch(vq))
		return 0;
	/* The core asks for what is missing, and says nothing of the other. */
	if (vhost_blk_iotlb_denies(vq, vq->desc, vq->num * sizeof(*vq->desc),
				   VHOST_MAP_RO) ||
	    vhost_blk_iotlb_denies(vq, vq->avail,
				   struct_size(vq->avail, ring, vq->num),
				   VHOST_MAP_RO) ||
	    vhost_blk_iotlb_denies(vq, vq->used,
				   struct_size(vq->used, ring, vq->num),
				   VHOST_MAP_WO))
		err = -EFAULT;
	up_read(&q->blk->iotlb_lock);
	return err;
}

/**
 * vhost_blk_iotlb_leave - end what vhost_blk_iotlb_enter() began
 * @q:		the queue
 */
void vhost_blk_iotlb_leave(struct vhost_blk_queue *q)
{
	up_read(&q->blk->iotlb_lock);
}

/**
 * vhost_blk_iotlb_forget - drop what a queue asked for
 * @q:		the queue
 *
 * Context: vq->mutex held, so that the queue asks for nothing meanwhile.
 */
void vhost_blk_iotlb_forget(struct vhost_blk_queue *q)
{
	struct vhost_dev *dev = &q->blk->dev;
	struct list_head *lists[] = { &dev->read_list, &dev->pending_list };
	struct vhost_msg_node *node, *next;
	unsigned int i;

	spin_lock(&dev->iotlb_lock);
	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		list_for_each_entry_safe(node, next, lists[i], node) {
			if (node->vq != &q->vq)
				continue;
			list_del(&node->node);
			kfree(node);
		}
	}
	spin_unlock(&dev->iotlb_lock);
}

static void vhost_blk_iotlb_reset_cache(struct vhost_blk *blk)
{
	struct vhost_blk_queue *q;

	vhost_blk_for_each_queue(blk, q)
		memset(q->vq.meta_iotlb, 0, sizeof(q->vq.meta_iotlb));
}

/**
 * vhost_blk_iotlb_set - begin or end to translate the guest's addresses
 * @blk:	the device, no backend attached
 * @enable:	begin, with an empty IOTLB
 *
 * Context: process context, vhost_dev.mutex held.
 * Return: 0 or -ENOMEM.
 */
int vhost_blk_iotlb_set(struct vhost_blk *blk, bool enable)
{
	struct vhost_iotlb *iotlb = NULL;
	struct vhost_dev *dev = &blk->dev;
	struct vhost_blk_queue *q;

	if (enable) {
		/* Named after one use; it allocates with the core's limit. */
		iotlb = vhost_dev_reset_owner_prepare();
		if (!iotlb)
			return -ENOMEM;
	}

	vhost_blk_iotlb_reset_cache(blk);
	vhost_blk_for_each_queue(blk, q)
		q->vq.iotlb = iotlb;
	vhost_iotlb_free(dev->iotlb);
	dev->iotlb = iotlb;
	/* A reader that sleeps sees that there is nothing to wait for. */
	wake_up_interruptible_poll(&dev->wait, EPOLLIN | EPOLLRDNORM);
	return 0;
}

/**
 * vhost_blk_iotlb_valid - check the addresses of an update
 * @msg:	the update
 *
 * Rings are accessed without further checks at the addresses given here.
 */
bool vhost_blk_iotlb_valid(struct vhost_iotlb_msg *msg)
{
	return msg->iova + msg->size - 1 >= msg->iova &&
	       msg->perm && !(msg->perm & ~VHOST_ACCESS_RW) &&
	       msg->uaddr <= ULONG_MAX && msg->size <= ULONG_MAX &&
	       access_ok((void __user *)(unsigned long)msg->uaddr, msg->size);
}

/* Whether an update leaves a mapping as it is, for all that it allows. */
static bool vhost_blk_iotlb_same(const struct vhost_iotlb_map *map,
				 const struct vhost_iotlb_msg *msg)
{
	return msg->type == VHOST_IOTLB_UPDATE && map->start >= msg->iova &&
	       map->last - msg->iova < msg->size &&
	       map->addr - map->start == msg->uaddr - msg->iova &&
	       !(map->perm & ~msg->perm);
}

/**
 * vhost_blk_iotlb_remove - remove a mapping that a message makes invalid
 * @blk:	the device, with an IOTLB
 * @msg:	an invalidation, or an update, which is not done yet
 * @first:	set to the first address of the memory that it led to
 * @last:	set to the last address
 *
 * Context: process context, vhost_dev.mutex held.
 * Return: false if there is none.
 */
bool vhost_blk_iotlb_remove(struct vhost_blk *blk, struct vhost_iotlb_msg *msg,
			    u64 *first, u64 *last)
{
	u64 end = msg->iova + msg->size - 1;
	struct vhost_iotlb *iotlb = blk->dev.iotlb;
	struct vhost_iotlb_map *map;

	down_write(&blk->iotlb_lock);
	map = vhost_iotlb_itree_first(iotlb, msg->iova, end);
	while (map && vhost_blk_iotlb_same(map, msg))
		map = vhost_iotlb_itree_next(map, msg->iova, end);
	if (map) {
		*first = map->addr;
		*last = map->addr + map->size - 1;
		vhost_blk_iotlb_reset_cache(blk);
		vhost_iotlb_map_free(iotlb, map);
	}
	up_write(&blk->iotlb_lock);
	return map;
}

/**
 * vhost_blk_iotlb_update - add a mapping
 * @blk:	the device, with an IOTLB
 * @msg:	the update; what it makes invalid was removed
 *
 * Context: process context, vhost_dev.mutex held.
 * Return: 0, -EFAULT for addresses that are not the owner's, or -ENOMEM.
 */
int vhost_blk_iotlb_update(struct vhost_blk *blk, struct vhost_iotlb_msg *msg)
{
	u64 last = msg->iova + msg->size - 1;
	struct vhost_iotlb *iotlb = blk->dev.iotlb;
	int err;

	down_write(&blk->iotlb_lock);
	vhost_blk_iotlb_reset_cache(blk);
	/* The latest mapping of an address is the one that holds. */
	vhost_iotlb_del_range(iotlb, msg->iova, last);
	err = vhost_iotlb_add_range(iotlb, msg->iova, last, msg->uaddr,
				    msg->perm);
	up_write(&blk->iotlb_lock);
	return err;
}

/**
 * vhost_blk_iotlb_asked - find the queues that asked for an address
 * @blk:	the device
 * @msg:	the owner's reply, with the addresses that it is about
 * @asked:	bitmap of queues, zeroed
 *
 * Context: process context, vhost_dev.mutex held.
 */
void vhost_blk_iotlb_asked(struct vhost_blk *blk, struct vhost_iotlb_msg *msg,
			   unsigned long *asked)
{
	struct vhost_dev *dev = &blk->dev;
	struct list_head *lists[] = { &dev->read_list, &dev->pending_list };
	struct vhost_msg_node *node;
	struct vhost_blk_queue *q;
	unsigned int i;
	u64 iova;

	spin_lock(&dev->iotlb_lock);
	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		list_for_each_entry(node, lists[i], node) {
			iova = node->msg.type == VHOST_IOTLB_MSG_V2 ?
				node->msg_v2.iotlb.iova : node->msg.iotlb.iova;
			if (iova - msg->iova >= msg->size)
				continue;
			q = container_of(node->vq, struct vhost_blk_queue, vq);
			__set_bit(q->index, asked);
		}
	}
	spin_unlock(&dev->iotlb_lock);
}
