// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk: serve virtio block queues inside the host kernel.
 *
 * This file is the character device: what its owner asks for by ioctls and
 * messages.  Calls go down this list of files, none goes up:
 *
 *  blk.c		ioctls
 *  blk_dev.c		a device's life: attach, quiesce, resume, detach
 *  blk_mem.c		changes of the owner's memory
 *  blk_queue.c		a virtqueue's life
 *  blk_worker.c	its two workers; blk_poll.c decides for how long they wait
 *  blk_used.c		the used ring: answers and signals
 *  blk_vring.c		fetching requests, and waiting for them; blk_iotlb.c
 *  blk_io.c		submission and completion of a request; blk_pin.c
 *  blk_offload.c	what may block, in steps; blk_range.c
 *  blk_req.c		a request, parsed from a chain; blk_log.c, blk_backend.c
 *  compat.c		tasks of the owner
 *
 *  avail ring -> submission worker -> kiocb -> backend
 *                                                 |
 *  used ring <- completion worker <- done list <--+
 */

#include <linux/compat.h>
#include <linux/eventfd.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "blk.h"

#define VHOST_BLK_FEATURES (BIT_ULL(VIRTIO_F_NOTIFY_ON_EMPTY) |		\
			    BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) |	\
			    BIT_ULL(VIRTIO_RING_F_EVENT_IDX) |		\
			    BIT_ULL(VIRTIO_F_ANY_LAYOUT) |		\
			    BIT_ULL(VIRTIO_F_VERSION_1) |		\
			    BIT_ULL(VHOST_F_LOG_ALL) |			\
			    BIT_ULL(VIRTIO_BLK_F_SEG_MAX) |		\
			    BIT_ULL(VIRTIO_BLK_F_GEOMETRY) |		\
			    BIT_ULL(VIRTIO_BLK_F_RO) |			\
			    BIT_ULL(VIRTIO_BLK_F_BLK_SIZE) |		\
			    BIT_ULL(VIRTIO_BLK_F_FLUSH) |		\
			    BIT_ULL(VIRTIO_BLK_F_TOPOLOGY) |		\
			    BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE) |		\
			    BIT_ULL(VIRTIO_BLK_F_MQ) |			\
			    BIT_ULL(VIRTIO_BLK_F_DISCARD) |		\
			    BIT_ULL(VIRTIO_BLK_F_WRITE_ZEROES) |	\
			    BIT_ULL(VIRTIO_BLK_F_SECURE_ERASE) |	\
			    BIT_ULL(VIRTIO_F_ACCESS_PLATFORM))

#define VHOST_BLK_BACKEND_FEATURES BIT_ULL(VHOST_BACKEND_F_IOTLB_MSG_V2)

static long vhost_blk_set_backend(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_vring_file backend;

	if (copy_from_user(&backend, argp, sizeof(backend)))
		return -EFAULT;
	if (backend.index)
		return -ENOBUFS;

	if (backend.fd != VHOST_FILE_UNBIND)
		return vhost_blk_attach(blk, backend.fd);

	vhost_blk_detach(blk);
	return 0;
}

static long vhost_blk_do_resume(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_resume resume;

	if (copy_from_user(&resume, argp, sizeof(resume)))
		return -EFAULT;
	if ((resume.flags & ~VHOST_BLK_RESUME_RETRY) || resume.reserved)
		return -EINVAL;
	return vhost_blk_resume(blk, resume.flags & VHOST_BLK_RESUME_RETRY);
}

static long vhost_blk_set_hand_back(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_hand_back hand_back;
	struct eventfd_ctx *ctx = NULL;

	if (copy_from_user(&hand_back, argp, sizeof(hand_back)))
		return -EFAULT;
	if (hand_back.reserved)
		return -EINVAL;
	if (blk->backend.file)
		return -EBUSY;
	if (hand_back.fd != VHOST_FILE_UNBIND) {
		ctx = eventfd_ctx_fdget(hand_back.fd);
		if (IS_ERR(ctx))
			return PTR_ERR(ctx);
	}
	if (blk->hand_back)
		eventfd_ctx_put(blk->hand_back);
	blk->hand_back = ctx;
	return 0;
}

static void vhost_blk_forget_hand_back(struct vhost_blk *blk)
{
	if (blk->hand_back)
		eventfd_ctx_put(blk->hand_back);
	blk->hand_back = NULL;
}

