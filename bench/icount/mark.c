// SPDX-License-Identifier: GPL-2.0
/* Executes a mark for the icount plugin: for scripts, and programs that run hooks. */
#include "mark.h"

int main(void)
{
	mark();
	return 0;
}
