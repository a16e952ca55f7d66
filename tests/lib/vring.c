// SPDX-License-Identifier: GPL-2.0
/* A virtio driver in userspace for /dev/vhost-blk. */
#define _GNU_SOURCE
#include "vring.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

uint64_t event_count(int eventfd)
{
	uint64_t count;

	if (read(eventfd, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}

int event_wait(int eventfd, int timeout_ms)
{
	struct pollfd pfd = { .fd = eventfd, .events = POLLIN };

	return poll(&pfd, 1, timeout_ms) == 1 ? 0 : -ETIMEDOUT;
}

int guest_memory_init(struct guest_memory *mem)
{
	memset(mem, 0, sizeof(*mem));
	mem->fd = memfd_create("guest", MFD_CLOEXEC);
	return mem->fd < 0 ? -errno : 0;
}

int guest_memory_add(struct guest_memory *mem, uint64_t gpa, size_t size)
{
	struct guest_region *region = &mem->region[mem->nregions];
	char *host;

	if (mem->nregions == GUEST_REGIONS_MAX)
		return -ENOSPC;
	if (ftruncate(mem->fd, mem->size + size))
		return -errno;
	host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, mem->fd, mem->size);
	if (host == MAP_FAILED)
		return -errno;
	mem->size += size;
	region->gpa = gpa;
	region->size = size;
	region->host = host;
	region->used = 0;
	return mem->nregions++;
}

void guest_memory_free(struct guest_memory *mem)
{
	unsigned int i;

	for (i = 0; i < mem->nregions; i++)
		munmap(mem->region[i].host, mem->region[i].size);
	if (mem->fd >= 0)
		close(mem->fd);
	mem->nregions = 0;
	mem->fd = -1;
}

void *guest_alloc(struct guest_memory *mem, unsigned int region, size_t size, size_t align)
{
	struct guest_region *r = &mem->region[region];
	size_t start = (r->used + align - 1) / align * align;

	if (start + size > r->size)
		return NULL;
	r->used = start + size;
	return r->host + start;
}

uint64_t guest_address(const struct guest_memory *mem, const void *host)
{
	const char *p = host;
	unsigned int i;

	for (i = 0; i < mem->nregions; i++) {
		const struct guest_region *r = &mem->region[i];

		if (p >= r->host && p < r->host + r->size)
			return r->gpa + (p - r->host);
	}
	return UINT64_MAX;
}

static int vhost_call(struct vhost_blk *dev, unsigned long request, void *arg)
{
	if (dev->call)
		return dev->call(dev, request, arg);
	return ioctl(dev->fd, request, arg) < 0 ? -errno : 0;
}

int vhost_blk_set_memory(struct vhost_blk *dev)
{
	struct guest_memory *mem = dev->mem;
	struct vhost_memory *table;
	unsigned int i;
	int ret;

	table = calloc(1, sizeof(*table) + mem->nregions * sizeof(table->regions[0]));
	if (!table)
		return -ENOMEM;
	table->nregions = mem->nregions;
	for (i = 0; i < mem->nregions; i++) {
		table->regions[i].guest_phys_addr = mem->region[i].gpa;
		table->regions[i].memory_size = mem->region[i].size;
		table->regions[i].userspace_addr = (uintptr_t)mem->region[i].host;
	}
	ret = vhost_call(dev, VHOST_SET_MEM_TABLE, table);
	free(table);
	return ret;
}

int vhost_blk_setup(struct vhost_blk *dev)
{
	int ret = vhost_call(dev, VHOST_SET_OWNER, NULL);

	if (!ret)
		ret = vhost_call(dev, VHOST_SET_FEATURES, &dev->features);
	return ret ? ret : vhost_blk_set_memory(dev);
}

int vhost_blk_open(struct vhost_blk *dev, struct guest_memory *mem, uint64_t features)
{
	int ret;

	dev->mem = mem;
	dev->features = features;
	dev->call = NULL;
	dev->fd = open(VHOST_BLK_DEVICE, O_RDWR | O_CLOEXEC);
	if (dev->fd < 0)
		return -errno;
	ret = vhost_blk_setup(dev);
	if (ret)
		vhost_blk_close(dev);
	return ret;
}

int vhost_blk_attach(struct vhost_blk *dev, int backend)
{
	struct vhost_vring_file file = { .index = 0, .fd = backend };

	return ioctl(dev->fd, VHOST_BLK_SET_BACKEND, &file) ? -errno : 0;
}

int vhost_blk_detach(struct vhost_blk *dev)
{
	return vhost_blk_attach(dev, VHOST_FILE_UNBIND);
}

/* Count the tasks, kernel threads and threads of processes, whose names match a pattern. */
static int find_tasks(const char *pattern, pid_t *last)
{
	char comm[64];
	int nr = 0;
	size_t i;
	FILE *f;
	glob_t found;

	if (glob("/proc/[1-9]*/task/*/comm", GLOB_NOSORT, NULL, &found))
		return -ENOENT;
	for (i = 0; i < found.gl_pathc; i++) {
		f = fopen(found.gl_pathv[i], "re");
		if (!f)
			continue;
		if (fscanf(f, "%63[^\n]", comm) == 1 && !fnmatch(pattern, comm, 0)) {
			*last = atoi(strstr(found.gl_pathv[i], "/task/") + strlen("/task/"));
			nr++;
		}
		fclose(f);
	}
	globfree(&found);
	return nr;
}

static int count_tasks(pid_t pid, const char *roles)
{
	char pattern[32];
	pid_t last;

	if (pid)
		snprintf(pattern, sizeof(pattern), "vhost-%d-[%s]*", pid, roles);
	else
		snprintf(pattern, sizeof(pattern), "vhost-*-[%s]*", roles);
	return find_tasks(pattern, &last);
}

int worker_count(pid_t pid)
{
	return count_tasks(pid, "sc");
}

int offload_count(pid_t pid)
{
	return count_tasks(pid, "o");
}

pid_t worker_pid(pid_t pid, char role, unsigned int queue)
{
	pid_t worker;
	char name[32];

	snprintf(name, sizeof(name), "vhost-%d-%c%u", pid, role, queue);
	return find_tasks(name, &worker) == 1 ? worker : -ESRCH;
}

void vhost_blk_close(struct vhost_blk *dev)
{
	if (dev->fd >= 0)
		close(dev->fd);
	dev->fd = -1;
}

/* Return the address of a part of a ring that the device uses. */
static uint64_t vq_device_address(const struct vq *vq, const void *part)
{
	if (vq->dev->features & (1ULL << VIRTIO_F_ACCESS_PLATFORM))
		return guest_address(vq->dev->mem, part);
	return (uintptr_t)part;
}

static int vq_tell(struct vq *vq, uint16_t base)
{
	struct vhost_vring_state state = { .index = vq->index, .num = vq->num };
	struct vhost_vring_addr addr = {
		.index = vq->index,
		.desc_user_addr = vq_device_address(vq, vq->desc),
		.avail_user_addr = vq_device_address(vq, vq->avail),
		.used_user_addr = vq_device_address(vq, vq->used),
	};
	struct vhost_vring_file file = { .index = vq->index };
	struct vhost_blk *dev = vq->dev;
	int ret;

	ret = vhost_call(dev, VHOST_SET_VRING_NUM, &state);
	if (ret)
		return ret;
	state.num = base;
	ret = vhost_call(dev, VHOST_SET_VRING_BASE, &state);
	if (ret)
		return ret;
	ret = vhost_call(dev, VHOST_SET_VRING_ADDR, &addr);
	if (ret)
		return ret;
	file.fd = vq->call;
	ret = vhost_call(dev, VHOST_SET_VRING_CALL, &file);
	if (ret)
		return ret;
	file.fd = vq->err;
	ret = vhost_call(dev, VHOST_SET_VRING_ERR, &file);
	if (ret)
		return ret;
	file.fd = vq->kick;
	return vhost_call(dev, VHOST_SET_VRING_KICK, &file);
}

int vq_restart(struct vq *vq, uint16_t base)
{
	unsigned int i;

	memset(vq->desc, 0, vq->num * sizeof(*vq->desc));
	vq->avail->flags = 0;
	vq->avail->idx = base;
	*vq_used_event_word(vq) = base;
	vq->used->flags = 0;
	vq->used->idx = base;
	*vq_avail_event_word(vq) = base;
	vq->avail_idx = base;
	vq->told_idx = base;
	vq->used_idx = base;

	vq->nr_free = vq->num;
	vq->free_head = 0;
	for (i = 0; i < vq->num; i++) {
		vq->next[i] = i + 1;
		vq->cookie[i] = NULL;
	}
	event_count(vq->kick);
	event_count(vq->call);
	event_count(vq->err);
	return vq_tell(vq, base);
}

int vq_setup(struct vq *vq, struct vhost_blk *dev, unsigned int index, unsigned int num)
{
	struct guest_memory *mem = dev->mem;
	size_t used_size = 3 * sizeof(__virtio16) + num * sizeof(vq->used->ring[0]);

	/* The used ring shares no page, for the dirty log and for unmapped pages. */
	used_size = (used_size + PAGE - 1) / PAGE * PAGE;
	memset(vq, 0, sizeof(*vq));
	vq->dev = dev;
	vq->index = index;
	vq->num = num;
	vq->event_idx = dev->features & (1ULL << VIRTIO_RING_F_EVENT_IDX);
	vq->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vq->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vq->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vq->next = calloc(num, sizeof(*vq->next));
	vq->cookie = calloc(num, sizeof(*vq->cookie));
	vq->desc = guest_alloc(mem, 0, num * sizeof(*vq->desc), PAGE);
	vq->avail = guest_alloc(mem, 0, (3 + num) * sizeof(__virtio16), VRING_AVAIL_ALIGN_SIZE);
	vq->used = guest_alloc(mem, 0, used_size, PAGE);
	if (vq->kick < 0 || vq->call < 0 || vq->err < 0)
		return -EMFILE;
	if (!vq->next || !vq->cookie || !vq->desc || !vq->avail || !vq->used)
		return -ENOMEM;
	return vq_restart(vq, 0);
}

void vq_free(struct vq *vq)
{
	if (!vq->dev)
		return;
	close(vq->kick);
	close(vq->call);
	close(vq->err);
	free(vq->next);
	free(vq->cookie);
	vq->dev = NULL;
}

int vq_get_base(struct vq *vq)
{
	struct vhost_vring_state state = { .index = vq->index };

	if (ioctl(vq->dev->fd, VHOST_GET_VRING_BASE, &state))
		return -errno;
	return state.num;
}

void vq_push(struct vq *vq, uint16_t head)
{
	vq->avail->ring[vq->avail_idx++ & (vq->num - 1)] = head;
}

int vq_add(struct vq *vq, const struct vq_segment *segment, unsigned int nr_out,
	   unsigned int nr_in, void *cookie)
{
	unsigned int i, nr = nr_out + nr_in;
	uint16_t head = vq->free_head, d = head, last = head;

	if (nr > vq->nr_free)
		return -ENOSPC;
	for (i = 0; i < nr; i++) {
		struct vring_desc *desc = &vq->desc[d];

		desc->addr = segment[i].addr;
		desc->len = segment[i].len;
		desc->flags = (i >= nr_out ? VRING_DESC_F_WRITE : 0) |
			      (i + 1 < nr ? VRING_DESC_F_NEXT : 0);
		desc->next = vq->next[d];
		last = d;
		d = vq->next[d];
	}
	vq->free_head = d;
	vq->next[last] = UINT16_MAX;
	vq->nr_free -= nr;
	vq->cookie[head] = cookie;
	vq_push(vq, head);
	return head;
}

int vq_add_indirect(struct vq *vq, struct vring_desc *table,
		    const struct vq_segment *segment, unsigned int nr_out,
		    unsigned int nr_in, void *cookie)
{
	unsigned int i, nr = nr_out + nr_in;
	uint16_t head = vq->free_head;

	if (!vq->nr_free)
		return -ENOSPC;
	for (i = 0; i < nr; i++) {
		table[i].addr = segment[i].addr;
		table[i].len = segment[i].len;
		table[i].flags = (i >= nr_out ? VRING_DESC_F_WRITE : 0) |
				 (i + 1 < nr ? VRING_DESC_F_NEXT : 0);
		table[i].next = i + 1;
	}
	vq->desc[head].addr = guest_address(vq->dev->mem, table);
	vq->desc[head].len = nr * sizeof(*table);
	vq->desc[head].flags = VRING_DESC_F_INDIRECT;
	vq->desc[head].next = 0;
	vq->free_head = vq->next[head];
	vq->next[head] = UINT16_MAX;
	vq->nr_free--;
	vq->cookie[head] = cookie;
	vq_push(vq, head);
	return head;
}

void vq_publish(struct vq *vq)
{
	__atomic_store_n(&vq->avail->idx, vq->avail_idx, __ATOMIC_RELEASE);
}

bool vq_kick_wanted(struct vq *vq)
{
	uint16_t old = vq->told_idx;

	vq->told_idx = vq->avail_idx;
	/* The index must be visible before the device's notification suppression is read. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (vq->event_idx)
		return vring_need_event(*vq_avail_event_word(vq), vq->avail_idx, old);
	return !(__atomic_load_n(&vq->used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
}

int vq_kick(struct vq *vq)
{
	uint64_t one = 1;

	return write(vq->kick, &one, sizeof(one)) == sizeof(one) ? 0 : -errno;
}

void vq_submit(struct vq *vq)
{
	vq_publish(vq);
	if (vq_kick_wanted(vq))
		vq_kick(vq);
}

void vq_add_used(struct vq *vq, uint16_t head, uint32_t len)
{
	uint16_t idx = vq_used_idx(vq);

	vq->used->ring[idx & (vq->num - 1)] = (struct vring_used_elem){ .id = head, .len = len };
	__atomic_store_n(&vq->used->idx, idx + 1, __ATOMIC_RELEASE);
}

uint16_t vq_used_idx(const struct vq *vq)
{
	return __atomic_load_n(&vq->used->idx, __ATOMIC_ACQUIRE);
}

static void vq_release(struct vq *vq, uint16_t head)
{
	uint16_t last = head;

	vq->nr_free++;
	while (vq->next[last] != UINT16_MAX) {
		last = vq->next[last];
		vq->nr_free++;
	}
	vq->next[last] = vq->free_head;
	vq->free_head = head;
}

bool vq_take(struct vq *vq, struct vring_used_elem *elem, void **cookie)
{
	if (vq->used_idx == vq_used_idx(vq))
		return false;
	*elem = vq->used->ring[vq->used_idx++ & (vq->num - 1)];
	*cookie = elem->id < vq->num ? vq->cookie[elem->id] : NULL;
	if (*cookie) {
		vq->cookie[elem->id] = NULL;
		vq_release(vq, elem->id);
	}
	return true;
}

int vq_wait(struct vq *vq, int timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;

	for (;;) {
		int64_t left = end - now_ms();

		if (vq->event_idx)
			*vq_used_event_word(vq) = vq->used_idx;
		/* The event index must be visible before the used index is read. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (vq->used_idx != vq_used_idx(vq))
			return 0;
		if (left <= 0 || event_wait(vq->call, left))
			return -ETIMEDOUT;
		event_count(vq->call);
	}
}
