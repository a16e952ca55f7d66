// SPDX-License-Identifier: GPL-2.0
/* The program vhost-blk: what it shows of devices, and what it says about this host. */
#define _GNU_SOURCE
#include "unit.h"

#include <json-c/json.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define TOOL	"build/tools/vhost-blk "

static char output[1024 * 1024];

/* Run a command and return its exit status; what it prints is in output. */
static int run(const char *command)
{
	FILE *pipe = popen(command, "r");
	size_t len;
	int status;

	assert_non_null(pipe);
	len = fread(output, 1, sizeof(output) - 1, pipe);
	output[len] = 0;
	status = pclose(pipe);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static struct json_object *run_json(const char *command, int status)
{
	struct json_object *object;

	assert_int_equal(run(command), status);
	object = json_tokener_parse(output);
	assert_non_null(object);
	return object;
}

/* Return the element of an array with that value of a member, or NULL. */
static struct json_object *find(struct json_object *array, const char *name, const char *value)
{
	struct json_object *object;
	size_t i;

	for (i = 0; i < json_object_array_length(array); i++) {
		object = json_object_array_get_idx(array, i);
		if (!strcmp(json_object_get_string(json_object_object_get(object, name)), value))
			return object;
	}
	return NULL;
}

static long long number(struct json_object *object, const char *name)
{
	struct json_object *member = json_object_object_get(object, name);

	assert_non_null(member);
	return json_object_get_int64(member);
}

/* Return the only device of this process from what list --json printed. */
static struct json_object *own_device(struct json_object *devices)
{
	char pid[16];
	struct json_object *device;

	snprintf(pid, sizeof(pid), "%d", getpid());
	device = find(devices, "pid", pid);
	assert_non_null(device);
	return device;
}

static void some_io(struct unit *u)
{
	char *buf = unit_alloc(u, 8 * KIB);

	assert_int_equal(unit_io(u, VIRTIO_BLK_T_OUT, 0, buf, 8 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, 4 * KIB), VIRTIO_BLK_S_OK);
	assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, MIB / 512, buf, 512), VIRTIO_BLK_S_IOERR);
}

static void list_has_the_counters(void **state)
{
	struct unit *u = *state;
	struct json_object *devices, *device, *queues, *queue;

	unit_null(u, &(struct null_blk){ .size_mib = 1 }, O_RDWR | O_DIRECT);
	unit_start(u, 2, 16);
	some_io(u);
	devices = run_json(TOOL "list --json", 0);
	device = own_device(devices);
	assert_int_equal(number(device, "fd"), u->dev.fd);
	assert_string_equal(json_object_get_string(json_object_object_get(device, "backend")), u->path);
	assert_string_equal(json_object_get_string(json_object_object_get(device, "process")), "tool");
	assert_null(json_object_object_get(device, "guest"));
	queues = json_object_object_get(device, "queues");
	assert_int_equal(json_object_array_length(queues), 2);
	queue = json_object_array_get_idx(queues, 0);
	assert_int_equal(number(queue, "index"), 0);
	assert_int_equal(number(json_object_object_get(queue, "write"), "bytes"), 8 * KIB);
	assert_int_equal(number(json_object_object_get(queue, "read"), "requests"), 2);
	assert_int_equal(number(json_object_object_get(queue, "read"), "bytes"), 4 * KIB);
	assert_int_equal(number(json_object_object_get(queue, "read"), "errors"), 1);
	assert_int_equal(number(queue, "max_inflight"), 1);
	assert_int_equal(number(queue, "inflight"), 0);
	queue = json_object_array_get_idx(queues, 1);
	assert_int_equal(number(queue, "index"), 1);
	assert_int_equal(number(json_object_object_get(queue, "write"), "bytes"), 0);
	json_object_put(devices);
	assert_int_equal(run(TOOL "list"), 0);
	assert_non_null(strstr(output, u->path));
}

static void list_of_a_device_that_serves_nothing(void **state)
{
	struct unit *u = *state;
	struct json_object *devices, *device;

	unit_open(u, FEATURES);
	devices = run_json(TOOL "list --json", 0);
	device = own_device(devices);
	assert_null(json_object_object_get(device, "backend"));
	assert_int_equal(json_object_array_length(json_object_object_get(device, "queues")), 0);
	json_object_put(devices);
	assert_int_equal(run(TOOL "list"), 0);
}

/* The name of a guest is QEMU's argument. */
static void list_names_the_guest(void **state)
{
	struct json_object *devices = NULL;
	FILE *qemu;

	(void)state;
	qemu = popen("exec bash -c 'exec 7<>" VHOST_BLK_DEVICE " && read' bash -name guest=web,debug-threads=on", "w");
	assert_non_null(qemu);
	WAIT_UNTIL((devices = run_json(TOOL "list --json", 0), find(devices, "fd", "7")));
	assert_non_null(find(devices, "guest", "web"));
	json_object_put(devices);
	pclose(qemu);
}

