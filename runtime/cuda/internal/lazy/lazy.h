#ifndef UNIRESTORER_LAZY_H
#define UNIRESTORER_LAZY_H

// lazy_status returns what loading and initialising the driver gave (a CUresult, 0 for success), and why the
// library could not be loaded ("" when it was).
int lazy_status(const char **why);

#endif
