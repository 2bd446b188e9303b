"""Runs networks in PyTorch for the driver, by the line protocol of protocol.go."""

import json
import os
import sys
import time

import torch

from peer_networks import PermutedNorm, build, read_image


# As clock.go says.
clock = time.process_time if os.environ.get("PEERS_CLOCK") == "cpu" else time.perf_counter


class Engine:
    def __init__(self):
        self.net = self.image = self.result = None

    def load(self, request):
        started = clock()
        load = request["load"]
        torch.set_num_threads(load["threads"])
        net = build(load["architecture"], load["args"], load["weights"], PermutedNorm)
        self.image = read_image(load["input"], load["shape"])
        mode = load.get("mode", "eager")
        if mode == "jit":
            net = torch.jit.optimize_for_inference(torch.jit.trace(net, self.image))
        elif mode != "eager":
            raise ValueError(f"unknown mode {mode!r}")
        self.net = net
        return {"version": f"{torch.__version__} {mode}", "seconds": [clock() - started]}

    def run(self, request):
        seconds = []
        for _ in range(request["count"]):
            started = clock()
            self.result = self.net(self.image)
            seconds.append(clock() - started)
        return {"seconds": seconds}

    def write(self, request):
        self.result.contiguous().numpy().astype("<f4").tofile(request["path"])
        return {"shape": list(self.result.shape)}

    def quit(self, _):
        return {}


def main():
    engine = Engine()
    # Replies have the standard output for themselves.
    replies, sys.stdout = sys.stdout, sys.stderr
    operations = {"load": engine.load, "run": engine.run, "write": engine.write, "quit": engine.quit}
    with torch.inference_mode():
        for line in sys.stdin:
            try:
                request = json.loads(line)
                reply = operations[request["op"]](request)
            except Exception as e:
                request, reply = {}, {"error": f"{type(e).__name__}: {e}"}
            print(json.dumps(reply), file=replies, flush=True)
            if request.get("op") == "quit":
                return


if __name__ == "__main__":
    main()