static long vhost_blk_get_unanswered(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_unanswered list;
	struct vhost_blk_queue *q;
	int err;

	if (copy_from_user(&list, argp, sizeof(list)))
		return -EFAULT;
	if (list.index >= VHOST_BLK_MAX_QUEUES)
		return -ENOBUFS;
	if (!blk->quiesced)
		return -EBUSY;
	q = &blk->queues[array_index_nospec(list.index, VHOST_BLK_MAX_QUEUES)];
	err = vhost_blk_vring_list(q, u64_to_user_ptr(list.heads), &list.nr);
	if (err)
		return err;
	return copy_to_user(argp, &list, sizeof(list)) ? -EFAULT : 0;
}

static long vhost_blk_set_coalesce(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_coalesce coalesce;

	if (copy_from_user(&coalesce, argp, sizeof(coalesce)))
		return -EFAULT;
	if (coalesce.max_us > VHOST_BLK_MAX_COALESCE_US || coalesce.reserved)
		return -EINVAL;
	WRITE_ONCE(blk->coalesce_ns, NSEC_PER_USEC * (u64)coalesce.max_us);
	return 0;
}

static long vhost_blk_set_serial(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_serial serial;

	if (copy_from_user(&serial, argp, sizeof(serial)))
		return -EFAULT;
	if (serial.reserved)
		return -EINVAL;
	if (blk->backend.file)
		return -EBUSY;
	memcpy(blk->serial, serial.serial, sizeof(blk->serial));
	return 0;
}

static long vhost_blk_set_write_cache(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_write_cache cache;
	long err;

	if (copy_from_user(&cache, argp, sizeof(cache)))
		return -EFAULT;
	if (cache.mode > VHOST_BLK_WRITE_THROUGH ||
	    (cache.flags & ~VHOST_BLK_WRITE_CACHE_NO_FLUSH))
		return -EINVAL;
	if (blk->write_through == cache.mode)
		return 0;

	WRITE_ONCE(blk->write_through, cache.mode);
	/*
	 * The mode is written before the flush starts: a write that does not see
	 * it in vhost_blk_io_complete() had ended by then and is covered.
	 */
	smp_mb();
	if (!blk->write_through || !blk->backend.file ||
	    (cache.flags & VHOST_BLK_WRITE_CACHE_NO_FLUSH))
		return 0;
	err = vhost_blk_backend_sync(&blk->backend);
	if (err)
		WRITE_ONCE(blk->write_through, false);
	return err;
}

static long vhost_blk_set_discard(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_discard discard;

	if (copy_from_user(&discard, argp, sizeof(discard)))
		return -EFAULT;
	if (discard.mode > VHOST_BLK_DISCARD_IGNORE || discard.reserved)
		return -EINVAL;
	WRITE_ONCE(blk->ignore_discards, discard.mode);
	return 0;
}

static long vhost_blk_get_limits(void __user *argp)
{
	struct vhost_blk_limits limits;
	int err;

	if (copy_from_user(&limits, argp, sizeof(limits)))
		return -EFAULT;
	if (limits.reserved)
		return -EINVAL;
	err = vhost_blk_backend_limits(limits.fd, &limits);
	if (err)
		return err;
	return copy_to_user(argp, &limits, sizeof(limits)) ? -EFAULT : 0;
}

static long vhost_blk_set_features(struct vhost_blk *blk, void __user *argp)
{
	u64 features;

	if (copy_from_user(&features, argp, sizeof(features)))
		return -EFAULT;
	if (features & ~VHOST_BLK_FEATURES)
		return -EOPNOTSUPP;
	return vhost_blk_ack_features(blk, features);
}

static long vhost_blk_set_backend_features(struct vhost_blk *blk,
					   void __user *argp)
{
	struct vhost_blk_queue *q;
	u64 features;

	if (copy_from_user(&features, argp, sizeof(features)))
		return -EFAULT;
	if (features & ~VHOST_BLK_BACKEND_FEATURES)
		return -EOPNOTSUPP;

	vhost_blk_for_each_queue(blk, q) {
		mutex_lock(&q->vq.mutex);
		q->vq.acked_backend_features = features;
		mutex_unlock(&q->vq.mutex);
	}
	return 0;
}

