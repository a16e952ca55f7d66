// SPDX-License-Identifier: GPL-2.0
/*
 * A disk in memory that can be erased securely, which no driver does whose
 * device a virtual machine can have.  What was erased reads as neither a
 * write, zeroes nor a discard leave it.
 */

#include <linux/blkdev.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/version.h>
#include <linux/vmalloc.h>

#define ERASED			0xe5
/* No whole number of blocks of 4 KiB, which its user has to make it. */
#define MAX_ERASE_SECTORS	3001
#define GRANULARITY		SZ_8K

/* By the names that scsi_debug has for them. */
static unsigned int dev_size_mb = 16;
module_param(dev_size_mb, uint, 0444);
static unsigned int sector_size = SECTOR_SIZE;
module_param(sector_size, uint, 0444);

static struct gendisk *disk;
static u8 *data;

static void erasable_submit_bio(struct bio *bio)
{
	u8 *at = data + (bio->bi_iter.bi_sector << SECTOR_SHIFT);
	struct bvec_iter iter;
	struct bio_vec bvec;

	switch (bio_op(bio)) {
	case REQ_OP_READ:
		bio_for_each_segment(bvec, bio, iter) {
			memcpy_to_bvec(&bvec, at);
			at += bvec.bv_len;
		}
		break;
	case REQ_OP_WRITE:
		bio_for_each_segment(bvec, bio, iter) {
			memcpy_from_bvec(at, &bvec);
			at += bvec.bv_len;
		}
		break;
	case REQ_OP_DISCARD:
		memset(at, 0, bio->bi_iter.bi_size);
		break;
	case REQ_OP_SECURE_ERASE:
		memset(at, ERASED, bio->bi_iter.bi_size);
		break;
	default:
		bio->bi_status = BLK_STS_NOTSUPP;
	}
	bio_endio(bio);
}

static const struct block_device_operations erasable_fops = {
	.owner = THIS_MODULE,
	.submit_bio = erasable_submit_bio,
};

/* All that differs between kernels. */
static struct gendisk *erasable_alloc_disk(void)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
	struct gendisk *new = blk_alloc_disk(NUMA_NO_NODE);

	if (!new)
		return ERR_PTR(-ENOMEM);
	blk_queue_logical_block_size(new->queue, sector_size);
	blk_queue_max_discard_sectors(new->queue, UINT_MAX >> SECTOR_SHIFT);
	blk_queue_max_secure_erase_sectors(new->queue, MAX_ERASE_SECTORS);
	new->queue->limits.discard_granularity = GRANULARITY;
	return new;
#else
	struct queue_limits limits = {
		.logical_block_size = sector_size,
		.max_hw_discard_sectors = UINT_MAX >> SECTOR_SHIFT,
		.max_secure_erase_sectors = MAX_ERASE_SECTORS,
		.discard_granularity = GRANULARITY,
	};

	return blk_alloc_disk(&limits, NUMA_NO_NODE);
#endif
}

static int __init erasable_init(void)
{
	int err;

	data = vzalloc(dev_size_mb * SZ_1M);
	if (!data)
		return -ENOMEM;
	disk = erasable_alloc_disk();
	if (IS_ERR(disk)) {
		err = PTR_ERR(disk);
		goto free_data;
	}
	strscpy(disk->disk_name, "erasable", sizeof(disk->disk_name));
	disk->fops = &erasable_fops;
	disk->flags |= GENHD_FL_NO_PART;
	set_capacity(disk, dev_size_mb * (SZ_1M >> SECTOR_SHIFT));
	err = add_disk(disk);
	if (!err)
		return 0;

	put_disk(disk);
free_data:
	vfree(data);
	return err;
}

static void __exit erasable_exit(void)
{
	del_gendisk(disk);
	put_disk(disk);
	vfree(data);
}

module_init(erasable_init);
module_exit(erasable_exit);

MODULE_DESCRIPTION("Disk in memory that can be erased securely");
MODULE_LICENSE("GPL");
