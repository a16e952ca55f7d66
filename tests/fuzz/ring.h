/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the ring fuzzer share: the device that is attacked, and a case of it. */
#ifndef TESTS_FUZZ_RING_H
#define TESTS_FUZZ_RING_H

#include "disk.h"
#include "fuzz.h"
#include "guest.h"
#include "model.h"

#define QUEUES_MAX	4
#define BATCH_MAX	SLOTS
#define BATCH_DEVICE	32	/* that the device fetches at once */
#define LOOK_CASES	32	/* after so many all memory and all of the disk is looked at */
/* Sectors that racing requests are in, and how far beyond them they may reach. */
#define RACE_ZONE	2048
#define RACE_REACH	512

/* What is counted; ring.c has the names. */
enum count { REQUESTS, OKS, ERRORS, UNSUPPORTED, SILENT, STOPS, VAGUE, RACES, ATTACHES };

struct queue {
	struct vq vq;
	bool broken;	/* by us: not served until the next attach */
	uint16_t used;	/* index when it broke */
};

/* target.c */
extern struct guest guest;
extern struct disk *disk;
extern struct model model;
extern bool damaged;	/* rings may be anything, until the next attach */

void target_open(struct dice *d);
void target_detach(void);
void target_attach_anew(struct dice *d);
void target_close(void);
/* One that is served. */
struct queue *target_choose_queue(struct dice *d);
void queue_want_signals(struct queue *q, bool want);
void queue_expect_stop(struct queue *q);
/* All requests have an answer, or the ring has stopped. */
void queue_wait_until_quiet(struct queue *q);

/* batch.c: one case's requests, which are made available together */
extern struct crime crime[BATCH_MAX];
extern uint16_t head[BATCH_MAX];
extern struct verdict verdict[BATCH_MAX];
extern unsigned int nr_requests;
extern unsigned int nr_answered;	/* of them, before the ring stops */
extern bool stops;			/* at the next one */

unsigned int batch_choose_number(struct dice *d, unsigned int most);
void batch_make(struct dice *d, struct vq *vq, unsigned int nr, uint64_t decent_limit);
/* Heads that are wrong, or twice there; returns by how much the index goes too far. */
unsigned int batch_spoil(struct dice *d, struct vq *vq);
/* Foretells what becomes of the case; false if that cannot be. */
bool batch_judge(struct queue *q, unsigned int beyond);
void batch_make_available(struct queue *q, unsigned int from, unsigned int to);
/* Tells the device, which may expect to be told only if it asked for that. */
void queue_show(struct dice *d, struct queue *q);

/* check.c: of a case that was foretold */
void check_answers(struct queue *q, bool signals);
void check_case(struct queue *q);
void check_all(void);
/* The disk where decent requests do not reach, whatever became of them. */
void check_beyond_race(void);

/* racing.c */
void run_race(struct dice *d, struct queue *q);

#endif
