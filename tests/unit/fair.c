// SPDX-License-Identifier: GPL-2.0
/* A flooded queue leaves other queues, of its device and of another device, their share. */
#define _GNU_SOURCE
#include "unit.h"

#define RING		1024
#define FLOOD_READ	(64 * KIB)
/* The two queues, of one device or of two. */
#define FLOODED		0
#define LONE		1

/* The requests on the flooded queue. */
struct flood {
	struct null_blk disk;
	unsigned int requests;
	unsigned int most;	/* completed on average between two of the other queue */
};

static const struct flood fast_flood = {
	.disk = { .size_mib = 16, .forgets = true },
	.requests = 8 * RING, .most = RING / 2,
};

/* The disk takes fewer requests at a time than the ring has, so all wait for it. */
static const struct flood slow_flood = {
	.disk = { .size_mib = 16, .forgets = true, .delay_us = 1000, .queue_depth = 64 },
	.requests = 6 * RING, .most = 2 * RING,
};

struct setting {
	const struct flood *flood;
	bool one_cpu;		/* for all workers; the drivers run on the other */
	uint32_t poll_us;
	uint64_t pin;
};

static const struct setting anywhere = { .flood = &fast_flood };
static const struct setting anywhere_polling = { .flood = &fast_flood, .poll_us = UINT32_MAX };
static const struct setting one_cpu = { .flood = &fast_flood, .one_cpu = true };
static const struct setting one_cpu_polling = {
	.flood = &fast_flood, .one_cpu = true, .poll_us = UINT32_MAX,
};

static const struct setting one_cpu_pinned = {
	.flood = &fast_flood, .one_cpu = true, .poll_us = UINT32_MAX, .pin = MIB,
};

static const struct setting slow_disk = { .flood = &slow_flood };
static const struct setting slow_disk_one_cpu = { .flood = &slow_flood, .one_cpu = true };

/* The second device, and its disk. */
static struct vhost_blk other;
static int other_disk;

static struct {
	const struct flood *flood;
	struct vq *vq;
	struct blk_request req[RING];
	struct vq_segment data;	/* of all requests */
	bool failed;
	bool over;
	bool started;
	pthread_t thread;
} flooded;

static bool flood_add(struct blk_request *req)
{
	return blk_add(req, VIRTIO_BLK_T_IN, 0, &flooded.data, 1) >= 0;
}

/* Keep the ring full. Only the test's own thread may use assertions. */
static void *flood_run(void *arg)
{
	unsigned int i, left = flooded.flood->requests;
	struct vring_used_elem elem;
	void *cookie;

	(void)arg;
	for (i = 0; i < RING; i++)
		flooded.failed |= !flood_add(&flooded.req[i]);
	vq_submit(flooded.vq);
	while (left && !flooded.failed) {
		flooded.failed = vq_wait(flooded.vq, TIMEOUT_MS);
		while (left && vq_take(flooded.vq, &elem, &cookie)) {
			struct blk_request *req = cookie;

			left--;
			flooded.failed |= !req || *req->status != VIRTIO_BLK_S_OK ||
					  !flood_add(req);
		}
		vq_submit(flooded.vq);
	}
	__atomic_store_n(&flooded.over, true, __ATOMIC_RELEASE);
	return NULL;
}

static void start_queue(struct unit *u, struct vhost_blk *dev, unsigned int queue,
			const struct setting *setting)
{
	struct vhost_vring_state poll = { .index = queue, .num = setting->poll_us };
	struct vhost_blk_pin_limit pin = { .bytes = setting->pin };

	assert_ok(vq_setup(&u->vq[queue], dev, queue, RING));
	assert_ok(ioctl(dev->fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &poll));
	assert_ok(ioctl(dev->fd, VHOST_BLK_SET_PIN_LIMIT, &pin));
}

