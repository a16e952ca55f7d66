/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* User API of /dev/vhost-blk, on top of the vhost ioctls of linux/vhost.h. */
#ifndef _UAPI_LINUX_VHOST_BLK_H
#define _UAPI_LINUX_VHOST_BLK_H

#include <linux/types.h>
#include <linux/vhost.h>
#include <linux/virtio_blk.h>

/*
 * Attach a backend, or detach it with fd -1.
 *
 * index must be 0: one backend serves all virtqueues.  fd is an opened block
 * device or regular file; its open mode decides whether it is read-only and
 * whether I/O is direct.  Queues whose vring is set up at this moment are
 * started and kicked once.  Detaching returns when every accepted request has
 * completed and its used entry is written.
 */
#define VHOST_BLK_SET_BACKEND	_IOW(VHOST_VIRTIO, 0x50, \
				     struct vhost_vring_file)

/* The same call under the number that clients of the 2022 series use. */
#define VHOST_BLK_SET_BACKEND_COMPAT _IOW(VHOST_VIRTIO, 0xFF, \
					  struct vhost_vring_file)

/**
 * struct vhost_blk_serial - what VIRTIO_BLK_T_GET_ID returns
 * @serial:	the serial number, padded with NULs
 * @reserved:	must be 0
 */
struct vhost_blk_serial {
	__u8 serial[VIRTIO_BLK_ID_BYTES];
	__u32 reserved;
};

/* Set the serial number, while no backend is attached; all NULs at first. */
#define VHOST_BLK_SET_SERIAL	_IOW(VHOST_VIRTIO, 0x51, \
				     struct vhost_blk_serial)

/* Types of requests that are counted apart. */
enum {
	VHOST_BLK_STATS_READ,
	VHOST_BLK_STATS_WRITE,
	VHOST_BLK_STATS_FLUSH,
	VHOST_BLK_STATS_DISCARD,
	VHOST_BLK_STATS_WRITE_ZEROES,
	VHOST_BLK_STATS_SECURE_ERASE,
	VHOST_BLK_STATS_OTHER,		/* GET_ID, unknown, or without a header */
	VHOST_BLK_STATS_TYPES = 8	/* with one to spare */
};

/**
 * struct vhost_blk_type_stats - requests of one type
 * @requests:	requests put into the used ring, failed ones included
 * @bytes:	data bytes of those that did not fail
 * @errors:	requests with a status other than VIRTIO_BLK_S_OK
 */
struct vhost_blk_type_stats {
	__u64 requests;
	__u64 bytes;
	__u64 errors;
};

/**
 * struct vhost_blk_stats - counters of one virtqueue
 * @index:	number of the virtqueue, given by the caller
 * @reserved:	must be 0
 * @type:	requests by type, VHOST_BLK_STATS_*
 * @kicks:	signals of the kick eventfd
 * @submit_wakeups: times the submission worker woke up
 * @complete_wakeups: times the completion worker woke up
 * @batches:	times requests were taken off the ring, one or more at once
 * @signals:	signals sent to the call eventfd
 * @signals_saved: times used entries were published, with a call eventfd set,
 *		and no signal was sent because the driver did not want one
 * @max_inflight: most requests in flight at the same time
 * @inflight:	requests in flight now
 * @polled:	times polling the ring found requests, which saved a kick
 * @pin_misses:	pages that were not found pinned, see VHOST_BLK_SET_PIN_LIMIT
 * @spare:	0; room for further counters
 */
struct vhost_blk_stats {
	__u32 index;
	__u32 reserved;
	struct vhost_blk_type_stats type[VHOST_BLK_STATS_TYPES];
	__u64 kicks;
	__u64 submit_wakeups;
	__u64 complete_wakeups;
	__u64 batches;
	__u64 signals;
	__u64 signals_saved;
	__u64 max_inflight;
	__u64 inflight;
	__u64 polled;
	__u64 pin_misses;
	__u64 spare[29];
};

/*
 * Read a virtqueue's counters: at any time, by any holder of the descriptor.
 * They begin with 0 when the device is opened or its owner reset, and go on
 * from one attach to the next.
 */
#define VHOST_BLK_GET_STATS	_IOWR(VHOST_VIRTIO, 0x53, \
				      struct vhost_blk_stats)

#define VHOST_BLK_WRITE_BACK	0
#define VHOST_BLK_WRITE_THROUGH	1

/**
 * struct vhost_blk_write_cache - when a write may complete
 * @mode:	VHOST_BLK_WRITE_BACK: when the backend has accepted it; a FLUSH
 *		makes it durable.  VHOST_BLK_WRITE_THROUGH: when it is durable.
 * @reserved:	must be 0
 */
