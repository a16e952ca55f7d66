// SPDX-License-Identifier: GPL-2.0
/*
 * fio engine: the driver's side of a virtio-blk device. Each job has a
 * virtqueue, of /dev/vhost-blk with the job's file as the disk, or of a
 * vhost-user device with the same disk.
 *
 *   ioengine=external:build/bench/vhost.so
 *   queues=N	so many jobs share one device; more than one need "thread"
 *   poll_us=N	how long the worker of /dev/vhost-blk polls
 *   pin=N	how much memory it keeps pinned for each queue
 *   socket=F	where the vhost-user device listens
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "fio.h"
#include "optgroup.h"

#include "blk.h"
#include "vhost_user.h"

#define QUEUE_SIZE	256
#define QUEUES_MAX	16
#define RINGS_SIZE	(4u << 20)
#define TIMEOUT_MS	60000
/* Header, data and status, as a guest's driver has them. */
#define TABLE_SIZE	3
#define FEATURES	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX | \
			 1ULL << VIRTIO_RING_F_INDIRECT_DESC)

struct vhost_options {
	void *pad;	/* an offset of 0 would mean no option */
	unsigned int queues;
	unsigned int poll_us;
	unsigned long long pin;
	char *socket;
};

struct slot {
	struct blk_request req;
	struct io_u *io_u;
};

struct job {
	struct vq vq;
	struct slot *slot;	/* by the index of the io_u */
	struct io_u **event;
	unsigned int depth;
	unsigned int added;	/* since the last commit */
	char *data;
	uint64_t data_gpa;
};

/* The device, which all jobs of a process share. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t started_or_failed;
	struct guest_memory mem;
	struct vhost_blk dev;
	struct job *job[QUEUES_MAX];
	unsigned int nr_jobs;
	unsigned int nr_ready;
	bool started;
	bool attached;
	int error;
} shared = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.started_or_failed = PTHREAD_COND_INITIALIZER,
	.dev.fd = -1,
};

static struct fio_option options[] = {
	{
		.name = "queues",
		.lname = "Queues of the device",
		.type = FIO_OPT_INT,
		.off1 = offsetof(struct vhost_options, queues),
		.def = "1",
		.minval = 1,
		.maxval = QUEUES_MAX,
		.help = "Jobs that share one device, a queue for each",
		.category = FIO_OPT_C_ENGINE,
		.group = FIO_OPT_G_INVALID,
	},
	{
		.name = "poll_us",
		.lname = "Time to poll",
		.type = FIO_OPT_INT,
		.off1 = offsetof(struct vhost_options, poll_us),
		.def = "0",
		.help = "Microseconds for which " VHOST_BLK_DEVICE " polls an empty ring",
		.category = FIO_OPT_C_ENGINE,
		.group = FIO_OPT_G_INVALID,
	},
	{
		.name = "pin",
		.lname = "Pinned memory",
		.type = FIO_OPT_STR_VAL,
		.off1 = offsetof(struct vhost_options, pin),
		.def = "0",
		.help = "Bytes that each queue of " VHOST_BLK_DEVICE " keeps pinned",
		.category = FIO_OPT_C_ENGINE,
		.group = FIO_OPT_G_INVALID,
	},
	{
		.name = "socket",
		.lname = "Socket of a vhost-user device",
		.type = FIO_OPT_STR_STORE,
		.off1 = offsetof(struct vhost_options, socket),
		.help = "Drive this device instead of " VHOST_BLK_DEVICE,
		.category = FIO_OPT_C_ENGINE,
		.group = FIO_OPT_G_INVALID,
	},
	{ .name = NULL },
};

static void free_job(struct job *job)
{
	vq_free(&job->vq);
	free(job->slot);
	free(job->event);
	free(job);
}

static struct job *new_job(unsigned int depth)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->depth = depth;
	job->slot = calloc(depth, sizeof(*job->slot));
	job->event = calloc(depth, sizeof(*job->event));
	if (!job->slot || !job->event) {
		free_job(job);
		return NULL;
	}
	return job;
}

/* The first job brings the memory of the rings. */
static int add_job(struct job *job, unsigned int queues)
{
	int ret;

	if (shared.nr_jobs == queues)
		return -EBUSY;
	if (!shared.nr_jobs) {
		ret = guest_memory_init(&shared.mem);
		if (ret)
			return ret;
		ret = guest_memory_add(&shared.mem, 0, RINGS_SIZE);
		if (ret < 0) {
			guest_memory_free(&shared.mem);
			return ret;
		}
	}
	shared.job[shared.nr_jobs++] = job;
	return 0;
}

