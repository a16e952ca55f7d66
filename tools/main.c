// SPDX-License-Identifier: GPL-2.0
/* vhost-blk: look at this host's vhost-blk devices, and at what they need. */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vhost-blk.h"

static void usage(FILE *out, int status)
{
	fprintf(out,
		"usage: vhost-blk check [--json] [--qemu PROGRAM]\n"
		"       vhost-blk list [--json | --prometheus]\n"
		"       vhost-blk top [--delay SECONDS] [--rounds N]\n"
		"       vhost-blk --version | --help\n"
		"\n"
		"check  whether this host can serve disks, and what to do if not\n"
		"list   the opened devices and their counters\n"
		"top    their rates, every second\n"
		"\n"
		"Devices of other users' processes are seen by root only.\n");
	exit(status);
}

static unsigned int parse_number(const char *word)
{
	char *end;
	unsigned long n = strtoul(word, &end, 10);

	if (!*word || *end || n > 86400) {
		fprintf(stderr, "vhost-blk: '%s' is no number\n", word);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "prometheus", no_argument, NULL, 'p' },
		{ "qemu", required_argument, NULL, 'q' },
		{ "delay", required_argument, NULL, 'd' },
		{ "rounds", required_argument, NULL, 'n' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	const char *command, *qemu = "qemu-system-x86_64";
	bool json = false, prometheus = false;
	unsigned int delay = 1, rounds = 0;
	struct json_object *devices;
	int option;

	while ((option = getopt_long(argc, argv, "hV", options, NULL)) >= 0) {
		switch (option) {
		case 'j':
			json = true;
			break;
		case 'p':
			prometheus = true;
			break;
		case 'q':
			qemu = optarg;
			break;
		case 'd':
			delay = parse_number(optarg);
			break;
		case 'n':
			rounds = parse_number(optarg);
			break;
		case 'V':
			printf("vhost-blk %s\n", VERSION);
			return 0;
		case 'h':
			usage(stdout, 0);
			break;
		default:
			usage(stderr, 2);
		}
	}
	if (optind + 1 != argc || (json && prometheus))
		usage(stderr, 2);
	command = argv[optind];
	if (!strcmp(command, "check"))
		return check(qemu, json) ? 0 : 1;
	if (!strcmp(command, "top")) {
		show_top(delay ?: 1, rounds);
		return 0;
	}
	if (strcmp(command, "list"))
		usage(stderr, 2);

	devices = devices_read();
	if (json)
		puts(json_object_to_json_string_ext(devices, JSON_C_TO_STRING_PRETTY));
	else if (prometheus)
		show_prometheus(devices);
	else
		show_list(devices);
	json_object_put(devices);
	return 0;
}
