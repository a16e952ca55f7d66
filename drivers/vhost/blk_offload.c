// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk offload: tasks of the owner that do what may block, in steps.  A
 * device gets more of them while none is idle, and keeps them until it is
 * detached.
 */

#include <linux/atomic.h>
#include <linux/moduleparam.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "blk.h"

/* Largest piece in which misaligned data passes through a bounce buffer. */
#define VHOST_BLK_BOUNCE_BYTES	SZ_64K

static unsigned int vhost_blk_max_offload_tasks = 1024;
module_param_named(max_offload_tasks, vhost_blk_max_offload_tasks, uint, 0644);
MODULE_PARM_DESC(max_offload_tasks,
		 "Threads of all devices that do what may block (1024)");

static atomic_t vhost_blk_nr_offload_tasks = ATOMIC_INIT(0);

/* Tasks of a device that work on requests of each kind at the same time. */
static const unsigned int vhost_blk_offload_limit[VHOST_BLK_OFFLOAD_KINDS] = {
	[VHOST_BLK_OFFLOAD_READ]  = VHOST_BLK_MAX_OFFLOAD_TASKS,
	[VHOST_BLK_OFFLOAD_WRITE] = VHOST_BLK_MAX_OFFLOAD_TASKS / 2,
	[VHOST_BLK_OFFLOAD_RANGE] = VHOST_BLK_MAX_OFFLOAD_TASKS / 4,
};

/**
 * struct vhost_blk_offload_task - a task of a device
 * @pool:	its device's tasks
 * @node:	link in the list of all tasks, under the pool's lock
 * @idle_node:	link in the list of idle tasks, under the pool's lock
 * @task:	the task
 * @ready:	@task is set
 */
struct vhost_blk_offload_task {
	struct vhost_blk_offload *pool;
	struct list_head node;
	struct list_head idle_node;
	struct vhost_blk_task *task;
	bool ready;
};

/* Read or write once; return the number of bytes or an error. */
static ssize_t vhost_blk_rw_once(struct vhost_blk_req *req)
{
	struct iov_iter iter;
	struct kiocb iocb;

	vhost_blk_req_iter(&iter, req, VHOST_BLK_STEP);
	vhost_blk_req_iocb(&iocb, req);
	if (req->state == VHOST_BLK_REQ_BUFFERED)
		iocb.ki_flags &= ~IOCB_DIRECT;
	return vhost_blk_backend_rw(&iocb, &iter);
}

/* The same through a bounce buffer. */
static ssize_t vhost_blk_rw_bounce(struct vhost_blk_req *req)
{
	size_t len = min_t(size_t, req->len - req->copied,
			   VHOST_BLK_BOUNCE_BYTES);
	bool write = req->type == VIRTIO_BLK_T_OUT;
	size_t size = PAGE_ALIGN(len);
	struct iov_iter iter, data;
	struct bio_vec bvec = {};
	struct kiocb iocb;
	ssize_t n;
	void *buf;

	buf = alloc_pages_exact(size, VHOST_BLK_GFP);
	if (!buf) {
		/* Where the owner may have no more, a page is not charged. */
		size = PAGE_SIZE;
		len = min_t(size_t, len, size);
		buf = alloc_pages_exact(size, GFP_KERNEL);
		if (!buf)
			return -ENOMEM;
	}

	vhost_blk_req_iter(&data, req, len);
	bvec.bv_page = virt_to_page(buf);
	bvec.bv_len = len;
	iov_iter_bvec(&iter, write ? ITER_SOURCE : ITER_DEST, &bvec, 1, len);
	vhost_blk_req_iocb(&iocb, req);
	n = -EFAULT;
	if (!write || copy_from_iter_full(buf, len, &data))
		n = vhost_blk_backend_rw(&iocb, &iter);
	if (!write && n > 0 && copy_to_iter(buf, n, &data) != n)
		n = -EFAULT;
	free_pages_exact(buf, size);
	return n;
}

