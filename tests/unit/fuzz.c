// SPDX-License-Identifier: GPL-2.0
/* The fuzzers' seed lists: seeds that have failed once, and some random ones. */
#define _GNU_SOURCE
#include "unit.h"

#include <sys/wait.h>

#define LIST_TIMEOUT_S	600

static void run_list(const char *name)
{
	char program[64], list[64];
	int status;
	pid_t pid;

	snprintf(program, sizeof(program), "build/tests/fuzz/%s", name);
	snprintf(list, sizeof(list), "tests/fuzz/%s.seeds", name);
	alarm(LIST_TIMEOUT_S);
	pid = child_fork();
	if (!pid) {
		execl(program, program, "-l", list, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void hostile_rings(void **state)
{
	(void)state;
	run_list("ring");
}

static void calls_in_any_order(void **state)
{
	(void)state;
	run_list("ioctl");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(hostile_rings),
		TEST(calls_in_any_order),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
