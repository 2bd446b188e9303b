//go:build cuda && !cudasim && linux

// lazy.c: the CUDA driver's entry points, bound at run time.
//
// A program linked against libcuda does not start where that library is missing. This file defines every
// driver symbol that the program references (symbols.h) as a jump through a slot; cuInit loads libcuda.so.1
// and fills the slots. A call costs one indirect jump more than a direct one.
//
// gorgonia.org/cu calls cuInit when it is initialised and ends the process if that fails. Therefore cuInit
// always succeeds here, and the reason why the driver cannot be used comes back from every later call,
// cuDeviceGetCount first of all.

#include "lazy.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>

enum {
	not_initialized = 3,  // CUDA_ERROR_NOT_INITIALIZED
	no_device = 100,      // CUDA_ERROR_NO_DEVICE
	not_found = 500,      // CUDA_ERROR_NOT_FOUND
};

static int status = not_initialized;
static char reason[256];

static int fail(void) { return status; }
static int missing(void) { return not_found; }

// The slots start at fail, so that a call before cuInit gives CUDA_ERROR_NOT_INITIALIZED.
#define X(name) __attribute__((visibility("hidden"))) void *lazy_slot_##name = (void *)fail;
#include "symbols.h"
#undef X

static const struct {
	const char *name;
	void **slot;
} table[] = {
#define X(name) {#name, &lazy_slot_##name},
#include "symbols.h"
#undef X
};

// The symbols are hidden, so that the real library keeps its own when it is loaded.
#if defined(__x86_64__)
#define X(name)                                                                                   \
	__asm__(".text\n.p2align 4\n.globl " #name "\n.hidden " #name "\n.type " #name ", @function\n" \
	        #name ":\n\tjmp *lazy_slot_" #name "(%rip)\n.size " #name ", .-" #name "\n");
#elif defined(__aarch64__)
#define X(name)                                                                                   \
	__asm__(".text\n.p2align 4\n.globl " #name "\n.hidden " #name "\n.type " #name ", %function\n" \
	        #name ":\n\tadrp x16, lazy_slot_" #name "\n\tldr x16, [x16, :lo12:lazy_slot_" #name "]\n" \
	        "\tbr x16\n.size " #name ", .-" #name "\n");
#else
#error "the lazy CUDA driver supports amd64 and arm64"
#endif
#include "symbols.h"
#undef X

static int (*device_count)(int *);

static void load(void)
{
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		const char *why = dlerror();
		snprintf(reason, sizeof reason, "%s", why ? why : "libcuda.so.1 cannot be loaded");
		status = no_device;
		return;
	}
	int (*init)(unsigned) = (int (*)(unsigned))dlsym(lib, "cuInit");
	device_count = (int (*)(int *))dlsym(lib, "cuDeviceGetCount");
	if (!init || !device_count) {
		snprintf(reason, sizeof reason, "libcuda.so.1 is not a CUDA driver: it lacks cuInit or cuDeviceGetCount");
		device_count = NULL;
		status = no_device;
		return;
	}
	status = init(0);
	// The slots are filled even when the driver refuses to start: it can still name its error.
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		void *entry = dlsym(lib, table[i].name);
		*table[i].slot = entry ? entry : (void *)missing;
	}
}

__attribute__((visibility("hidden"))) int cuInit(unsigned flags)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)flags; // must be 0
	pthread_once(&once, load);
	return 0;
}

__attribute__((visibility("hidden"))) int cuDeviceGetCount(int *n)
{
	*n = 0;
	return status == 0 ? device_count(n) : status;
}

int lazy_status(const char **why)
{
	*why = reason;
	return status;
}
