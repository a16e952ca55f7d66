// SPDX-License-Identifier: GPL-2.0
/*
 * VHOST_BLK_SET_HAND_BACK: what the backend fails, and what has an unknown type, is
 * left to the owner, which answers it or has it tried again.
 */
#define _GNU_SOURCE
#include "unit.h"

#include <stdlib.h>
#include <sys/eventfd.h>

#define DISK_SIZE	(4 * MIB)
#define SECTORS		(DISK_SIZE / SECTOR_SIZE)
#define UNKNOWN		77	/* not a type of request */
#define HEADS		16

static int event = -1;

static void set_hand_back(struct unit *u, int fd)
{
	struct vhost_blk_hand_back hand_back = { .fd = fd };

	assert_ok(ioctl(u->dev.fd, VHOST_BLK_SET_HAND_BACK, &hand_back));
}

static void ask_for_hand_back(struct unit *u)
{
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_ok(event);
	set_hand_back(u, event);
}

static void open_with_hand_back(struct unit *u, unsigned int queues)
{
	unit_open(u, RANGE_FEATURES);
	unit_vqs(u, queues, 64);
	ask_for_hand_back(u);
}

static void start_without_ranges(struct unit *u)
{
	start_on_memfd(u, DISK_SIZE, 1, 16);
	unit_detach(u);
	ask_for_hand_back(u);
	unit_attach(u);
}

static int hand_back_teardown(void **state)
{
	if (event >= 0)
		close(event);
	event = -1;
	return unit_teardown(state);
}

/* A disk of pattern 1 that fails, and works when it is repaired. */
struct repairable {
	char works[512], broken[64];
};

static void open_repairable(struct unit *u, struct repairable *r)
{
	struct null_blk spec = { .size_mib = DISK_SIZE / MIB };
	char below[BACKEND_PATH_MAX];

	assert_ok(backend_null(below, &spec));
	snprintf(r->works, sizeof(r->works), "0 %lu linear %s 0\n", SECTORS, below);
	snprintf(r->broken, sizeof(r->broken), "0 %lu error \n", SECTORS);
	assert_ok(backend_dm(u->path, r->works));
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
	disk_fill(u->disk, 0, DISK_SIZE, 1);
}

static int list_unanswered(struct unit *u, unsigned int queue, uint16_t *heads, unsigned int nr)
{
	struct vhost_blk_unanswered unanswered = {
		.index = queue, .nr = nr, .heads = (uintptr_t)heads,
	};

	if (ioctl(u->dev.fd, VHOST_BLK_GET_UNANSWERED, &unanswered))
		return -errno;
	return unanswered.nr;
}

static void expect_unanswered(struct unit *u, unsigned int queue, const uint16_t *heads,
			      unsigned int nr)
{
	uint16_t listed[HEADS];
	unsigned int i;

	assert_int_equal(list_unanswered(u, queue, listed, HEADS), nr);
	for (i = 0; i < nr; i++)
		assert_int_equal(listed[i], heads[i]);
}

static uint16_t add_request(struct unit *u, struct blk_request *req, uint32_t type,
			    uint64_t sector, void *buf)
{
	struct vq_segment data = unit_segment(u, buf, PAGE);
	int head = blk_add(req, type, sector, &data, 1);

	assert_ok(head);
	return head;
}

/* Wait until nr requests of a queue have been handed back in all. */
static void expect_handed_back(struct unit *u, unsigned int queue, unsigned int nr)
{
	WAIT_UNTIL(unit_stats(u, queue).handed_back == nr);
	assert_ok(event_wait(event, TIMEOUT_MS));
	event_count(event);
}

static const uint32_t read_type = VIRTIO_BLK_T_IN, write_type = VIRTIO_BLK_T_OUT;
static const uint32_t unknown_type = UNKNOWN;

