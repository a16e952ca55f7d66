// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk: serve virtio block queues inside the host kernel.
 *
 * This file is the character device: ioctls, backend, start and stop.  The
 * data path is in blk_queue.c (vring and workers) and blk_req.c (requests).
 *
 *  avail ring -> submission worker -> kiocb -> backend
 *                                                 |
 *  used ring <- completion worker <- done list <--+
 */

#include <linux/cgroup.h>
#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/ioprio.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/sched/signal.h>
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

/* Ranges worked on at a time: they keep a device busy, and its end waits. */
#define VHOST_BLK_RANGE_HELPERS 16

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
		       false, vhost_blk_iotlb_msg);
	init_rwsem(&blk->iotlb_lock);
	spin_lock_init(&blk->pin_lock);
	file->private_data = blk;
	return nonseekable_open(inode, file);
}

static struct cgroup_subsys_state *vhost_blk_get_blkcg(void)
{
#ifdef CONFIG_BLK_CGROUP
	return task_get_css(current->group_leader, io_cgrp_id);
#else
	return NULL;
#endif
}

/* As ionice(1) gave it to the owner's main thread, or following its niceness. */
static u16 vhost_blk_owner_ioprio(void)
{
	struct task_struct *owner = current->group_leader;
	u16 ioprio;

	task_lock(owner);
	ioprio = __get_task_ioprio(owner);
	task_unlock(owner);
	return ioprio;
}

static void vhost_blk_backend_close(struct vhost_blk_backend *be)
{
	unsigned int i;

	put_cred(be->cred);
	mem_cgroup_put(be->memcg);
	if (be->blkcg_css)
		css_put(be->blkcg_css);
	for (i = 0; i < VHOST_BLK_HELPERS; i++)
		if (be->helpers[i])
			destroy_workqueue(be->helpers[i]);
	fput(be->file);
	memset(be, 0, sizeof(*be));
}

/**
 * vhost_blk_backend_assume - let a kernel thread act for who attached a backend
 * @be:		the backend, attached
 *
 * Until vhost_blk_backend_unassume() its work is done with that process's
 * credentials and charged to its block and memory cgroups.
 *
 * Return: what that call wants.
 */
const struct cred *vhost_blk_backend_assume(struct vhost_blk_backend *be)
{
	kthread_associate_blkcg(be->blkcg_css);
	set_active_memcg(be->memcg);
	return override_creds(be->cred);
}

/**
 * vhost_blk_backend_unassume - let a kernel thread act for itself again
 * @cred:	its own credentials
 */
void vhost_blk_backend_unassume(const struct cred *cred)
{
	revert_creds(cred);
	set_active_memcg(NULL);
	kthread_associate_blkcg(NULL);
}

/* Alignment that direct I/O asks of memory; a wrong guess costs a bounce. */
static unsigned int vhost_blk_dio_mask(struct inode *inode,
				       struct block_device *bdev)
{
	if (bdev)
		return bdev_dma_alignment(bdev) |
		       (bdev_logical_block_size(bdev) - 1);
	if (inode->i_sb->s_bdev)
		return bdev_logical_block_size(inode->i_sb->s_bdev) - 1;
	return PAGE_SIZE - 1;
}

/* The open file if it is one that can be served, else an error pointer. */
static struct file *vhost_blk_backend_file(int fd)
{
	struct file *file = fget(fd);
	umode_t mode;

	if (!file)
		return ERR_PTR(-EBADF);

	mode = file->f_mapping->host->i_mode;
	if ((S_ISBLK(mode) || S_ISREG(mode)) &&
	    (file->f_mode & FMODE_READ) && file->f_op->read_iter &&
	    (!(file->f_mode & FMODE_WRITE) || file->f_op->write_iter))
		return file;

	fput(file);
	return ERR_PTR(-EINVAL);
}

static int vhost_blk_start_helpers(struct vhost_blk_backend *be)
{
	unsigned int i;

	for (i = 0; i < VHOST_BLK_HELPERS; i++) {
		be->helpers[i] = alloc_workqueue("vhost-blk-%d-%u", WQ_UNBOUND,
						 i == VHOST_BLK_HELP_RANGE ?
						 VHOST_BLK_RANGE_HELPERS : 0,
						 task_tgid_nr(current), i);
		if (!be->helpers[i])
			return -ENOMEM;
	}
	return 0;
}

