// SPDX-License-Identifier: GPL-2.0
/* vhost-blk backends: the file behind a device, what it can do, and its errors. */

#include <linux/file.h>
#include <linux/ioprio.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "blk.h"

/* Bytes that a range may have where each zero has to be written. */
#define VHOST_BLK_MAX_ZEROES	SZ_128M

/* All but the input fields. */
static void vhost_blk_get_limits(struct file *file,
				 struct vhost_blk_limits *limits)
{
	struct inode *inode = file->f_mapping->host;
	struct block_device *bdev =
		S_ISBLK(inode->i_mode) ? I_BDEV(inode) : NULL;
	struct block_device *below = bdev ?: inode->i_sb->s_bdev;
	/* Without a limit of the backend: what a 32-bit byte count allows. */
	u32 discard = 0, zeroes = U32_MAX >> SECTOR_SHIFT, erase = 0;
	u32 lbs = bdev ? bdev_logical_block_size(bdev) : SECTOR_SIZE;
	bool unmap;
	u32 granularity;

	*limits = (struct vhost_blk_limits) {
		.fd = limits->fd,
		.logical_block_size = lbs,
		.physical_block_size = below ? bdev_physical_block_size(below) :
					       SECTOR_SIZE,
	};
	if (bdev) {
		limits->alignment_offset = max(bdev_alignment_offset(bdev), 0);
		limits->min_io_size = bdev_io_min(bdev);
		limits->opt_io_size = bdev_io_opt(bdev);

		granularity = bdev_discard_granularity(bdev);
		discard = bdev_max_discard_sectors(bdev);
		erase = bdev_max_secure_erase_sectors(bdev);
		unmap = bdev_write_zeroes_sectors(bdev);
		/* Without an offload each zero has to be written. */
		zeroes = bdev_write_zeroes_sectors(bdev) ?:
			 VHOST_BLK_MAX_ZEROES >> SECTOR_SHIFT;
	} else {
		granularity = i_blocksize(inode);
		unmap = file->f_op->fallocate;
		if (unmap)
			discard = zeroes;
	}

	/* A guest may split at the limit, which must not break a block. */
	discard = round_down(discard, lbs >> SECTOR_SHIFT);
	zeroes = round_down(zeroes, lbs >> SECTOR_SHIFT);
	erase = round_down(erase, lbs >> SECTOR_SHIFT);
	granularity = max(granularity, lbs) >> SECTOR_SHIFT;

