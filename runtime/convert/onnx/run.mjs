// Runs ONNX models in ONNX Runtime for the tests: each line of standard input names a model, its input and output
// files of raw fp32, and the input's shape.

import { readFile, writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const ort = createRequire(resolve(process.argv[2]) + '/')('onnxruntime-node');

let at = '', session; // of the last model, which often runs again at another size

for await (const line of createInterface({ input: process.stdin })) {
  const { model, input, shape, outputs } = JSON.parse(line);
  try {
    if (model !== at) {
      await session?.release();
      session = await ort.InferenceSession.create(model, { executionProviders: ['cpu'], intraOpNumThreads: 2, logSeverityLevel: 3 });
      at = model;
    }
    const values = new Float32Array(new Uint8Array(await readFile(input)).buffer);
    const result = await session.run({ [session.inputNames[0]]: new ort.Tensor('float32', values, shape) });
    const shapes = {};
    for (const [name, path] of Object.entries(outputs)) {
      const t = result[name];
      shapes[name] = [...t.dims];
      await writeFile(path, new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength));
    }
    process.stdout.write(JSON.stringify({ shapes }) + '\n');
  } catch (e) {
    process.stdout.write(JSON.stringify({ error: String(e) }) + '\n');
  }
}