struct vhost_blk_write_cache {
	__u32 mode;
	__u32 reserved;
};

/*
 * Set the mode, VHOST_BLK_WRITE_BACK at first, at any time.  A change to
 * write-through flushes the attached backend: when the call returns, every
 * write that has completed is durable, and every one that completes from then
 * on.  If that flush fails, so does the call, and the mode stays.
 * A module that has this call offers VIRTIO_BLK_F_CONFIG_WCE.
 */
#define VHOST_BLK_SET_WRITE_CACHE _IOW(VHOST_VIRTIO, 0x52, \
				       struct vhost_blk_write_cache)

/**
 * struct vhost_blk_affinity - CPUs of a virtqueue's two workers
 * @index:	number of the virtqueue
 * @size:	bytes at @mask; 0 takes an earlier mask back
 * @mask:	address of the mask, one bit per CPU, as of sched_setaffinity(2)
 */
struct vhost_blk_affinity {
	__u32 index;
	__u32 size;
	__u64 mask;
};

/*
 * Bind a virtqueue's workers to CPUs, attached or not.  It holds for each
 * attach until the owner is reset.  All CPUs must be online and in the cpuset
 * of the owner.  Without it workers get the CPUs of the owner's main thread at
 * the attach.
 */
#define VHOST_BLK_SET_AFFINITY	_IOW(VHOST_VIRTIO, 0x54, \
				     struct vhost_blk_affinity)

/**
 * struct vhost_blk_pin_limit - guest memory that is kept pinned
 * @bytes:	how much of it each virtqueue keeps pinned at most, up to 1 GiB;
 *		0 for none
 * @reserved:	must be 0
 */
struct vhost_blk_pin_limit {
	__u64 bytes;
	__u64 reserved;
};

/*
 * Let virtqueues keep the pages of direct I/O pinned from one request to the
 * next, least recently used ones given back; none at first.  They count as the
 * owner's, and are bounded by its RLIMIT_MEMLOCK at the time of this call: what
 * it does not allow is pinned for each request anew, as without this call.
 * Pages that the owner discards, unmaps or moves are given back.
 * While no backend is attached; it holds until the owner is reset.
 */
#define VHOST_BLK_SET_PIN_LIMIT	_IOW(VHOST_VIRTIO, 0x56, \
				     struct vhost_blk_pin_limit)

/**
 * struct vhost_blk_limits - what a backend can do
 * @fd:		in: the opened backend
 * @reserved:	in: must be 0
 * @logical_block_size: smallest unit of I/O, in bytes; 512 for a file
 * @physical_block_size: smallest unit written without a read, in bytes
 * @alignment_offset: bytes by which the first physical block begins early
 * @min_io_size: preferred smallest I/O in bytes; 0 if there is none
 * @opt_io_size: preferred I/O in bytes; 0 if there is none
 * @max_discard_sectors: sectors of a DISCARD segment; 0 if there is no discard
 * @max_discard_seg: segments of a DISCARD
 * @discard_sector_alignment: sectors that are discarded together
 * @max_write_zeroes_sectors: sectors of a WRITE_ZEROES segment; 0 if there is
 *		no such request
 * @max_write_zeroes_seg: segments of a WRITE_ZEROES
 * @write_zeroes_may_unmap: 1 if WRITE_ZEROES with the unmap flag can free space
 * @max_secure_erase_sectors: sectors of a SECURE_ERASE segment; 0 if there is
 *		no such request
 * @max_secure_erase_seg: segments of a SECURE_ERASE
 * @secure_erase_sector_alignment: sectors that are erased together
 *
 * Sectors have 512 bytes.  From @max_discard_sectors on, names and meaning are
 * those of struct virtio_blk_config.  How @fd is open makes no difference.
 */
struct vhost_blk_limits {
	__s32 fd;
	__u32 reserved;
	__u32 logical_block_size;
	__u32 physical_block_size;
	__u32 alignment_offset;
	__u32 min_io_size;
	__u32 opt_io_size;
	__u32 max_discard_sectors;
	__u32 max_discard_seg;
	__u32 discard_sector_alignment;
	__u32 max_write_zeroes_sectors;
	__u32 max_write_zeroes_seg;
	__u32 write_zeroes_may_unmap;
	__u32 max_secure_erase_sectors;
	__u32 max_secure_erase_seg;
	__u32 secure_erase_sector_alignment;
};

/*
 * Ask what an opened backend can do, for the guest's configuration space.  It
 * need not be attached, and no owner is needed.
 */
#define VHOST_BLK_GET_LIMITS	_IOWR(VHOST_VIRTIO, 0x55, \
				      struct vhost_blk_limits)

#endif /* _UAPI_LINUX_VHOST_BLK_H */