static void start_two_queues(struct unit *u, const struct setting *setting, bool two_devices)
{
	char path[BACKEND_PATH_MAX];

	unit_null(u, &setting->flood->disk, O_RDWR | O_DIRECT);
	unit_open(u, FEATURES);
	start_queue(u, &u->dev, FLOODED, setting);
	if (two_devices) {
		assert_ok(backend_null(path, &setting->flood->disk));
		other_disk = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
		assert_ok(other_disk);
		assert_ok(vhost_blk_open(&other, &u->mem, FEATURES));
	}
	start_queue(u, two_devices ? &other : &u->dev, LONE, setting);
	unit_attach(u);
	if (two_devices)
		assert_ok(vhost_blk_attach(&other, other_disk));
	unit_request(&u->req, &u->vq[LONE]);

	flooded.flood = setting->flood;
	flooded.vq = &u->vq[FLOODED];
	unit_requests(flooded.req, RING, flooded.vq);
	flooded.data = unit_segment(u, unit_alloc(u, FLOOD_READ), FLOOD_READ);
}

/* Do one request after the other until the flood is over. */
static void expect_share(struct unit *u, bool two_devices)
{
	const struct setting *setting = u->param;
	unsigned long long cpu_ns[2] = { 0 };
	unsigned int i, requests = 0;
	pid_t worker[4];
	int64_t begin, ms;

	start_two_queues(u, setting, two_devices);
	for (i = 0; i < ARRAY_SIZE(worker); i++) {
		worker[i] = worker_find(getpid(), "sc"[i % 2], i / 2);
		if (setting->one_cpu)
			unit_bind(worker[i], 0);
	}
	if (setting->one_cpu)
		unit_bind(0, 1);
	expect_alive(u);

	for (i = 0; i < ARRAY_SIZE(worker); i++)
		cpu_ns[i / 2] -= worker_cpu_ns(worker[i]);
	begin = now_ms();
	assert_int_equal(pthread_create(&flooded.thread, NULL, flood_run, NULL), 0);
	flooded.started = true;
	for (; !__atomic_load_n(&flooded.over, __ATOMIC_ACQUIRE); requests++)
		expect_alive(u);
	ms = now_ms() - begin;
	for (i = 0; i < ARRAY_SIZE(worker); i++)
		cpu_ns[i / 2] += worker_cpu_ns(worker[i]);

	assert_false(flooded.failed);
	print_message("%u requests beside %u of the flood, workers had %llu %% and %llu %% of a "
		      "CPU\n", requests, setting->flood->requests, cpu_ns[LONE] / 10000 / ms,
		      cpu_ns[FLOODED] / 10000 / ms);
	assert_true(requests * setting->flood->most >= setting->flood->requests);
}

static void beside_a_flooded_queue(void **state)
{
	expect_share(*state, false);
}

static void beside_a_flooded_device(void **state)
{
	expect_share(*state, true);
}

static int fair_setup(void **state)
{
	memset(&flooded, 0, sizeof(flooded));
	other.fd = -1;
	other_disk = -1;
	return unit_setup(state);
}

static int fair_teardown(void **state)
{
	if (flooded.started)
		pthread_join(flooded.thread, NULL);
	vhost_blk_close(&other);
	if (other_disk >= 0)
		close(other_disk);
	return unit_teardown(state);
}

#define FAIR_ON(fn, p)	{ #fn "_on_" #p, fn, fair_setup, fair_teardown, (void *)&(p) }

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		FAIR_ON(beside_a_flooded_queue, anywhere),
		FAIR_ON(beside_a_flooded_queue, anywhere_polling),
		FAIR_ON(beside_a_flooded_queue, one_cpu),
		FAIR_ON(beside_a_flooded_queue, one_cpu_polling),
		FAIR_ON(beside_a_flooded_queue, one_cpu_pinned),
		FAIR_ON(beside_a_flooded_queue, slow_disk),
		FAIR_ON(beside_a_flooded_queue, slow_disk_one_cpu),
		FAIR_ON(beside_a_flooded_device, anywhere),
		FAIR_ON(beside_a_flooded_device, anywhere_polling),
		FAIR_ON(beside_a_flooded_device, one_cpu),
		FAIR_ON(beside_a_flooded_device, one_cpu_polling),
		FAIR_ON(beside_a_flooded_device, one_cpu_pinned),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
