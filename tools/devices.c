// SPDX-License-Identifier: GPL-2.0
/* Find the processes that have /dev/vhost-blk open, and read what the module tells in /proc/PID/fdinfo. */

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vhost-blk.h"

const char *const types[NR_TYPES] = {
	"read", "write", "flush", "discard", "write_zeroes", "secure_erase", "other",
};

/* Return a member of an object as a number, 0 if there is none. */
long long number(struct json_object *object, const char *name)
{
	return json_object_get_int64(json_object_object_get(object, name));
}

/* Return a member of an object as text, "-" if there is none. */
const char *text(struct json_object *object, const char *name)
{
	return json_object_get_string(json_object_object_get(object, name)) ?: "-";
}

static void add(struct json_object *object, const char *name, struct json_object *value)
{
	json_object_object_add(object, name, value);
}

static bool is_type(const char *name)
{
	unsigned int i;

	for (i = 0; i < NR_TYPES; i++)
		if (!strcmp(types[i], name))
			return true;
	return false;
}

/* Parse "INDEX NAME VALUE... NAME VALUE...". */
static struct json_object *parse_queue(char *line)
{
	static const char *const counts[] = { "requests", "bytes", "errors" };
	struct json_object *queue = json_object_new_object(), *type = NULL;
	unsigned int nth = 0;
	char *name = NULL;
	char *word;

	add(queue, "index", json_object_new_int64(atoll(strsep(&line, " "))));
	while ((word = strsep(&line, " "))) {
		if (!isdigit((unsigned char)*word)) {
			name = word;
			nth = 0;
			type = NULL;
			if (is_type(name)) {
				type = json_object_new_object();
				add(queue, name, type);
			}
		} else if (type && nth < 3) {
			add(type, counts[nth++], json_object_new_int64(atoll(word)));
		} else if (!type && name) {
			add(queue, name, json_object_new_int64(atoll(word)));
		}
	}
	return queue;
}

/* Undo the escapes of seq_file_path(): a backslash and three octal digits. */
static void unescape(char *s)
{
	unsigned int c;
	char *to = s;

	for (; *s; s++) {
		if (sscanf(s, "\\%3o", &c) == 1 && strlen(s) >= 4) {
			*to++ = c;
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
}

static void read_fdinfo(struct json_object *device, const char *path)
{
	struct json_object *queues = json_object_new_array();
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t size = 0;

	add(device, "backend", NULL);
	while (file && getline(&line, &size, file) > 0) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "backend:\t", 9)) {
			unescape(line + 9);
			add(device, "backend", json_object_new_string(line + 9));
		} else if (!strncmp(line, "queue:\t", 7)) {
			json_object_array_add(queues, parse_queue(line + 7));
		}
	}
	add(device, "queues", queues);
	free(line);
	if (file)
		fclose(file);
}

/* Return the argument of QEMU's -name, without "guest=" and further options, or NULL. */
static struct json_object *guest_name(const char *pid)
{
	struct json_object *name = NULL;
	char path[PATH_MAX], *word = NULL;
	bool found = false;
	size_t size = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/cmdline", pid);
	file = fopen(path, "r");
	while (file && !name && getdelim(&word, &size, 0, file) > 0) {
		if (found) {
			const char *start = strncmp(word, "guest=", 6) ? word : word + 6;

			name = json_object_new_string_len(start, strcspn(start, ","));
		}
		found = !strcmp(word, "-name") || !strcmp(word, "--name");
	}
	free(word);
	if (file)
		fclose(file);
	return name;
}

static struct json_object *process_name(const char *pid)
{
	char path[PATH_MAX], name[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	file = fopen(path, "r");
	if (file) {
		if (fgets(name, sizeof(name), file))
			name[strcspn(name, "\n")] = 0;
		fclose(file);
	}
	return json_object_new_string(name);
}

static void read_descriptor(struct json_object *devices, const char *pid, const char *fd)
{
	struct json_object *device;
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, fd);
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return;
	target[len] = 0;
	if (strcmp(target, NODE))
		return;
	device = json_object_new_object();
	add(device, "pid", json_object_new_int64(atoll(pid)));
	add(device, "fd", json_object_new_int64(atoll(fd)));
	add(device, "process", process_name(pid));
	add(device, "guest", guest_name(pid));
	snprintf(path, sizeof(path), "/proc/%s/fdinfo/%s", pid, fd);
	read_fdinfo(device, path);
	json_object_array_add(devices, device);
}

/* Call fn for each entry of a directory whose name is a number, if it can be read. */
static void for_each_number(const char *directory,
			    void (*fn)(struct json_object *devices, const char *pid, const char *name),
			    struct json_object *devices, const char *pid)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]))
			fn(devices, pid, entry->d_name);
	if (dir)
		closedir(dir);
}

static void read_process(struct json_object *devices, const char *unused, const char *pid)
{
	char path[PATH_MAX];

	(void)unused;
	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	for_each_number(path, read_descriptor, devices, pid);
}

struct json_object *devices_read(void)
{
	struct json_object *devices = json_object_new_array();

	for_each_number("/proc", read_process, devices, NULL);
	return devices;
}