/* The request is not answered, its queue fetches no more, and goes on when it is. */
static void owner_answers(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	uint32_t type = *(const uint32_t *)u->param;
	struct blk_request failing, next;
	uint16_t head;
	uint8_t *buf;

	unit_half_failing(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE / 2, 1);
	open_with_hand_back(u, 1);
	unit_attach(u);
	unit_requests(&failing, 1, vq);
	unit_requests(&next, 1, vq);
	buf = unit_alloc(u, 2 * PAGE);
	expect_alive(u);
	head = add_request(u, &failing, type, SECTORS / 2, buf);
	vq_submit(vq);
	expect_handed_back(u, 0, 1);
	add_request(u, &next, VIRTIO_BLK_T_IN, 8, buf + PAGE);
	vq_publish(vq);
	vq_kick(vq);
	ASSERT_NEVER(vq_used_idx(vq) != 1);
	assert_int_equal(*failing.status, STATUS_UNSET);

	assert_ok(unit_quiesce(u));
	assert_int_equal(vq_used_idx(vq), 1);
	assert_int_equal(vq_get_base(vq), 2);
	expect_unanswered(u, 0, &head, 1);
	*failing.status = VIRTIO_BLK_S_IOERR;
	vq_add_used(vq, head, 1);
	assert_ok(unit_resume_queues(u, 0));
	expect_end(&failing, VIRTIO_BLK_S_IOERR, 1);
	expect_end(&next, VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf + PAGE, PAGE, PAGE, 1);
	assert_int_equal(vq_used_idx(vq), 3);
	expect_alive(u);
	assert_ok(unit_quiesce(u));
	expect_unanswered(u, 0, NULL, 0);
	assert_ok(unit_resume_queues(u, VHOST_BLK_RESUME_RETRY));
	expect_alive(u);
	assert_int_equal(unit_stats(u, 0).handed_back, 1);
	assert_int_equal(event_count(event), 0);
}

/*
 * Several requests are listed in the order in which they were fetched, those that
 * do not fail complete, and all succeed when they are tried again on a good disk.
 */
