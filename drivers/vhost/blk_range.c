// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk requests that carry ranges instead of data: discard, write zeroes
 * and secure erase.
 */

#include <linux/blkdev.h>
#include <linux/falloc.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "blk.h"

/*
 * Bytes after which a helper looks whether its owner still lives, so that the
 * owner's end need not wait for all that a guest can ask for.
 */
#define VHOST_BLK_RANGE_STEP	SZ_128M
/* Zeroes written in one call, in pages. */
#define VHOST_BLK_ZERO_PAGES	16

/**
 * vhost_blk_get_limits - learn what a backend can do
 * @file:	the opened block device or regular file
 * @limits:	where all but the input fields are set
 */
void vhost_blk_get_limits(struct file *file, struct vhost_blk_limits *limits)
{
	struct inode *inode = file->f_mapping->host;
	struct block_device *bdev =
		S_ISBLK(inode->i_mode) ? I_BDEV(inode) : NULL;
	struct block_device *below = bdev ?: inode->i_sb->s_bdev;
	/* For who has no limit of his own: what a 32-bit byte count allows. */
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
			 VHOST_BLK_RANGE_STEP >> SECTOR_SHIFT;
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

/* The feature that a type needs, and the sectors that the backend takes. */
static u32 vhost_blk_range_limit(struct vhost_blk_req *req, int *feature)
{
	struct vhost_blk_limits *limits = &req->q->blk->backend.limits;

	switch (req->type) {
	case VIRTIO_BLK_T_DISCARD:
		*feature = VIRTIO_BLK_F_DISCARD;
		return limits->max_discard_sectors;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		*feature = VIRTIO_BLK_F_WRITE_ZEROES;
		return limits->max_write_zeroes_sectors;
	default:
		*feature = VIRTIO_BLK_F_SECURE_ERASE;
		return limits->max_secure_erase_sectors;
	}
}

/* Blocks that must not be cut, as what lies around the range has to stay. */
static u32 vhost_blk_range_block(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = &req->q->blk->backend;

	/* Behind the page cache any sector can be zeroed or left alone. */
	if (be->direct || req->type == VIRTIO_BLK_T_SECURE_ERASE)
		return be->limits.logical_block_size;
	return SECTOR_SIZE;
}

static int vhost_blk_parse_range(struct vhost_blk_req *req,
				 const struct virtio_blk_discard_write_zeroes *seg,
				 struct vhost_blk_range *range, u32 limit)
{
	u32 block = vhost_blk_range_block(req) >> SECTOR_SHIFT;
	u32 flags = le32_to_cpu(seg->flags);
	bool unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

	if (flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)
		return -EOPNOTSUPP;
	if (unmap && req->type != VIRTIO_BLK_T_WRITE_ZEROES)
		return -EOPNOTSUPP;

	range->sector = le64_to_cpu(seg->sector);
	range->nr_sectors = le32_to_cpu(seg->num_sectors);
	/* Without DISCARD the backend's space is meant to stay allocated. */
	range->unmap = unmap && vhost_has_feature(&req->q->vq,
						  VIRTIO_BLK_F_DISCARD);
	if (range->nr_sectors > limit ||
	    ((range->sector | range->nr_sectors) & (block - 1)))
		return -EIO;
	if (!vhost_blk_req_in_range(req, range->sector,
				    (u64)range->nr_sectors << SECTOR_SHIFT))
		return -EIO;
	return 0;
}

/**
 * vhost_blk_range_parse - take the ranges of a request
 * @req:	the request, its type known
 * @list:	the rest of the device-readable part of its chain
 * @in_len:	bytes of the device-writable part, but for the status
 *
 * All ranges are checked before the first is touched.
 *
 * Context: submission worker, on the owner's memory, vq->mutex held.
 * Return: 0, or the error that makes the status.
 */
int vhost_blk_range_parse(struct vhost_blk_req *req, struct iov_iter *list,
			  size_t in_len)
{
	size_t len = iov_iter_count(list), nr, i;
	struct virtio_blk_discard_write_zeroes seg;
	struct vhost_blk_range *ranges;
	int feature, err;
	u32 limit;

	limit = vhost_blk_range_limit(req, &feature);
	if (!vhost_has_feature(&req->q->vq, feature))
		return -EOPNOTSUPP;
	if (in_len || req->q->blk->backend.readonly)
		return -EIO;
	if (!limit)
		return -EOPNOTSUPP;
	nr = len / sizeof(seg);
	if (len % sizeof(seg) || nr > VHOST_BLK_MAX_RANGES)
		return -EIO;

	if (nr > VHOST_BLK_INLINE_SEGS) {
		ranges = vhost_blk_req_alloc(req, nr * sizeof(*ranges));
		if (!ranges)
			return -ENOMEM;
		req->ranges = ranges;
	}
	for (i = 0; i < nr; i++) {
		if (!copy_from_iter_full(&seg, sizeof(seg), list))
			return -EFAULT;
		err = vhost_blk_parse_range(req, &seg, &req->ranges[i], limit);
		if (err)
			return err;
	}
	req->nr_segs = nr;
	req->len = len;
	return 0;
}

static int vhost_blk_write_zeroes(struct vhost_blk_backend *be, loff_t pos,
				  u64 len)
{
	struct bio_vec bvec[VHOST_BLK_ZERO_PAGES];
	struct iov_iter iter;
	struct kiocb iocb;
	unsigned int i;
	ssize_t n;

	for (i = 0; i < VHOST_BLK_ZERO_PAGES; i++)
		bvec[i] = (struct bio_vec) {
			.bv_page = ZERO_PAGE(0),
			.bv_len = PAGE_SIZE,
		};
	while (len) {
		iov_iter_bvec(&iter, ITER_SOURCE, bvec, VHOST_BLK_ZERO_PAGES,
			      min_t(u64, len,
				    VHOST_BLK_ZERO_PAGES * PAGE_SIZE));
		vhost_blk_init_iocb(&iocb, be, pos, IOCB_WRITE);
		n = be->file->f_op->write_iter(&iocb, &iter);
		if (n <= 0)
			return n ?: -EIO;
		pos += n;
		len -= n;
	}
	return 0;
}

/*
 * Pages of the range must not be written over the zeroes, nor be read instead
 * of them.  Truncating does that even in the midst of a page, but crashes a
 * file system that the host has mounted, by mistake or not.
 */
static int vhost_blk_drop_cache(struct vhost_blk_backend *be, loff_t pos,
				u64 len)
{
	struct address_space *mapping = be->file->f_mapping;
	loff_t last = pos + len - 1;

	if (bd_prepare_to_claim(be->bdev, be, NULL))
		return filemap_write_and_wait_range(mapping, pos, last) ?:
		       invalidate_inode_pages2_range(mapping, pos >> PAGE_SHIFT,
						     last >> PAGE_SHIFT);
	truncate_inode_pages_range(mapping, pos, last);
	bd_abort_claiming(be->bdev, be);
	return 0;
}

static int vhost_blk_bdev_issue(struct vhost_blk_backend *be, u32 type,
				bool unmap, loff_t pos, u64 len)
{
	sector_t sector = pos >> SECTOR_SHIFT, nr_sectors = len >> SECTOR_SHIFT;
	int err, dropped;

	err = vhost_blk_drop_cache(be, pos, len);
	if (err)
		return err;
	switch (type) {
	case VIRTIO_BLK_T_DISCARD:
		err = blkdev_issue_discard(be->bdev, sector, nr_sectors,
					   GFP_KERNEL);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		err = blkdev_issue_zeroout(be->bdev, sector, nr_sectors,
					   GFP_KERNEL,
					   unmap ? 0 : BLKDEV_ZERO_NOUNMAP);
		break;
	default:
		err = blkdev_issue_secure_erase(be->bdev, sector, nr_sectors,
						GFP_KERNEL);
	}
	/* Readers of a neighbour may have brought old data into the cache. */
	dropped = vhost_blk_drop_cache(be, pos, len);
	return err ?: dropped;
}

static int vhost_blk_bdev_range(struct vhost_blk_backend *be, u32 type,
				bool unmap, loff_t pos, u64 len)
{
	u32 block = max_t(u32, be->limits.logical_block_size, PAGE_SIZE);
	loff_t start = pos, end = pos + len;
	int err = 0;

	/*
	 * A page holds other data as well, which may be on its way to the
	 * device, together with what was in the range.
	 */
	if (!be->direct) {
		start = min_t(loff_t, round_up(start, block), end);
		end = max_t(loff_t, round_down(end, block), start);
	}
	if (type != VIRTIO_BLK_T_DISCARD)
		err = vhost_blk_write_zeroes(be, pos, start - pos) ?:
		      vhost_blk_write_zeroes(be, end, pos + len - end);
	/* Now what was there does not come back, it can be erased as well. */
	if (type == VIRTIO_BLK_T_SECURE_ERASE) {
		start = pos;
		end = pos + len;
	}
	if (!err && start < end)
		err = vhost_blk_bdev_issue(be, type, unmap, start, end - start);
	return err;
}

static int vhost_blk_file_range(struct vhost_blk_backend *be, u32 type,
				bool unmap, loff_t pos, u64 len)
{
	int err;

	/* Freeze protection is taken in vfs_fallocate(). */
	if (type == VIRTIO_BLK_T_DISCARD || unmap) {
		err = vfs_fallocate(be->file, FALLOC_FL_PUNCH_HOLE |
					      FALLOC_FL_KEEP_SIZE, pos, len);
		if (type == VIRTIO_BLK_T_DISCARD || err != -EOPNOTSUPP)
			return err;
	}
	err = vfs_fallocate(be->file, FALLOC_FL_ZERO_RANGE |
				      FALLOC_FL_KEEP_SIZE, pos, len);
	if (err != -EOPNOTSUPP)
		return err;

	file_start_write(be->file);
	err = vhost_blk_in_range(be, pos >> SECTOR_SHIFT, len) ?
	      vhost_blk_write_zeroes(be, pos, len) : -EIO;
	file_end_write(be->file);
	return err;
}

static int vhost_blk_range_step(struct vhost_blk_req *req, bool unmap,
				loff_t pos, u64 len)
{
	struct vhost_blk *blk = req->q->blk;
	struct vhost_blk_backend *be = &blk->backend;
	int err;

	/* On the owner's memory, whose cgroup is charged for the page cache. */
	if (READ_ONCE(blk->dying) || !vhost_blk_use_mm(blk))
		return -EFAULT;
	/* Time has passed since the parser looked. */
	if (!vhost_blk_in_range(be, pos >> SECTOR_SHIFT, len))
		err = -EIO;
	else if (be->bdev)
		err = vhost_blk_bdev_range(be, req->type, unmap, pos, len);
	else
		err = vhost_blk_file_range(be, req->type, unmap, pos, len);
	vhost_blk_unuse_mm(blk);
	return err;
}

static int vhost_blk_range_steps(struct vhost_blk_req *req,
				 struct vhost_blk_range *range)
{
	u64 pos = range->sector << SECTOR_SHIFT;
	u64 len = (u64)range->nr_sectors << SECTOR_SHIFT;
	u64 step;
	int err;

	for (; len; pos += step, len -= step) {
		/* Steps end at round places, so as to cut few blocks. */
		step = min(len, VHOST_BLK_RANGE_STEP -
				(pos & (VHOST_BLK_RANGE_STEP - 1)));
		err = vhost_blk_range_step(req, range->unmap, pos, step);
		if (err)
			return err;
		cond_resched();
	}
	return 0;
}

/**
 * vhost_blk_range_run - discard, zero or erase the ranges of a request
 * @req:	the request, parsed
 *
 * Context: helper; may block for as long as it likes.
 * Return: 0, or the first error; ranges before it are done.
 */
int vhost_blk_range_run(struct vhost_blk_req *req)
{
	struct vhost_blk *blk = req->q->blk;
	unsigned int i;
	int err;

	for (i = 0; i < req->nr_segs; i++) {
		err = vhost_blk_range_steps(req, &req->ranges[i]);
		if (err)
			return err;
	}
	/* The mode of now: a change to write-through flushes what has ended. */
	return READ_ONCE(blk->write_through) ?
	       vhost_blk_backend_sync(&blk->backend) : 0;
}
