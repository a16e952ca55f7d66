// SPDX-License-Identifier: GPL-2.0
/* The supervisor of a fuzzer's sessions. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "blk.h"

#define COUNTS_MAX	32
#define FAILURES_MAX	10	/* stop after so many */
#define CHECK_SESSIONS	16	/* between checks for leaked workers and references */
#define PROGRESS_MS	60000
/* More than BOUND_MS, the time limit within a case. */
#define STUCK_S		120

/* Shared between the sessions and the supervisor. */
struct shared {
	uint64_t seed;		/* of the present case */
	uint64_t cases;
	uint64_t count[COUNTS_MAX];
	bool killed;
};

static struct shared *shared;
static const struct fuzzer *fuzzer;
static uint64_t failures;
static bool in_session;

struct dice dice_of(uint64_t seed)
{
	struct dice d = { seed };

	/* Consecutive seeds must not give the same sequence, shifted by one. */
	d.state = random_next(&d.state);
	return d;
}

uint64_t roll(struct dice *d, uint64_t n)
{
	return random_next(&d->state) % n;
}

bool chance(struct dice *d, unsigned int percent)
{
	return roll(d, 100) < percent;
}

void *fuzz_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return p;
}

void fuzz_count(unsigned int what, uint64_t nr)
{
	__atomic_fetch_add(&shared->count[what], nr, __ATOMIC_RELAXED);
}

void fuzz_expect_kill(void)
{
	shared->killed = true;
}

static void print_failure(const char *format, va_list args)
{
	uint64_t seed = shared->seed, first = seed - seed % SESSION_CASES;

	fprintf(stderr, "%s: case 0x%" PRIx64 ": ", fuzzer->name, seed);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n    repeat it: make fuzz FUZZERS=%s SEED=0x%" PRIx64 "\n",
		fuzzer->name, seed);
	fprintf(stderr, "    with those before it: make fuzz FUZZERS=%s SEED=0x%" PRIx64
		" CASES=%" PRIu64 "\n", fuzzer->name, first, seed - first + 1);
}

void fuzz_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print_failure(format, args);
	va_end(args);
	if (in_session)
		_exit(1);
	failures++;
}

static void on_alarm(int signal)
{
	(void)signal;
	fuzz_fail("stuck for %d s", STUCK_S);
}

static void run_session(uint64_t seed, uint64_t nr, int64_t end)
{
	uint64_t session = seed / SESSION_CASES;

	in_session = true;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGALRM, on_alarm);
	alarm(STUCK_S);
	fuzzer->open(session);
	for (; nr && now_ms() < end; nr--, seed++) {
		alarm(STUCK_S);
		shared->seed = seed;
		fuzzer->run(seed);
		shared->cases++;
	}
	alarm(STUCK_S);
	fuzzer->close(session);
	_exit(0);
}

/* Wait for the end of a session, which its own alarm bounds unless it is stuck in the kernel. */
static bool wait_for_session(pid_t pid)
{
	struct pollfd session = { .fd = pidfd_open(pid, 0), .events = POLLIN };
	uint64_t cases = shared->cases;
	int64_t end = now_ms() + 2000 * STUCK_S;
	int status;

	if (session.fd < 0) {
		perror("pidfd_open");
		exit(2);
	}
	while (!poll(&session, 1, 1000)) {
		if (shared->cases != cases) {
			cases = shared->cases;
			end = now_ms() + 2000 * STUCK_S;
		}
		if (now_ms() > end) {
			fuzz_fail("the session is stuck in the kernel");
			exit(1);
		}
	}
	close(session.fd);
	if (waitpid(pid, &status, 0) != pid) {
		perror("waitpid");
		exit(2);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1) {
		failures++;
		return false;
	}
	if (shared->killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return true;
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fuzz_fail("the session ended with status 0x%x", status);
		return false;
	}
	return true;
}

/* Run at most @nr cases, all of one session. Return how many. */
static uint64_t do_session(uint64_t seed, uint64_t nr, int64_t end)
{
	uint64_t rest = SESSION_CASES - seed % SESSION_CASES;
	bool ok;
	pid_t pid;

	if (nr > rest)
		nr = rest;
	shared->seed = seed;
	shared->killed = false;
	fuzzer->prepare(seed / SESSION_CASES);
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (!pid)
		run_session(seed, nr, end);
	ok = wait_for_session(pid);
	if (fuzzer->after_session)
		fuzzer->after_session(!ok);
	return nr;
}

