// SPDX-License-Identifier: GPL-2.0
/* Verified I/O on one queue. */
#define _GNU_SOURCE
#include "load.h"

#define SLOT_SECTORS	(LOAD_SLOT / SECTOR_SIZE)
#define SLOTS_EACH	(LOAD_SLOTS / LOAD_DEPTH)
#define BUFFER		(LOAD_SLOT + PAGE)	/* with room for an unaligned start */

static const uint32_t types[LOAD_ALL] = {
	VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_WRITE_ZEROES,
	VIRTIO_BLK_T_DISCARD,
};

void load_init(struct load *l, struct unit *u, unsigned int queue, uint64_t first, unsigned int nr)
{
	unsigned int i;

	memset(l, 0, sizeof(*l));
	l->u = u;
	l->vq = &u->vq[queue];
	l->first = first;
	l->seed = 1 + queue;
	l->types = nr;
	l->buf = unit_alloc(u, LOAD_DEPTH * BUFFER);
	unit_requests(l->req, LOAD_DEPTH, l->vq);
	for (i = 0; i < LOAD_DEPTH; i++)
		l->range[i] = unit_alloc(u, sizeof(*l->range[i]));
	for (i = 0; i < LOAD_SLOTS; i++) {
		l->slot[i].least = 1;
		l->slot[i].zeroes = true;
	}
}

static bool makes_zeroes(uint32_t type)
{
	return type == VIRTIO_BLK_T_WRITE_ZEROES || type == VIRTIO_BLK_T_DISCARD;
}

/* Two requests in three are reads and writes; the memory of one in four is unaligned. */
static void submit(struct load *l, unsigned int i)
{
	unsigned int nr = random_next(&l->seed) % 3 ? LOAD_READS_WRITES : l->types;
	uint32_t type = types[random_next(&l->seed) % nr];
	unsigned int slot = i * SLOTS_EACH + random_next(&l->seed) % SLOTS_EACH;
	uint8_t *data = l->buf + i * BUFFER;
	uint64_t sector = l->first + slot * SLOT_SECTORS;

	if (random_next(&l->seed) % 4 == 0)
		data += random_next(&l->seed) % PAGE;
	l->now[i].busy = true;
	l->now[i].type = type;
	l->now[i].slot = slot;
	l->now[i].data = data;
	if (type == VIRTIO_BLK_T_OUT) {
		l->now[i].version = ++l->version;
		pattern_fill(data, LOAD_SLOT, sector * SECTOR_SIZE, l->version);
	}
	if (type == VIRTIO_BLK_T_FLUSH) {
		unit_submit_one(l->u, &l->req[i], type, 0, NULL, 0);
	} else if (makes_zeroes(type)) {
		l->range[i]->sector = sector;
		l->range[i]->num_sectors = SLOT_SECTORS;
		unit_submit_one(l->u, &l->req[i], type, 0, l->range[i], sizeof(*l->range[i]));
	} else {
		unit_submit_one(l->u, &l->req[i], type, sector, data, LOAD_SLOT);
	}
}

/* Note what a request has written to its slot; each sector may be old or new if it failed. */
static void note_write(struct load *l, unsigned int i, bool ok)
{
	unsigned int slot = l->now[i].slot;

	if (l->now[i].type == VIRTIO_BLK_T_OUT) {
		l->slot[slot].most = l->now[i].version;
		if (ok) {
			l->slot[slot].least = l->now[i].version;
			l->slot[slot].zeroes = false;
		}
	} else if (makes_zeroes(l->now[i].type)) {
		l->slot[slot].zeroes = true;
		if (ok)
			l->slot[slot].least = l->slot[slot].most + 1;
	}
}

static bool is_allowed(const struct load *l, unsigned int slot, const uint8_t *sector,
		       uint64_t offset)
{
	static const uint8_t zeroes[SECTOR_SIZE];
	unsigned int version;

	if (l->slot[slot].zeroes && !memcmp(sector, zeroes, SECTOR_SIZE))
		return true;
	for (version = l->slot[slot].most; version && version >= l->slot[slot].least; version--)
		if (pattern_differs(sector, SECTOR_SIZE, offset, version) < 0)
			return true;
	return false;
}