/* Direct I/O that is refused is tried another way. */
static bool vhost_blk_rw_retry(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);

	if (!be->direct)
		return false;
	if (req->state == VHOST_BLK_REQ_BLOCKING)
		req->state = VHOST_BLK_REQ_BOUNCE;
	else if (req->state == VHOST_BLK_REQ_BOUNCE && !be->bdev)
		req->state = VHOST_BLK_REQ_BUFFERED;
	else
		return false;
	return true;
}

static int vhost_blk_rw_step(struct vhost_blk_req *req)
{
	struct vhost_blk_backend *be = vhost_blk_req_backend(req);
	bool write = req->type == VIRTIO_BLK_T_OUT;
	ssize_t n = -EIO;

	if (write)
		file_start_write(be->file);
	/* The backend may have become smaller. */
	if (vhost_blk_backend_has(be, req->pos >> SECTOR_SHIFT, req->len))
		n = req->state == VHOST_BLK_REQ_BOUNCE ?
		    vhost_blk_rw_bounce(req) : vhost_blk_rw_once(req);
	if (write)
		file_end_write(be->file);

	if (n == -EINVAL && vhost_blk_rw_retry(req))
		return 1;
	if (n <= 0)
		return n ?: -EIO;
	req->copied += n;
	return req->copied < req->len;
}

/* Do one step; return a positive number if there are more, else 0 or an error. */
static int vhost_blk_step(struct vhost_blk_req *req)
{
	struct vhost_blk *blk = req->q->blk;
	int ret;

	switch (req->state) {
	case VHOST_BLK_REQ_SYNC:
		req->dsync = true;
		return vhost_blk_backend_sync(&blk->backend);
	case VHOST_BLK_REQ_RANGES:
		ret = vhost_blk_range_step(req);
		/* A change to write-through flushes only what has ended. */
		if (ret || !READ_ONCE(blk->write_through))
			return ret;
		req->state = VHOST_BLK_REQ_SYNC;
		return 1;
	default:
		return vhost_blk_rw_step(req);
	}
}

/* Whether the owner takes over ranges that a quiescing queue would wait for. */
static bool vhost_blk_gives_up(const struct vhost_blk_req *req)
{
	return req->state == VHOST_BLK_REQ_RANGES && req->q->blk->hand_back &&
	       READ_ONCE(req->q->blk->quiesced);
}

/*
 * Do all that is left of a request.  Return false if the task has to return before
 * that, which only some callers can do.
 */
static bool vhost_blk_run(struct vhost_blk_req *req, bool may_return)
{
	struct vhost_blk *blk = req->q->blk;
	int ret;

	if (req->state == VHOST_BLK_REQ_LATE) {
		vhost_blk_io_answer(req, true);
		vhost_blk_req_done(req);
		return true;
	}

	do {
		if (READ_ONCE(blk->killed) || fatal_signal_pending(current))
			ret = -EIO;
		else if (vhost_blk_gives_up(req))
			ret = -EINTR;
		else
			ret = vhost_blk_step(req);
		cond_resched();
		if (ret > 0 && may_return && vhost_blk_task_should_return())
			return false;
	} while (ret > 0);

	if ((ret == -EINTR || ret == -ERESTARTSYS) && may_return &&
	    signal_pending(current) && !fatal_signal_pending(current))
		return false;
	req->ret = ret;
	req->state = ret ? VHOST_BLK_REQ_FAILED : VHOST_BLK_REQ_ENDED;
	vhost_blk_req_done(req);
	return true;
}

static enum vhost_blk_offload_kind vhost_blk_kind(const struct vhost_blk_req *req)
{
	if (vhost_blk_is_range(req))
		return VHOST_BLK_OFFLOAD_RANGE;
	return req->type == VIRTIO_BLK_T_OUT ? VHOST_BLK_OFFLOAD_WRITE :
					       VHOST_BLK_OFFLOAD_READ;
}

static struct vhost_blk_req *vhost_blk_offload_next(struct vhost_blk_offload *pool)
{
	struct vhost_blk_req *req;
	unsigned int i;