static void requests_are_tried_again(void **state)
{
	enum { NR = 8 };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct repairable r;
	struct blk_request req[NR];
	uint16_t head[NR], listed[NR] = { 0 };
	unsigned int i;
	uint8_t *buf;

	open_repairable(u, &r);
	open_with_hand_back(u, 1);
	unit_attach(u);
	unit_requests(req, NR, vq);
	buf = unit_alloc(u, NR * PAGE);
	/* The order of heads is not that of their numbers afterwards. */
	for (i = 0; i < 3; i++)
		add_request(u, &req[i], VIRTIO_BLK_T_IN, 0, buf);
	vq_submit(vq);
	for (i = 0; i < 3; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	assert_ok(backend_dm_reload(u->path, r.broken));
	for (i = 0; i < NR; i++)
		head[i] = add_request(u, &req[i], VIRTIO_BLK_T_IN, i * 8, buf + i * PAGE);
	vq_submit(vq);
	expect_handed_back(u, 0, NR);
	assert_int_equal(vq_used_idx(vq), 3);
	assert_ok(unit_quiesce(u));
	expect_unanswered(u, 0, head, NR);
	/* There may be more than there is room for. */
	assert_int_equal(list_unanswered(u, 0, listed, 2), NR);
	assert_int_equal(listed[0], head[0]);
	assert_int_equal(listed[1], head[1]);
	assert_int_equal(listed[2], 0);
	assert_int_equal(list_unanswered(u, 0, NULL, 0), NR);
	assert_int_equal(list_unanswered(u, 0, NULL, NR), -EFAULT);
	/* Still broken. */
	assert_ok(unit_resume_queues(u, VHOST_BLK_RESUME_RETRY));
	expect_handed_back(u, 0, 2 * NR);
	assert_int_equal(vq_used_idx(vq), 3);
	assert_ok(unit_quiesce(u));
	expect_unanswered(u, 0, head, NR);

	assert_ok(backend_dm_reload(u->path, r.works));
	assert_ok(unit_resume_queues(u, VHOST_BLK_RESUME_RETRY));
	for (i = 0; i < NR; i++)
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
	expect_pattern(buf, NR * PAGE, 0, 1);
	expect_alive(u);
	assert_int_equal(unit_stats(u, 0).handed_back, 2 * NR);
	assert_int_equal(unit_stats(u, 0).inflight, 0);
}

/* Requests that are about to be tried again when the queue is quiesced stay the owner's. */
static void quiesced_before_tried_again(void **state)
{
	enum { ROUNDS = 50 };
	struct unit *u = *state;
	struct blk_request failing;
	uint16_t head;
	unsigned int i;

	unit_half_failing(u, DISK_SIZE);
	open_with_hand_back(u, 1);
	unit_attach(u);
	unit_requests(&failing, 1, &u->vq[0]);
	head = add_request(u, &failing, VIRTIO_BLK_T_IN, SECTORS / 2, unit_alloc(u, PAGE));
	vq_submit(&u->vq[0]);
	expect_handed_back(u, 0, 1);
	assert_ok(unit_quiesce(u));
	for (i = 0; i < ROUNDS; i++) {
		assert_ok(unit_resume_queues(u, VHOST_BLK_RESUME_RETRY));
		assert_ok(unit_quiesce(u));
		expect_unanswered(u, 0, &head, 1);
	}
	assert_ok(unit_resume_queues(u, VHOST_BLK_RESUME_RETRY));
	unit_detach(u);
	assert_false(failing.done);
}

/* Requests in flight beside one that fails complete. */
static void others_in_flight_complete(void **state)
{
	enum { NR = 8 };
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct blk_request req[NR];
	uint16_t head[NR / 2];
	unsigned int i;
	uint8_t *buf;

	unit_half_failing(u, DISK_SIZE);
	disk_fill(u->disk, 0, DISK_SIZE / 2, 1);
	open_with_hand_back(u, 1);
	unit_attach(u);
	unit_requests(req, NR, vq);
	buf = unit_alloc(u, NR * PAGE);
	unit_suspend(u, u->path);
	for (i = 0; i < NR; i += 2) {
		add_request(u, &req[i], VIRTIO_BLK_T_IN, i * 8, buf + i * PAGE);
		head[i / 2] = add_request(u, &req[i + 1], VIRTIO_BLK_T_IN, SECTORS / 2,
					  buf + (i + 1) * PAGE);
	}
	vq_submit(vq);
	expect_inflight(u, 0, NR);
	unit_resume(u);
	for (i = 0; i < NR; i += 2) {
		expect_end(&req[i], VIRTIO_BLK_S_OK, PAGE + 1);
		expect_pattern(buf + i * PAGE, PAGE, i * PAGE, 1);
	}
	expect_handed_back(u, 0, NR / 2);
	assert_ok(unit_quiesce(u));
	expect_unanswered(u, 0, head, NR / 2);
	for (i = 0; i < NR / 2; i++) {
		*req[2 * i + 1].status = VIRTIO_BLK_S_IOERR;
		vq_add_used(vq, head[i], 1);
	}
	assert_ok(unit_resume_queues(u, 0));
	expect_alive(u);
	assert_int_equal(vq_used_idx(vq), NR + 1);
}

/* What is refused before it gets to the backend is answered by the device. */
static void refused_requests_are_answered(void **state)
{
	struct unit *u = *state;
	uint8_t *buf;

	start_without_ranges(u);
	buf = unit_alloc(u, PAGE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, SECTORS, buf, PAGE), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, 500), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_GET_ID, 0, buf, 20), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_stats(u, 0).handed_back, 0);
	assert_int_equal(event_count(event), 0);
}

/* Ranges whose feature was not negotiated are left to the owner, also when they are tried again. */
static void ranges_not_negotiated_are_handed_back(void **state)
{
	struct unit *u = *state;
	struct vq *vq = &u->vq[0];
	struct blk_request req;
	uint16_t head;
	uint8_t *buf;

	start_without_ranges(u);
	unit_requests(&req, 1, vq);
	buf = unit_alloc(u, PAGE);
	head = add_request(u, &req, VIRTIO_BLK_T_DISCARD, 0, buf);
	vq_submit(vq);
	expect_handed_back(u, 0, 1);
	assert_ok(unit_quiesce(u));
	expect_unanswered(u, 0, &head, 1);
	assert_ok(unit_resume_queues(u, VHOST_BLK_RESUME_RETRY));
	expect_handed_back(u, 0, 2);
	assert_int_equal(vq_used_idx(vq), 0);
	assert_int_equal(*req.status, STATUS_UNSET);
}

