/* SPDX-License-Identifier: GPL-2.0 */
/* The ring fuzzer: the device under test, and the present case. */
#ifndef TESTS_FUZZ_RING_H
#define TESTS_FUZZ_RING_H

#include "disk.h"
#include "fuzz.h"
#include "guest.h"
#include "model.h"

#define QUEUES_MAX	4
#define BATCH_MAX	SLOTS
#define BATCH_DEVICE	32	/* requests that the device fetches at once */
#define CHECK_CASES	32	/* between checks of all memory and the whole disk */
/* The sectors of racing requests, and how far beyond them these may extend. */
#define RACE_ZONE	2048
#define RACE_REACH	512

/* Counters. ring.c has their names. */
enum count { REQUESTS, OKS, ERRORS, UNSUPPORTED, SILENT, STOPS, UNORDERED, RACES, ATTACHES };

struct queue {
	struct vq vq;
	bool broken;	/* the ring is stopped until the next attach */
	uint16_t used;	/* index when the ring stopped */
};

/* target.c */
extern struct guest guest;
extern struct disk *disk;
extern struct model model;
extern bool damaged;	/* ring contents are unspecified until the next attach */

void target_open(struct dice *d);
void target_detach(void);
void target_reattach(struct dice *d);
void target_close(void);
/* Return a queue whose ring is not stopped. */
struct queue *target_choose_queue(struct dice *d);
void queue_want_signals(struct queue *q, bool want);
void queue_expect_stop(struct queue *q);
/* Wait until all requests have completed or the ring has stopped. */
void queue_drain(struct queue *q);

/* batch.c: the requests of a case, which are made available together */
extern struct request requests[BATCH_MAX];
extern uint16_t head[BATCH_MAX];
extern struct expectation expected[BATCH_MAX];
extern unsigned int nr_requests;
extern unsigned int nr_completed;	/* requests before the ring stops */
extern bool stops;			/* the ring stops at the request after those */

unsigned int batch_choose_size(struct dice *d, unsigned int most);
void batch_make(struct dice *d, struct vq *vq, unsigned int nr, uint64_t valid_limit);
/* Corrupt a descriptor or a head. Return the excess of the available index. */
unsigned int batch_corrupt(struct dice *d, struct vq *vq);
/* Predict the results of the case. Return false if they depend on the order of requests. */
bool batch_predict(struct queue *q, unsigned int beyond);
void batch_make_available(struct queue *q, unsigned int from, unsigned int to);
/* Publish the available index. Kicks if the device wants it, and sometimes if it does not. */
void queue_publish(struct dice *d, struct queue *q);

/* check.c: the results of a predictable case */
void check_completions(struct queue *q, bool signals);
void check_case(struct queue *q);
void check_all(void);
/* Check the sectors that racing requests cannot reach. */
void check_beyond_race(void);

/* racing.c */
void run_race(struct dice *d, struct queue *q);

#endif