static int ring_init(struct thread_data *td)
{
	struct vhost_options *o = td->eo;
	struct job *job;
	int ret;

	if (o->queues > 1 && !td->o.use_thread) {
		log_err("vhost: queues of one device need the option thread\n");
		return 1;
	}
	job = new_job(td->o.iodepth);
	if (!job)
		return 1;
	pthread_mutex_lock(&shared.lock);
	ret = add_job(job, o->queues);
	pthread_mutex_unlock(&shared.lock);
	if (ret) {
		log_err("vhost: one more job for %u queues: %s\n", o->queues, strerror(-ret));
		free_job(job);
		return 1;
	}
	td->io_ops_data = job;
	return 0;
}

static int ring_iomem_alloc(struct thread_data *td, size_t size)
{
	struct job *job = td->io_ops_data;
	struct guest_memory *mem = &shared.mem;
	int region;

	pthread_mutex_lock(&shared.lock);
	size = (size + page_mask) & ~page_mask;
	region = guest_memory_add(mem, mem->size, size);
	if (region >= 0) {
		job->data = mem->region[region].host;
		job->data_gpa = mem->region[region].gpa;
		td->orig_buffer = job->data;
	}
	pthread_mutex_unlock(&shared.lock);
	return region < 0;
}

/* The memory is freed with the device. */
static void ring_iomem_free(struct thread_data *td)
{
	td->orig_buffer = NULL;
}

static int setup_job(struct job *job, unsigned int index, unsigned int poll_us)
{
	struct vhost_vring_state busyloop = { .index = index, .num = poll_us };
	unsigned int i;
	int ret;

	ret = vq_setup(&job->vq, &shared.dev, index, QUEUE_SIZE);
	for (i = 0; !ret && i < job->depth; i++)
		ret = blk_request_init(&job->slot[i].req, &job->vq, TABLE_SIZE);
	if (!ret && poll_us && ioctl(shared.dev.fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &busyloop))
		ret = -errno;
	return ret;
}

static int start(const struct vhost_options *o)
{
	struct vhost_blk_pin_limit limit = { .bytes = o->pin };
	unsigned int i;
	int ret;

	if (o->socket)
		ret = vhost_user_open(&shared.dev, &shared.mem, FEATURES, o->socket);
	else
		ret = vhost_blk_open(&shared.dev, &shared.mem, FEATURES);
	if (!ret && o->pin && ioctl(shared.dev.fd, VHOST_BLK_SET_PIN_LIMIT, &limit))
		ret = -errno;
	for (i = 0; !ret && i < shared.nr_jobs; i++)
		ret = setup_job(shared.job[i], i, o->poll_us);
	return ret;
}

/* Memory and queues must be known before the device starts: the last job to get here starts it. */
static int ring_post_init(struct thread_data *td)
{
	struct vhost_options *o = td->eo;
	struct timespec end;
	int ret;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += TIMEOUT_MS / 1000;

	pthread_mutex_lock(&shared.lock);
	if (++shared.nr_ready == o->queues) {
		shared.error = start(o);
		shared.started = true;
		pthread_cond_broadcast(&shared.started_or_failed);
	}
	ret = 0;
	while (!shared.started && !ret)
		ret = -pthread_cond_timedwait(&shared.started_or_failed, &shared.lock, &end);
	if (!ret)
		ret = shared.error;
	pthread_mutex_unlock(&shared.lock);
	if (ret)
		log_err("vhost: start of the device: %s\n", strerror(-ret));
	return ret != 0;
}

