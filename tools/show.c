// SPDX-License-Identifier: GPL-2.0
/* Print the opened devices: as a list, for Prometheus, or again and again with rates. */

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vhost-blk.h"

/* Names of struct vhost_blk_stats that go up and down, and those that only go up. */
static const char *const gauges[] = { "inflight", "max_inflight" };
static const char *const counters[] = {
	"kicks", "submit_wakeups", "complete_wakeups", "batches", "signals", "signals_suppressed", "poll_hits",
	"pin_misses", "signals_coalesced", "offloads", "handed_back",
};

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define for_each_element(element, array)					\
	for (size_t i_##element = 0;						\
	     i_##element < json_object_array_length(array) &&			\
	     ((element) = json_object_array_get_idx(array, i_##element));	\
	     i_##element++)

static struct json_object *queues_of(struct json_object *device)
{
	return json_object_object_get(device, "queues");
}

static long long of_type(struct json_object *queue, const char *type, const char *count)
{
	return number(json_object_object_get(queue, type), count);
}

/* Return a sum over a device's queues: of a counter, or of the requests, bytes or errors of a type. */
static long long sum(struct json_object *device, const char *type, const char *name)
{
	struct json_object *queue;
	long long n = 0;

	for_each_element(queue, queues_of(device))
		n += type ? of_type(queue, type, name) : number(queue, name);
	return n;
}

static long long sum_types(struct json_object *device, const char *name)
{
	long long n = 0;
	unsigned int i;

	for (i = 0; i < NR_TYPES; i++)
		n += sum(device, types[i], name);
	return n;
}

static const char *guest(struct json_object *device)
{
	return json_object_object_get(device, "guest") ? text(device, "guest") : text(device, "process");
}

void show_list(struct json_object *devices)
{
	struct json_object *device;

	printf("%8s %4s %6s %12s %12s %8s %8s  %-20s %s\n", "PID", "FD", "QUEUES", "READ MiB", "WRITTEN MiB", "INFLIGHT",
	       "ERRORS", "GUEST", "BACKEND");
	for_each_element(device, devices)
		printf("%8lld %4lld %6zu %12.1f %12.1f %8lld %8lld  %-20s %s\n", number(device, "pid"),
		       number(device, "fd"), json_object_array_length(queues_of(device)),
		       sum(device, "read", "bytes") / 1048576.0, sum(device, "write", "bytes") / 1048576.0,
		       sum(device, NULL, "inflight"), sum_types(device, "errors"), guest(device),
		       text(device, "backend"));
}

/* A label's value, with what Prometheus wants escaped. */
static void print_label(const char *name, const char *value)
{
	printf("%s=\"", name);
	for (; *value; value++) {
		if (*value == '\n')
			printf("\\n");
		else
			printf("%s%c", *value == '"' || *value == '\\' ? "\\" : "", *value);
	}
	printf("\"");
}

static void print_sample(struct json_object *device, struct json_object *queue, const char *metric, const char *suffix,
			 const char *type, long long value)
{
	printf("vhost_blk_%s%s{pid=\"%lld\",fd=\"%lld\",", metric, suffix, number(device, "pid"), number(device, "fd"));
	print_label("guest", guest(device));
	printf(",");
	print_label("backend", text(device, "backend"));
	printf(",queue=\"%lld\"", number(queue, "index"));
	if (type)
		printf(",type=\"%s\"", type);
	printf("} %lld\n", value);
}

static void print_metric(struct json_object *devices, const char *name, bool counter)
{
	const char *suffix = counter ? "_total" : "";
	struct json_object *device, *queue;

	printf("# TYPE vhost_blk_%s%s %s\n", name, suffix, counter ? "counter" : "gauge");
	for_each_element(device, devices)
		for_each_element(queue, queues_of(device))
			print_sample(device, queue, name, suffix, NULL, number(queue, name));
}

static void print_type_metric(struct json_object *devices, const char *name)
{
	struct json_object *device, *queue;
	unsigned int i;

	printf("# TYPE vhost_blk_%s_total counter\n", name);
	for_each_element(device, devices)
		for_each_element(queue, queues_of(device))
			for (i = 0; i < NR_TYPES; i++)
				print_sample(device, queue, name, "_total", types[i], of_type(queue, types[i], name));
}

void show_prometheus(struct json_object *devices)
{
	unsigned int i;

	print_type_metric(devices, "requests");
	print_type_metric(devices, "bytes");
	print_type_metric(devices, "errors");
	for (i = 0; i < ARRAY_SIZE(counters); i++)
		print_metric(devices, counters[i], true);
	for (i = 0; i < ARRAY_SIZE(gauges); i++)
		print_metric(devices, gauges[i], false);
}

static struct json_object *find_same(struct json_object *devices, struct json_object *device)
{
	struct json_object *other;

	for_each_element(other, devices)
		if (number(other, "pid") == number(device, "pid") && number(other, "fd") == number(device, "fd"))
			return other;
	return NULL;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Print what a device did in the given seconds since an earlier look at it. */
static void print_rates(struct json_object *device, struct json_object *before, double seconds)
{
#define RATE(type, name) ((sum(device, type, name) - sum(before, type, name)) / seconds)
	double requests = (sum_types(device, "requests") - sum_types(before, "requests")) / seconds;
	double batches = RATE(NULL, "batches");

	printf("%8lld %6zu %9.0f %9.0f %8.1f %8.1f %8lld %6.0f %6.0f %8lld  %-16.16s %s\n", number(device, "pid"),
	       json_object_array_length(queues_of(device)), RATE("read", "requests"), RATE("write", "requests"),
	       RATE("read", "bytes") / 1048576, RATE("write", "bytes") / 1048576, sum(device, NULL, "inflight"),
	       batches ? 100 * RATE(NULL, "poll_hits") / batches : 0,
	       requests ? 100 * (1 - RATE(NULL, "signals") / requests) : 0, sum_types(device, "errors"), guest(device),
	       text(device, "backend"));
#undef RATE
}

/* Print rates every few seconds; rounds is 0 for until the program is interrupted. */
void show_top(unsigned int seconds, unsigned int rounds)
{
	struct json_object *before = devices_read(), *devices, *device, *same;
	double start = now(), end;
	unsigned int i;

	for (i = 0; !rounds || i < rounds; i++) {
		sleep(seconds);
		devices = devices_read();
		end = now();
		if (isatty(STDOUT_FILENO))
			printf("\033[H\033[J");
		printf("%8s %6s %9s %9s %8s %8s %8s %6s %6s %8s  %-16s %s\n", "PID", "QUEUES", "READ/s", "WRITE/s",
		       "RD MiB/s", "WR MiB/s", "INFLIGHT", "POLL%", "SAVED%", "ERRORS", "GUEST", "BACKEND");
		for_each_element(device, devices) {
			same = find_same(before, device);
			if (same)
				print_rates(device, same, end - start);
		}
		fflush(stdout);
		json_object_put(before);
		before = devices;
		start = end;
	}
	json_object_put(before);
}