static long vhost_blk_set_owner(struct vhost_blk *blk)
{
	struct vhost_blk_queue *q;
	long err;

	err = vhost_dev_set_owner(&blk->dev);
	if (err)
		return err;

	/*
	 * The core gives each virtqueue 16 KiB for indirect descriptors; only
	 * those that are started will need it.
	 */
	vhost_blk_for_each_queue(blk, q) {
		kfree(q->vq.indirect);
		q->vq.indirect = NULL;
	}
	return 0;
}

static long vhost_blk_reset_owner(struct vhost_blk *blk)
{
	struct vhost_iotlb *umem;
	struct vhost_blk_queue *q;

	umem = vhost_dev_reset_owner_prepare();
	if (!umem)
		return -ENOMEM;

	vhost_blk_detach(blk);
	vhost_blk_pin_set_limit(blk, 0);
	vhost_dev_stop(&blk->dev);
	vhost_dev_reset_owner(&blk->dev, umem);
	vhost_blk_forget_hand_back(blk);
	memset(blk->serial, 0, sizeof(blk->serial));
	vhost_blk_for_each_queue(blk, q)
		vhost_blk_queue_reset_stats(q);
	blk->write_through = false;
	blk->ignore_discards = false;
	blk->coalesce_ns = 0;
	return 0;
}

static long vhost_blk_set_pin_limit(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_pin_limit limit;

	if (copy_from_user(&limit, argp, sizeof(limit)))
		return -EFAULT;
	if (limit.reserved || limit.bytes > VHOST_BLK_MAX_PINNED)
		return -EINVAL;
	if (blk->backend.file)
		return -EBUSY;
	return vhost_blk_pin_set_limit(blk, limit.bytes >> PAGE_SHIFT);
}

/*
 * Not under vhost_dev.mutex, so that the counters can be read during a detach
 * that takes long.
 */
static long vhost_blk_get_stats(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_stats stats;
	int err;

	if (copy_from_user(&stats, argp, sizeof(stats)))
		return -EFAULT;
	if (stats.reserved)
		return -EINVAL;
	if (stats.index >= VHOST_BLK_MAX_QUEUES)
		return -ENOBUFS;
	stats.index = array_index_nospec(stats.index, VHOST_BLK_MAX_QUEUES);
	err = vhost_blk_queue_stats(&blk->queues[stats.index], &stats);
	if (err)
		return err;
	return copy_to_user(argp, &stats, sizeof(stats)) ? -EFAULT : 0;
}

/* What may be set before there is an owner is from then on the owner's too. */
static long vhost_blk_check_owner(struct vhost_blk *blk, unsigned int ioctl)
{
	if ((ioctl == VHOST_SET_FEATURES ||
	     ioctl == VHOST_SET_BACKEND_FEATURES) &&
	    !vhost_dev_has_owner(&blk->dev))
		return 0;
	return vhost_dev_check_owner(&blk->dev);
}

static long vhost_blk_owner_ioctl(struct vhost_blk *blk, unsigned int ioctl,
				  void __user *argp)
{
	long ret;

	switch (ioctl) {
	case VHOST_BLK_SET_BACKEND:
	case VHOST_BLK_SET_BACKEND_COMPAT:
		return vhost_blk_set_backend(blk, argp);
	case VHOST_BLK_QUIESCE:
		return vhost_blk_quiesce(blk);
	case VHOST_BLK_RESUME:
		return vhost_blk_do_resume(blk, argp);
	case VHOST_BLK_SET_HAND_BACK:
		return vhost_blk_set_hand_back(blk, argp);
	case VHOST_BLK_GET_UNANSWERED:
		return vhost_blk_get_unanswered(blk, argp);
	case VHOST_BLK_SET_COALESCE:
		return vhost_blk_set_coalesce(blk, argp);
	case VHOST_BLK_SET_PIN_LIMIT:
		return vhost_blk_set_pin_limit(blk, argp);
	case VHOST_BLK_SET_SERIAL:
		return vhost_blk_set_serial(blk, argp);
	case VHOST_BLK_SET_WRITE_CACHE:
		return vhost_blk_set_write_cache(blk, argp);
	case VHOST_BLK_SET_DISCARD:
		return vhost_blk_set_discard(blk, argp);
	case VHOST_SET_FEATURES:
		return vhost_blk_set_features(blk, argp);
	case VHOST_SET_BACKEND_FEATURES:
		return vhost_blk_set_backend_features(blk, argp);
	case VHOST_RESET_OWNER:
		return vhost_blk_reset_owner(blk);
	case VHOST_SET_MEM_TABLE:
		return vhost_blk_set_mem_table(blk, argp);
	default:
		ret = vhost_dev_ioctl(&blk->dev, ioctl, argp);
		if (ret == -ENOIOCTLCMD)
			ret = vhost_vring_ioctl(&blk->dev, ioctl, argp);
		return ret;
	}
}

