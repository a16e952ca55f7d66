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
static bool vhost_blk_iotlb_forbids(struct vhost_virtqueue *vq,
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
	if (vhost_blk_iotlb_forbids(vq, vq->desc, vq->num * sizeof(*vq->desc),
				    VHOST_MAP_RO) ||
	    vhost_blk_iotlb_forbids(vq, vq->avail,
				    struct_size(vq->avail, ring, vq->num),
				    VHOST_MAP_RO) ||
	    vhost_blk_iotlb_forbids(vq, vq->used,
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
	unsigned int i;

	for (i = 0; i < VHOST_BLK_MAX_QUEUES; i++)
		memset(blk->vqs[i]->meta_iotlb, 0,
		       sizeof(blk->vqs[i]->meta_iotlb));
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
	unsigned int i;

	if (enable) {
		/* The name is of one use; it allocates with the core's limit. */
		iotlb = vhost_dev_reset_owner_prepare();
		if (!iotlb)
			return -ENOMEM;
	}

	vhost_blk_iotlb_reset_cache(blk);
	for (i = 0; i < VHOST_BLK_MAX_QUEUES; i++)
		blk->vqs[i]->iotlb = iotlb;
	vhost_iotlb_free(dev->iotlb);
	dev->iotlb = iotlb;
	/* A reader that sleeps sees that there is nothing to wait for. */
	wake_up_interruptible_poll(&dev->wait, EPOLLIN | EPOLLRDNORM);
	return 0;
}

/* Rings are accessed without further checks at the addresses given here. */
static bool vhost_blk_iotlb_valid(struct vhost_iotlb_msg *msg)
{
	return msg->iova + msg->size - 1 >= msg->iova &&
	       msg->perm && !(msg->perm & ~VHOST_ACCESS_RW) &&
	       msg->uaddr <= ULONG_MAX && msg->size <= ULONG_MAX &&
	       access_ok((void __user *)(unsigned long)msg->uaddr, msg->size);
}

static int vhost_blk_iotlb_change(struct vhost_blk *blk,
				  struct vhost_iotlb_msg *msg)
{
	u64 last = msg->iova + msg->size - 1;
	struct vhost_iotlb *iotlb = blk->dev.iotlb;
	int err = 0;

	if (msg->type == VHOST_IOTLB_UPDATE && !vhost_blk_iotlb_valid(msg))
		return -EFAULT;

	down_write(&blk->iotlb_lock);
	vhost_blk_iotlb_reset_cache(blk);
	/* The latest mapping of an address is the one that holds. */
	vhost_iotlb_del_range(iotlb, msg->iova, last);
	if (msg->type == VHOST_IOTLB_UPDATE)
		err = vhost_iotlb_add_range(iotlb, msg->iova, last, msg->uaddr,
					    msg->perm);
	up_write(&blk->iotlb_lock);
	return err;
}

/* Lets those queues go on that asked for what the message is about. */
static void vhost_blk_iotlb_answer(struct vhost_blk *blk,
				   struct vhost_iotlb_msg *msg)
{
	DECLARE_BITMAP(asked, VHOST_BLK_MAX_QUEUES) = {};
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

	for_each_set_bit(i, asked, VHOST_BLK_MAX_QUEUES)
		vhost_blk_queue_resume(&blk->queues[i],
				       msg->type == VHOST_IOTLB_ACCESS_FAIL);
}

/**
 * vhost_blk_iotlb_msg - take in a message of the owner
 * @dev:	the vhost core's part of the device
 * @asid:	address space, of which there is one
 * @msg:	an update, an invalidation, or that an address is not mapped
 */
int vhost_blk_iotlb_msg(struct vhost_dev *dev, u32 asid,
			struct vhost_iotlb_msg *msg)
{
	struct vhost_blk *blk = container_of(dev, struct vhost_blk, dev);
	int err;

	if (asid)
		return -EINVAL;

	mutex_lock(&dev->mutex);
	err = vhost_dev_check_owner(dev);
	if (err)
		goto out_unlock;
	err = -EINVAL;
	if (!dev->iotlb)
		goto out_unlock;

	switch (msg->type) {
	case VHOST_IOTLB_UPDATE:
		err = vhost_blk_iotlb_change(blk, msg);
		if (!err)
			vhost_blk_iotlb_answer(blk, msg);
		break;
	case VHOST_IOTLB_INVALIDATE:
		err = vhost_blk_iotlb_change(blk, msg);
		break;
	case VHOST_IOTLB_ACCESS_FAIL:
		/* Of the one address that was asked for, if no size is given. */
		msg->size = max_t(u64, msg->size, 1);
		vhost_blk_iotlb_answer(blk, msg);
		err = 0;
		break;
	}
out_unlock:
	mutex_unlock(&dev->mutex);
	return err;
}