static void nothing_is_handed_back_by_default(void **state)
{
	struct unit *u = *state;
	uint8_t *buf;

	unit_half_failing(u, DISK_SIZE);
	open_with_hand_back(u, 1);
	set_hand_back(u, -1);
	unit_attach(u);
	buf = unit_alloc(u, PAGE);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, SECTORS / 2, buf, PAGE), VIRTIO_BLK_S_IOERR);
	assert_int_equal(unit_io(u, UNKNOWN, 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
	expect_alive(u);
	assert_ok(unit_quiesce(u));
	expect_unanswered(u, 0, NULL, 0);
	assert_int_equal(unit_stats(u, 0).handed_back, 0);
	assert_int_equal(event_count(event), 0);
}

/* Only the queue of the request stops. */
static void other_queues_go_on(void **state)
{
	struct unit *u = *state;
	struct blk_request failing;
	uint16_t head;
	uint8_t *buf;
	unsigned int i;

	unit_half_failing(u, DISK_SIZE);
	open_with_hand_back(u, 2);
	unit_attach(u);
	unit_requests(&failing, 1, &u->vq[1]);
	buf = unit_alloc(u, PAGE);
	head = add_request(u, &failing, VIRTIO_BLK_T_OUT, SECTORS / 2, buf);
	vq_submit(&u->vq[1]);
	expect_handed_back(u, 1, 1);
	for (i = 0; i < 16; i++)
		expect_alive(u);
	assert_ok(unit_quiesce(u));
	expect_unanswered(u, 0, NULL, 0);
	expect_unanswered(u, 1, &head, 1);
	*failing.status = VIRTIO_BLK_S_OK;
	vq_add_used(&u->vq[1], head, 1);
	assert_ok(unit_resume_queues(u, 0));
	expect_end(&failing, VIRTIO_BLK_S_OK, 1);
	expect_alive(u);
	assert_int_equal(unit_stats(u, 0).handed_back, 0);
}

/* Quiescing does not wait for a request of many ranges, which is done when it is tried again. */
static void quiesce_hands_back_many_ranges(void **state)
{
	enum { RANGES = 256, RANGE = 4 * MIB };
	const struct null_blk slow = {
		.size_mib = RANGES * 4, .forgets = true, .mbps = 10, .max_sectors = 128,
	};
	const struct null_blk fast = { .size_mib = RANGES * 4, .forgets = true };
	struct virtio_blk_discard_write_zeroes *list;
	char below[BACKEND_PATH_MAX], table[512];
	struct unit *u = *state;
	struct vq_segment data;
	uint16_t head;
	unsigned int i;
	int ret;

	assert_ok(backend_null(below, &fast));
	snprintf(table, sizeof(table), "0 %lu linear %s 0\n",
		 fast.size_mib * MIB / SECTOR_SIZE, below);
	unit_dm(u->path, &slow, "linear", "");
	unit_disk(u, u->path, O_RDWR | O_DIRECT);
	open_with_hand_back(u, 1);
	unit_attach(u);
	list = unit_alloc(u, RANGES * sizeof(*list));
	for (i = 0; i < RANGES; i++) {
		list[i].sector = (uint64_t)i * (RANGE / SECTOR_SIZE);
		list[i].num_sectors = RANGE / SECTOR_SIZE;
	}
	data = unit_segment(u, list, RANGES * sizeof(*list));
	ret = blk_add(&u->req, VIRTIO_BLK_T_WRITE_ZEROES, 0, &data, 1);
	assert_ok(ret);
	head = ret;
	vq_submit(&u->vq[0]);
	expect_inflight(u, 0, 1);
	usleep(QUIET_MS * 1000);
	unit_call(u, unit_quiesce);
	WAIT_UNTIL(unit_call_returned(u));
	assert_int_equal(unit_call_join(u), 0);
	expect_unanswered(u, 0, &head, 1);
	assert_int_equal(vq_used_idx(&u->vq[0]), 0);
	assert_ok(backend_dm_reload(u->path, table));
	assert_ok(unit_resume_queues(u, VHOST_BLK_RESUME_RETRY));
	expect_end(&u->req, VIRTIO_BLK_S_OK, 1);
	expect_alive(u);
}

/* The list is of a quiesced device, and the setting holds from attach to attach. */
static void holds_until_the_owner_is_reset(void **state)
{
	struct unit *u = *state;
	struct blk_request failing;
	uint8_t *buf;
	unsigned int i;

	unit_half_failing(u, DISK_SIZE);
	open_with_hand_back(u, 1);
	assert_int_equal(list_unanswered(u, 0, NULL, 0), -EBUSY);
	unit_requests(&failing, 1, &u->vq[0]);
	buf = unit_alloc(u, PAGE);
	for (i = 0; i < 2; i++) {
		unit_attach(u);
		assert_int_equal(list_unanswered(u, 0, NULL, 0), -EBUSY);
		expect_alive(u);
		add_request(u, &failing, VIRTIO_BLK_T_IN, SECTORS / 2, buf);
		vq_submit(&u->vq[0]);
		expect_handed_back(u, 0, i + 1);
		/* Requests that nobody has answered do not keep the device from stopping. */
		unit_detach(u);
		expect_workers(getpid(), 0);
		assert_int_equal(unit_stats(u, 0).inflight, 0);
		assert_ok(vq_restart(&u->vq[0], 0));
	}
	assert_ok(ioctl(u->dev.fd, VHOST_RESET_OWNER));
	assert_ok(vhost_blk_setup(&u->dev));
	assert_ok(vq_restart(&u->vq[0], 0));
	unit_attach(u);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, SECTORS / 2, buf, PAGE), VIRTIO_BLK_S_IOERR);
	assert_int_equal(event_count(event), 0);
}

