"""PyTorch's side of the GPU kit: times the networks of a plan and compares results with fp32.

peers.py PLAN OUT [--device cuda] [--budget SECONDS] [--network NAME]... [--runtime NAME]... [--warm] [--once NETWORK]

Every line of OUT is a JSON object, a run as results.Run in the kit's Go code has it. --warm only compiles, so that
later runs find compiled kernels in PyTorch's cache on disk. --once loads a network, runs it once and ends.
"""

import argparse
import copy
import json
import math
import pathlib
import statistics
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

TOOLS = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOOLS / "peers"), str(TOOLS)]

import nets  # noqa: E402  (found through the line above)
import nets.restormer  # noqa: E402
from nets.common import ChannelNorm  # noqa: E402
from nets.nafnet import LocalPool  # noqa: E402
from nets.restormer import ConvLoRA  # noqa: E402
from nets.tensors import load as load_tensors  # noqa: E402
from peer_networks import PermutedNorm, SummedAreaPool, replace  # noqa: E402

EAGER, EAGER_GRAPH, COMPILE, COMPILE_GRAPH = "eager", "eager, graph", "compile", "compile, graph"
RUNTIMES = [EAGER, EAGER_GRAPH, COMPILE, COMPILE_GRAPH]


def normalised_attention(q, k, v, temperature):
    """Transposed attention in upstream's order: normalised before the product, which would leave fp16's range otherwise."""
    return ((F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)) * temperature).softmax(-1) @ v


nets.restormer.transposed_attention = normalised_attention


class WidePool(SummedAreaPool):
    """Local means by a summed-area table in fp32: sums over an image leave fp16's range."""

    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


class Estimator(nn.Module):
    """The degradation encoder and the router's heads."""

    def __init__(self, args):
        super().__init__()
        self.encoder = nets.DACLIP(**args)
        # They feed the content encoder, which takes no part in a restoration.
        self.encoder.visual_control.transformer.zero_modules = nn.ModuleList()
        self.router = nets.Router(width=self.encoder.visual_control.proj.shape[1])

    def forward(self, image):
        features = self.encoder(image)
        return (features, *self.router(features))


def merged(adapted):
    """A convolution whose adapter is added to its weight, as upstream does for inference."""
    conv = adapted.conv
    with torch.no_grad():
        conv.weight += (adapted.lora_B @ adapted.lora_A).view_as(conv.weight) * adapted.scaling
    return conv


def build(subject):
    """The network in fp32 with the plan's weights, ready for inference."""
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in load_tensors(subject["weights"]).items()}
    if subject["architecture"] == "daclip":
        net = Estimator(subject["args"])
        tensors = {("encoder." if k.startswith("visual_control.") else "router.") + k: v for k, v in tensors.items()}
    else:
        net = nets.build(subject["architecture"], subject["args"])
    result = net.load_state_dict(tensors, strict=False)
    buffers = {name for name, _ in net.named_buffers()}
    wrong = result.unexpected_keys + [name for name in result.missing_keys if name not in buffers]
    if wrong:
        raise ValueError(f"{subject['weights']}: missing or unexpected tensors: {', '.join(wrong[:5])}")
    replace(net, ConvLoRA, merged)
    replace(net, LocalPool, lambda pool: WidePool(pool.window))
    replace(net, ChannelNorm, PermutedNorm)
    return net.eval().requires_grad_(False)


def values(result):
    """All outputs one after the other in fp32."""
    parts = result if isinstance(result, tuple) else (result,)
    return torch.cat([p.float().reshape(-1) for p in parts]).cpu()


def difference(got, want):
    """PSNR, for a peak of 1 or the largest value, and the largest error, as texts."""
    error = (got.double() - want.double()).abs()
    if not bool(torch.isfinite(error).all()):
        return "nan", "nan"
    mse, peak = float((error * error).mean()), max(1.0, float(want.abs().max()))
    psnr = "inf" if mse == 0 else f"{10 * math.log10(peak * peak / mse):.1f}"
    return psnr, f"{float(error.max()):.2g}"


