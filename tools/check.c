// SPDX-License-Identifier: GPL-2.0
/* Check whether this host can serve disks by vhost-blk, and say what to do where it cannot. */

#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "vhost-blk.h"

#define SECURE_BOOT "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define QEMU_CONF "/etc/libvirt/qemu.conf"
#define APPARMOR "/etc/apparmor.d/abstractions/libvirt-qemu"
#define APPARMOR_LOCAL "/etc/apparmor.d/local/abstractions/libvirt-qemu"
/* Of the package; libvirt 9.0 of Debian 12 does not include it. */
#define APPARMOR_PACKAGE "/etc/apparmor.d/abstractions/libvirt-qemu.d/vhost-blk"

static struct json_object *results;
static struct utsname host;

/* Add a result; status is "ok", "warning" or "failure", and advice says what to do, or is NULL. */
static void result(const char *name, const char *status, char *found, const char *advice)
{
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "check", json_object_new_string(name));
	json_object_object_add(object, "status", json_object_new_string(status));
	json_object_object_add(object, "found", json_object_new_string(found));
	json_object_object_add(object, "advice", advice ? json_object_new_string(advice) : NULL);
	json_object_array_add(results, object);
	free(found);
}

static char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *format(const char *fmt, ...)
{
	va_list args;
	char *s;

	va_start(args, fmt);
	if (vasprintf(&s, fmt, args) < 0)
		abort();
	va_end(args);
	return s;
}

/* Return the first line of a file or of what a command prints, "" if there is none. */
static char *first_line(FILE *from)
{
	char *line = NULL;
	size_t size = 0;

	if (!from || getline(&line, &size, from) < 0) {
		free(line);
		line = strdup("");
	}
	line[strcspn(line, "\n")] = 0;
	return line;
}

static char *line_of_file(const char *path)
{
	FILE *file = fopen(path, "r");
	char *line = first_line(file);

	if (file)
		fclose(file);
	return line;
}

static char *line_of_command(const char *command)
{
	FILE *pipe = popen(command, "r");
	char *line = first_line(pipe);

	if (pipe)
		pclose(pipe);
	return line;
}