static void report(void)
{
	unsigned int i;

	printf("%s: %" PRIu64 " cases", fuzzer->name, shared->cases);
	for (i = 0; fuzzer->count_names[i]; i++)
		printf(", %" PRIu64 " %s", shared->count[i], fuzzer->count_names[i]);
	printf("\n");
	fflush(stdout);
}

static void do_cases(uint64_t seed, uint64_t nr, int64_t end)
{
	int64_t next_report = now_ms() + PROGRESS_MS;
	unsigned int sessions = 0;
	uint64_t done;

	while (nr && now_ms() < end && failures < FAILURES_MAX) {
		done = do_session(seed, nr, end);
		seed += done;
		nr -= done;
		if (++sessions % CHECK_SESSIONS == 0)
			fuzz_expect_nothing_left();
		if (now_ms() >= next_report) {
			report();
			next_report = now_ms() + PROGRESS_MS;
		}
	}
}

/* Run a list of lines "SEED CASES reason". Lines that begin with # are comments. */
static void do_list(const char *path)
{
	char line[512];
	uint64_t seed, nr;
	FILE *f = fopen(path, "re");

	if (!f) {
		perror(path);
		exit(2);
	}
	while (fgets(line, sizeof(line), f) && failures < FAILURES_MAX) {
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (sscanf(line, "%" SCNx64 " %" SCNu64, &seed, &nr) != 2) {
			fprintf(stderr, "%s: not a seed and a number of cases: %s", path, line);
			exit(2);
		}
		do_cases(seed, nr, INT64_MAX);
	}
	fclose(f);
}

int fuzz_device(void)
{
	int fd = open(VHOST_BLK_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		fuzz_fail(VHOST_BLK_DEVICE ": %s", strerror(errno));
	return fd;
}

static int module_references(void)
{
	FILE *f = fopen("/sys/module/vhost_blk/refcnt", "re");
	int nr = -1;

	if (f && fscanf(f, "%d", &nr) != 1)
		nr = -1;
	if (f)
		fclose(f);
	return nr;
}

void fuzz_expect_nothing_left(void)
{
	int threads, references;

	/* Exited threads stay visible until they are reaped. */
	if (!wait_until(!((threads = worker_count(0) + offload_count(0)) |
			  (references = module_references())), BOUND_MS))
		fuzz_fail("%d workers and %d references to the module are left", threads,
			  references);
}

static void usage(const char *program)
{
	fprintf(stderr,
		"usage: %s [-s SEED] [-n CASES] [-t SECONDS] | -l LIST\n"
		"       with neither CASES nor SECONDS the one case of that seed\n", program);
	exit(2);
}

int fuzz_main(int argc, char **argv, const struct fuzzer *f)
{
	uint64_t seed = (uint64_t)time(NULL) << 24, nr = 0, seconds = 0;
	const char *list = NULL;
	bool seeded = false;
	int opt;

	while ((opt = getopt(argc, argv, "s:n:t:l:")) != -1) {
		switch (opt) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			seeded = true;
			break;
		case 'n':
			nr = strtoull(optarg, NULL, 0);
			break;
		case 't':
			seconds = strtoull(optarg, NULL, 0);
			break;
		case 'l':
			list = optarg;
			break;
		default:
			usage(argv[0]);
		}
	}
	if (optind < argc || (!list && !seeded && !nr && !seconds))
		usage(argv[0]);

	fuzzer = f;
	shared = fuzz_shared(sizeof(*shared));
	if (list) {
		do_list(list);
	} else {
		if (!nr)
			nr = seconds ? UINT64_MAX : 1;
		printf("%s: from seed 0x%" PRIx64 "\n", f->name, seed);
		do_cases(seed, nr, seconds ? now_ms() + 1000 * (int64_t)seconds : INT64_MAX);
	}
	f->finish();
	fuzz_expect_nothing_left();
	report();
	printf("%s: %" PRIu64 " passed, %" PRIu64 " failed\n", f->name, shared->cases, failures);
	return failures ? 1 : 0;
}
