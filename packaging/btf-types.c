// SPDX-License-Identifier: GPL-2.0
/*
 * Print types of a kernel module from its BTF, one line for each member and each function, in a form that diff can
 * compare: btf-types VMLINUX FILE STRUCT-ENUM-OR-FUNCTION...
 *
 * VMLINUX has the kernel's BTF, FILE that of a module on top of it.  Functions of FILE are printed, or the members of its
 * struct "vhost_blk_prototypes", which point to functions.
 */

#include <bpf/btf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct btf *btf;
static struct btf_dump *dump;

static void print(void *ctx, const char *format, va_list args)
{
	(void)ctx;
	vprintf(format, args);
}

static void die(const char *what, const char *file)
{
	fprintf(stderr, "btf-types: %s %s: %s\n", what, file, strerror(errno));
	exit(1);
}

static void print_type(__u32 id, const char *name)
{
	LIBBPF_OPTS(btf_dump_emit_type_decl_opts, opts, .field_name = name);

	if (!id)
		printf("void");
	else if (btf_dump__emit_type_decl(dump, id, &opts))
		die("cannot print a type of", name);
}

static void print_members(const char *name, const struct btf_type *t)
{
	const struct btf_member *m = btf_members(t);
	unsigned int i;

	printf("%s: %u bytes\n", name, t->size);
	for (i = 0; i < btf_vlen(t); i++) {
		printf("  bit %u: ", btf_member_bit_offset(t, i));
		print_type(m[i].type, btf__name_by_offset(btf, m[i].name_off));
		if (btf_member_bitfield_size(t, i))
			printf(" : %u", btf_member_bitfield_size(t, i));
		printf("\n");
	}
}

static void print_values(const char *name, const struct btf_type *t)
{
	const struct btf_enum *e = btf_enum(t);
	unsigned int i;

	printf("%s: %u bytes\n", name, t->size);
	for (i = 0; i < btf_vlen(t); i++)
		printf("  %s = %d\n", btf__name_by_offset(btf, e[i].name_off), e[i].val);
}

/* The names of parameters are no part of a prototype. */
static void print_prototype(const char *name, __u32 id)
{
	const struct btf_type *t = btf__type_by_id(btf, id);
	const struct btf_param *p = btf_params(t);
	unsigned int i;

	printf("%s: ", name);
	print_type(t->type, "");
	printf(" (");
	for (i = 0; i < btf_vlen(t); i++) {
		printf(i ? ", " : "");
		print_type(p[i].type, "");
	}
	printf(")\n");
}

/* Return the type of a function or of what a member of struct vhost_blk_prototypes points to, or 0. */
static __u32 find_prototype(const char *name)
{
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_FUNC);
	const struct btf_type *t;
	const struct btf_member *m;
	unsigned int i;

	if (id > 0)
		return btf__type_by_id(btf, id)->type;
	id = btf__find_by_name_kind(btf, "vhost_blk_prototypes", BTF_KIND_STRUCT);
	if (id < 0)
		return 0;
	t = btf__type_by_id(btf, id);
	m = btf_members(t);
	for (i = 0; i < btf_vlen(t); i++)
		if (!strcmp(btf__name_by_offset(btf, m[i].name_off), name))
			return btf__type_by_id(btf, m[i].type)->type;
	return 0;
}

static void print_named(const char *name)
{
	int id;

	if (!strncmp(name, "struct ", 7)) {
		id = btf__find_by_name_kind(btf, name + 7, BTF_KIND_STRUCT);
		if (id > 0)
			print_members(name, btf__type_by_id(btf, id));
	} else if (!strncmp(name, "enum ", 5)) {
		id = btf__find_by_name_kind(btf, name + 5, BTF_KIND_ENUM);
		if (id > 0)
			print_values(name, btf__type_by_id(btf, id));
	} else {
		id = find_prototype(name);
		if (id > 0)
			print_prototype(name, id);
	}
}

int main(int argc, char **argv)
{
	struct btf *base;
	int i;

	if (argc < 3) {
		fprintf(stderr, "usage: btf-types VMLINUX FILE NAME...\n");
		return 2;
	}
	base = btf__parse(argv[1], NULL);
	if (!base)
		die("no BTF in", argv[1]);
	btf = strcmp(argv[1], argv[2]) ? btf__parse_split(argv[2], base) : base;
	if (!btf)
		die("no BTF in", argv[2]);
	dump = btf_dump__new(btf, print, NULL, NULL);
	if (!dump)
		die("cannot print", argv[2]);
	for (i = 3; i < argc; i++)
		print_named(argv[i]);
	return 0;
}
