//go:build cuda && linux

// read.c: libnvidia-ml.so.1, bound at run time. A function that the library lacks, and one that fails, leaves what it would
// have told unknown.

#include "read.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef void *device;
typedef int result; // 0 is success

enum { not_found = 13 }; // NVML_ERROR_FUNCTION_NOT_FOUND

static void *library;

// CALL calls a function by name with the given parameter types.
#define CALL(name, types, ...) ({                                    \
	result (*entry_) types = (result (*) types)dlsym(library, name); \
	entry_ ? entry_(__VA_ARGS__) : not_found;                           \
})

static const char *describe(result r)
{
	const char *(*text)(result) = (const char *(*)(result))dlsym(library, "nvmlErrorString");
	return text ? text(r) : "unknown error";
}

int nvml_open(struct nvml_system *s, char *why, size_t size)
{
	library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		const char *text = dlerror();
		snprintf(why, size, "%s", text ? text : "libnvidia-ml.so.1 cannot be loaded");
		return 1;
	}
	result r = CALL("nvmlInit_v2", (void));
	if (r == 0) {
		CALL("nvmlSystemGetDriverVersion", (char *, unsigned), s->driver, sizeof s->driver);
		r = CALL("nvmlDeviceGetCount_v2", (unsigned *), &s->count);
	}
	if (r != 0) {
		snprintf(why, size, "%s", describe(r));
		nvml_close();
		return 1;
	}
	return 0;
}

void nvml_close(void)
{
	CALL("nvmlShutdown", (void));
	dlclose(library);
}

static void read_processes(device d, struct nvml_gpu *g, const char *function, int mps)
{
	struct nvml_process_info infos[MAX_PROCESSES];
	unsigned n = MAX_PROCESSES;
	if (CALL(function, (device, unsigned *, struct nvml_process_info *), d, &n, infos) != 0)
		return;
	for (unsigned i = 0; i < n && g->processes < MAX_PROCESSES; i++) {
		struct nvml_process *p = &g->process[g->processes++];
		p->info = infos[i];
		p->mps = mps;
		CALL("nvmlSystemGetProcessName", (unsigned, char *, unsigned), p->info.pid, p->name, sizeof p->name - 1);
	}
}

void nvml_read(unsigned index, struct nvml_gpu *g)
{
	device d;
	memset(g, 0, sizeof *g);
	result r = CALL("nvmlDeviceGetHandleByIndex_v2", (unsigned, device *), index, &d);
	if (r == 0)
		r = CALL("nvmlDeviceGetUUID", (device, char *, unsigned), d, g->uuid, sizeof g->uuid);
	if (r != 0) {
		snprintf(g->error, sizeof g->error, "%s", describe(r));
		return;
	}
	CALL("nvmlDeviceGetName", (device, char *, unsigned), d, g->name, sizeof g->name);
#define KNOW(what, name, types, ...) \
	if (CALL(name, types, __VA_ARGS__) == 0) \
		g->known |= what
	KNOW(KNOW_MEMORY, "nvmlDeviceGetMemoryInfo", (device, struct nvml_memory *), d, &g->memory);
	KNOW(KNOW_MIG, "nvmlDeviceGetMigMode", (device, unsigned *, unsigned *), d, &g->mig[0], &g->mig[1]);
	KNOW(KNOW_ECC, "nvmlDeviceGetEccMode", (device, unsigned *, unsigned *), d, &g->ecc[0], &g->ecc[1]);
	KNOW(KNOW_COMPUTE_MODE, "nvmlDeviceGetComputeMode", (device, unsigned *), d, &g->compute_mode);
	KNOW(KNOW_UNCORRECTED, "nvmlDeviceGetTotalEccErrors", (device, unsigned, unsigned, unsigned long long *), d, 1, 0, &g->uncorrected);
	KNOW(KNOW_THROTTLE, "nvmlDeviceGetCurrentClocksThrottleReasons", (device, unsigned long long *), d, &g->throttle);
	KNOW(KNOW_ENERGY, "nvmlDeviceGetTotalEnergyConsumption", (device, unsigned long long *), d, &g->energy);
	KNOW(KNOW_TEMPERATURE, "nvmlDeviceGetTemperature", (device, unsigned, unsigned *), d, 0, &g->temperature);
	if (CALL("nvmlDeviceGetPowerManagementLimit", (device, unsigned *), d, &g->power[0]) == 0)
		KNOW(KNOW_POWER, "nvmlDeviceGetPowerManagementDefaultLimit", (device, unsigned *), d, &g->power[1]);
	if (CALL("nvmlDeviceGetCurrPcieLinkWidth", (device, unsigned *), d, &g->link[0]) == 0 &&
	    CALL("nvmlDeviceGetMaxPcieLinkWidth", (device, unsigned *), d, &g->link[1]) == 0 &&
	    CALL("nvmlDeviceGetCurrPcieLinkGeneration", (device, unsigned *), d, &g->link[2]) == 0)
		KNOW(KNOW_LINK, "nvmlDeviceGetMaxPcieLinkGeneration", (device, unsigned *), d, &g->link[3]);

	// Older GPUs retire pages, newer ones remap rows.
	unsigned corrected, uncorrected, pending, failed;
	if (CALL("nvmlDeviceGetRemappedRows", (device, unsigned *, unsigned *, unsigned *, unsigned *), d, &corrected, &uncorrected, &pending, &failed) == 0) {
		g->known |= KNOW_PENDING | KNOW_FAILED;
		g->repair_pending = pending;
		g->repair_failed = failed;
	} else {
		KNOW(KNOW_PENDING, "nvmlDeviceGetRetiredPagesPendingStatus", (device, unsigned *), d, &g->repair_pending);
	}
	read_processes(d, g, "nvmlDeviceGetComputeRunningProcesses_v3", 0);
	read_processes(d, g, "nvmlDeviceGetMPSComputeRunningProcesses_v3", 1);
}