static void closed_with_unanswered_requests(void **state)
{
	struct unit *u = *state;
	struct blk_request failing;

	unit_half_failing(u, DISK_SIZE);
	open_with_hand_back(u, 1);
	unit_attach(u);
	unit_requests(&failing, 1, &u->vq[0]);
	add_request(u, &failing, VIRTIO_BLK_T_IN, SECTORS / 2, unit_alloc(u, PAGE));
	vq_submit(&u->vq[0]);
	expect_handed_back(u, 0, 1);
	assert_ok(unit_quiesce(u));
	vhost_blk_close(&u->dev);
	expect_workers(getpid(), 0);
	assert_false(failing.done);
}

#define TEST_HAND_BACK(fn)	{ #fn, fn, unit_setup, hand_back_teardown, NULL }
#define TEST_HAND_BACK_ON(fn, p) \
	{ #fn "_on_" #p, fn, unit_setup, hand_back_teardown, (void *)&(p) }

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST_HAND_BACK_ON(owner_answers, read_type),
		TEST_HAND_BACK_ON(owner_answers, write_type),
		TEST_HAND_BACK_ON(owner_answers, unknown_type),
		TEST_HAND_BACK(requests_are_tried_again),
		TEST_HAND_BACK(quiesced_before_tried_again),
		TEST_HAND_BACK(others_in_flight_complete),
		TEST_HAND_BACK(refused_requests_are_answered),
		TEST_HAND_BACK(ranges_not_negotiated_are_handed_back),
		TEST_HAND_BACK(nothing_is_handed_back_by_default),
		TEST_HAND_BACK(other_queues_go_on),
		TEST_HAND_BACK(quiesce_hands_back_many_ranges),
		TEST_HAND_BACK(holds_until_the_owner_is_reset),
		TEST_HAND_BACK(closed_with_unanswered_requests),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
