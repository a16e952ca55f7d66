// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk pins: pages of the guest's memory that stay pinned between
 * requests, so that most requests find theirs without pinning.
 *
 * Each queue has a cache by address, in sets of few pages, which only its
 * submission worker looks into.  An entry counts the requests that use its page,
 * and the cache itself as one more; dropping the last count unpins the page.
 *
 * The owner's mappings may change at any time: memory is discarded, moved,
 * unmapped.  An MMU notifier then moves the device's epoch on, and a queue whose
 * pins are of an earlier one drops them all before it starts another request.
 */

#include <linux/capability.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "blk.h"

/* Pages in a set, of which the least recently used makes room. */
#define VHOST_BLK_PIN_WAYS	8

/**
 * struct vhost_blk_pin - a pinned page
 * @addr:	where the owner has it; 0 once the cache has dropped it
 * @page:	the page, while @refs is not 0
 * @refs:	requests that use it, and one for the cache
 * @used:	when it was used last, in requests of the queue
 * @node:	link in the queue's list of entries that the cache counts
 */
struct vhost_blk_pin {
	unsigned long addr;
	struct page *page;
	atomic_t refs;
	u32 used;
	struct list_head node;
};

static void vhost_blk_pin_put(struct vhost_blk_queue *q,
			      struct vhost_blk_pin *pin)
{
	struct page *page = pin->page;

	/* Once it is 0 the entry may be in use for another page. */
	if (!atomic_dec_and_test(&pin->refs))
		return;
	unpin_user_pages_dirty_lock(&page, 1, true);
	atomic64_dec(&q->blk->dev.mm->pinned_vm);
}

static void vhost_blk_pin_drop(struct vhost_blk_queue *q,
			       struct vhost_blk_pin *pin)
{
	pin->addr = 0;
	list_del(&pin->node);
	vhost_blk_pin_put(q, pin);
}

/* As the kernel's other users of pinned_vm count and limit it. */
static bool vhost_blk_pin_charge(struct vhost_blk *blk)
{
	atomic64_t *pinned = &blk->dev.mm->pinned_vm;

	if (atomic64_inc_return(pinned) <= blk->pin_rlimit)
		return true;
	atomic64_dec(pinned);
	return false;
}

/* An entry of the set for one more page, charged for; or NULL. */
static struct vhost_blk_pin *vhost_blk_pin_room(struct vhost_blk_queue *q,
						struct vhost_blk_pin *set)
{
	struct vhost_blk_pin *pin, *oldest = NULL;

	for (pin = set; pin < set + VHOST_BLK_PIN_WAYS; pin++) {
		if (!atomic_read(&pin->refs) && vhost_blk_pin_charge(q->blk))
			return pin;
		if (pin->addr && atomic_read(&pin->refs) == 1 &&
		    (!oldest || (s32)(pin->used - oldest->used) < 0))
			oldest = pin;
	}
	if (!oldest)
		return NULL;
	vhost_blk_pin_drop(q, oldest);
	return vhost_blk_pin_charge(q->blk) ? oldest : NULL;
}

/* The notifier passes over what lies outside these bounds. */
static void vhost_blk_pin_widen(struct vhost_blk *blk, unsigned long addr)
{
	spin_lock(&blk->pin_lock);
	if (addr < blk->pin_start)
		WRITE_ONCE(blk->pin_start, addr);
	if (addr >= blk->pin_end)
		WRITE_ONCE(blk->pin_end, addr + PAGE_SIZE);
	spin_unlock(&blk->pin_lock);
	/* They are out before a page is looked up there. */
	smp_mb();
}

static struct vhost_blk_pin *vhost_blk_pin_add(struct vhost_blk_queue *q,
					       struct vhost_blk_pin *set,
					       unsigned long addr)
{
	struct vhost_blk_pin *pin = vhost_blk_pin_room(q, set);

	if (!pin)
		return NULL;
	vhost_blk_pin_widen(q->blk, addr);
	WRITE_ONCE(q->pin_misses, q->pin_misses + 1);
	if (pin_user_pages_fast(addr, 1, FOLL_WRITE | FOLL_LONGTERM,
				&pin->page) != 1) {
		atomic64_dec(&q->blk->dev.mm->pinned_vm);
		return NULL;
	}
	pin->addr = addr;
	atomic_set(&pin->refs, 1);
	list_add(&pin->node, &q->pin_used);
	/* Paired with vhost_blk_pin_stale(), which passes over empty lists. */
	smp_mb();
	if (unlikely(atomic_read(&q->blk->pin_epoch) != q->pin_epoch))
		vhost_blk_kick(q);
	return pin;
}