static int ring_open_file(struct thread_data *td, struct fio_file *f)
{
	struct vhost_options *o = td->eo;
	int ret = generic_open_file(td, f);

	if (ret || o->socket)
		return ret;
	pthread_mutex_lock(&shared.lock);
	/* fio opens files for their size before anything starts. */
	if (shared.started && !shared.attached) {
		ret = vhost_blk_attach(&shared.dev, f->fd);
		shared.attached = !ret;
	}
	pthread_mutex_unlock(&shared.lock);
	if (ret)
		td_verror(td, -ret, "VHOST_BLK_SET_BACKEND");
	return ret != 0;
}

static void ring_cleanup(struct thread_data *td)
{
	struct job *job = td->io_ops_data;

	if (!job)
		return;
	pthread_mutex_lock(&shared.lock);
	if (!--shared.nr_jobs) {
		vhost_blk_close(&shared.dev);
		guest_memory_free(&shared.mem);
	}
	pthread_mutex_unlock(&shared.lock);
	free_job(job);
}

static enum fio_q_status ring_queue(struct thread_data *td, struct io_u *io_u)
{
	struct job *job = td->io_ops_data;
	struct slot *slot = &job->slot[io_u->index];
	struct vq_segment data = { .len = io_u->xfer_buflen };
	uint64_t sector = io_u->offset / SECTOR_SIZE;
	uint32_t type;
	int ret;

	fio_ro_check(td, io_u);

	data.addr = job->data_gpa + ((char *)io_u->xfer_buf - job->data);
	switch (io_u->ddir) {
	case DDIR_READ:
		type = VIRTIO_BLK_T_IN;
		break;
	case DDIR_WRITE:
		type = VIRTIO_BLK_T_OUT;
		break;
	case DDIR_SYNC:
	case DDIR_DATASYNC:
		type = VIRTIO_BLK_T_FLUSH;
		sector = 0;
		break;
	default:
		io_u->error = EOPNOTSUPP;
		return FIO_Q_COMPLETED;
	}
	ret = blk_add(&slot->req, type, sector, &data, type != VIRTIO_BLK_T_FLUSH);
	if (ret == -ENOSPC)
		return FIO_Q_BUSY;
	slot->io_u = io_u;
	job->added++;
	return FIO_Q_QUEUED;
}

static int ring_commit(struct thread_data *td)
{
	struct job *job = td->io_ops_data;

	if (!job->added)
		return 0;
	vq_submit(&job->vq);
	io_u_mark_submit(td, job->added);
	job->added = 0;
	return 0;
}

static int ring_getevents(struct thread_data *td, unsigned int min, unsigned int max,
			  const struct timespec *t)
{
	struct job *job = td->io_ops_data;
	int timeout_ms = t ? t->tv_sec * 1000 + t->tv_nsec / 1000000 : TIMEOUT_MS;
	unsigned int n = 0;

	for (;;) {
		struct vring_used_elem elem;
		void *cookie;
		int ret;

		while (n < max && vq_take(&job->vq, &elem, &cookie)) {
			struct slot *slot = cookie;	/* its request comes first */

			if (!slot)
				return -EIO;
			slot->io_u->error = *slot->req.status == VIRTIO_BLK_S_OK ? 0 : EIO;
			job->event[n++] = slot->io_u;
		}
		if (n >= min)
			return n;
		ret = vq_wait(&job->vq, timeout_ms);
		if (ret)
			return t ? (int)n : ret;
	}
}

static struct io_u *ring_event(struct thread_data *td, int event)
{
	struct job *job = td->io_ops_data;

	return job->event[event];
}

struct ioengine_ops ioengine = {
	.name = "vhost",
	.version = FIO_IOOPS_VERSION,
	.flags = FIO_RAWIO | FIO_MEMALIGN | FIO_NOEXTEND,
	.init = ring_init,
	.post_init = ring_post_init,
	.cleanup = ring_cleanup,
	.iomem_alloc = ring_iomem_alloc,
	.iomem_free = ring_iomem_free,
	.open_file = ring_open_file,
	.close_file = generic_close_file,
	.get_file_size = generic_get_file_size,
	.queue = ring_queue,
	.commit = ring_commit,
	.getevents = ring_getevents,
	.event = ring_event,
	.options = options,
	.option_struct_size = sizeof(struct vhost_options),
};
