// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * QEMU TCG plugin: counts the instructions a machine executes, and appends the
 * counts to a file each time a program in the machine executes mark().
 *
 *   -plugin icount.so,out=FILE
 *
 * A line of FILE: instructions so far of the kernel, of userspace, and of the
 * virtual machines that run inside, summed over the processors.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <qemu-plugin.h>

#include "mark.h"

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

struct counts {
	uint64_t kernel;
	uint64_t user;
	/* Of the above, what a virtual machine inside executed. */
	uint64_t nested_kernel;
	uint64_t nested_user;
	/* It executes one now, and the counts were so when it entered it. */
	bool nested;
	uint64_t entered_kernel;
	uint64_t entered_user;
};

#define PLACES	(1u << 19)

static struct qemu_plugin_scoreboard *board;
/* Instructions executed in the blocks of code that begin at each place. */
static struct qemu_plugin_scoreboard *profile_board;
static uint64_t place_address[PLACES];
static unsigned int nr_places;
static GHashTable *places;	/* by address, numbers in place_address */
static GMutex places_lock;
static FILE *profile;
static qemu_plugin_u64 kernel_count, user_count;
static FILE *report;

/*
 * Where a hypervisor goes on after its guest's exit. Only two places of a
 * kernel enter a guest.
 */
static uint64_t exits[8];
static unsigned int nr_exits;

static void leave_nested(struct counts *c)
{
	c->nested_kernel += c->kernel - c->entered_kernel;
	c->nested_user += c->user - c->entered_user;
	c->nested = false;
}

static void enter_nested(struct counts *c)
{
	c->entered_kernel = c->kernel;
	c->entered_user = c->user;
	c->nested = true;
}

static void on_vmrun(unsigned int vcpu, void *unused)
{
	enter_nested(qemu_plugin_scoreboard_find(board, vcpu));
}

static void on_vmexit(unsigned int vcpu, void *unused)
{
	struct counts *c = qemu_plugin_scoreboard_find(board, vcpu);

	if (c->nested)
		leave_nested(c);
}

static qemu_plugin_u64 place_count(uint64_t address)
{
	gpointer number;

	/* All of userspace is one place. */
	if (!(address >> 63))
		address = 0;
	g_mutex_lock(&places_lock);
	if (!g_hash_table_lookup_extended(places, (void *)address, NULL, &number)) {
		number = GUINT_TO_POINTER(nr_places);
		if (nr_places < PLACES - 1)
			nr_places++;
		place_address[GPOINTER_TO_UINT(number)] = address;
		g_hash_table_insert(places, (void *)address, number);
	}
	g_mutex_unlock(&places_lock);
	return (qemu_plugin_u64) {
		.score = profile_board,
		.offset = GPOINTER_TO_UINT(number) * sizeof(uint64_t),
	};
}

static void report_profile(void)
{
	unsigned int i;

	for (i = 0; i < nr_places; i++) {
		qemu_plugin_u64 count = {
			.score = profile_board, .offset = i * sizeof(uint64_t),
		};

		fprintf(profile, "%lx %lu\n", place_address[i], qemu_plugin_u64_sum(count));
	}
	fprintf(profile, "mark\n");
	fflush(profile);
}

static void on_mark(unsigned int vcpu, void *unused)
{
	uint64_t kernel = 0, user = 0, nested = 0;
	int i;

	for (i = 0; i < qemu_plugin_num_vcpus(); i++) {
		struct counts *c = qemu_plugin_scoreboard_find(board, i);

		if (c->nested) {
			leave_nested(c);
			enter_nested(c);
		}
		kernel += c->kernel - c->nested_kernel;
		user += c->user - c->nested_user;
		nested += c->nested_kernel + c->nested_user;
	}
	fprintf(report, "%lu %lu %lu\n", kernel, user, nested);
	fflush(report);
	if (profile)
		report_profile();
}

static bool is_exit(uint64_t address)
{
	unsigned int i;

	for (i = 0; i < nr_exits; i++)
		if (exits[i] == address)
			return true;
	return false;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	static const uint8_t vmrun[] = { 0x0f, 0x01, 0xd8 };
	static const uint8_t mark_code[] = { MARK_CODE };
	uint64_t address = qemu_plugin_tb_vaddr(tb);
	size_t n = qemu_plugin_tb_n_insns(tb), i;

	/* Ahead of the counting, so that this block is not the guest's. */
	if (is_exit(address))
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_vmexit,
						     QEMU_PLUGIN_CB_NO_REGS, NULL);

	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64,
		address >> 63 ? kernel_count : user_count, n);
	if (profile)
		qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64,
								  place_count(address), n);

	for (i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint8_t code[sizeof(mark_code)];
		size_t len = qemu_plugin_insn_data(insn, code, sizeof(code));

		if (len == sizeof(mark_code) && !memcmp(code, mark_code, len)) {
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
		} else if (len == sizeof(vmrun) && !memcmp(code, vmrun, len)) {
			uint64_t next = qemu_plugin_insn_vaddr(insn) + len;

			if (!is_exit(next) && nr_exits < sizeof(exits) / sizeof(exits[0]))
				exits[nr_exits++] = next;
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_vmrun,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
		}
	}
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info,
					   int argc, char **argv)
{
	if (!argc || argc > 2 || strncmp(argv[0], "out=", 4) ||
	    (argc == 2 && strncmp(argv[1], "profile=", 8))) {
		fprintf(stderr, "icount: needs out=FILE, takes profile=FILE\n");
		return -1;
	}
	if (argc == 2) {
		profile = fopen(argv[1] + 8, "a");
		if (!profile) {
			perror(argv[1] + 8);
			return -1;
		}
		places = g_hash_table_new(NULL, NULL);
		profile_board = qemu_plugin_scoreboard_new(PLACES * sizeof(uint64_t));
	}
	report = fopen(argv[0] + 4, "a");
	if (!report) {
		perror(argv[0] + 4);
		return -1;
	}
	board = qemu_plugin_scoreboard_new(sizeof(struct counts));
	kernel_count = qemu_plugin_scoreboard_u64_in_struct(board, struct counts, kernel);
	user_count = qemu_plugin_scoreboard_u64_in_struct(board, struct counts, user);
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	return 0;
}