class Clock:
    """Times work between two events on a GPU, by the wall clock elsewhere."""

    def __init__(self, device):
        self.cuda = device.type == "cuda"

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()

    def time(self, work, count):
        """Milliseconds of each of count calls."""
        if not self.cuda:
            times = []
            for _ in range(count):
                started = time.perf_counter()
                work()
                times.append(1e3 * (time.perf_counter() - started))
            return times
        pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(count)]
        torch.cuda.synchronize()
        for start, end in pairs:
            start.record()
            work()
            end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in pairs]


def timing(times):
    times = sorted(times)
    return {"median_ms": statistics.median_low(times), "least_ms": times[0],
            "p90_ms": times[math.ceil(0.9 * len(times)) - 1], "runs": len(times)}


def captured(net, image):
    """A function that replays net(image) as one CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            net(image)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = net(image)

    def replay():
        graph.replay()
        return result

    return replay


def runner(net, image, runtime):
    """A function that runs the network on a runtime; compilation happens in its first call."""
    if runtime == EAGER:
        return lambda: net(image)
    if runtime == EAGER_GRAPH:
        return captured(net, image)
    torch._dynamo.reset()
    mode = "reduce-overhead" if runtime == COMPILE_GRAPH else None
    compiled = torch.compile(net, mode=mode, dynamic=False)
    return lambda: compiled(image)


def lacking(runtime, device):
    """Why a runtime is not available here, or nothing."""
    if runtime in (COMPILE, COMPILE_GRAPH) and not hasattr(torch, "compile"):
        return f"PyTorch {torch.__version__} has no torch.compile"
    if runtime != EAGER and device.type != "cuda":
        return "needs a GPU"
    return ""


class Bench:
    def __init__(self, options, plan):
        self.device = torch.device(options.device)
        # fp16 on a CPU lacks kernels in older versions; there the point is to run at all.
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.clock, self.options, self.quick = Clock(self.device), options, plan["quick"]
        self.deadline = time.monotonic() + options.budget
        self.longest = {}  # seconds that a runtime took for one case
        self.made = None  # the present network
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # for what is compared with

    def networks(self, subject):
        """The network in fp32 and as it is timed, on the device, and how long making it took."""
        if self.made is None or self.made[0] != subject["name"]:
            self.made = None  # the last one's memory goes first
            started = time.perf_counter()
            exact = build(subject).to(self.device)
            net = copy.deepcopy(exact).to(self.dtype).to(memory_format=torch.channels_last)
            self.clock.wait()
            self.made = subject["name"], exact, net, time.perf_counter() - started
        return self.made[1:]

    def images(self, case):
        shape = (case["batch"], 3, case["height"], case["width"])
        return torch.from_numpy(np.fromfile(case["input"], "<f4").reshape(shape))

    def place(self, images):
        """Images as the timed network takes them."""
        return images.to(self.device).to(self.dtype).contiguous(memory_format=torch.channels_last)

    def run(self, subject, case, runtime):
        record = {"network": subject["name"], "runtime": runtime,
                  "batch": case["batch"], "height": case["height"], "width": case["width"]}
        reason = lacking(runtime, self.device)
        key = (runtime, subject["name"])
        if not reason and time.monotonic() + self.longest.get(key, self.longest.get(runtime, 0)) > self.deadline:
            reason = "not reached within the time limit"
        if reason:
            return {**record, "error": reason}
        began = time.monotonic()
        try:
            self.measure(subject, case, runtime, record)
        except Exception as e:  # the others go on
            record["error"] = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:300]
        self.longest[key] = max(self.longest.get(key, 0), time.monotonic() - began)
        self.longest[runtime] = max(self.longest.get(runtime, 0), time.monotonic() - began)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return record

    def measure(self, subject, case, runtime, record):
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        _, net, record["load_s"] = self.networks(subject)
        image = self.place(self.images(case))
        started = time.perf_counter()
        work = runner(net, image, runtime)
        result = work()
        self.clock.wait()
        record["first_ms"] = 1e3 * (time.perf_counter() - started)
        if self.options.warm:
            return
        got = values(result)
        del result
        for _ in range(1 if self.quick else 3):
            work()
        one = max(self.clock.time(work, 1))
        count = 2 if self.quick else max(10, min(200, int(1000 / max(one, 1e-3))))
        record["device"] = timing(self.clock.time(work, count))
        if self.device.type == "cuda":
            record["bytes"] = torch.cuda.max_memory_allocated()
        if runtime == EAGER:
            record["wall"] = timing(self.host_to_host(net, case, 2 if self.quick else 10))
        record["psnr_db"], record["max_abs"] = difference(got, self.reference(subject, case))

    def host_to_host(self, net, case, count):
        """Milliseconds from pageable memory of the host to it, as our runtime's whole runs."""
        images, times = self.images(case), []
        for _ in range(count):
            started = time.perf_counter()
            values(net(self.place(images)))
            times.append(1e3 * (time.perf_counter() - started))
        return times

    def reference(self, subject, case):
        """The result in fp32, made once for each case."""
        path = pathlib.Path(case["output"] + ".reference.npy")
        if not path.exists():
            exact = self.networks(subject)[0]
            # One image at a time: fp32 at batch 8 is large.
            each = [exact(image[None].to(self.device)) for image in self.images(case)]
            each = [r if isinstance(r, tuple) else (r,) for r in each]
            parts = tuple(torch.cat([r[i] for r in each]) for i in range(len(each[0])))
            np.save(path, values(parts).numpy())
        return torch.from_numpy(np.load(path))

    def ours(self, subject, case):
        """Our result against the reference, if we have run."""
        path = pathlib.Path(case["output"])
        if not path.exists():
            return None
        got = torch.from_numpy(np.fromfile(path, "<f4"))
        psnr, worst = difference(got, self.reference(subject, case))
        return {"network": subject["name"], "runtime": "graph", "batch": case["batch"], "height": case["height"],
                "width": case["width"], "psnr_db": psnr, "max_abs": worst}


