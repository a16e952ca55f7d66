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
 * @signals_suppressed: times used entries were added, with a call eventfd set,
 *		and no signal was sent because the driver did not want one
 * @max_inflight: most requests in flight at the same time
 * @inflight:	requests in flight now
 * @poll_hits:	times polling the ring found requests, which saved a kick
 * @pin_misses:	pages that were not found pinned, see VHOST_BLK_SET_PIN_LIMIT
 * @signals_coalesced: times requests came while used entries waited to be
 *		announced with theirs, see VHOST_BLK_SET_COALESCE
 * @offloads:	times work that may block was handed to another thread of the
 *		owner
 * @handed_back: requests left to the owner, see VHOST_BLK_SET_HAND_BACK
 * @submit_tid:	thread id of the submission worker; 0 while the queue is stopped,
 *		and where workers are kernel threads
 * @complete_tid: the same of the completion worker
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
	__u64 signals_suppressed;
	__u64 max_inflight;
	__u64 inflight;
	__u64 poll_hits;
	__u64 pin_misses;
	__u64 signals_coalesced;
	__u64 offloads;
	__u64 handed_back;
	__u32 submit_tid;
	__u32 complete_tid;
	__u64 spare[25];
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
 * @flags:	VHOST_BLK_WRITE_CACHE_NO_FLUSH: do not flush; the caller does
 */
struct vhost_blk_write_cache {
	__u32 mode;
	__u32 flags;
};

#define VHOST_BLK_WRITE_CACHE_NO_FLUSH	1

/*
 * Set the mode, VHOST_BLK_WRITE_BACK at first, at any time.  A change to
 * write-through flushes the attached backend: when the call returns, every
 * write that has completed is durable, and every one that completes from then
 * on.  If that flush fails, so does the call, and the mode stays.  A caller that
 * must not wait for the disk flushes by itself after the call.
 * A module that has this call offers VIRTIO_BLK_F_CONFIG_WCE.
 */
#define VHOST_BLK_SET_WRITE_CACHE _IOW(VHOST_VIRTIO, 0x52, \
				       struct vhost_blk_write_cache)

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
 * those of struct virtio_blk_config.  How @fd is open makes no difference.  A
 * DISCARD or WRITE_ZEROES may have longer segments than these.
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

/*
 * Quiesce an attached device: fetch no more requests, and return when all that
 * were fetched are used, are handed back, or, behind a virtual IOMMU, wait for a
 * mapping of the used ring.  Workers, memory and backend stay.  The
 * ring indices stand still until VHOST_BLK_RESUME or a detach; they can be read
 * and set.  Quiescing a quiesced device returns 0.  -EINVAL without a backend,
 * -EINTR if the caller is killed; then the device stays quiesced.
 */
#define VHOST_BLK_QUIESCE	_IO(VHOST_VIRTIO, 0x57)

/**
 * struct vhost_blk_resume - go on after VHOST_BLK_QUIESCE
 * @flags:	VHOST_BLK_RESUME_RETRY: try requests again that were handed back;
 *		without it the owner has answered them
 * @reserved:	must be 0
 */
struct vhost_blk_resume {
	__u32 flags;
	__u32 reserved;
};

#define VHOST_BLK_RESUME_RETRY	1

/*
 * Serve the queues of a quiesced device again, from the ring indices of now, as
 * if each was kicked.  It allocates nothing.  Resuming a device that is not
 * quiesced returns 0.  -EINVAL without a backend or if the size of a ring was
 * changed, -EFAULT if a used ring cannot be read; then the device stays
 * quiesced.
 */
#define VHOST_BLK_RESUME	_IOW(VHOST_VIRTIO, 0x58, struct vhost_blk_resume)

/**
 * struct vhost_blk_hand_back - leave requests to the owner
 * @fd:		an eventfd, signalled when a request is handed back; -1 to have
 *		them answered with an error status again, as at first
 * @reserved:	must be 0
 */
struct vhost_blk_hand_back {
	__s32 fd;
	__u32 reserved;
};

/*
 * Hand back what the backend fails or cannot do and what has an unknown type or
 * one that was not negotiated: such a request is not answered, and its queue
 * fetches no more until VHOST_BLK_RESUME.  A request of ranges that
 * VHOST_BLK_QUIESCE finds unfinished is handed back, too.  While no backend is
 * attached; it holds until the owner is reset.
 */
#define VHOST_BLK_SET_HAND_BACK	_IOW(VHOST_VIRTIO, 0x59, \
				     struct vhost_blk_hand_back)

/**
 * struct vhost_blk_unanswered - requests of a virtqueue that were handed back
 * @index:	in: number of the virtqueue
 * @nr:		in: elements of @heads; out: requests that were handed back
 * @heads:	in: address of an array of __u16 for the indices of their first
 *		descriptors, in the order in which they were fetched
 */
struct vhost_blk_unanswered {
	__u32 index;
	__u32 nr;
	__u64 heads;
};

/* List what was handed back.  -EBUSY unless the device is quiesced. */
#define VHOST_BLK_GET_UNANSWERED _IOWR(VHOST_VIRTIO, 0x5A, \
				       struct vhost_blk_unanswered)

/**
 * struct vhost_blk_coalesce - bound of notification coalescing
 * @max_us:	how long the first of several used entries may wait to be
 *		announced together with later ones, in microseconds, up to 1000;
 *		0 for not at all
 * @reserved:	must be 0
 */
struct vhost_blk_coalesce {
	__u32 max_us;
	__u32 reserved;
};

/*
 * Set the bound, 0 at first, at any time; until the owner is reset.  Used
 * entries wait only while their queue's submission worker has work, or polls the
 * ring, see VHOST_SET_VRING_BUSYLOOP_TIMEOUT.  Requests, too: a worker that is
 * woken on a CPU that other tasks want may first sleep for half the bound.
 */
#define VHOST_BLK_SET_COALESCE	_IOW(VHOST_VIRTIO, 0x5B, \
				     struct vhost_blk_coalesce)

#define VHOST_BLK_DISCARD_FREE		0
#define VHOST_BLK_DISCARD_IGNORE	1

/**
 * struct vhost_blk_discard - what becomes of discarded space
 * @mode:	VHOST_BLK_DISCARD_FREE: the backend may free it.
 *		VHOST_BLK_DISCARD_IGNORE: it stays.  A DISCARD succeeds and does
 *		nothing, whether the backend has one or not, and WRITE_ZEROES
 *		does not unmap.
 * @reserved:	must be 0
 */
struct vhost_blk_discard {
	__u32 mode;
	__u32 reserved;
};

/*
 * Set the mode, VHOST_BLK_DISCARD_FREE at first, at any time; until the owner is
 * reset.  It holds for requests that are fetched from then on.
 */
#define VHOST_BLK_SET_DISCARD	_IOW(VHOST_VIRTIO, 0x5C, \
				     struct vhost_blk_discard)

#endif /* _UAPI_LINUX_VHOST_BLK_H */
