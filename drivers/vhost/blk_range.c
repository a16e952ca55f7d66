// SPDX-License-Identifier: GPL-2.0
/* vhost-blk requests that carry ranges: how to discard, zero and erase them. */

#include <linux/blkdev.h>
#include <linux/falloc.h>
#include <linux/pagemap.h>

#include "blk.h"

/* Bytes of a command that moves no data, after which the owner may have gone. */
#define VHOST_BLK_RANGE_STEP	((u64)SZ_128M)
/* Bytes of zeroes that are written at a time. */
#define VHOST_BLK_ZEROES_STEP	((u64)SZ_1M)
/* Zeroes written in one call, in pages. */
#define VHOST_BLK_ZERO_PAGES	16

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
		vhost_blk_backend_iocb(&iocb, be, pos, IOCB_WRITE);
		n = vhost_blk_backend_rw(&iocb, &iter);
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

	if (vhost_blk_prepare_to_claim(be->bdev, be))
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

/* Bytes from the start of the range that are done, or an error. */
static s64 vhost_blk_file_range(struct vhost_blk_backend *be, u32 type,
				bool unmap, loff_t pos, u64 len)
{
	int err;

	/* Freeze protection is taken in vfs_fallocate(). */
	if (type == VIRTIO_BLK_T_DISCARD || unmap) {
		err = vfs_fallocate(be->file, FALLOC_FL_PUNCH_HOLE |
					      FALLOC_FL_KEEP_SIZE, pos, len);
		if (type == VIRTIO_BLK_T_DISCARD || err != -EOPNOTSUPP)
			return err ?: len;
	}
	err = vfs_fallocate(be->file, FALLOC_FL_ZERO_RANGE |
				      FALLOC_FL_KEEP_SIZE, pos, len);
	if (err != -EOPNOTSUPP)
		return err ?: len;

	len = min(len, VHOST_BLK_ZEROES_STEP);
	file_start_write(be->file);
	err = vhost_blk_backend_has(be, pos >> SECTOR_SHIFT, len) ?
	      vhost_blk_write_zeroes(be, pos, len) : -EIO;
	file_end_write(be->file);
	return err ?: len;
}

/* Bytes of a step: many where the device does it by itself. */
static u64 vhost_blk_range_step_len(struct vhost_blk_backend *be, u32 type)
{
	if (type == VIRTIO_BLK_T_WRITE_ZEROES && be->bdev &&
	    !bdev_write_zeroes_sectors(be->bdev))
		return VHOST_BLK_ZEROES_STEP;
	return VHOST_BLK_RANGE_STEP;
}

/**
 * vhost_blk_range_step - discard, zero or erase a part of a request's ranges
 * @req:	the request
 *
 * Context: a task of the owner; may block for as long as it takes.
 * Return: 1 if there is more to be done, 0 if not, or a negative errno.
 */
int vhost_blk_range_step(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);
	struct vhost_blk_range *range = &req->ranges[req->copied];
	u64 step = vhost_blk_range_step_len(be, req->type);
	u64 pos, len;
	s64 n;

	if (req->copied == req->nr_segs)
		return 0;
	pos = range->sector << SECTOR_SHIFT;
	len = (u64)range->nr_sectors << SECTOR_SHIFT;
	/* Steps end at round places, so as to cut few blocks. */
	len = min(len, step - (pos & (step - 1)));
	n = len;
	if (len) {
		/* The backend may have become smaller. */
		if (!vhost_blk_backend_has(be, range->sector, len))
			n = -EIO;
		else if (be->bdev)
			n = vhost_blk_bdev_range(be, req->type, range->unmap,
						 pos, len) ?: len;
		else
			n = vhost_blk_file_range(be, req->type, range->unmap,
						 pos, len);
		if (n < 0)
			return n;
	}
	range->sector += n >> SECTOR_SHIFT;
	range->nr_sectors -= n >> SECTOR_SHIFT;
	if (!range->nr_sectors)
		req->copied++;
	return req->copied < req->nr_segs;
}
