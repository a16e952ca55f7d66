/* SPDX-License-Identifier: GPL-2.0 */
/* Tracepoints of vhost-blk: the life of a request, and the guest's signal. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vhost_blk

#if !defined(_VHOST_BLK_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _VHOST_BLK_TRACE_H

#include <linux/ktime.h>
#include <linux/tracepoint.h>

#include "blk.h"

/*
 * dev and ino tell disks apart: the number of a block device and 0, or a file's
 * inode and the device that it is on.  latency is in nanoseconds since the
 * request was taken off the ring, 0 if vhost_blk_complete was off then.
 */
DECLARE_EVENT_CLASS(vhost_blk_request,
		    TP_PROTO(const struct vhost_blk_req *req),
		    TP_ARGS(req),

	TP_STRUCT__entry(__field(u64, sector)
			 __field(u64, bytes)
			 __field(u64, latency)
			 __field(u64, ino)
			 __field(dev_t, dev)
			 __field(u32, type)
			 __field(u16, queue)
			 __field(u16, head)
			 __field(u8, status)),

	TP_fast_assign(struct vhost_blk_backend *be = &req->q->blk->backend;

		       __entry->sector = req->pos >> SECTOR_SHIFT;
		       __entry->bytes = req->len;
		       __entry->latency = req->start ?
					  ktime_get_ns() - req->start : 0;
		       __entry->ino = be->bdev ? 0 :
				      be->file->f_mapping->host->i_ino;
		       __entry->dev = be->bdev ? be->bdev->bd_dev :
				      be->file->f_mapping->host->i_sb->s_dev;
		       __entry->type = req->type;
		       __entry->queue = req->q->index;
		       __entry->head = req->head;
		       __entry->status = vhost_blk_req_status(req);),

	TP_printk("dev=%u:%u ino=%llu queue=%u head=%u type=%s sector=%llu bytes=%llu status=%u latency=%llu",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		  __entry->queue, __entry->head,
		  __print_symbolic(__entry->type,
				   { VIRTIO_BLK_T_IN, "read" },
				   { VIRTIO_BLK_T_OUT, "write" },
				   { VIRTIO_BLK_T_FLUSH, "flush" },
				   { VIRTIO_BLK_T_GET_ID, "get-id" },
				   { VIRTIO_BLK_T_DISCARD, "discard" },
				   { VIRTIO_BLK_T_WRITE_ZEROES, "write-zeroes" },
				   { VIRTIO_BLK_T_SECURE_ERASE, "secure-erase" },
				   { VHOST_BLK_T_NONE, "none" }),
		  __entry->sector, __entry->bytes, __entry->status,
		  __entry->latency)
);

/* Taken off the ring; status is already that of a request refused at once. */
DEFINE_EVENT(vhost_blk_request, vhost_blk_start,
	     TP_PROTO(const struct vhost_blk_req *req),
	     TP_ARGS(req)
);

/* About to go to the backend, or to be offloaded. */
DEFINE_EVENT(vhost_blk_request, vhost_blk_submit,
	     TP_PROTO(const struct vhost_blk_req *req),
	     TP_ARGS(req)
);

/* About to be put into the used ring, with its final status. */
DEFINE_EVENT(vhost_blk_request, vhost_blk_complete,
	     TP_PROTO(const struct vhost_blk_req *req),
	     TP_ARGS(req)
);

/* The guest gets a signal; the request is the last that it announces. */
DEFINE_EVENT(vhost_blk_request, vhost_blk_signal,
	     TP_PROTO(const struct vhost_blk_req *req),
	     TP_ARGS(req)
);

#endif /* _VHOST_BLK_TRACE_H */

/* Found by way of the include path that Kbuild gives blk_vring.o. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE blk_trace
#include <trace/define_trace.h>
