/* Shifts the wall clock of a process, and no other clock, by the seconds that stand in the file named by CLOCK_SHIFT. */

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;

__attribute__((constructor)) static void open_shift(void)
{
	int file = open(getenv("CLOCK_SHIFT"), O_RDONLY);
	shift = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
	close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int result = syscall(SYS_clock_gettime, clock, now);
	if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += *shift;
	return result;
}
