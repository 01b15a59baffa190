import assert from "node:assert/strict";
import test from "node:test";
import { inWords, lossPhase, markPassed, minutesAndSeconds, remainingMs } from "./time";
import type { Question } from "./types";

const NOON = Date.parse("2026-11-24T12:00:00.000Z");
const running = { deadline: "2026-11-24T12:01:00.000Z", remaining_seconds: 60 } as Question;
const standing = { deadline: null, remaining_seconds: 41.5 } as Question;

test("what is left is counted from the deadline, and stands still without one", () => {
  assert.equal(remainingMs(running, NOON + 15_000), 45_000);
  assert.equal(remainingMs(running, NOON + 90_000), 0);
  assert.equal(remainingMs(standing, NOON + 90_000), 41_500);
});

test("a lost connection freezes the clock at its loss, for as long as there is credit", () => {
  const loss = { since: NOON + 10_000, creditMs: 20_000 };
  assert.equal(lossPhase(loss, NOON + 15_000), "trying");
  assert.equal(remainingMs(running, NOON + 15_000, loss), 45_000);
  assert.equal(lossPhase(loss, NOON + 25_000), "stopped");
  assert.equal(remainingMs(running, NOON + 25_000, loss), 50_000);
  assert.equal(lossPhase(loss, NOON + 40_000), "runs");
  assert.equal(remainingMs(running, NOON + 40_000, loss), 40_000);
});

test("without credit the clock runs on", () => {
  const loss = { since: NOON, creditMs: 0 };
  assert.equal(lossPhase(loss, NOON + 12_000), "runs");
  assert.equal(remainingMs(running, NOON + 12_000, loss), 48_000);
});

test("the countdown shows seconds that have begun", () => {
  assert.equal(minutesAndSeconds(61_000), "01:01");
  assert.equal(minutesAndSeconds(999), "00:01");
  assert.equal(minutesAndSeconds(0), "00:00");
  assert.equal(minutesAndSeconds(7_200_000), "120:00");
});

test("durations in words", () => {
  assert.equal(inWords(30), "30 seconds");
  assert.equal(inWords(1), "1 second");
  assert.equal(inWords(125), "2 minutes 5 seconds");
  assert.equal(inWords(60), "1 minute");
  assert.equal(inWords(0), "0 seconds");
});

test("each mark is passed once, and not again by added time", () => {
  assert.equal(markPassed(60_200, 59_950), 60);
  assert.equal(markPassed(59_950, 59_700), null);
  assert.equal(markPassed(31_000, 9_000), 10);
  assert.equal(markPassed(25_000, 55_000), null);
});
