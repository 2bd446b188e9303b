// Runs networks in ONNX Runtime for the driver, by the line protocol of protocol.go.

import { readFile, writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import ort from 'onnxruntime-node';

let session, feeds, result;

// As clock.go says.
const cpuMilliseconds = () => { const u = process.cpuUsage(); return (u.user + u.system) / 1000; };
const now = process.env.PEERS_CLOCK === 'cpu' ? cpuMilliseconds : () => performance.now();
const seconds = (from) => (now() - from) / 1000;

const operations = {
  async load({ load }) {
    const started = now();
    session = await ort.InferenceSession.create(load.model, {
      executionProviders: ['cpu'],
      graphOptimizationLevel: 'all',
      executionMode: 'sequential',
      intraOpNumThreads: load.threads,
      interOpNumThreads: 1,
    });
    // Copied, because the bytes of a small file need not be aligned.
    const values = new Float32Array(new Uint8Array(await readFile(load.input)).buffer);
    feeds = { image: new ort.Tensor('float32', values, load.shape) };
    return { version: ort.env.versions.node, seconds: [seconds(started)] };
  },

  async run({ count }) {
    const times = [];
    for (let i = 0; i < count; i++) {
      const started = now();
      result = (await session.run(feeds)).restored;
      times.push(seconds(started));
    }
    return { seconds: times };
  },

  async write({ path }) {
    await writeFile(path, new Uint8Array(result.data.buffer, result.data.byteOffset, result.data.byteLength));
    return { shape: [...result.dims] };
  },

  async quit() {
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  let request = {};
  let reply;
  try {
    request = JSON.parse(line);
    reply = await operations[request.op](request);
  } catch (e) {
    request = {};
    reply = { error: String(e) };
  }
  process.stdout.write(JSON.stringify(reply) + '\n');
  if (request.op === 'quit') break;
}