static void expect_slot(const struct load *l, unsigned int slot, const uint8_t *data)
{
	uint64_t sector = l->first + slot * SLOT_SECTORS;
	unsigned int i;

	for (i = 0; i < SLOT_SECTORS; i++)
		if (!is_allowed(l, slot, data + i * SECTOR_SIZE, (sector + i) * SECTOR_SIZE))
			fail_msg("sector %llu holds none of the versions %u to %u%s",
				 (unsigned long long)sector + i, l->slot[slot].least,
				 l->slot[slot].most, l->slot[slot].zeroes ? ", nor zeroes" : "");
}

static void check_request(struct load *l, unsigned int i)
{
	const struct blk_request *req = &l->req[i];
	bool ok = *req->status == VIRTIO_BLK_S_OK;
	bool read = l->now[i].type == VIRTIO_BLK_T_IN;

	l->now[i].busy = false;
	if (!ok)
		assert_int_equal(*req->status, VIRTIO_BLK_S_IOERR);
	assert_int_equal(req->used_len, read && ok ? LOAD_SLOT + 1 : 1);
	if (ok)
		l->ok++;
	else
		l->failed++;
	if (read && ok)
		expect_slot(l, l->now[i].slot, l->now[i].data);
	note_write(l, i, ok);
}

/* Return whether requests are still in flight. */
static bool check_completed(struct load *l)
{
	bool busy = false;
	unsigned int i;

	assert_true(blk_reap(l->vq) >= 0);
	for (i = 0; i < LOAD_DEPTH; i++) {
		if (l->now[i].busy && l->req[i].done)
			check_request(l, i);
		busy |= l->now[i].busy;
	}
	return busy;
}

void load_step(struct load *l)
{
	unsigned int i;

	check_completed(l);
	for (i = 0; i < LOAD_DEPTH; i++)
		if (!l->now[i].busy)
			submit(l, i);
	vq_wait(l->vq, 100);
}

void load_until(struct load *l, const unsigned int *count, unsigned int more)
{
	unsigned int wanted = *count + more;

	REPEAT_UNTIL(*count >= wanted)
		load_step(l);
}

struct call {
	int (*fn)(void *arg);
	void *arg;
	int ret;
	bool returned;
};

static void *do_call(void *arg)
{
	struct call *call = arg;

	call->ret = call->fn(call->arg);
	__atomic_store_n(&call->returned, true, __ATOMIC_RELEASE);
	return NULL;
}

void load_during(struct load *l, int (*fn)(void *arg), void *arg)
{
	static struct call call;	/* the thread outlives a test that fails */
	unsigned int completed = l->ok + l->failed;
	pthread_t thread;

	call = (struct call){ .fn = fn, .arg = arg };
	assert_int_equal(pthread_create(&thread, NULL, do_call, &call), 0);
	while (!__atomic_load_n(&call.returned, __ATOMIC_ACQUIRE))
		load_step(l);
	pthread_join(thread, NULL);
	assert_ok(call.ret);
	while (l->ok + l->failed < completed + LOAD_DEPTH)
		load_step(l);
}

void load_forget(struct load *l)
{
	unsigned int i;

	for (i = 0; i < LOAD_DEPTH; i++) {
		if (l->now[i].busy)
			note_write(l, i, false);
		l->now[i].busy = false;
	}
}

void load_drain(struct load *l)
{
	REPEAT_UNTIL(!check_completed(l))
		vq_wait(l->vq, 100);
}

void load_verify(struct load *l)
{
	unsigned int slot;

	for (slot = 0; slot < LOAD_SLOTS; slot++) {
		assert_int_equal(unit_io_on(l->u, &l->req[0], VIRTIO_BLK_T_IN,
					    l->first + slot * SLOT_SECTORS, l->buf, LOAD_SLOT),
				 VIRTIO_BLK_S_OK);
		expect_slot(l, slot, l->buf);
	}
}

void load_expect_ok(struct load *l)
{
	load_drain(l);
	assert_int_equal(l->failed, 0);
	load_verify(l);
}
