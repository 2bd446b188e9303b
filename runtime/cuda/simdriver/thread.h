#ifndef UNIRESTORER_SIMDRIVER_THREAD_H
#define UNIRESTORER_SIMDRIVER_THREAD_H

#include <stdint.h>

// The context that is current on the calling thread, 0 for none.
uintptr_t sim_current(void);
void sim_set_current(uintptr_t context);

// A number that no other living thread has.
uintptr_t sim_thread(void);

// Every cuCtxSetCurrent takes so long from now on; 0: one in sixteen takes a little.
void sim_restless(int microseconds);

#endif
