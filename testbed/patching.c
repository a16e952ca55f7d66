// SPDX-License-Identifier: GPL-2.0
// Has one processor change the code that another one runs, and fails if the other does not run the new code.
#define _GNU_SOURCE
#include <err.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "pin.h"

#define PAGE		4096
#define PATIENCE_S	60

/*
 * The functions that are changed: mov $VALUE, %eax; ret. The value is aligned, so one store changes it. The second one
 * has a function beside it in its page that stays as it is.
 */
#define FUNCTIONS	2
#define VALUE_AT	4
#define UNCHANGED_AT	1024
static const uint8_t code[] = { 0xb8, 0, 0, 0, 0, 0xc3 };

struct shared {
	uint8_t page[FUNCTIONS][PAGE];
	atomic_uint returned[FUNCTIONS];
};

static void *map(int fd, int prot)
{
	void *p = mmap(NULL, sizeof(struct shared), prot, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	return p;
}

static unsigned int call(const uint8_t *function)
{
	unsigned int (*fn)(void) = (unsigned int (*)(void))(uintptr_t)function;

	return fn();
}

/* CPUID makes the processor fetch anew what another one has changed. */
static void serialize(void)
{
	unsigned int eax = 0, ecx = 0;

	asm volatile("cpuid" : "+a"(eax), "+c"(ecx) : : "ebx", "edx", "memory");
}

static void run_code(struct shared *s)
{
	unsigned int i;

	for (;;) {
		for (i = 0; i < FUNCTIONS; i++)
			s->returned[i] = call(&s->page[i][VALUE_AT - 1]);
		call(&s->page[1][UNCHANGED_AT]);
		serialize();
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* As the kernel does when it patches itself, store through a mapping that this processor has just made. */
static void change(struct shared *s, unsigned int i, unsigned int value)
{
	if (madvise(s->page[i], PAGE, MADV_DONTNEED))
		err(1, "madvise");
	*(volatile uint32_t *)&s->page[i][VALUE_AT] = value;
}

static void wait_until_returned(struct shared *s, unsigned int i, unsigned int value)
{
	double end = 0;

	while (s->returned[i] != value) {
		if (!end)
			end = now() + PATIENCE_S;
		else if (now() > end)
			errx(1, "function %u returns %u since it was to return %u %d s ago", i, s->returned[i], value,
			     PATIENCE_S);
	}
}

int main(int argc, char **argv)
{
	double end = now() + (argc > 1 ? atoi(argv[1]) : 5);
	unsigned int value = 0, seed = 1, i, spin;
	struct shared *s;
	pid_t child;
	int fd;

	fd = memfd_create("code", 0);
	if (fd < 0 || ftruncate(fd, sizeof(*s)))
		err(1, "memfd");
	s = map(fd, PROT_READ | PROT_WRITE);
	for (i = 0; i < FUNCTIONS; i++)
		memcpy(&s->page[i][VALUE_AT - 1], code, sizeof(code));
	memcpy(&s->page[1][UNCHANGED_AT], code, sizeof(code));

	/* A process of its own, as a change of this one's mappings would interrupt its other threads. */
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(1);
		run_code(map(fd, PROT_READ | PROT_WRITE | PROT_EXEC));
	}
	pin(0);
	do {
		i = rand_r(&seed) % FUNCTIONS;
		/* The second change often comes while the other processor's emulator translates the first. */
		change(s, i, ++value);
		for (spin = rand_r(&seed) % 2000; spin; spin--)
			asm volatile("");
		change(s, i, ++value);
		wait_until_returned(s, i, value);
	} while (now() < end);
	kill(child, SIGKILL);
	printf("%u changes of code\n", value);
	return 0;
}
