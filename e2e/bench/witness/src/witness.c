/* witness stands on both sides of an init, and says on its standard output when what happened: a line "WORD NANOSECONDS"
 * of CLOCK_MONOTONIC. It is in C so that its own start costs next to nothing beside an init's.
 *
 *   witness become COMMAND…   mounts the PID namespace's /proc, says "exec" and becomes the command
 *   witness child             says "first"; then "signal" at each SIGUSR1; ends on SIGTERM and says "end"
 *   witness orphans N         says "begin", makes N orphans that end at once, says "made", waits
 *   witness hold N            makes N children that wait, says "held", waits
 *   witness true              ends at once
 *   run                       as "witness child": s6 has arguments of its own for its services
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* say writes one line by one write(2), without stdio: a signal handler calls it. */
static void say(const char *word, long long at)
{
	char line[64];
	int n = 0, digits = 0;
	char reversed[24];

	while (*word && n < 32)
		line[n++] = *word++;
	line[n++] = ' ';
	do {
		reversed[digits++] = (char)('0' + at % 10);
		at /= 10;
	} while (at > 0);
	while (digits > 0)
		line[n++] = reversed[--digits];
	line[n++] = '\n';
	if (write(1, line, (size_t)n) != n)
		_exit(98);
}

static void fail(const char *what)
{
	fprintf(stderr, "witness: %s: %s\n", what, strerror(errno));
	_exit(99);
}

static void told(int sig)
{
	long long at = now();

	if (sig == SIGUSR1) {
		say("signal", at);
		return;
	}
	say("end", now());
	_exit(0);
}

static void rest(void)
{
	for (;;)
		pause();
}

static void become(char **command)
{
	if (mount("", "/", "", MS_REC | MS_PRIVATE, "") != 0 || mount("proc", "/proc", "proc", 0, "") != 0)
		fail("mount /proc");
	say("exec", now());
	execv(command[0], command);
	fail(command[0]);
}

static void child(void)
{
	struct sigaction a;

	say("first", now());
	memset(&a, 0, sizeof a);
	a.sa_handler = told;
	if (sigaction(SIGUSR1, &a, NULL) != 0 || sigaction(SIGTERM, &a, NULL) != 0)
		fail("sigaction");
	say("up", now());
	rest();
}

/* orphans makes them a hundred at a time: a parent that forks a hundred and does not wait for any. */
static void orphans(long n)
{
	const long batch = 100;

	say("begin", now());
	while (n > 0) {
		pid_t parent = fork();
		if (parent < 0)
			fail("fork");
		if (parent == 0) {
			for (long i = 0; i < batch && i < n; i++) {
				pid_t orphan;
				do
					orphan = fork();
				while (orphan < 0 && errno == EAGAIN);
				if (orphan < 0)
					fail("fork");
				if (orphan == 0)
					_exit(0);
			}
			_exit(0);
		}
		int status;
		if (waitpid(parent, &status, 0) != parent || status != 0)
			fail("wait for a parent");
		n -= batch;
	}
	say("made", now());
	rest();
}

static void hold(long n)
{
	for (long i = 0; i < n; i++) {
		pid_t pid = fork();
		if (pid < 0)
			fail("fork");
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
			rest();
		}
	}
	say("held", now());
	rest();
}

int main(int argc, char **argv)
{
	const char *role = argc > 1 ? argv[1] : "";
	const char *slash = strrchr(argv[0], '/');

	if (strcmp(slash != NULL ? slash + 1 : argv[0], "run") == 0)
		child();

	if (strcmp(role, "become") == 0 && argc > 2)
		become(argv + 2);
	else if (strcmp(role, "child") == 0)
		child();
	else if (strcmp(role, "orphans") == 0 && argc > 2)
		orphans(atol(argv[2]));
	else if (strcmp(role, "hold") == 0 && argc > 2)
		hold(atol(argv[2]));
	else if (strcmp(role, "true") == 0)
		return 0;
	fprintf(stderr, "usage: witness become COMMAND… | child | orphans N | hold N | true\n");
	return 2;
}