static int vhost_blk_backend_open(struct vhost_blk_backend *be, int fd)
{
	struct file *file = vhost_blk_backend_file(fd);
	struct inode *inode;
	int err;

	if (IS_ERR(file))
		return PTR_ERR(file);

	inode = file->f_mapping->host;
	be->file = file;
	be->bdev = S_ISBLK(inode->i_mode) ? I_BDEV(inode) : NULL;
	be->readonly = !(file->f_mode & FMODE_WRITE);
	be->direct = file->f_flags & O_DIRECT;
	be->nowait = (file->f_mode & FMODE_NOWAIT) &&
		     (!be->bdev || bdev_nowait(be->bdev));
	be->flush_bio = be->bdev && be->direct;
	be->async = be->nowait || be->flush_bio;
	be->dio_mask = be->direct ? vhost_blk_dio_mask(inode, be->bdev) : 0;
	be->fsize = be->bdev ? U64_MAX : rlimit(RLIMIT_FSIZE);
	be->ioprio = vhost_blk_owner_ioprio();
	be->blkcg_css = vhost_blk_get_blkcg();
	be->memcg = get_mem_cgroup_from_mm(current->mm);
	be->cred = get_current_cred();
	vhost_blk_get_limits(file, &be->limits);
	err = vhost_blk_start_helpers(be);
	if (err)
		vhost_blk_backend_close(be);
	return err;
}

static void vhost_blk_detach(struct vhost_blk *blk)
{
	unsigned int i;

	if (!blk->backend.file)
		return;

	/* All queues drain at the same time, then each is taken down. */
	for (i = 0; i < VHOST_BLK_MAX_QUEUES; i++)
		vhost_blk_queue_quiesce(&blk->queues[i]);
	for (i = 0; i < VHOST_BLK_MAX_QUEUES; i++)
		vhost_blk_queue_stop(&blk->queues[i]);
	/* Helpers and vhost_blk_queue_done() may have a last step to do. */
	for (i = 0; i < VHOST_BLK_HELPERS; i++)
		flush_workqueue(blk->backend.helpers[i]);
	synchronize_rcu();
	for (i = 0; i < VHOST_BLK_MAX_QUEUES; i++)
		vhost_blk_queue_free(&blk->queues[i]);
	/* An answer that still comes is not for the queues that start next. */
	vhost_clear_msg(&blk->dev);
	vhost_blk_backend_close(&blk->backend);
}