static void prometheus_has_the_counters(void **state)
{
	struct unit *u = *state;
	char line[512];

	unit_null(u, &(struct null_blk){ .size_mib = 1 }, O_RDWR | O_DIRECT);
	unit_start(u, 1, 16);
	some_io(u);
	assert_int_equal(run(TOOL "list --prometheus"), 0);
	assert_non_null(strstr(output, "# TYPE vhost_blk_bytes_total counter\n"));
	snprintf(line, sizeof(line), "vhost_blk_bytes_total{pid=\"%d\",fd=\"%d\",guest=\"tool\",backend=\"%s\","
		 "queue=\"0\",type=\"write\"} 8192\n", getpid(), u->dev.fd, u->path);
	assert_non_null(strstr(output, line));
	assert_non_null(strstr(output, "# TYPE vhost_blk_inflight gauge\n"));
	snprintf(line, sizeof(line), "vhost_blk_inflight{pid=\"%d\",fd=\"%d\",guest=\"tool\",backend=\"%s\","
		 "queue=\"0\"} 0\n", getpid(), u->dev.fd, u->path);
	assert_non_null(strstr(output, line));
}

static void top_shows_rates(void **state)
{
	struct unit *u = *state;
	double reads = 0, mib = 0;
	char pid[16];
	const char *line;
	FILE *top;
	size_t len;
	char *buf;

	unit_null(u, &(struct null_blk){ .size_mib = 1 }, O_RDWR | O_DIRECT);
	unit_start(u, 1, 16);
	buf = unit_alloc(u, 64 * KIB);
	top = popen(TOOL "top --delay 2 --rounds 1", "r");
	assert_non_null(top);
	/* It looks at the device sometime in the first of these, and again before the last. */
	WAIT_UNTIL((assert_int_equal(unit_io(u, VIRTIO_BLK_T_IN, 0, buf, 64 * KIB), VIRTIO_BLK_S_OK),
		    poll(&(struct pollfd){ .fd = fileno(top), .events = POLLIN }, 1, 0) == 1));
	len = fread(output, 1, sizeof(output) - 1, top);
	output[len] = 0;
	assert_int_equal(pclose(top), 0);
	snprintf(pid, sizeof(pid), "%8d ", getpid());
	line = strstr(output, pid);
	assert_non_null(line);
	assert_int_equal(sscanf(line, "%*d %*u %lf %*f %lf", &reads, &mib), 2);
	assert_true(reads > 0);
	/* Each read is 1/16 MiB; both figures are rounded. */
	assert_true(mib > (reads - 1) / 16 - 0.1 && mib < (reads + 1) / 16 + 0.1);
}

static const char *status_of(struct json_object *results, const char *check)
{
	struct json_object *result = find(results, "check", check);

	return result ? json_object_get_string(json_object_object_get(result, "status")) : "missing";
}

/* Make a program that stands for QEMU. */
static void fake_qemu(char *path, const char *device)
{
	int fd = mkstemp(path);
	FILE *file = fdopen(fd, "w");

	assert_non_null(file);
	fprintf(file, "#!/bin/sh\n[ \"$1\" = --version ] && echo QEMU 10 || echo 'name \"%s\", bus PCI'\n", device);
	assert_int_equal(fchmod(fd, 0700), 0);
	fclose(file);
}

static void check_finds_module_and_qemu(void **state)
{
	char with[] = "/tmp/qemu-XXXXXX", without[] = "/tmp/qemu-XXXXXX", command[128];
	struct json_object *results;

	(void)state;
	fake_qemu(with, "vhost-blk-pci");
	fake_qemu(without, "virtio-blk-pci");
	snprintf(command, sizeof(command), TOOL "check --json --qemu %s", with);
	results = run_json(command, 0);
	assert_string_equal(status_of(results, "kernel"), "ok");
	assert_string_equal(status_of(results, "loaded"), "ok");
	assert_string_not_equal(status_of(results, "node"), "failure");
	assert_string_equal(status_of(results, "qemu"), "ok");
	/* The test host loads it from elsewhere. */
	assert_string_equal(status_of(results, "module"), "warning");
	json_object_put(results);

	snprintf(command, sizeof(command), TOOL "check --json --qemu %s", without);
	results = run_json(command, 1);
	assert_string_equal(status_of(results, "qemu"), "failure");
	json_object_put(results);
	unlink(with);
	unlink(without);
}

static void wrong_arguments_are_refused(void **state)
{
	(void)state;
	assert_int_equal(run(TOOL "2>&1"), 2);
	assert_int_equal(run(TOOL "lost 2>&1"), 2);
	assert_int_equal(run(TOOL "list --json --prometheus 2>&1"), 2);
	assert_int_equal(run(TOOL "top --delay x 2>&1"), 2);
	assert_int_equal(run(TOOL "--help"), 0);
	assert_non_null(strstr(output, "usage: vhost-blk check"));
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST(list_has_the_counters),
		TEST(list_of_a_device_that_serves_nothing),
		TEST(list_names_the_guest),
		TEST(prometheus_has_the_counters),
		TEST(top_shows_rates),
		TEST(check_finds_module_and_qemu),
		TEST(wrong_arguments_are_refused),
	};

	return unit_run(argc, argv, tests, ARRAY_SIZE(tests));
}
