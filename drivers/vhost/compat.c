// SPDX-License-Identifier: GPL-2.0
/*
 * vhost-blk tasks: threads that work for the owner of a device.
 *
 * From Linux 6.10 on they are vhost_tasks, threads of the owner's process.
 * Older kernels have no vhost_task, or one without a callback for SIGKILL;
 * there they are kernel threads that join the owner's cgroups, act with its
 * credentials, and borrow its memory for a stretch of work.
 */

#include <linux/cgroup.h>
#include <linux/completion.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <uapi/linux/sched/types.h>

#include "compat.h"

/*
 * The thread that attaches a backend may be a virtual CPU, which managers place
 * by cgroups of their own.  Tasks have what the main thread has.
 */
static void vhost_blk_task_join(struct task_struct *leader)
{
	struct sched_attr attr = {
		.size = sizeof(attr),
		.sched_policy = SCHED_NORMAL,
		.sched_nice = task_nice(leader),
		.sched_priority = leader->rt_priority,
	};

#ifdef CONFIG_CGROUPS
	/* Attaching takes locks of all cgroups, so only where they differ. */
	if (rcu_access_pointer(current->cgroups) !=
	    rcu_access_pointer(leader->cgroups) &&
	    cgroup_attach_task_all(leader, current))
		pr_debug("vhost-blk: a task stays in the cgroups of its creator\n");
#endif
	set_cpus_allowed_ptr(current, &leader->cpus_mask);
	if (leader->policy != SCHED_DEADLINE)
		attr.sched_policy = leader->policy;
	sched_setattr_nocheck(current, &attr);
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)

#include <linux/memcontrol.h>
#include <linux/sched/vhost_task.h>

struct vhost_blk_task {
	struct vhost_task *vtsk;
	bool (*fn)(void *data);
	void (*killed)(void *data);
	void *data;
	pid_t tid;
	bool exits;
	struct completion joined;
};

static bool vhost_blk_task_fn(void *data)
{
	struct vhost_blk_task *task = data;

	if (likely(task->tid)) {
		/*
		 * Work that is due on the way to user mode, such as the limit of
		 * cpu.max, is done where the task handles signals.
		 */
		if (unlikely(test_and_clear_thread_flag(TIF_NOTIFY_RESUME))) {
			__set_current_state(TASK_RUNNING);
			set_thread_flag(TIF_NOTIFY_SIGNAL);
			return true;
		}
		return task->fn(task->data);
	}

	__set_current_state(TASK_RUNNING);
	vhost_blk_task_join(current->group_leader);
	task->tid = task_pid_vnr(current);
	complete(&task->joined);
	return true;
}

static void vhost_blk_task_killed(void *data)
{
	struct vhost_blk_task *task = data;

	complete(&task->joined);
	task->killed(task->data);
	WRITE_ONCE(task->exits, true);
}

/*
 * Creates the thread without charging the owner for it, as is usual for a kernel
 * thread: an owner at the limit of its memory would be killed for a request.
 */
static struct vhost_task *vhost_blk_task_thread(struct vhost_blk_task *task,
						const char *name)
{
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(current->mm);
	struct mem_cgroup *root = memcg, *old;
	struct vhost_task *vtsk;

	while (root && parent_mem_cgroup(root))
		root = parent_mem_cgroup(root);
	old = set_active_memcg(root);
	vtsk = vhost_task_create(vhost_blk_task_fn, vhost_blk_task_killed, task,
				 name);
	set_active_memcg(old);
	mem_cgroup_put(memcg);
	return vtsk;
}

/**
 * vhost_blk_task_create - create and start a task of the owner
 * @fn:		does work that there is, or returns false; called again after it
 *		returned true, and after each wake-up; sets TASK_RUNNING before
 *		it works
 * @killed:	called in place of @fn once the owner is killed or its memory is
 *		gone; may sleep
 * @data:	argument of both
 * @name:	of the thread
 *
 * Context: process context of the owner, or one of its tasks.
 * Return: the task or an error pointer.
 */
struct vhost_blk_task *vhost_blk_task_create(bool (*fn)(void *data),
					     void (*killed)(void *data),
					     void *data, const char *name)
{
	struct vhost_blk_task *task = kzalloc(sizeof(*task), VHOST_BLK_GFP);
	struct vhost_task *vtsk;

	if (!task)
		return ERR_PTR(-ENOMEM);
	task->fn = fn;
	task->killed = killed;
	task->data = data;
	init_completion(&task->joined);
	vtsk = vhost_blk_task_thread(task, name);
	/* NULL before Linux 6.14. */
	if (IS_ERR_OR_NULL(vtsk)) {
		kfree(task);
		if (vtsk)
			return ERR_CAST(vtsk);
		return ERR_PTR(signal_pending(current) ? -ERESTARTNOINTR :
							 -EAGAIN);
	}
	task->vtsk = vtsk;
	vhost_task_start(vtsk);
	/* What the owner changes from here on is the task's own. */
	wait_for_completion(&task->joined);
	return task;
}

/**
 * vhost_blk_task_wake - have a task call its function
 * @task:	the task
 *
 * Context: any.
 */
void vhost_blk_task_wake(struct vhost_blk_task *task)
{
	/* A thread is freed a grace period after its exit at the earliest. */
	rcu_read_lock();
	if (!READ_ONCE(task->exits))
		vhost_task_wake(task->vtsk);
	rcu_read_unlock();
}

/**
 * vhost_blk_task_should_return - whether a task's function has to return soon
 *
 * Context: the task.
 * Return: true if there is a signal or other work that the function's caller
 *	   handles.  The function returns true then, to be called again.
 */
