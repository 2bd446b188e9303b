// nvml.c: a libnvidia-ml.so.1 for tests, of one healthy GPU. Environment variables make it tell otherwise.

#include <stdlib.h>
#include <string.h>
#include <time.h>

static unsigned long long number(const char *name, unsigned long long otherwise)
{
	const char *v = getenv(name);
	return v ? strtoull(v, NULL, 0) : otherwise;
}

int nvmlInit_v2(void) { return number("FAKE_NVML_INIT", 0); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int r) { return r == 9 ? "Driver Not Loaded" : r == 15 ? "GPU is lost" : r == 18 ? "Driver/library version mismatch" : "an error"; }
int nvmlSystemGetDriverVersion(char *version, unsigned size) { return strncpy(version, "550.163.01", size), 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { return *n = number("FAKE_NVML_GPUS", 1), 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { return *d = (void *)(0x100ul + i), number("FAKE_NVML_LOST", 0) ? 15 : 0; }

int nvmlDeviceGetUUID(void *d, char *uuid, unsigned size)
{
	const char *own = getenv("FAKE_NVML_UUID");
	strncpy(uuid, own ? own : "GPU-abababab-abab-abab-abab-abababababab", size);
	if (d != (void *)0x100)
		uuid[4] = '0';
	return 0;
}

int nvmlDeviceGetName(void *d, char *name, unsigned size) { return strncpy(name, "Fake GPU", size), !d; }

int nvmlDeviceGetMemoryInfo(void *d, unsigned long long *memory)
{
	memory[0] = 80ull << 30;
	memory[1] = number("FAKE_NVML_FREE", 79ull << 30);
	return !d;
}

int nvmlDeviceGetMigMode(void *d, unsigned *now, unsigned *later) { return *now = number("FAKE_NVML_MIG", 0), *later = number("FAKE_NVML_MIG_PENDING", *now), !d; }
int nvmlDeviceGetEccMode(void *d, unsigned *now, unsigned *later) { return *now = *later = number("FAKE_NVML_ECC", 1), !d; }
int nvmlDeviceGetComputeMode(void *d, unsigned *mode) { return *mode = number("FAKE_NVML_MODE", 0), !d; }

int nvmlDeviceGetTotalEccErrors(void *d, unsigned type, unsigned counter, unsigned long long *n)
{
	return *n = type == 1 && counter == 0 ? number("FAKE_NVML_ERRORS", 0) : 0, !d;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, unsigned long long *reasons) { return *reasons = number("FAKE_NVML_THROTTLE", 1), !d; }
// A watt, all the time.
int nvmlDeviceGetTotalEnergyConsumption(void *d, unsigned long long *mj)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	*mj = now.tv_sec * 1000ull + now.tv_nsec / 1000000;
	return number("FAKE_NVML_NO_ENERGY", 0) ? 3 : !d;
}

int nvmlDeviceGetTemperature(void *d, unsigned sensor, unsigned *t) { return *t = 41, sensor || !d; }
int nvmlDeviceGetPowerManagementLimit(void *d, unsigned *mw) { return *mw = number("FAKE_NVML_POWER", 700000), !d; }
int nvmlDeviceGetPowerManagementDefaultLimit(void *d, unsigned *mw) { return *mw = 700000, !d; }
int nvmlDeviceGetCurrPcieLinkWidth(void *d, unsigned *n) { return *n = number("FAKE_NVML_LANES", 16), !d; }
int nvmlDeviceGetMaxPcieLinkWidth(void *d, unsigned *n) { return *n = 16, !d; }
int nvmlDeviceGetCurrPcieLinkGeneration(void *d, unsigned *n) { return *n = 1, !d; }
int nvmlDeviceGetMaxPcieLinkGeneration(void *d, unsigned *n) { return *n = 5, !d; }

int nvmlDeviceGetRemappedRows(void *d, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
	*corrected = *uncorrected = 0;
	*pending = number("FAKE_NVML_PENDING", 0);
	*failed = number("FAKE_NVML_FAILED", 0);
	return !d;
}

struct info {
	unsigned pid;
	unsigned long long memory;
	unsigned gpu_instance, compute_instance;
};

int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, struct info *infos)
{
	*n = number("FAKE_NVML_PROCESSES", 0);
	for (unsigned i = 0; i < *n; i++)
		infos[i] = (struct info){4000 + i, 60ull << 30, -1, -1};
	return !d;
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(void *d, unsigned *n, struct info *infos)
{
	(void)infos;
	return *n = 0, !d;
}

int nvmlSystemGetProcessName(unsigned pid, char *name, unsigned size) { return strncpy(name, "/usr/bin/python3", size), !pid; }
