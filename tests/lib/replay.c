// SPDX-License-Identifier: GPL-2.0
/* replay LOG MARK IMAGE: powercut_replay() for scripts. */
#include "powercut.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	int ret;

	if (argc != 4) {
		fprintf(stderr, "usage: replay LOG MARK IMAGE\n");
		return 2;
	}
	ret = powercut_replay(argv[1], argv[2], argv[3]);
	if (ret)
		fprintf(stderr, "replay: %s to mark %s: %s\n", argv[1], argv[2], strerror(-ret));
	return !!ret;
}