static int vhost_blk_attach(struct vhost_blk *blk, int fd)
{
	unsigned int i, started = 0;
	int err;

	if (blk->backend.file)
		return -EBUSY;

	err = vhost_blk_backend_open(&blk->backend, fd);
	if (err)
		return err;
	blk->dying = false;

	for (i = 0; i < VHOST_BLK_MAX_QUEUES; i++) {
		if (!vhost_vq_is_setup(&blk->queues[i].vq))
			continue;
		err = vhost_blk_queue_start(&blk->queues[i]);
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

static long vhost_blk_set_backend(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_vring_file backend;
	long err;

	err = vhost_dev_check_owner(&blk->dev);
	if (err)
		return err;
	if (copy_from_user(&backend, argp, sizeof(backend)))
		return -EFAULT;
	if (backend.index)
		return -ENOBUFS;

	if (backend.fd != VHOST_FILE_UNBIND)
		return vhost_blk_attach(blk, backend.fd);

	vhost_blk_detach(blk);
	return 0;
}

static long vhost_blk_set_serial(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_serial serial;
	long err;

	err = vhost_dev_check_owner(&blk->dev);
	if (err)
		return err;
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

	err = vhost_dev_check_owner(&blk->dev);
	if (err)
		return err;
	if (copy_from_user(&cache, argp, sizeof(cache)))
		return -EFAULT;
	if (cache.mode > VHOST_BLK_WRITE_THROUGH || cache.reserved)
		return -EINVAL;
	if (blk->write_through == cache.mode)
		return 0;

	WRITE_ONCE(blk->write_through, cache.mode);
	/*
	 * The mode is seen before the flush starts: a write that does not see
	 * it in vhost_blk_req_settle() had ended by then and is covered.
	 */
	smp_mb();
	if (!blk->write_through || !blk->backend.file)
		return 0;
	err = vhost_blk_backend_sync(&blk->backend);
	if (err)
		WRITE_ONCE(blk->write_through, false);
	return err;
}

static long vhost_blk_limits(void __user *argp)
{
	struct vhost_blk_limits limits;
	struct file *file;

	if (copy_from_user(&limits, argp, sizeof(limits)))
		return -EFAULT;
	if (limits.reserved)
		return -EINVAL;
	file = vhost_blk_backend_file(limits.fd);
	if (IS_ERR(file))
		return PTR_ERR(file);
	vhost_blk_get_limits(file, &limits);
	fput(file);
	return copy_to_user(argp, &limits, sizeof(limits)) ? -EFAULT : 0;
}

/* What may be set before there is an owner is from then on the owner's too. */
static long vhost_blk_check_owner_if_any(struct vhost_blk *blk)
{
	return vhost_dev_has_owner(&blk->dev) ?
	       vhost_dev_check_owner(&blk->dev) : 0;
}

static long vhost_blk_set_features(struct vhost_blk *blk, void __user *argp)
{
	u64 features, fixed;
	unsigned int i;
	long err;

	err = vhost_blk_check_owner_if_any(blk);
	if (err)
		return err;
	if (copy_from_user(&features, argp, sizeof(features)))
		return -EFAULT;
	if (features & ~VHOST_BLK_FEATURES)
		return -EOPNOTSUPP;
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

	for (i = 0; i < VHOST_BLK_MAX_QUEUES; i++) {
		mutex_lock(&blk->vqs[i]->mutex);
		blk->vqs[i]->acked_features = features;
		mutex_unlock(&blk->vqs[i]->mutex);
	}
	return 0;
}

static long vhost_blk_set_backend_features(struct vhost_blk *blk,
					   void __user *argp)
{
	unsigned int i;
	u64 features;
	long err;

	err = vhost_blk_check_owner_if_any(blk);
	if (err)
		return err;
	if (copy_from_user(&features, argp, sizeof(features)))
		return -EFAULT;
	if (features & ~VHOST_BLK_BACKEND_FEATURES)
		return -EOPNOTSUPP;

	for (i = 0; i < VHOST_BLK_MAX_QUEUES; i++) {
		mutex_lock(&blk->vqs[i]->mutex);
		blk->vqs[i]->acked_backend_features = features;
		mutex_unlock(&blk->vqs[i]->mutex);
	}
	return 0;
}

static long vhost_blk_set_owner(struct vhost_blk *blk)
{
	unsigned int i;
	long err;

	err = vhost_dev_set_owner(&blk->dev);
	if (err)
		return err;

	/*
	 * The core gives each virtqueue 16 KiB for indirect descriptors; only
	 * those that are started will need it.
	 */
	for (i = 0; i < VHOST_BLK_MAX_QUEUES; i++) {
		kfree(blk->vqs[i]->indirect);
		blk->vqs[i]->indirect = NULL;
	}
	return 0;
}

static void vhost_blk_forget_affinity(struct vhost_blk_queue *q)
{
	kfree(q->affinity);
	q->affinity = NULL;
}

static long vhost_blk_reset_owner(struct vhost_blk *blk)
{
	struct vhost_iotlb *umem;
	unsigned int i;
	long err;

	err = vhost_dev_check_owner(&blk->dev);
	if (err)
		return err;
	umem = vhost_dev_reset_owner_prepare();
	if (!umem)
		return -ENOMEM;

	vhost_blk_detach(blk);
	vhost_blk_pin_set_limit(blk, 0);
	vhost_dev_stop(&blk->dev);
	vhost_dev_reset_owner(&blk->dev, umem);
	memset(blk->serial, 0, sizeof(blk->serial));
	for (i = 0; i < VHOST_BLK_MAX_QUEUES; i++) {
		vhost_blk_queue_reset_stats(&blk->queues[i]);
		vhost_blk_forget_affinity(&blk->queues[i]);
	}
	blk->write_through = false;
	return 0;
}

static long vhost_blk_set_pin_limit(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_pin_limit limit;
	long err;

	err = vhost_dev_check_owner(&blk->dev);
	if (err)
		return err;
	if (copy_from_user(&limit, argp, sizeof(limit)))
		return -EFAULT;
	if (limit.reserved || limit.bytes > VHOST_BLK_MAX_PINNED)
		return -EINVAL;
	if (blk->backend.file)
		return -EBUSY;
	return vhost_blk_pin_set_limit(blk, limit.bytes >> PAGE_SHIFT);
}

static long vhost_blk_set_affinity(struct vhost_blk *blk, void __user *argp)
{
	unsigned long bits = BITS_PER_BYTE * cpumask_size();
	struct vhost_blk_affinity affinity;
	struct vhost_blk_queue *q;
	struct cpumask *cpus;
	long err;

	err = vhost_dev_check_owner(&blk->dev);
	if (err)
		return err;
	if (copy_from_user(&affinity, argp, sizeof(affinity)))
		return -EFAULT;
	if (affinity.index >= VHOST_BLK_MAX_QUEUES)
		return -ENOBUFS;
	q = &blk->queues[array_index_nospec(affinity.index,
					    VHOST_BLK_MAX_QUEUES)];
	if (!affinity.size)
		return vhost_blk_queue_place(q, NULL);
	if (affinity.size > PAGE_SIZE)
		return -EINVAL;

	cpus = kzalloc(cpumask_size(), GFP_KERNEL_ACCOUNT);
	if (!cpus)
		return -ENOMEM;
	err = copy_struct_from_user(cpus, cpumask_size(),
				    u64_to_user_ptr(affinity.mask),
				    affinity.size);
	/* No CPU can be beyond; comparing masks leaves out what is. */
	if (err == -E2BIG || (!err && find_next_bit(cpumask_bits(cpus), bits,
						    nr_cpu_ids) < bits))
		err = -EINVAL;
	if (!err)
		err = vhost_blk_queue_place(q, cpus);
	if (err)
		kfree(cpus);
	return err;
}

/*
 * Not under vhost_dev.mutex: whoever wants to know why a detach takes so long
 * must not wait for it.
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

static long vhost_blk_do_ioctl(struct vhost_blk *blk, unsigned int ioctl,
			       void __user *argp)
{
	u64 __user *featurep = argp;
	long ret;

	switch (ioctl) {
	case VHOST_BLK_SET_BACKEND:
	case VHOST_BLK_SET_BACKEND_COMPAT:
		return vhost_blk_set_backend(blk, argp);
	case VHOST_BLK_SET_AFFINITY:
		return vhost_blk_set_affinity(blk, argp);
	case VHOST_BLK_SET_PIN_LIMIT:
		return vhost_blk_set_pin_limit(blk, argp);
	case VHOST_BLK_SET_SERIAL:
		return vhost_blk_set_serial(blk, argp);
	case VHOST_BLK_SET_WRITE_CACHE:
		return vhost_blk_set_write_cache(blk, argp);
	case VHOST_BLK_GET_LIMITS:
		return vhost_blk_limits(argp);
	case VHOST_GET_FEATURES:
		return put_user((u64)VHOST_BLK_FEATURES, featurep);
	case VHOST_SET_FEATURES:
		return vhost_blk_set_features(blk, argp);
	case VHOST_GET_BACKEND_FEATURES:
		return put_user((u64)VHOST_BLK_BACKEND_FEATURES, featurep);
	case VHOST_SET_BACKEND_FEATURES:
		return vhost_blk_set_backend_features(blk, argp);
	case VHOST_SET_OWNER:
		return vhost_blk_set_owner(blk);
	case VHOST_RESET_OWNER:
		return vhost_blk_reset_owner(blk);
	case VHOST_SET_MEM_TABLE:
		ret = vhost_dev_ioctl(&blk->dev, ioctl, argp);
		vhost_blk_pin_stale(blk, 0, ULONG_MAX);
		return ret;
	default:
		ret = vhost_dev_ioctl(&blk->dev, ioctl, argp);
		if (ret == -ENOIOCTLCMD)
			ret = vhost_vring_ioctl(&blk->dev, ioctl, argp);
		return ret;
	}
}

static long vhost_blk_ioctl(struct file *file, unsigned int ioctl,
			    unsigned long arg)
{
	struct vhost_blk *blk = file->private_data;
	long ret;

	if (ioctl == VHOST_BLK_GET_STATS)
		return vhost_blk_get_stats(blk, (void __user *)arg);

	/* Who waits for another process, or for its disk, can be killed. */
	if (mutex_lock_killable(&blk->dev.mutex))
		return -EINTR;
	ret = vhost_blk_do_ioctl(blk, ioctl, (void __user *)arg);
	mutex_unlock(&blk->dev.mutex);
	return ret;
}

static int vhost_blk_release(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk = file->private_data;
	unsigned int i;

	/* The end of a process does not wait for all the ranges either. */
	if (current->flags & PF_EXITING)
		WRITE_ONCE(blk->dying, true);
	mutex_lock(&blk->dev.mutex);
	vhost_blk_detach(blk);
	vhost_blk_pin_set_limit(blk, 0);
	mutex_unlock(&blk->dev.mutex);
	vhost_dev_stop(&blk->dev);
	vhost_dev_cleanup(&blk->dev);
	for (i = 0; i < VHOST_BLK_MAX_QUEUES; i++)
		vhost_blk_forget_affinity(&blk->queues[i]);
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

	return vhost_chr_write_iter(&blk->dev, from);
}

static __poll_t vhost_blk_poll(struct file *file, poll_table *wait)
{
	struct vhost_blk *blk = file->private_data;

	return vhost_chr_poll(file, &blk->dev, wait);
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
MODULE_DESCRIPTION("Host kernel accelerator for virtio-blk");
