// SPDX-License-Identifier: GPL-2.0
/* vhost-blk devices: all queues together, from attach to detach. */

#include "blk.h"

/**
 * vhost_blk_kill - wait for no more than the backend has begun
 * @blk:	the device
 *
 * Context: process context; the owner exits or was killed.
 */
void vhost_blk_kill(struct vhost_blk *blk)
{
	struct vhost_blk_queue *q;

	WRITE_ONCE(blk->killed, true);
	vhost_blk_offload_kill(&blk->offload);
	vhost_blk_for_each_queue(blk, q)
		if (q->live)
			vhost_blk_workers_kill(q);
}

/* Fetches no more; killable, but all queues are quiesced in any case. */
static int vhost_blk_drain(struct vhost_blk *blk)
{
	struct vhost_blk_queue *q;
	int err = 0;

	/* All queues drain at the same time. */
	vhost_blk_for_each_queue(blk, q)
		vhost_blk_vring_quiesce(q);
	vhost_blk_for_each_queue(blk, q)
		err = err ?: vhost_blk_queue_drain(q);
	return err;
}

/**
 * vhost_blk_detach - complete what was fetched, and let go of the backend
 * @blk:	the device
 *
 * Context: process context, vhost_dev.mutex held.  Sleeps until the backend has
 *	    answered every request; a caller that is killed meanwhile does not
 *	    wait for what the backend has not begun.
 */
void vhost_blk_detach(struct vhost_blk *blk)
{
	struct vhost_blk_queue *q;

	if (!blk->backend.file)
		return;

	if (vhost_blk_drain(blk)) {
		vhost_blk_kill(blk);
		vhost_blk_for_each_queue(blk, q)
			wait_event(q->drained, !READ_ONCE(q->inflight));
	}
	/* Workers are not woken from here on; the grace period ends wake-ups. */
	vhost_blk_for_each_queue(blk, q)
		WRITE_ONCE(q->live, false);
	synchronize_rcu();
	vhost_blk_for_each_queue(blk, q)
		vhost_blk_queue_stop(q);
	vhost_blk_offload_stop(&blk->offload);
	vhost_blk_for_each_queue(blk, q)
		vhost_blk_queue_free(q);
	/* A reply that still comes is not for the queues that start next. */
	vhost_clear_msg(&blk->dev);
	vhost_blk_backend_close(&blk->backend);
	blk->quiesced = false;
}

/**
 * vhost_blk_attach - serve the queues whose vring is set up
 * @blk:	the device
 * @fd:		descriptor of the backend
 *
 * Context: process context of the owner, vhost_dev.mutex held.
 * Return: 0, -EBUSY with a backend, -EFAULT if no vring is set up, or what
 *	   opening the backend or starting a queue gives.
 */
int vhost_blk_attach(struct vhost_blk *blk, int fd)
{
	struct vhost_blk_queue *q;
	unsigned int started = 0;
	int err;

	if (blk->backend.file)
		return -EBUSY;

	err = vhost_blk_backend_open(&blk->backend, fd);
	if (err)
		return err;
	WRITE_ONCE(blk->killed, false);

	vhost_blk_for_each_queue(blk, q) {
		if (!vhost_vq_is_setup(&q->vq))
			continue;
		err = vhost_blk_queue_start(q);
		if (err)
			goto err_detach;
		started++;
	}
	if (started)
		return 0;
	err = -EFAULT;

err_detach:
	vhost_blk_detach(blk);
	return err;
}

/**
 * vhost_blk_quiesce - fetch no more, and wait for what was fetched
 * @blk:	the device
 *
 * Context: process context of the owner, vhost_dev.mutex held.
 * Return: 0, -EINVAL without a backend, or -EINTR if the caller is killed.
 */
int vhost_blk_quiesce(struct vhost_blk *blk)
{
	if (!blk->backend.file)
		return -EINVAL;
	WRITE_ONCE(blk->quiesced, true);
	return vhost_blk_drain(blk);
}

/**
 * vhost_blk_resume - serve the queues of a quiesced device again
 * @blk:	the device
 * @retry:	try again what was handed back
 *
 * Context: process context of the owner, vhost_dev.mutex held.
 * Return: 0, -EINVAL without a backend or if the size of a ring has changed,
 *	   -EFAULT if a used ring cannot be read, -EINTR if the caller is killed.
 */
int vhost_blk_resume(struct vhost_blk *blk, bool retry)
{
	struct vhost_blk_queue *q;
	int err;

	if (!blk->backend.file)
		return -EINVAL;
	if (!blk->quiesced)
		return 0;

	/* An earlier call may have been killed before all was drained. */
	err = vhost_blk_drain(blk);
	vhost_blk_for_each_queue(blk, q)
		err = err ?: vhost_blk_queue_can_resume(q);
	if (err)
		return err;
	WRITE_ONCE(blk->quiesced, false);
	vhost_blk_for_each_queue(blk, q) {
		err = vhost_blk_queue_resume(q, retry);
		if (err)
			goto err_quiesce;
	}
	return 0;

err_quiesce:
	WRITE_ONCE(blk->quiesced, true);
	vhost_blk_drain(blk);
	return err;
}

/**
 * vhost_blk_ack_features - set the features that were negotiated
 * @blk:	the device
 * @features:	bits that the device offers
 *
 * Context: process context of the owner, vhost_dev.mutex held.
 * Return: 0, -EBUSY for a change under an attached backend, -EFAULT if the log
 *	   cannot be written, or -ENOMEM.
 */
int vhost_blk_ack_features(struct vhost_blk *blk, u64 features)
{
	struct vhost_blk_queue *q;
	u64 fixed;
	int err;

	/*
	 * The rings in use were checked against the features they have, but a
	 * migration may begin and end at any time.
	 */
	fixed = blk->backend.file ? ~BIT_ULL(VHOST_F_LOG_ALL) : 0;
	if ((features ^ blk->vqs[0]->acked_features) & fixed)
		return -EBUSY;
	if ((features & BIT_ULL(VHOST_F_LOG_ALL)) &&
	    !vhost_log_access_ok(&blk->dev))
		return -EFAULT;
	/* Mappings in use stay. */
	if (!blk->backend.file) {
		err = vhost_blk_iotlb_set(blk, features &
					  BIT_ULL(VIRTIO_F_ACCESS_PLATFORM));
		if (err)
			return err;
	}

	vhost_blk_for_each_queue(blk, q) {
		mutex_lock(&q->vq.mutex);
		q->vq.acked_features = features;
		mutex_unlock(&q->vq.mutex);
	}
	return 0;
}
