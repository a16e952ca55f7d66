// SPDX-License-Identifier: GPL-2.0
// Has the processors of a machine sleep and wake each other for some seconds, and fails if a wake-up does not come.
#define _GNU_SOURCE
#include <err.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pin.h"

#define CPUS	16
#define PATIENCE_S	60

/* On each CPU one thread is woken by its timer, and one by the thread of the CPU before it. */
struct sleeper {
	unsigned int cpu;
	atomic_uint ball;
	atomic_ulong wakeups;
};
static struct sleeper timed[CPUS], called[CPUS];
static unsigned int cpus;

static void *sleep_on_timer(void *arg)
{
	struct sleeper *me = arg;
	unsigned int seed = me->cpu;

	pin(me->cpu);
	for (;;) {
		usleep(20 << rand_r(&seed) % 10);
		me->wakeups++;
	}
	return NULL;
}

static void futex(atomic_uint *word, int op, unsigned int value)
{
	syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

static void *sleep_on_call(void *arg)
{
	struct sleeper *me = arg, *next = &called[(me->cpu + 1) % cpus];

	pin(me->cpu);
	for (;;) {
		while (!atomic_exchange(&me->ball, 0))
			futex(&me->ball, FUTEX_WAIT_PRIVATE, 0);
		me->wakeups++;
		next->ball = 1;
		futex(&next->ball, FUTEX_WAKE_PRIVATE, 1);
	}
	return NULL;
}

static void start(struct sleeper *sleeper, unsigned int cpu, void *(*fn)(void *))
{
	pthread_t thread;

	sleeper->cpu = cpu;
	if (pthread_create(&thread, NULL, fn, sleeper))
		errx(1, "no thread");
}

/* True if each has been woken since the last call. */
static int all_awoke(struct sleeper *sleepers, unsigned long *last)
{
	unsigned int i;
	int ret = 1;

	for (i = 0; i < cpus; i++) {
		ret &= sleepers[i].wakeups != last[i];
		last[i] = sleepers[i].wakeups;
	}
	return ret;
}

int main(int argc, char **argv)
{
	unsigned long last_timed[CPUS] = { 0 }, last_called[CPUS] = { 0 };
	int left = argc > 1 ? atoi(argv[1]) : 60;
	unsigned int i;

	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (cpus < 2 || cpus > CPUS)
		errx(1, "2 to %u CPUs are wanted, not %u", CPUS, cpus);
	called[0].ball = 1;
	for (i = 0; i < cpus; i++) {
		start(&timed[i], i, sleep_on_timer);
		start(&called[i], i, sleep_on_call);
	}
	puts("begin");
	fflush(stdout);
	for (; left > 0; left -= PATIENCE_S) {
		sleep(left < PATIENCE_S ? left : PATIENCE_S);
		if (!all_awoke(timed, last_timed) || !all_awoke(called, last_called))
			errx(1, "a wake-up did not come");
	}
	for (i = 0; i < cpus; i++)
		printf("CPU %u: %lu times by timer, %lu times by another\n", i, last_timed[i], last_called[i]);
	puts("end");
	return 0;
}
