// What the scenarios share: how they are registered and reported, how they wait, and the HTTP
// service that HTTP tasks call.
import { deepStrictEqual } from "node:assert";
import http from "node:http";
import { setTimeout as pause } from "node:timers/promises";

const DEADLINE = 30_000; // ms until a condition that never holds fails its scenario
const scenarios = [];

/** Registers a scenario; they run in the order of the file. */
export function scenario(name, run) {
  scenarios.push({ name, run });
}

/** Runs the scenarios, one line each, and returns how many failed. */
export async function runAll(only) {
  const chosen = scenarios.filter((s) => only.length === 0 || only.includes(s.name));
  let failed = 0;
  for (const { name, run } of chosen) {
    const began = Date.now();
    const took = () => `${((Date.now() - began) / 1000).toFixed(2)}s`;
    try {
      await run();
      console.log(`ok   javascript ${name} ${took()}`);
    } catch (err) {
      failed++;
      console.log(`FAIL javascript ${name} ${took()}\n${err.stack}`);
    }
  }
  console.log(`${chosen.length - failed} passed, ${failed} failed`);
  return failed;
}

/** Returns the first true result of probe, or fails with its last result. */
export async function eventually(probe, what) {
  const until = Date.now() + DEADLINE;
  let last;
  while (Date.now() < until) {
    last = await probe();
    if (last) return last;
    await pause(20);
  }
  throw new Error(`not within ${DEADLINE}ms: ${what} (last: ${JSON.stringify(last)})`);
}

export function equal(got, want, what) {
  try {
    deepStrictEqual(got, want);
  } catch {
    throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
  }
}

/** Asserts that the call is refused with a message like the pattern. The SDK drops the status. */
export async function refused(call, pattern, what) {
  try {
    await call();
  } catch (err) {
    if (!pattern.test(String(err.message))) {
      throw new Error(`${what}: refused with ${err.message}, want ${pattern}`);
    }
    return;
  }
  throw new Error(`${what}: not refused, want ${pattern}`);
}

/** Starts the service that HTTP tasks call and returns its address. */
export async function httpService() {
  const server = http.createServer((req, res) => {
    let raw = "";
    req.on("data", (chunk) => (raw += chunk));
    req.on("end", () => {
      const answer = {
        path: req.url,
        body: raw ? JSON.parse(raw) : null,
        tag: req.headers["x-tag"] ?? null,
      };
      res.writeHead(req.url.startsWith("/broken") ? 503 : 200, {
        "Content-Type": "application/json",
      });
      res.end(JSON.stringify(answer));
    });
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  server.unref();
  return `http://127.0.0.1:${server.address().port}`;
}
