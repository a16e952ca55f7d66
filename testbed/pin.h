/* SPDX-License-Identifier: GPL-2.0 */
/* Binds the calling thread to a processor. */
#include <err.h>
#include <sched.h>

static void pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "CPU %u", cpu);
}