/* The entry of a page, with one more user; NULL if it cannot be cached. */
static struct vhost_blk_pin *vhost_blk_pin_get(struct vhost_blk_queue *q,
					       unsigned long addr)
{
	struct vhost_blk_pin *set, *pin;

	/* No entry is found by the address that unused ones have. */
	if (unlikely(!addr))
		return NULL;
	set = q->pins + ((addr >> PAGE_SHIFT) & q->pin_mask) *
			VHOST_BLK_PIN_WAYS;
	for (pin = set; pin->addr != addr; pin++) {
		if (pin == set + VHOST_BLK_PIN_WAYS - 1) {
			pin = vhost_blk_pin_add(q, set, addr);
			if (!pin)
				return NULL;
			break;
		}
	}
	pin->used = q->pin_clock;
	atomic_inc(&pin->refs);
	return pin;
}

/**
 * vhost_blk_pin_release - let go of the pages of a request
 * @req:	the request, its attempt at an end
 *
 * Context: process context; may sleep.
 */
void vhost_blk_pin_release(struct vhost_blk_req *req)
{
	while (req->nr_pins)
		vhost_blk_pin_put(req->q, req->pins[--req->nr_pins]);
}

/**
 * vhost_blk_pin_iter - make an iterator of pinned pages for a request
 * @req:	the request, nothing of it transferred so far
 * @iter:	the iterator
 *
 * Context: submission worker, on the owner's memory.
 * Return: true, and vhost_blk_pin_release() has to follow; false if the request
 *	   has too many pages, or one that cannot be cached.
 */
bool vhost_blk_pin_iter(struct vhost_blk_req *req, struct iov_iter *iter)
{
	bool read = req->type == VIRTIO_BLK_T_IN;
	struct vhost_blk_queue *q = req->q;
	const struct iovec *seg;
	struct vhost_blk_pin *pin;
	unsigned long addr, end;
	struct bio_vec *bvec;

	if (!q->pins || req->len > VHOST_BLK_INLINE_SEGS * PAGE_SIZE)
		return false;

	q->pin_clock++;
	for (seg = req->segs; seg < req->segs + req->nr_segs; seg++) {
		addr = (unsigned long)seg->iov_base;
		for (end = addr + seg->iov_len; addr < end;
		     addr += bvec->bv_len) {
			if (req->nr_pins == VHOST_BLK_INLINE_SEGS)
				goto no_pins;
			pin = vhost_blk_pin_get(q, addr & PAGE_MASK);
			if (!pin)
				goto no_pins;
			bvec = &req->bvecs[req->nr_pins];
			bvec->bv_page = pin->page;
			bvec->bv_offset = offset_in_page(addr);
			bvec->bv_len = min(end - addr,
					   PAGE_SIZE - offset_in_page(addr));
			req->pins[req->nr_pins++] = pin;
		}
	}
	iov_iter_bvec(iter, read ? ITER_DEST : ITER_SOURCE, req->bvecs,
		      req->nr_pins, req->len);
	return true;

no_pins:
	vhost_blk_pin_release(req);
	return false;
}

/**
 * vhost_blk_pin_flush - let go of all pages that no request uses
 * @q:		the queue
 *
 * The others follow when their requests end.
 *
 * Context: submission worker, or none is running; may sleep.
 */
void vhost_blk_pin_flush(struct vhost_blk_queue *q)
{
	struct vhost_blk_pin *pin, *next;

	list_for_each_entry_safe(pin, next, &q->pin_used, node)
		vhost_blk_pin_drop(q, pin);
}

/**
 * vhost_blk_pin_check - let go of all pages if one may not be the owner's now
 * @q:		the queue
 *
 * To be called when requests were fetched, before they start: what the owner
 * did to its memory before the guest made them available is seen here.
 *
 * Context: submission worker; may sleep.
 */
void vhost_blk_pin_check(struct vhost_blk_queue *q)
{
	int epoch = atomic_read(&q->blk->pin_epoch);

	if (likely(q->pin_epoch == epoch))
		return;
	q->pin_epoch = epoch;
	vhost_blk_pin_flush(q);
}

