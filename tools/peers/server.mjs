// A server beside which this project's is measured: POST /v1/restore takes an image file and answers with the restored one
// as JPEG. One worker thread for each of --workers has a session of ONNX Runtime with --threads threads and decodes and
// encodes with sharp; requests wait in a queue for a free worker.
//
// server.mjs --model FILE.onnx --workers N --threads N [--quality Q]; the address is printed when all sessions are ready.

import { createServer } from 'node:http';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

const maxBody = 64 << 20;

if (isMainThread) await main();
else await work();

async function main() {
  const { values: o } = parseArgs({
    options: {
      model: { type: 'string' },
      workers: { type: 'string', default: String(availableParallelism()) },
      threads: { type: 'string', default: '1' },
      quality: { type: 'string', default: '95' },
    },
  });
  const data = { model: o.model, threads: Number(o.threads), quality: Number(o.quality) };
  const free = [];
  const queue = [];
  const next = () => {
    while (free.length && queue.length) {
      const worker = free.pop();
      const job = queue.shift();
      worker.once('message', (answer) => {
        free.push(worker);
        job.done(answer);
        next();
      });
      worker.postMessage(job.body, [job.body.buffer]);
    }
  };
  await Promise.all(Array.from({ length: Number(o.workers) }, () => new Promise((ready, fail) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: data });
    worker.once('error', fail);
    worker.once('message', () => { free.push(worker); ready(); });
  })));

  const server = createServer((req, res) => {
    if (req.method === 'GET' && req.url === '/livez') return res.writeHead(200).end();
    if (req.method !== 'POST' || !req.url.startsWith('/v1/restore')) return res.writeHead(404).end();
    const parts = [];
    let size = 0;
    req.on('data', (part) => {
      size += part.length;
      if (size > maxBody) req.destroy();
      else parts.push(part);
    });
    req.on('end', () => {
      const body = new Uint8Array(size); // of its own memory, which goes to the worker without a copy
      let at = 0;
      for (const part of parts) { body.set(part, at); at += part.length; }
      queue.push({
        body,
        done({ file, error }) {
          if (error) res.writeHead(422, { 'Content-Type': 'text/plain' }).end(error);
          else res.writeHead(200, { 'Content-Type': 'image/jpeg', 'Content-Length': file.length }).end(file);
        },
      });
      next();
    });
  });
  server.listen(0, '127.0.0.1', () => console.log(`ready http://127.0.0.1:${server.address().port}`));
}

async function work() {
  const { default: ort } = await import('onnxruntime-node');
  const { default: sharp } = await import('sharp');
  sharp.cache(false);
  sharp.concurrency(1); // the workers are the parallelism
  const session = await ort.InferenceSession.create(workerData.model, {
    executionProviders: ['cpu'], graphOptimizationLevel: 'all', executionMode: 'sequential',
    intraOpNumThreads: workerData.threads, interOpNumThreads: 1,
  });
  const [inputName] = session.inputNames;
  const [outputName] = session.outputNames;
  let planes = new Float32Array(0);
  let pixels = new Uint8Array(0);

  async function restore(body) {
    const { data, info } = await sharp(body).removeAlpha().toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
    const n = info.width * info.height;
    if (planes.length !== 3 * n) {
      planes = new Float32Array(3 * n);
      pixels = new Uint8Array(3 * n);
    }
    for (let i = 0, j = 0; i < n; i++, j += 3) {
      planes[i] = data[j] / 255;
      planes[n + i] = data[j + 1] / 255;
      planes[2 * n + i] = data[j + 2] / 255;
    }
    const out = (await session.run({ [inputName]: new ort.Tensor('float32', planes, [1, 3, info.height, info.width]) }))[outputName].data;
    for (let i = 0, j = 0; i < n; i++, j += 3) {
      pixels[j] = byte(out[i]);
      pixels[j + 1] = byte(out[n + i]);
      pixels[j + 2] = byte(out[2 * n + i]);
    }
    return sharp(pixels, { raw: { width: info.width, height: info.height, channels: 3 } })
      .jpeg({ quality: workerData.quality, chromaSubsampling: '4:2:0' }).toBuffer();
  }
  const byte = (v) => Math.min(Math.max(Math.round(255 * v), 0), 255);

  parentPort.on('message', async (body) => {
    try {
      parentPort.postMessage({ file: await restore(body) });
    } catch (e) {
      parentPort.postMessage({ error: String(e) });
    }
  });
  parentPort.postMessage({});
}