	for (i = 0; i < VHOST_BLK_OFFLOAD_KINDS; i++) {
		if (pool->active[i] >= vhost_blk_offload_limit[i])
			continue;
		req = list_first_entry_or_null(&pool->pending[i],
					       struct vhost_blk_req,
					       offload_node);
		if (req) {
			list_del_init(&req->offload_node);
			pool->active[i]++;
			return req;
		}
	}
	return NULL;
}

/* End a request that no task works on. */
static void vhost_blk_offload_cancel(struct vhost_blk_req *req)
{
	if (req->state == VHOST_BLK_REQ_LATE) {
		/* A killed task does not wait for the page. */
		vhost_blk_io_answer(req, true);
	} else {
		req->ret = -EIO;
		req->state = VHOST_BLK_REQ_ENDED;
	}
	vhost_blk_req_done(req);
}

static bool vhost_blk_offload_work(void *data)
{
	struct vhost_blk_offload_task *task = data;
	struct vhost_blk_offload *pool = task->pool;
	enum vhost_blk_offload_kind kind;
	struct vhost_blk_req *req;
	bool done, killed;

	/* Paired with vhost_blk_offload_create(). */
	if (!smp_load_acquire(&task->ready))
		return false;

	spin_lock(&pool->lock);
	req = vhost_blk_offload_next(pool);
	if (req)
		list_del_init(&task->idle_node);
	else if (list_empty(&task->idle_node))
		list_add(&task->idle_node, &pool->idle);
	spin_unlock(&pool->lock);
	if (!req)
		return false;

	__set_current_state(TASK_RUNNING);
	kind = vhost_blk_kind(req);
	done = vhost_blk_run(req, true);
	spin_lock(&pool->lock);
	pool->active[kind]--;
	killed = pool->killed;
	if (!done && !killed)
		list_add(&req->offload_node, &pool->pending[kind]);
	spin_unlock(&pool->lock);
	if (!done && killed)
		vhost_blk_offload_cancel(req);
	return true;
}

static void vhost_blk_offload_cancel_all(struct vhost_blk_offload *pool)
{
	struct vhost_blk_req *req, *next;
	LIST_HEAD(pending);
	unsigned int i;

	spin_lock(&pool->lock);
	pool->killed = true;
	for (i = 0; i < VHOST_BLK_OFFLOAD_KINDS; i++)
		list_splice_init(&pool->pending[i], &pending);
	spin_unlock(&pool->lock);
	list_for_each_entry_safe(req, next, &pending, offload_node) {
		list_del_init(&req->offload_node);
		vhost_blk_offload_cancel(req);
	}
}

static void vhost_blk_offload_killed(void *data)
{
	struct vhost_blk_offload_task *task = data;

	vhost_blk_offload_cancel_all(task->pool);
}

/* Create a task that pool->nr_tasks counts already. */
static int vhost_blk_offload_create(struct vhost_blk_offload *pool)
{
	struct vhost_blk_offload_task *task;
	char name[TASK_COMM_LEN];
	int err = -EAGAIN;

	task = kzalloc(sizeof(*task), VHOST_BLK_GFP);
	if (!task)
		return -ENOMEM;
	if (atomic_inc_return(&vhost_blk_nr_offload_tasks) >
	    READ_ONCE(vhost_blk_max_offload_tasks))
		goto err_nr;
	task->pool = pool;
	INIT_LIST_HEAD(&task->idle_node);
	snprintf(name, sizeof(name), "vhost-%d-o", task_tgid_nr(current));
	task->task = vhost_blk_task_create(vhost_blk_offload_work,
					   vhost_blk_offload_killed, task,
					   name);
	if (IS_ERR(task->task)) {
		err = PTR_ERR(task->task);
		goto err_nr;
	}
	spin_lock(&pool->lock);
	list_add(&task->node, &pool->tasks);
	spin_unlock(&pool->lock);
	/* After @task->task is set. */
	smp_store_release(&task->ready, true);
	vhost_blk_task_wake(task->task);
	return 0;

err_nr:
	atomic_dec(&vhost_blk_nr_offload_tasks);
	kfree(task);
	return err;
}

