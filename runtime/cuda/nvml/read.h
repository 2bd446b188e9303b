#ifndef UNIRESTORER_NVML_H
#define UNIRESTORER_NVML_H

#include <stddef.h>

enum { MAX_PROCESSES = 64 };

// What a GPU has told, as bits of nvml_gpu.known.
enum {
	KNOW_MEMORY = 1 << 0,
	KNOW_MIG = 1 << 1,
	KNOW_ECC = 1 << 2,
	KNOW_COMPUTE_MODE = 1 << 3,
	KNOW_UNCORRECTED = 1 << 4,
	KNOW_PENDING = 1 << 5,
	KNOW_FAILED = 1 << 6,
	KNOW_THROTTLE = 1 << 7,
	KNOW_TEMPERATURE = 1 << 8,
	KNOW_POWER = 1 << 9,
	KNOW_LINK = 1 << 10,
	KNOW_ENERGY = 1 << 11,
};

struct nvml_memory { // nvmlMemory_t
	unsigned long long total, free, used;
};

struct nvml_process_info { // nvmlProcessInfo_v2_t
	unsigned pid;
	unsigned long long memory; // all ones: not told
	unsigned gpu_instance, compute_instance;
};

struct nvml_process {
	struct nvml_process_info info;
	char name[128];
	int mps;
};

struct nvml_gpu {
	unsigned known;
	char name[96], uuid[96], error[128];
	struct nvml_memory memory;
	unsigned mig[2], ecc[2]; // current, pending
	unsigned compute_mode;
	unsigned long long uncorrected;
	unsigned repair_pending, repair_failed;
	unsigned long long throttle;
	unsigned long long energy; // millijoules since the driver was loaded
	unsigned temperature;
	unsigned power[2]; // limit, default; milliwatts
	unsigned link[4];  // width, most, generation, newest
	unsigned processes;
	struct nvml_process process[MAX_PROCESSES];
};

struct nvml_system {
	char driver[96];
	unsigned count;
};

// nvml_open loads and starts the library. It returns 0, or writes to why what is wrong.
int nvml_open(struct nvml_system *s, char *why, size_t size);
void nvml_read(unsigned index, struct nvml_gpu *g);
void nvml_close(void);

#endif
