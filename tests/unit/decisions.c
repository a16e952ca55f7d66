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

/* Let a first request end. Return true if its completion waits. */
static bool begins(struct vhost_blk_coalesce_state *c, u64 now)
{
	return vhost_blk_coalesce_waits(c, now, BOUND_NS);
}

/* Return how long a wait takes during which nr requests come, one each step ns. */
static u64 wait_ns(struct vhost_blk_coalesce_state *c, unsigned int nr, u64 step)
{
	u64 now = 1;

	assert_true(begins(c, now));
	while (vhost_blk_coalesce_waits(c, ++now, BOUND_NS)) {
		assert_true(now <= BOUND_NS);
		if (nr && (now - 1) % step == 0) {
			assert_true(vhost_blk_coalesce_batch(c, 1, now));
			nr--;
		}
	}
	vhost_blk_coalesce_end(c);
	assert_false(vhost_blk_coalesce_batch(c, 1, now));
	return now - 1;
}

/* The deadline is that of the first completion which waits, whatever follows. */
static void deadline_is_absolute(void **)
{
	struct vhost_blk_coalesce_state c = { 0 };
	unsigned int i;

	for (i = 0; i < 1000; i++)
		assert_int_equal(wait_ns(&c, UINT32_MAX, BOUND_NS / 8), BOUND_NS);
}

static void nothing_waits_without_a_bound(void **)
{
	struct vhost_blk_coalesce_state c = { 0 };

	assert_false(vhost_blk_coalesce_waits(&c, 1, 0));
	assert_false(vhost_blk_coalesce_batch(&c, 1, 1));
	/* One that waits when the bound becomes 0 does so no longer. */
	assert_true(begins(&c, 1));
	assert_false(vhost_blk_coalesce_waits(&c, 2, 0));
}

/* A guest that makes no more requests is answered before the deadline. */
static void gap_ends_a_wait(void **)
{
	struct vhost_blk_coalesce_state c = { 0 };

	assert_int_equal(wait_ns(&c, 3, 10), 30 + BOUND_NS / 2);
}

/* Later the guest is answered as soon as it has made as many requests as it can. */
static void known_limit_ends_a_wait(void **)
{
	struct vhost_blk_coalesce_state c = { 0 };
	unsigned int i, n = 0;

	wait_ns(&c, 3, 10);
	for (i = 0; i < 1000; i++)
		n += wait_ns(&c, 3, 10) > 31;
	/* Now and then it is tried whether the guest can make more. */
	assert_in_range(n, 1, 1000 / 50);
}

static void limit_grows_with_the_guest(void **)
{
	struct vhost_blk_coalesce_state c = { 0 };
	unsigned int i, n = 0;

	wait_ns(&c, 1, 10);
	for (i = 0; i < 1000; i++)
		n += wait_ns(&c, UINT32_MAX, 10) == BOUND_NS;
	assert_true(n >= 900);
}

static void limit_shrinks_with_the_guest(void **)
{
	struct vhost_blk_coalesce_state c = { 0 };

	wait_ns(&c, 30, 10);
	assert_true(wait_ns(&c, 3, 10) > 31);
	assert_int_equal(wait_ns(&c, 3, 10), 31);
}

/* Return how many completions do not wait before the next one does. */
static unsigned int skipped(struct vhost_blk_coalesce_state *c)
{
	unsigned int n = 0;

	while (!begins(c, 1))
		n++;
	return n;
}

/*
 * Fewer and fewer completions wait for a guest with one request in flight, in the end
 * too few to reach the 99.9th percentile.
 */
static void failed_waits_become_rare(void **)
{
	struct vhost_blk_coalesce_state c = { 0 };
	unsigned int i, last = 0, n = 0;

	assert_int_equal(skipped(&c), 0);
	for (i = 0; i < 30; i++) {
		last = n;
		vhost_blk_coalesce_end(&c);
		n = skipped(&c);
		assert_true(n >= last);
	}
	assert_int_equal(n, last);
	assert_true(n >= 5000);
	/* One wait that saves a signal is enough to begin anew. */
	assert_true(vhost_blk_coalesce_batch(&c, 1, 2));
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
		TEST(gap_ends_a_wait),
		TEST(known_limit_ends_a_wait),
		TEST(limit_grows_with_the_guest),
		TEST(limit_shrinks_with_the_guest),
		TEST(failed_waits_become_rare),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
