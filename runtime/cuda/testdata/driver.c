// driver.c: a libcuda.so.1 for tests of the lazy driver. It answers what List asks for one GPU, lacks most of the
// driver's functions, and fails to start with the result that FAKE_CUINIT gives. Launches do nothing; waiting for them takes FAKE_WAIT ms.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cuInit(unsigned flags)
{
	const char *result = getenv("FAKE_CUINIT");
	return flags == 0 && result ? atoi(result) : 0;
}

int cuGetErrorName(int result, const char **name)
{
	*name = result == 803 ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" : result == 500 ? "CUDA_ERROR_NOT_FOUND" : "CUDA_ERROR";
	return 0;
}

int cuGetErrorString(int result, const char **text)
{
	*text = result == 803 ? "versions differ" : result == 500 ? "named symbol not found" : "an error";
	return 0;
}

int cuDriverGetVersion(int *version)
{
	const char *v = getenv("FAKE_VERSION");
	return *version = v ? atoi(v) : 12040, 0;
}

int cuMemGetInfo_v2(size_t *free, size_t *total) { return *free = 1 << 29, *total = 1 << 30, 0; }
int cuDeviceGetCount(int *n) { return *n = 1, 0; }
int cuDeviceGet(int *device, int i) { return *device = i, 0; }
int cuDeviceGetName(char *name, int size, int device) { return strncpy(name, "Fake GPU", size), device; }
int cuDeviceGetUuid(void *uuid, int device) { return memset(uuid, 0xab, 16), device; }

int cuDeviceGetUuid_v2(char *uuid, int device)
{
	memset(uuid, 0xab, 16);
	if (getenv("FAKE_MIG"))
		uuid[0] = 0x1f;
	return device;
}

int cuDeviceTotalMem_v2(size_t *size, int device) { return *size = 1 << 30, device; }

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
	const char *major = getenv("FAKE_MAJOR");
	switch (attribute) {
	case 17: // whether kernels are ended after a time
		return *value = getenv("FAKE_WATCHDOG") != NULL, device;
	case 18: // whether the GPU shares the host's memory
		return *value = 0, device;
	case 20: // the compute mode
		return *value = 0, device;
	case 13: // the clock rate: answered with CUDA_ERROR_INVALID_VALUE, as by a driver that does not tell it
		return 1;
	case 75:
		return *value = major ? atoi(major) : 9, device;
	case 76:
		return *value = 0, device;
	}
	return *value = 1024, device;
}

int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = (void *)0x1000, device; }
int cuDevicePrimaryCtxRelease_v2(int device) { return device; }
int cuCtxSetCurrent(void *context) { return context ? 0 : 201; }
int cuCtxSynchronize(void) { return 0; }
int cuModuleLoadDataEx(void **module) { return *module = (void *)0x2000, 0; }
int cuModuleUnload(void *module) { return module ? 0 : 400; }
int cuModuleGetFunction(void **function) { return *function = (void *)0x3000, 0; }
int cuFuncGetAttribute(int *value) { return *value = 1024, 0; }
int cuStreamCreate(void **stream) { return *stream = (void *)0x4000, 0; }

static volatile int waiting;

int cuStreamSynchronize(void *stream)
{
	const char *ms = getenv("FAKE_WAIT");
	waiting++;
	if (ms)
		usleep(1000 * atoi(ms));
	waiting--;
	return stream ? 0 : 400;
}

// The stream must not go away under a call that waits for it.
int cuStreamDestroy_v2(void *stream) { return stream && !waiting ? 0 : 400; }

int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **params, void **extra)
{
	(void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)params;
	return f && stream && (!extra || *(size_t *)extra[3] == 28) ? 0 : 1;
}