/* Without a single task the worker does what is pending. */
static void vhost_blk_offload_inline(struct vhost_blk_offload *pool)
{
	enum vhost_blk_offload_kind kind;
	struct vhost_blk_req *req;

	spin_lock(&pool->lock);
	pool->nr_tasks--;
	while (!pool->nr_tasks && (req = vhost_blk_offload_next(pool))) {
		spin_unlock(&pool->lock);
		kind = vhost_blk_kind(req);
		vhost_blk_run(req, false);
		spin_lock(&pool->lock);
		pool->active[kind]--;
	}
	spin_unlock(&pool->lock);
}

/**
 * vhost_blk_offload - have a task do the rest of a request
 * @req:	the request
 * @state:	what is to be done
 *
 * Context: one of the queue's workers, on the owner's memory unless that is
 *	    gone; may sleep.
 */
void vhost_blk_offload(struct vhost_blk_req *req,
		       enum vhost_blk_req_state state)
{
	struct vhost_blk_offload *pool = &req->q->blk->offload;
	enum vhost_blk_offload_kind kind = vhost_blk_kind(req);
	struct vhost_blk_offload_task *task;
	bool create = false, killed;

	req->state = state;
	spin_lock(&pool->lock);
	WRITE_ONCE(req->q->offloads, req->q->offloads + 1);
	killed = pool->killed;
	if (!killed) {
		list_add_tail(&req->offload_node, &pool->pending[kind]);
		task = list_first_entry_or_null(&pool->idle,
						struct vhost_blk_offload_task,
						idle_node);
		if (task) {
			list_del_init(&task->idle_node);
			vhost_blk_task_wake(task->task);
		} else if (pool->active[kind] < vhost_blk_offload_limit[kind] &&
			   pool->nr_tasks < VHOST_BLK_MAX_OFFLOAD_TASKS) {
			pool->nr_tasks++;
			create = true;
		}
	}
	spin_unlock(&pool->lock);
	if (killed)
		vhost_blk_offload_cancel(req);
	else if (create && vhost_blk_offload_create(pool))
		vhost_blk_offload_inline(pool);
}

/**
 * vhost_blk_offload_init - set up a device's tasks, of which there are none
 * @pool:	them
 */
void vhost_blk_offload_init(struct vhost_blk_offload *pool)
{
	unsigned int i;

	spin_lock_init(&pool->lock);
	for (i = 0; i < VHOST_BLK_OFFLOAD_KINDS; i++)
		INIT_LIST_HEAD(&pool->pending[i]);
	INIT_LIST_HEAD(&pool->tasks);
	INIT_LIST_HEAD(&pool->idle);
}

/**
 * vhost_blk_offload_kill - end what is offloaded as soon as possible
 * @pool:	the device's tasks
 *
 * Context: process context; the owner exits or was killed.
 */
void vhost_blk_offload_kill(struct vhost_blk_offload *pool)
{
	struct vhost_blk_offload_task *task;

	vhost_blk_offload_cancel_all(pool);
	spin_lock(&pool->lock);
	list_for_each_entry(task, &pool->tasks, node)
		vhost_blk_task_kill(task->task);
	spin_unlock(&pool->lock);
}

/**
 * vhost_blk_offload_stop - end the tasks of a device
 * @pool:	the device's tasks; no request is in flight, no worker is running
 *
 * Context: process context; sleeps.
 */
void vhost_blk_offload_stop(struct vhost_blk_offload *pool)
{
	struct vhost_blk_offload_task *task, *next;

	list_for_each_entry_safe(task, next, &pool->tasks, node) {
		vhost_blk_task_stop(task->task);
		/* Others may only now find that there is nothing to do. */
		spin_lock(&pool->lock);
		list_del(&task->idle_node);
		spin_unlock(&pool->lock);
		kfree(task);
		atomic_dec(&vhost_blk_nr_offload_tasks);
	}
	vhost_blk_offload_init(pool);
	pool->nr_tasks = 0;
	pool->killed = false;
}
