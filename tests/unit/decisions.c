// SPDX-License-Identifier: GPL-2.0
/*
 * The decisions of drivers/vhost/blk_poll.c by themselves, with a clock of the test's:
 * how long to poll, and whether completions are coalesced.
 */
#include "unit.h"

/* What the file takes from the kernel's headers. */
typedef uint64_t u64;
#define min(a, b)	((a) < (b) ? (a) : (b))
#define max(a, b)	((a) > (b) ? (a) : (b))

#include "../../drivers/vhost/blk_poll.c"

#define MAX_NS		32000U
#define BOUND_NS	16000U

/* Any kick that a longer poll would have saved makes it longer, up to the maximum. */
static void poll_grows_to_its_maximum(void **)
{
	u64 ns = 0, next;

	while ((next = vhost_blk_poll_adapt(ns, MAX_NS - 1, MAX_NS)) != ns) {
		assert_true(next > ns);
		ns = next;
	}
	assert_int_equal(ns, MAX_NS);
}

static void poll_shrinks_to_nothing(void **)
{
	u64 ns = MAX_NS, next;

	while ((next = vhost_blk_poll_adapt(ns, MAX_NS, MAX_NS)) != ns) {
		assert_true(next < ns);
		ns = next;
	}
	assert_int_equal(ns, 0);
}

static void poll_ends_with_its_maximum(void **)
{
	assert_int_equal(vhost_blk_poll_adapt(MAX_NS, 1, 0), 0);
	assert_int_equal(vhost_blk_poll_adapt(MAX_NS, 1, MAX_NS / 4), MAX_NS / 4);
}

/* A batch of two requests is submitted, and one of them ends at a time. */
static bool waits(struct vhost_blk_coalesce_state *c, u64 now)
{
	vhost_blk_coalesce_batch(c, 2, 2);
	return vhost_blk_coalesce_waits(c, now, BOUND_NS);
}

/* The deadline is that of the first completion which waits, whatever follows. */
static void deadline_is_absolute(void **)
{
	struct vhost_blk_coalesce_state c = { 0 };
	u64 now;

	assert_true(waits(&c, 1));
	for (now = 2; now <= BOUND_NS; now++) {
		assert_true(vhost_blk_coalesce_batch(&c, 2, 4));
		assert_true(vhost_blk_coalesce_waits(&c, now, BOUND_NS));
	}
	assert_false(vhost_blk_coalesce_waits(&c, now, BOUND_NS));
	vhost_blk_coalesce_end(&c);
	/* The next one has a deadline of its own. */
	assert_false(vhost_blk_coalesce_batch(&c, 2, 4));
	assert_true(vhost_blk_coalesce_waits(&c, now, BOUND_NS));
	assert_true(vhost_blk_coalesce_waits(&c, now + BOUND_NS - 1, BOUND_NS));
	assert_false(vhost_blk_coalesce_waits(&c, now + BOUND_NS, BOUND_NS));
}

/* A bound that becomes 0 while completions wait ends no wait early; it begins none. */
static void nothing_waits_without_a_bound(void **)
{
	struct vhost_blk_coalesce_state c = { 0 };

	vhost_blk_coalesce_batch(&c, 2, 2);
	assert_false(vhost_blk_coalesce_waits(&c, 1, 0));
	assert_true(waits(&c, 1));
	assert_true(vhost_blk_coalesce_waits(&c, 2, 0));
}

static void single_request_does_not_wait(void **)
{
	struct vhost_blk_coalesce_state c = { 0 };

	assert_false(vhost_blk_coalesce_batch(&c, 1, 1));
	assert_false(vhost_blk_coalesce_waits(&c, 1, BOUND_NS));
	vhost_blk_coalesce_batch(&c, 1, 2);
	assert_true(vhost_blk_coalesce_waits(&c, 1, BOUND_NS));
}

/* Return how many completions do not wait before the next one does. */
static unsigned int skipped(struct vhost_blk_coalesce_state *c)
{
	unsigned int n = 0;

	while (!waits(c, 1))
		n++;
	return n;
}

/* A guest that makes no request during a wait is left alone for ever longer, up to a limit. */
static void vain_waits_become_rare(void **)
{
	struct vhost_blk_coalesce_state c = { 0 };
	unsigned int i, last = 0, n = 0;

	assert_int_equal(skipped(&c), 0);
	for (i = 0; i < 20; i++) {
		last = n;
		vhost_blk_coalesce_end(&c);
		n = skipped(&c);
		assert_true(n >= last);
	}
	assert_int_equal(n, last);
	assert_true(n >= 100);
	/* One wait that saves a signal is enough to begin anew. */
	assert_true(vhost_blk_coalesce_batch(&c, 1, 3));
	vhost_blk_coalesce_end(&c);
	assert_int_equal(skipped(&c), 0);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST(poll_grows_to_its_maximum),
		TEST(poll_shrinks_to_nothing),
		TEST(poll_ends_with_its_maximum),
		TEST(deadline_is_absolute),
		TEST(nothing_waits_without_a_bound),
		TEST(single_request_does_not_wait),
		TEST(vain_waits_become_rare),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
