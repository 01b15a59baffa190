import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { authorize, Problem, rest } from "./api";

interface Call {
  address: string;
  method: string;
  headers: Record<string, string>;
  body: unknown;
}

let calls: Call[];
let answers: (() => Response)[];

beforeEach(() => {
  calls = [];
  answers = [];
  mock.method(globalThis, "fetch", async (address: string, request: RequestInit) => {
    const { method = "", headers, body } = request;
    calls.push({ address, method, headers: headers as Record<string, string>, body });
    return (answers.length > 1 ? answers.shift()! : answers[0]!)();
  });
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  mock.method(performance, "now", () => Date.now());
});

afterEach(() => {
  authorize(null);
  mock.timers.reset();
  mock.restoreAll();
});

const json = (status: number, body: object, headers: Record<string, string> = {}) => () =>
  new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/problem+json", ...headers } });

const broken = (): Response => {
  throw new TypeError("fetch failed");
};

/** Runs the timers until the call has an outcome. */
async function outcome<T>(call: Promise<T>): Promise<T> {
  let done = false;
  const seen = call.finally(() => (done = true));
  seen.catch(() => {});
  for (let i = 0; i < 500 && !done; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    mock.timers.tick(100);
  }
  return seen;
}

test("the token, or the staff key, goes along", async () => {
  answers = [json(200, { status: "success" })];
  authorize({ token: "t" });
  await rest("/session/s1");
  authorize({ staffKey: "k" });
  await rest("/session/s1");
  assert.equal(calls[0]!.address, "/api/parallel_interview/session/s1");
  assert.equal(calls[0]!.headers.Authorization, "Bearer t");
  assert.equal(calls[1]!.headers["X-API-Key"], "k");
  assert.equal("Authorization" in calls[1]!.headers, false);
  assert.equal("Idempotency-Key" in calls[1]!.headers, false);
});

test("a POST is repeated with the same key while the service is away", async () => {
  answers = [broken, json(503, { detail: "Full." }, { "Retry-After": "2" }), json(200, { session: { version: 3 } })];
  const answer = await outcome(rest("/session/s1/pause", { json: { reason: "r" } }));
  assert.deepEqual(answer, { session: { version: 3 } });
  assert.deepEqual(calls.map((c) => [c.method, c.body]), Array(3).fill(["POST", '{"reason":"r"}']));
  const keys = new Set(calls.map((c) => c.headers["Idempotency-Key"]));
  assert.equal(keys.size, 1);
  assert.match([...keys][0]!, /^[0-9a-f-]{36}$/);
});

test("what is refused is not repeated, and says why", async () => {
  answers = [json(409, { code: "state_conflict", detail: "It is not paused.", current_status: "in_progress" })];
  await assert.rejects(rest("/session/s1/resume", { method: "POST" }), (error) => {
    assert.ok(error instanceof Problem);
    assert.deepEqual([error.status, error.code, error.message], [409, "state_conflict", "It is not paused."]);
    assert.equal(error.body.current_status, "in_progress");
    return true;
  });
  assert.equal(calls.length, 1);
});

test("after 30 s it gives up", async () => {
  answers = [broken];
  const began = Date.now();
  await assert.rejects(outcome(rest("/session/s1")), { status: 0, code: "network" });
  assert.ok(Date.now() - began <= 31_000 && calls.length > 5);
});

test("a Retry-After beyond that is not waited for", async () => {
  answers = [json(429, { code: "too_many_requests", detail: "Too many." }, { "Retry-After": "60" })];
  await assert.rejects(rest("/session/s1"), { status: 429 });
});