/**
 * vhost_blk_pin_stale - the owner's memory in a range may be other pages now
 * @blk:	the device
 * @start:	first address of the range
 * @end:	the one behind its last
 *
 * Context: any; the owner's memory may be locked.
 */
void vhost_blk_pin_stale(struct vhost_blk *blk, unsigned long start,
			 unsigned long end)
{
	struct vhost_blk_queue *q;

	/*
	 * At the end of a change: a worker that looked a page up before it has
	 * written the bounds by now, see vhost_blk_pin_widen().
	 */
	smp_mb();
	if (end <= READ_ONCE(blk->pin_start) ||
	    start >= READ_ONCE(blk->pin_end))
		return;
	atomic_inc(&blk->pin_epoch);
	/* Paired with vhost_blk_pin_add(). */
	smp_mb__after_atomic();
	/* Idle queues too give the memory back. */
	vhost_blk_for_each_queue(blk, q)
		if (!list_empty_careful(&q->pin_used))
			vhost_blk_kick(q);
}

/* Pages pinned while the range was being changed may be the old ones. */
static void vhost_blk_pin_invalidate_end(struct mmu_notifier *notifier,
					 const struct mmu_notifier_range *range)
{
	vhost_blk_pin_stale(container_of(notifier, struct vhost_blk,
					 pin_notifier),
			    range->start, range->end);
}

static void vhost_blk_pin_owner_exits(struct mmu_notifier *notifier,
				      struct mm_struct *mm)
{
	vhost_blk_pin_stale(container_of(notifier, struct vhost_blk,
					 pin_notifier), 0, ULONG_MAX);
}

static const struct mmu_notifier_ops vhost_blk_pin_notifier_ops = {
	.release		= vhost_blk_pin_owner_exits,
	.invalidate_range_end	= vhost_blk_pin_invalidate_end,
};

/**
 * vhost_blk_pin_set_limit - set how many pages each queue may keep pinned
 * @blk:	the device, detached
 * @pages:	their number, 0 for none
 *
 * Context: process context, vhost_dev.mutex held; the caller is the owner or,
 *	    with 0, anybody.
 * Return: 0, or what registering an MMU notifier gives.
 */
int vhost_blk_pin_set_limit(struct vhost_blk *blk, unsigned int pages)
{
	int err;

	if (!pages && blk->pin_limit)
		mmu_notifier_unregister(&blk->pin_notifier, blk->dev.mm);
	if (pages && !blk->pin_limit) {
		blk->pin_notifier.ops = &vhost_blk_pin_notifier_ops;
		err = mmu_notifier_register(&blk->pin_notifier, blk->dev.mm);
		if (err)
			return err;
	}
	blk->pin_limit = pages;
	/* Asking for a capability is audited: not where the device is closed. */
	if (!pages)
		return 0;
	blk->pin_rlimit = capable(CAP_IPC_LOCK) ? S64_MAX :
			  rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	WRITE_ONCE(blk->pin_start, ULONG_MAX);
	WRITE_ONCE(blk->pin_end, 0);
	return 0;
}

/**
 * vhost_blk_pin_start - give a queue an empty cache, if it may have one
 * @q:		the queue, stopped
 *
 * Context: process context, vhost_dev.mutex held.
 * Return: 0 or -ENOMEM.
 */
int vhost_blk_pin_start(struct vhost_blk_queue *q)
{
	unsigned int pages = q->blk->pin_limit;
	struct vhost_blk_pin *pins;

	if (pages < VHOST_BLK_PIN_WAYS)
		return 0;
	pages = rounddown_pow_of_two(pages);
	pins = kvcalloc(pages, sizeof(*pins), GFP_KERNEL_ACCOUNT);
	if (!pins)
		return -ENOMEM;
	q->pin_mask = pages / VHOST_BLK_PIN_WAYS - 1;
	q->pin_epoch = atomic_read(&q->blk->pin_epoch);
	q->pins = pins;
	return 0;
}

/**
 * vhost_blk_pin_stop - take the cache of a queue
 * @q:		the queue, stopped, started or not
 *
 * Context: process context, vhost_dev.mutex held; may sleep.
 */
void vhost_blk_pin_stop(struct vhost_blk_queue *q)
{
	struct vhost_blk_pin *pins = q->pins;

	vhost_blk_pin_flush(q);
	q->pins = NULL;
	kvfree(pins);
}