/* Return whether a file has a line with a word, outside of comments. */
static bool has_word(const char *path, const char *word)
{
	FILE *file = fopen(path, "r");
	bool found = false;
	char *line = NULL;
	size_t size = 0;

	while (file && !found && getline(&line, &size, file) > 0) {
		line[strcspn(line, "#")] = 0;
		found = strstr(line, word);
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

static bool exists(const char *path)
{
	return !access(path, F_OK);
}

static void check_kernel(void)
{
	unsigned int major = 0, minor = 0;

	sscanf(host.release, "%u.%u", &major, &minor);
	if (major < 6 || (major == 6 && minor < 1))
		result("kernel", "failure", format("Linux %s", host.release), "the module needs Linux 6.1 or later");
	else
		result("kernel", "ok", format("Linux %s", host.release), NULL);
}

/* Headers and BTF are only of interest for a build. */
static void check_build(void)
{
	char *headers = format("/lib/modules/%s/build/include/generated/utsrelease.h", host.release);

	if (exists(headers))
		result("headers", "ok", format("/lib/modules/%s/build", host.release), NULL);
	else
		result("headers", "warning", format("none for Linux %s", host.release),
		       "to build the module, install the kernel's headers (Debian: linux-headers-amd64)");
	free(headers);
	if (exists("/sys/kernel/btf/vmlinux"))
		result("btf", "ok", strdup("/sys/kernel/btf/vmlinux"), NULL);
	else
		result("btf", "warning", strdup("the kernel has none"),
		       "a build cannot compare the header of the vhost core with this kernel; take it from its very source");
}

/* Return the version of the module that is installed for this kernel. */
static char *check_installed(void)
{
	char *version = line_of_command("PATH=$PATH:/sbin:/usr/sbin modinfo -F version vhost_blk 2>/dev/null");

	if (!*version && exists("/sys/module/vhost_blk"))
		result("module", "warning", strdup("loaded, but not installed for this kernel"),
		       "install it to have it after a reboot: package vhost-blk-dkms, or make install");
	else if (!*version)
		result("module", "failure", format("none for Linux %s", host.release),
		       "install the package vhost-blk-dkms, or make install; "
		       "if it is installed: dkms install vhost-blk/" VERSION " says why it does not build");
	else if (strcmp(version, VERSION))
		result("module", "warning", format("version %s, this program has " VERSION, version),
		       "install both from the same release");
	else
		result("module", "ok", format("version %s", version), NULL);
	return version;
}

static void check_loaded(const char *installed)
{
	char *version = line_of_file("/sys/module/vhost_blk/version");
	char *build = line_of_file("/sys/module/vhost_blk/srcversion");
	char *wanted = line_of_command("PATH=$PATH:/sbin:/usr/sbin modinfo -F srcversion vhost_blk 2>/dev/null");

	if (!exists("/sys/module/vhost_blk"))
		result("loaded", "failure", strdup("no"), "modprobe vhost_blk; dmesg tells why it fails");
	else if (*installed && strcmp(build, wanted))
		result("loaded", "warning", format("version %s, not the build that is installed", version),
		       "end the guests that use it (vhost-blk list), then: modprobe -r vhost_blk && modprobe vhost_blk");
	else
		result("loaded", "ok", format("version %s", version), NULL);
	free(version);
	free(build);
	free(wanted);
}

static void check_secure_boot(void)
{
	FILE *file = fopen(SECURE_BOOT, "r");
	bool enabled = false;

	if (file) {
		/* Four bytes of attributes, then the value. */
		fseek(file, 4, SEEK_SET);
		enabled = fgetc(file) == 1;
		fclose(file);
	}
	if (enabled && !exists("/sys/module/vhost_blk"))
		result("secure-boot", "warning", strdup("enabled, and the module is not loaded"),
		       "the kernel takes signed modules only: enrol DKMS's key with "
		       "mokutil --import /var/lib/dkms/mok.pub, and reboot");
	else
		result("secure-boot", "ok", strdup(enabled ? "enabled" : "off"), NULL);
}

static void check_node(void)
{
	struct group *kvm = getgrnam("kvm");
	struct stat st;

	if (stat(NODE, &st)) {
		result("node", "failure", strdup("no " NODE), "modprobe vhost_blk");
		return;
	}
	if (!kvm)
		result("node", "warning", strdup("there is no group kvm"),
		       "install QEMU, or give " NODE " to another group by a udev rule");
	else if (st.st_gid != kvm->gr_gid || (st.st_mode & 0777) != 0660)
		result("node", "warning", format("mode %03o, group %u", st.st_mode & 0777, st.st_gid),
		       "udevadm trigger " NODE "; if that does not help, 60-vhost-blk.rules is not installed");
	else
		result("node", "ok", strdup(NODE ", mode 660, group kvm"), NULL);
}

static bool is_member(const struct passwd *user, const struct group *group)
{
	char **member;

	if (user->pw_gid == group->gr_gid)
		return true;
	for (member = group->gr_mem; *member; member++)
		if (!strcmp(*member, user->pw_name))
			return true;
	return false;
}

/* Who runs QEMU: the user of libvirt's machines, and who calls this program. */
static void check_group(void)
{
	static const char *const users[] = { "libvirt-qemu", "qemu", NULL };
	struct group *kvm = getgrnam("kvm");
	struct passwd *user = NULL;
	unsigned int i;

	if (!kvm)
		return;
	for (i = 0; users[i] && !user; i++)
		user = getpwnam(users[i]);
	if (!user)
		user = getpwuid(getuid());
	if (!user || !user->pw_uid)
		return;
	if (is_member(user, kvm))
		result("group", "ok", format("%s is in group kvm", user->pw_name), NULL);
	else
		result("group", "failure", format("%s is not in group kvm", user->pw_name),
		       "usermod -aG kvm USER, then log in anew, or restart libvirt");
}

static void check_qemu(const char *qemu)
{
	char *line, *version;

	/* In the environment its name needs no quotes. */
	setenv("QEMU", qemu, 1);
	line = line_of_command("\"$QEMU\" -device help 2>/dev/null | grep -m 1 '\"vhost-blk-pci\"'");
	version = line_of_command("\"$QEMU\" --version 2>/dev/null");
	if (!*version)
		result("qemu", "failure", format("no %s", qemu), "name QEMU with --qemu");
	else if (!*line)
		result("qemu", "failure", format("%s has no device vhost-blk-pci: %s", qemu, version),
		       "use a QEMU with the series of vhost-blk, and name it with --qemu");
	else
		result("qemu", "ok", format("%s has vhost-blk-pci: %s", qemu, version), NULL);
	free(line);
	free(version);
}

static void check_libvirt(void)
{
	if (!exists(QEMU_CONF))
		return;
	if (has_word(QEMU_CONF, NODE))
		result("libvirt", "ok", strdup(QEMU_CONF " names " NODE), NULL);
	else
		result("libvirt", "warning", strdup(QEMU_CONF " does not name " NODE),
		       "add it to cgroup_device_acl, and restart libvirt");
	if (!exists(APPARMOR))
		return;
	if (has_word(APPARMOR, NODE) || has_word(APPARMOR_LOCAL, NODE) ||
	    (has_word(APPARMOR, "libvirt-qemu.d") && has_word(APPARMOR_PACKAGE, NODE)))
		result("apparmor", "ok", strdup("guests may open " NODE), NULL);
	else
		result("apparmor", "warning", strdup("no rule for " NODE),
		       "add the line \"" NODE " rw,\" to " APPARMOR_LOCAL);
}

static void print_results(void)
{
	size_t i;

	for (i = 0; i < json_object_array_length(results); i++) {
		struct json_object *object = json_object_array_get_idx(results, i);

		printf("%-8s %-12s %s\n", text(object, "status"), text(object, "check"), text(object, "found"));
		if (json_object_object_get(object, "advice"))
			printf("%21s -> %s\n", "", text(object, "advice"));
	}
}

static bool any_failed(void)
{
	size_t i;

	for (i = 0; i < json_object_array_length(results); i++)
		if (!strcmp(text(json_object_array_get_idx(results, i), "status"), "failure"))
			return true;
	return false;
}

bool check(const char *qemu, bool as_json)
{
	char *installed;
	bool failed;

	results = json_object_new_array();
	uname(&host);
	check_kernel();
	check_build();
	installed = check_installed();
	check_loaded(installed);
	free(installed);
	check_secure_boot();
	check_node();
	check_group();
	check_qemu(qemu);
	check_libvirt();
	if (as_json)
		puts(json_object_to_json_string_ext(results, JSON_C_TO_STRING_PRETTY));
	else
		print_results();
	failed = any_failed();
	json_object_put(results);
	return !failed;
}
