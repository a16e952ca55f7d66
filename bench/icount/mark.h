/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A no-op that the icount plugin recognises by its displacement. */
#ifndef BENCH_ICOUNT_MARK_H
#define BENCH_ICOUNT_MARK_H

/* nopl 0x6b6c6276(%rax,%rax,1), which no compiler has a reason to emit */
#define MARK_CODE	0x0f, 0x1f, 0x84, 0x00, 0x76, 0x62, 0x6c, 0x6b

#define MARK_STRING_OF(...)	#__VA_ARGS__
#define MARK_STRING(...)	MARK_STRING_OF(__VA_ARGS__)

static inline void mark(void)
{
	/* The compiler moves no memory access across it. */
	asm volatile(".byte " MARK_STRING(MARK_CODE) ::: "memory");
}

#endif
