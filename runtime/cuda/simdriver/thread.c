//go:build cuda && cudasim && linux

#include "thread.h"

#include <pthread.h>

static __thread uintptr_t current;

uintptr_t sim_current(void) { return current; }
void sim_set_current(uintptr_t context) { current = context; }
uintptr_t sim_thread(void) { return (uintptr_t)pthread_self(); }
