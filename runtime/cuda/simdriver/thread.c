//go:build cuda && cudasim && linux

#include "thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "_cgo_export.h"

static __thread uintptr_t current;
static atomic_uint calls;
static atomic_int restless = 0;

uintptr_t sim_current(void) { return current; }
void sim_set_current(uintptr_t context) { current = context; }
uintptr_t sim_thread(void) { return (uintptr_t)pthread_self(); }
void sim_restless(int microseconds) { atomic_store(&restless, microseconds); }

// The current context is the thread's. A goroutine that is not locked to its thread may be on another one after a call
// that took long; this makes the call take long now and then, so that such goroutines are found out.
int cuCtxSetCurrent(uintptr_t context)
{
	int result = sim_set_current_checked(context);
	int pause = atomic_load(&restless);
	if (pause == 0 && atomic_fetch_add(&calls, 1) % 16 == 0)
		pause = 100;
	if (pause > 0) {
		struct timespec t = {.tv_nsec = 1000L * pause};
		nanosleep(&t, NULL);
	}
	return result;
}