	if (discard) {
		limits->max_discard_sectors = discard;
		limits->max_discard_seg = VHOST_BLK_MAX_RANGES;
		limits->discard_sector_alignment = granularity;
	}
	limits->max_write_zeroes_sectors = zeroes;
	limits->max_write_zeroes_seg = VHOST_BLK_MAX_RANGES;
	limits->write_zeroes_may_unmap = unmap;
	if (erase) {
		limits->max_secure_erase_sectors = erase;
		limits->max_secure_erase_seg = VHOST_BLK_MAX_RANGES;
		limits->secure_erase_sector_alignment = granularity;
	}
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

/*
 * Whether IOCB_DSYNC makes a write durable.  Direct I/O of FUSE ignores it, and
 * file systems without a block device may do so.
 */
static bool vhost_blk_has_dsync(struct inode *inode, struct block_device *bdev)
{
	return bdev || (inode->i_sb->s_bdev &&
			inode->i_sb->s_magic != FUSE_SUPER_MAGIC);
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

/**
 * vhost_blk_backend_open - take a file as backend
 * @be:		the backend, zeroed
 * @fd:		the file's descriptor
 *
 * Context: process context of the owner.
 * Return: 0, -EBADF, or -EINVAL for a file that cannot be a backend.
 */
int vhost_blk_backend_open(struct vhost_blk_backend *be, int fd)
{
	struct file *file = vhost_blk_backend_file(fd);
	struct inode *inode;

	if (IS_ERR(file))
		return PTR_ERR(file);

	inode = file->f_mapping->host;
	be->file = file;
	be->bdev = S_ISBLK(inode->i_mode) ? I_BDEV(inode) : NULL;
	be->readonly = !(file->f_mode & FMODE_WRITE);
	be->direct = file->f_flags & O_DIRECT;
	be->flush_bio = be->bdev && be->direct;
	/* A request that a block device has no room for waits for it. */
	be->nowait = (file->f_mode & FMODE_NOWAIT) && !be->flush_bio;
	be->async = be->nowait || be->flush_bio;
	be->dsync = vhost_blk_has_dsync(inode, be->bdev);
	be->dio_mask = be->direct ? vhost_blk_dio_mask(inode, be->bdev) : 0;
	be->wb_err = filemap_sample_wb_err(file->f_mapping);
	be->fsize = be->bdev ? U64_MAX : rlimit(RLIMIT_FSIZE);
	be->ioprio = vhost_blk_owner_ioprio();
	vhost_blk_get_limits(file, &be->limits);
	return 0;
}

/**
 * vhost_blk_backend_close - let go of the file
 * @be:		the backend, no request in flight
 */
void vhost_blk_backend_close(struct vhost_blk_backend *be)
{
	fput(be->file);
	memset(be, 0, sizeof(*be));
}

/**
 * vhost_blk_backend_limits - learn what a file can do as backend
 * @fd:		the file's descriptor
 * @limits:	where all but the input fields are set
 *
 * Return: 0, -EBADF, or -EINVAL for a file that cannot be a backend.
 */
int vhost_blk_backend_limits(int fd, struct vhost_blk_limits *limits)
{
	struct file *file = vhost_blk_backend_file(fd);

	if (IS_ERR(file))
		return PTR_ERR(file);
	vhost_blk_get_limits(file, limits);
	fput(file);
	return 0;
}

/**
 * vhost_blk_backend_has - whether a range lies in the backend as large as it is
 * @be:		the backend
 * @sector:	where the range begins
 * @len:	its length in bytes
 */
bool vhost_blk_backend_has(struct vhost_blk_backend *be, u64 sector, u64 len)
{
	u64 size = be->bdev ? bdev_nr_bytes(be->bdev) :
			      i_size_read(be->file->f_mapping->host);

	return sector <= size >> SECTOR_SHIFT &&
	       len <= size - (sector << SECTOR_SHIFT);
}

/**
 * vhost_blk_backend_sync - make durable what was written
 * @be:		the backend, attached
 *
 * Once the page cache could not be written, what was in it is lost, though the
 * kernel tells that only once.  Then this fails until the next attach.
 *
 * Context: process context; sleeps.
 * Return: 0 or a negative errno.
 */
int vhost_blk_backend_sync(struct vhost_blk_backend *be)
{
	int err = READ_ONCE(be->flush_err);

	if (err)
		return err;
	if (!be->file->f_op->fsync)
		return -EOPNOTSUPP;
	err = vfs_fsync(be->file, 1);
	/* Others may have been told of an error in our place. */
	if (!err)
		err = filemap_check_wb_err(be->file->f_mapping, be->wb_err);
	if (err && !be->direct && err != -EOPNOTSUPP && err != -EINTR &&
	    err != -ERESTARTSYS)
		WRITE_ONCE(be->flush_err, err);
	return err;
}

/**
 * vhost_blk_backend_iocb - set up a synchronous read or write of the backend
 * @iocb:	the kiocb
 * @be:		the backend, attached
 * @pos:	byte offset in the backend
 * @flags:	IOCB_* to add
 */
void vhost_blk_backend_iocb(struct kiocb *iocb, struct vhost_blk_backend *be,
			    loff_t pos, int flags)
{
	init_sync_kiocb(iocb, be->file);
	iocb->ki_pos = pos;
	/*
	 * Others that have the file open may change its mode meanwhile, but a
	 * flush relies on what it was, and a guest's disk does not grow.
	 */
	iocb->ki_flags &= ~(IOCB_APPEND | IOCB_DIRECT);
	iocb->ki_flags |= (be->direct ? IOCB_DIRECT : 0) | flags;
}

/**
 * vhost_blk_backend_rw - read or write the backend
 * @iocb:	where, and how
 * @iter:	the memory
 *
 * Return: bytes, -EIOCBQUEUED, or a negative errno.
 */
ssize_t vhost_blk_backend_rw(struct kiocb *iocb, struct iov_iter *iter)
{
	const struct file_operations *fop = iocb->ki_filp->f_op;

	return iocb->ki_flags & IOCB_WRITE ? fop->write_iter(iocb, iter) :
					     fop->read_iter(iocb, iter);
}