static long vhost_blk_do_ioctl(struct vhost_blk *blk, unsigned int ioctl,
			       void __user *argp)
{
	u64 __user *featurep = argp;

	switch (ioctl) {
	case VHOST_GET_FEATURES:
		return put_user((u64)VHOST_BLK_FEATURES, featurep);
	case VHOST_GET_BACKEND_FEATURES:
		return put_user((u64)VHOST_BLK_BACKEND_FEATURES, featurep);
	case VHOST_BLK_GET_LIMITS:
		return vhost_blk_get_limits(argp);
	case VHOST_SET_OWNER:
		return vhost_blk_set_owner(blk);
	default:
		return vhost_blk_check_owner(blk, ioctl) ?:
		       vhost_blk_owner_ioctl(blk, ioctl, argp);
	}
}

static long vhost_blk_ioctl(struct file *file, unsigned int ioctl,
			    unsigned long arg)
{
	struct vhost_blk *blk = file->private_data;
	long ret;

	if (ioctl == VHOST_BLK_GET_STATS)
		return vhost_blk_get_stats(blk, (void __user *)arg);

	/* A caller that waits for another process, or for its disk, can be killed. */
	if (mutex_lock_killable(&blk->dev.mutex))
		return -EINTR;
	ret = vhost_blk_do_ioctl(blk, ioctl, (void __user *)arg);
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

static int vhost_blk_open(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk;
	unsigned int i;

	/* kvzalloc() would round these 2.3 MiB up to a block of 4 MiB. */
	blk = __vmalloc(sizeof(*blk), GFP_KERNEL_ACCOUNT | __GFP_ZERO |
				      __GFP_NOWARN);
	if (!blk)
		return -ENOMEM;

	for (i = 0; i < VHOST_BLK_MAX_QUEUES; i++) {
		vhost_blk_queue_init(&blk->queues[i], blk, i);
		blk->vqs[i] = &blk->queues[i].vq;
	}
	/*
	 * No worker of the core's: a kick calls handle_kick straight away.
	 * Neither its log nor its heads array is used, hence the limit of 1.
	 */
	vhost_dev_init(&blk->dev, blk->vqs, VHOST_BLK_MAX_QUEUES, 1, 0, 0,
		       false, vhost_blk_msg);
	init_rwsem(&blk->iotlb_lock);
	spin_lock_init(&blk->pin_lock);
	vhost_blk_offload_init(&blk->offload);
	file->private_data = blk;
	return nonseekable_open(inode, file);
}

static int vhost_blk_release(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk = file->private_data;

	/* The end of a process does not wait for all that a guest asked for. */
	if (current->flags & PF_EXITING)
		vhost_blk_kill(blk);
	mutex_lock(&blk->dev.mutex);
	vhost_blk_detach(blk);
	vhost_blk_pin_set_limit(blk, 0);
	mutex_unlock(&blk->dev.mutex);
	vhost_dev_stop(&blk->dev);
	vhost_dev_cleanup(&blk->dev);
	vhost_blk_forget_hand_back(blk);
	vfree(blk);
	return 0;
}

static ssize_t vhost_blk_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct vhost_blk *blk = iocb->ki_filp->private_data;
	long err = vhost_dev_check_owner(&blk->dev);

	/* A miss that another process took would never be answered. */
	if (err)
		return err;
	return vhost_chr_read_iter(&blk->dev, to,
				   iocb->ki_filp->f_flags & O_NONBLOCK);
}

static ssize_t vhost_blk_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct vhost_blk *blk = iocb->ki_filp->private_data;
	long err = vhost_dev_check_owner(&blk->dev);

	/* Only the owner waits for the owner's ioctls. */
	if (err)
		return err;
	return vhost_chr_write_iter(&blk->dev, from);
}

static __poll_t vhost_blk_poll(struct file *file, poll_table *wait)
{
	struct vhost_blk *blk = file->private_data;

	return vhost_chr_poll(file, &blk->dev, wait);
}