bool vhost_blk_task_should_return(void)
{
	return signal_pending(current) || test_thread_flag(TIF_NOTIFY_RESUME);
}

/**
 * vhost_blk_task_kill - end the killable waits of a task
 * @task:	the task
 *
 * Context: the owner exits or was killed.
 */
void vhost_blk_task_kill(struct vhost_blk_task *task)
{
	/* A signal that killed the owner has killed its tasks as well. */
}

/**
 * vhost_blk_task_stop - end a task and wait for it
 * @task:	the task; freed
 *
 * Context: process context; sleeps.  Nobody wakes the task any more.
 */
void vhost_blk_task_stop(struct vhost_blk_task *task)
{
	vhost_task_stop(task->vtsk);
	kfree(task);
}

/**
 * vhost_blk_task_tid - the thread id of a task in its process
 * @task:	the task
 *
 * Return: the id; 0 for a kernel thread.
 */
pid_t vhost_blk_task_tid(struct vhost_blk_task *task)
{
	return task->tid;
}

#else /* kernel threads */

#include <linux/cred.h>
#include <linux/kthread.h>
#include <linux/memcontrol.h>

/* How long a task keeps the owner's memory that always finds work. */
#define VHOST_BLK_TASK_MM_JIFFIES	(HZ / 10)

struct vhost_blk_task {
	struct task_struct *thread;
	bool (*fn)(void *data);
	void (*killed)(void *data);
	void *data;
	bool woken;
	struct task_struct *leader;
	struct completion joined;
	struct mm_struct *mm;
	const struct cred *cred;
	struct cgroup_subsys_state *blkcg_css;
	struct mem_cgroup *memcg;
};

static struct cgroup_subsys_state *vhost_blk_get_blkcg(void)
{
#ifdef CONFIG_BLK_CGROUP
	return task_get_css(current->group_leader, io_cgrp_id);
#else
	return NULL;
#endif
}

static void vhost_blk_task_free(struct vhost_blk_task *task)
{
	mem_cgroup_put(task->memcg);
	if (task->blkcg_css)
		css_put(task->blkcg_css);
	put_cred(task->cred);
	mmdrop(task->mm);
	kfree(task);
}

/* Works until there is nothing to do; false if the owner's memory is gone. */
static bool vhost_blk_task_work(struct vhost_blk_task *task)
{
	unsigned long end = jiffies + VHOST_BLK_TASK_MM_JIFFIES;

	if (!mmget_not_zero(task->mm))
		return false;
	kthread_use_mm(task->mm);
	while (task->fn(task->data)) {
		if (time_after(jiffies, end)) {
			WRITE_ONCE(task->woken, true);
			break;
		}
		cond_resched();
	}
	kthread_unuse_mm(task->mm);
	mmput(task->mm);
	return true;
}

static int vhost_blk_task_thread(void *data)
{
	struct vhost_blk_task *task = data;
	const struct cred *cred;
	bool alive = true;

	/* Moving another thread between cpusets would take CAP_SYS_NICE. */
	vhost_blk_task_join(task->leader);
	complete(&task->joined);
	allow_signal(SIGKILL);
	kthread_associate_blkcg(task->blkcg_css);
	set_active_memcg(task->memcg);
	cred = override_creds(task->cred);
	for (;;) {
		set_current_state(TASK_IDLE);
		if (!READ_ONCE(task->woken)) {
			if (kthread_should_stop())
				break;
			schedule();
			continue;
		}
		__set_current_state(TASK_RUNNING);
		/* Cleared before the function looks for work. */
		xchg(&task->woken, false);
		if (alive && !vhost_blk_task_work(task)) {
			alive = false;
			task->killed(task->data);
		}
	}
	__set_current_state(TASK_RUNNING);
	revert_creds(cred);
	set_active_memcg(NULL);
	kthread_associate_blkcg(NULL);
	return 0;
}

struct vhost_blk_task *vhost_blk_task_create(bool (*fn)(void *data),
					     void (*killed)(void *data),
					     void *data, const char *name)
{
	struct vhost_blk_task *task = kzalloc(sizeof(*task), VHOST_BLK_GFP);
	struct task_struct *thread;

	if (!task)
		return ERR_PTR(-ENOMEM);
	task->fn = fn;
	task->killed = killed;
	task->data = data;
	task->woken = true;
	task->leader = current->group_leader;
	init_completion(&task->joined);
	task->mm = current->mm;
	mmgrab(task->mm);
	task->cred = get_current_cred();
	task->blkcg_css = vhost_blk_get_blkcg();
	task->memcg = get_mem_cgroup_from_mm(task->mm);
	thread = kthread_create(vhost_blk_task_thread, task, "%s", name);
	if (IS_ERR(thread)) {
		vhost_blk_task_free(task);
		return ERR_CAST(thread);
	}
	task->thread = get_task_struct(thread);
	wake_up_process(thread);
	wait_for_completion(&task->joined);
	return task;
}

void vhost_blk_task_wake(struct vhost_blk_task *task)
{
	/* Set before the task is found asleep, or it sees this. */
	smp_store_mb(task->woken, true);
	wake_up_process(task->thread);
}

bool vhost_blk_task_should_return(void)
{
	return signal_pending(current);
}

void vhost_blk_task_kill(struct vhost_blk_task *task)
{
	send_sig(SIGKILL, task->thread, 1);
}

void vhost_blk_task_stop(struct vhost_blk_task *task)
{
	kthread_stop(task->thread);
	put_task_struct(task->thread);
	vhost_blk_task_free(task);
}

pid_t vhost_blk_task_tid(struct vhost_blk_task *task)
{
	return 0;
}

#endif
