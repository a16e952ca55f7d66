// SPDX-License-Identifier: GPL-2.0
/* The driver's side of vhost-user: the ioctls of a vhost device, sent as messages. */
#define _GNU_SOURCE
#include "vhost_user.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FLAGS_VERSION	1
#define FLAGS_REPLY	(1 << 2)
#define REGIONS_MAX	8	/* all that a device must be able to map */

enum request {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	SET_VRING_ERR = 14,
};

struct region {
	uint64_t gpa;
	uint64_t size;
	uint64_t address;	/* in this process */
	uint64_t offset;	/* in the file */
};

struct message {
	uint32_t request;
	uint32_t flags;
	uint32_t size;	/* of the payload */
	union {
		uint64_t u64;
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct {
			uint32_t nregions;
			uint32_t padding;
			struct region region[REGIONS_MAX];
		} memory;
	} payload;
} __attribute__((packed));

#define HEADER_SIZE	offsetof(struct message, payload)

static int send_message(struct vhost_blk *dev, struct message *m, uint32_t request,
			uint32_t size, const int *fds, unsigned int nr_fds)
{
	struct iovec iov = { .iov_base = m, .iov_len = HEADER_SIZE + size };
	char control[CMSG_SPACE(REGIONS_MAX * sizeof(int))] = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	m->request = request;
	m->flags = FLAGS_VERSION;
	m->size = size;
	if (nr_fds) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nr_fds * sizeof(int));
	}
	if (sendmsg(dev->fd, &msg, MSG_NOSIGNAL) != (ssize_t)iov.iov_len)
		return -EPIPE;
	return 0;
}

static int receive_reply(struct vhost_blk *dev, struct message *m, uint32_t request, uint32_t size)
{
	if (recv(dev->fd, m, HEADER_SIZE, MSG_WAITALL) != (ssize_t)HEADER_SIZE ||
	    m->request != request || !(m->flags & FLAGS_REPLY) || m->size != size ||
	    recv(dev->fd, &m->payload, size, MSG_WAITALL) != (ssize_t)size)
		return -EPROTO;
	return 0;
}

static int set_memory(struct vhost_blk *dev, const struct vhost_memory *table)
{
	struct message m = { 0 };
	int fds[REGIONS_MAX];
	uint64_t offset = 0;
	uint32_t i;

	if (table->nregions > REGIONS_MAX)
		return -E2BIG;
	m.payload.memory.nregions = table->nregions;
	for (i = 0; i < table->nregions; i++) {
		m.payload.memory.region[i] = (struct region) {
			.gpa = table->regions[i].guest_phys_addr,
			.size = table->regions[i].memory_size,
			.address = table->regions[i].userspace_addr,
			.offset = offset,
		};
		offset += table->regions[i].memory_size;
		fds[i] = dev->mem->fd;
	}
	return send_message(dev, &m, SET_MEM_TABLE,
			    2 * sizeof(uint32_t) + table->nregions * sizeof(struct region),
			    fds, table->nregions);
}

static int set_file(struct vhost_blk *dev, uint32_t request, const struct vhost_vring_file *file)
{
	struct message m = { .payload.u64 = file->index };

	return send_message(dev, &m, request, sizeof(m.payload.u64), &file->fd, 1);
}

static int vhost_user_call(struct vhost_blk *dev, unsigned long request, void *arg)
{
	struct message m = { 0 };

	switch (request) {
	case VHOST_SET_OWNER:
		return send_message(dev, &m, SET_OWNER, 0, NULL, 0);
	case VHOST_SET_FEATURES:
		memcpy(&m.payload.u64, arg, sizeof(m.payload.u64));
		return send_message(dev, &m, SET_FEATURES, sizeof(m.payload.u64), NULL, 0);
	case VHOST_SET_MEM_TABLE:
		return set_memory(dev, arg);
	case VHOST_SET_VRING_NUM:
	case VHOST_SET_VRING_BASE:
		memcpy(&m.payload.state, arg, sizeof(m.payload.state));
		return send_message(dev, &m,
				    request == VHOST_SET_VRING_NUM ? SET_VRING_NUM : SET_VRING_BASE,
				    sizeof(m.payload.state), NULL, 0);
	case VHOST_SET_VRING_ADDR:
		memcpy(&m.payload.addr, arg, sizeof(m.payload.addr));
		return send_message(dev, &m, SET_VRING_ADDR, sizeof(m.payload.addr), NULL, 0);
	case VHOST_SET_VRING_KICK:
		return set_file(dev, SET_VRING_KICK, arg);
	case VHOST_SET_VRING_CALL:
		return set_file(dev, SET_VRING_CALL, arg);
	case VHOST_SET_VRING_ERR:
		return set_file(dev, SET_VRING_ERR, arg);
	default:
		return -ENOTTY;
	}
}

int vhost_user_open(struct vhost_blk *dev, struct guest_memory *mem, uint64_t features,
		    const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct message m = { 0 };
	int ret;

	dev->mem = mem;
	dev->features = features;
	dev->call = vhost_user_call;
	if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
	    sizeof(address.sun_path))
		return -ENAMETOOLONG;
	dev->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (dev->fd < 0)
		return -errno;
	ret = connect(dev->fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	if (!ret)
		ret = send_message(dev, &m, GET_FEATURES, 0, NULL, 0);
	if (!ret)
		ret = receive_reply(dev, &m, GET_FEATURES, sizeof(m.payload.u64));
	if (!ret && (m.payload.u64 & features) != features)
		ret = -EOPNOTSUPP;
	if (!ret)
		ret = vhost_blk_setup(dev);
	if (ret)
		vhost_blk_close(dev);
	return ret;
}
