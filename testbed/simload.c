// SPDX-License-Identifier: GPL-2.0
// Prints how many cycles known work takes on Linux, as the firmware of simtest.c does.
#define _GNU_SOURCE
#include <err.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOOPS	100000000	// of two instructions
#define ROUNDS	1000

static atomic_uint balls[2];

static uint64_t now(void)
{
	return __builtin_ia32_rdtsc();
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "CPU %d", cpu);
}

static void *work(void *arg)
{
	uint32_t times = LOOPS;

	pin((intptr_t)arg);
	asm volatile("1: decl %0; jnz 1b" : "+r"(times));
	return NULL;
}

static void futex(atomic_uint *word, int op, unsigned int value)
{
	syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

// Wake the other thread and sleep until it wakes this one.
static void *play(void *arg)
{
	int cpu = (intptr_t)arg;

	pin(cpu);
	for (int i = 0; i < ROUNDS; i++) {
		while (!atomic_exchange(&balls[cpu], 0))
			futex(&balls[cpu], FUTEX_WAIT_PRIVATE, 0);
		balls[!cpu] = 1;
		futex(&balls[!cpu], FUTEX_WAKE_PRIVATE, 1);
	}
	return NULL;
}

static uint64_t run_threads(int count, void *(*fn)(void *))
{
	uint64_t begin = now();
	pthread_t threads[2];

	for (int i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, fn, (void *)(intptr_t)i))
			errx(1, "no thread");
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	return now() - begin;
}

int main(void)
{
	uint64_t begin;

	printf("loop %lu\n", run_threads(1, work));
	printf("parallel %lu\n", run_threads(2, work));
	balls[0] = 1;
	printf("wakeup %lu\n", run_threads(2, play) / (2 * ROUNDS));
	begin = now();
	usleep(10000);
	printf("sleep %lu\n", now() - begin);
	return 0;
}
