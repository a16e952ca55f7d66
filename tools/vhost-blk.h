/* SPDX-License-Identifier: GPL-2.0 */
/* What the parts of the program vhost-blk call of each other. */
#ifndef VHOST_BLK_TOOL_H
#define VHOST_BLK_TOOL_H

#include <json-c/json.h>
#include <stdbool.h>

#define NODE "/dev/vhost-blk"

/* devices.c: the names of the types of requests. */
#define NR_TYPES 7
extern const char *const types[NR_TYPES];

/*
 * Return an array of the opened devices, each an object with the members "pid", "fd", "process", "guest",
 * "backend" (or null) and "queues", an array of objects. A member of these is a number, or an object with "requests",
 * "bytes" and "errors" by the name of a type of request.
 */
struct json_object *devices_read(void);
long long number(struct json_object *object, const char *name);
const char *text(struct json_object *object, const char *name);

/* show.c */
void show_list(struct json_object *devices);
void show_prometheus(struct json_object *devices);
void show_top(unsigned int seconds, unsigned int rounds);

/* check.c: print the checks of this host; return false if one has failed. */
bool check(const char *qemu, bool as_json);

#endif