static const char *const vhost_blk_type_names[] = {
	[VHOST_BLK_STATS_READ]		= "read",
	[VHOST_BLK_STATS_WRITE]		= "write",
	[VHOST_BLK_STATS_FLUSH]		= "flush",
	[VHOST_BLK_STATS_DISCARD]	= "discard",
	[VHOST_BLK_STATS_WRITE_ZEROES]	= "write_zeroes",
	[VHOST_BLK_STATS_SECURE_ERASE]	= "secure_erase",
	[VHOST_BLK_STATS_OTHER]		= "other",
};

#define VHOST_BLK_COUNTER(name) { #name, offsetof(struct vhost_blk_stats, name) }

static const struct {
	const char *name;
	size_t offset;
} vhost_blk_counters[] = {
	VHOST_BLK_COUNTER(kicks),
	VHOST_BLK_COUNTER(submit_wakeups),
	VHOST_BLK_COUNTER(complete_wakeups),
	VHOST_BLK_COUNTER(batches),
	VHOST_BLK_COUNTER(signals),
	VHOST_BLK_COUNTER(signals_suppressed),
	VHOST_BLK_COUNTER(max_inflight),
	VHOST_BLK_COUNTER(inflight),
	VHOST_BLK_COUNTER(poll_hits),
	VHOST_BLK_COUNTER(pin_misses),
	VHOST_BLK_COUNTER(signals_coalesced),
	VHOST_BLK_COUNTER(offloads),
	VHOST_BLK_COUNTER(handed_back),
};

static void vhost_blk_show_queue(struct seq_file *m, struct vhost_blk_queue *q)
{
	struct vhost_blk_stats stats = { };
	unsigned int i;

	if (vhost_blk_queue_stats(q, &stats) ||
	    !memchr_inv(&stats, 0, sizeof(stats)))
		return;
	seq_printf(m, "queue:\t%u", q->index);
	for (i = 0; i < ARRAY_SIZE(vhost_blk_type_names); i++)
		seq_printf(m, " %s %llu %llu %llu", vhost_blk_type_names[i],
			   stats.type[i].requests, stats.type[i].bytes,
			   stats.type[i].errors);
	for (i = 0; i < ARRAY_SIZE(vhost_blk_counters); i++)
		seq_printf(m, " %s %llu", vhost_blk_counters[i].name,
			   *(u64 *)((void *)&stats +
				    vhost_blk_counters[i].offset));
	seq_printf(m, " submit_tid %u complete_tid %u\n", stats.submit_tid,
		   stats.complete_tid);
}

/**
 * vhost_blk_show_fdinfo - show a device in /proc/PID/fdinfo/FD
 * @m:		what is read
 * @file:	the opened device
 *
 * The format is part of the user API, see docs/api.md.  The backend is left out
 * while an ioctl runs, which may take as long as the backend's answers.
 *
 * Context: process context of anyone who may inspect a process that has @file.
 */
static void vhost_blk_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct vhost_blk *blk = file->private_data;
	struct vhost_blk_queue *q;

	if (mutex_trylock(&blk->dev.mutex)) {
		if (blk->backend.file) {
			seq_puts(m, "backend:\t");
			seq_file_path(m, blk->backend.file, " \t\n\\");
			seq_puts(m, "\n");
		}
		mutex_unlock(&blk->dev.mutex);
	}
	vhost_blk_for_each_queue(blk, q)
		vhost_blk_show_queue(m, q);
}

static const struct file_operations vhost_blk_fops = {
	.owner		= THIS_MODULE,
	.open		= vhost_blk_open,
	.release	= vhost_blk_release,
	.read_iter	= vhost_blk_read_iter,
	.write_iter	= vhost_blk_write_iter,
	.poll		= vhost_blk_poll,
	.unlocked_ioctl	= vhost_blk_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.show_fdinfo	= vhost_blk_show_fdinfo,
	.llseek		= noop_llseek,
};

static struct miscdevice vhost_blk_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "vhost-blk",
	.fops	= &vhost_blk_fops,
	.mode	= 0660,
};
module_misc_device(vhost_blk_misc);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("vhost-blk maintainers");
MODULE_VERSION("0.2");
MODULE_DESCRIPTION("Host kernel accelerator for virtio-blk");