def schedule(plan, names, runtimes):
    """Cases in order of importance: sizes, then networks, then runtimes."""
    for i in range(max(len(s["sizes"]) for s in plan["subjects"])):
        for subject in plan["subjects"]:
            if subject["architecture"] != "daclip" and subject["architecture"] not in nets.ARCHITECTURES:
                continue  # has no network in PyTorch here
            if (names and subject["name"] not in names) or i >= len(subject["sizes"]):
                continue
            for runtime in runtimes:
                yield subject, subject["sizes"][i], runtime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan")
    parser.add_argument("out")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", type=float, default=1e9)
    parser.add_argument("--network", action="append")
    parser.add_argument("--runtime", action="append", choices=RUNTIMES)
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--once")
    options = parser.parse_args()
    plan = json.loads(pathlib.Path(options.plan).read_text())
    bench = Bench(options, plan)
    with torch.inference_mode():
        if options.once:
            subject = next(s for s in plan["subjects"] if s["name"] == options.once)
            values(bench.networks(subject)[1](bench.place(bench.images(subject["sizes"][0]))))
            return
        with open(options.out, "a") as out:
            for subject, case, runtime in schedule(plan, options.network, options.runtime or RUNTIMES):
                record = bench.run(subject, case, runtime)
                print(json.dumps(record), file=out, flush=True)
                print(record["network"], runtime, case["batch"], f"{case['width']}x{case['height']}",
                      record.get("device", {}).get("median_ms"), record.get("error", ""), flush=True)
                if runtime == EAGER and not options.warm and not record.get("error"):
                    agreement = bench.ours(subject, case)
                    if agreement:
                        print(json.dumps(agreement), file=out, flush=True)


if __name__ == "__main__":
    main()
