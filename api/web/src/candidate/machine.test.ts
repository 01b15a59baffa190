import assert from "node:assert/strict";
import test from "node:test";
import type { Action, FrameLike, Interview } from "./machine";
import { reduce, stageOf, standstill, START } from "./machine";
import type { Question, Session } from "./types";

const OPEN: Question = {
  index: 0,
  text: "Why?",
  type: "text",
  time_limit_seconds: 60,
  opened_at: "2026-11-24T09:00:00.000Z",
  deadline: "2026-11-24T09:01:00.000Z",
  remaining_seconds: 60,
};
const SECOND: Question = { ...OPEN, index: 1, text: "How?" };
const ALL_PASSED = { devices: true, reference: true, camera: true, microphone: true };
const NONE_PASSED = { devices: false, reference: false, camera: true, microphone: true };

function session(changes: Partial<Session> = {}): Session {
  return {
    session_id: "s",
    status: "initialized",
    status_detail: "waiting",
    end_reason: null,
    candidate: { name: "Ada Lovelace" },
    current_question_count: 0,
    max_questions: 2,
    current_question: null,
    answers: [],
    scheduled_at: null,
    consent_at: null,
    livekit: { mode: "fallback", url: null, reason: null },
    recording: { status: "off" },
    proctoring: { watches: ["camera", "page"], frame_seconds: 15, reference_captured_at: null },
    accommodations: { camera_exempt: false },
    ...changes,
  };
}

const running = (changes: Partial<Session> = {}) =>
  session({ status: "in_progress", status_detail: "question_open", current_question: OPEN, ...changes });
const state = (of: Session, as_of = 5, credit = 180): FrameLike => ({
  type: "state",
  as_of,
  session: of,
  network_credit_left_seconds: credit,
});
const saved = (index: number, seq = 10): FrameLike => ({
  type: "answer_saved",
  seq,
  question_index: index,
  answer: { question_index: index, answer: "yes", language: null, source: "submitted" },
  current_question_count: index + 1,
});

function after(...steps: (FrameLike | Action)[]): Interview {
  return steps.reduce<Interview>(
    (now, step) => reduce(now, "kind" in step ? (step as Action) : { kind: "frame", frame: step as FrameLike }),
    START,
  );
}

test("the steps before the start come one after another", () => {
  assert.equal(stageOf(START, NONE_PASSED), "connecting");
  assert.equal(stageOf(after(state(session())), NONE_PASSED), "consent");
  const agreed = after(state(session({ consent_at: "2026-11-24T09:00:00.000Z" })));
  assert.equal(stageOf(agreed, NONE_PASSED), "devices");
  assert.equal(stageOf(agreed, { ...NONE_PASSED, devices: true }), "reference");
  assert.equal(stageOf(agreed, { ...NONE_PASSED, devices: true, camera: false }), "ready");
  assert.equal(stageOf(agreed, ALL_PASSED), "ready");
});

test("nobody who is exempt from the camera is asked for a picture", () => {
  const exempt = session({ consent_at: "2026-11-24T09:00:00.000Z", accommodations: { camera_exempt: true } });
  assert.equal(stageOf(after(state(exempt)), { ...NONE_PASSED, devices: true }), "ready");
});

test("an interview in progress shows its question, whatever was passed before", () => {
  assert.equal(stageOf(after(state(running())), NONE_PASSED), "question");
});

test("a saved answer keeps its question on the screen until the next one opens", () => {
  const between = after(state(running()), saved(0));
  assert.equal(between.question?.index, 0);
  assert.equal(between.closedIndex, 0);
  assert.equal(between.session?.current_question_count, 1);
  const next = reduce(between, { kind: "frame", frame: { type: "question", seq: 11, question: SECOND } });
  assert.equal(next.question?.index, 1);
  assert.equal(next.closedIndex, null);
  assert.equal(next.session?.answers.length, 1);
});

test("a question that is closed again is not shown", () => {
  const closed = { ...SECOND, deadline: null, remaining_seconds: null };
  assert.equal(after(state(running()), { type: "question", seq: 11, question: closed }).question?.index, 0);
});

test("what a state frame has already changes nothing when it comes again, but is told", () => {
  const later = after(state(running({ current_question: SECOND }), 20), { ...saved(1, 12) });
  assert.equal(later.closedIndex, null);
  const expired = { ...saved(0, 12), type: "question_expired" };
  const told = after(state(running({ current_question: SECOND }), 20), expired).notice;
  assert.equal(told?.text, "Time for question 1 ran out. What you had written is saved.");
  const paused = { type: "paused", seq: 13, question: { ...SECOND, deadline: null } };
  assert.equal(standstill(after(state(running(), 20), paused)), null);
});

test("it is not called saved what could not be saved before time ran out", () => {
  const expired = (source: string) => ({ ...saved(0, 12), type: "question_expired", answer: { ...saved(0, 12).answer, source } });
  const told = (source: string) =>
    reduce(after(state(running())), { kind: "frame", frame: expired(source), isCutShort: true }).notice?.text;
  assert.match(told("draft") ?? "", /could not be saved in time; what was saved before is your answer/);
  assert.match(told("timeout") ?? "", /What you had written could not be saved in time/);
});

test("time that is added is told, and the clock is that of the frame", () => {
  const question = { ...OPEN, deadline: "2026-11-24T09:01:30.000Z" };
  const extended = after(state(running()), { type: "extended", seq: 6, seconds: 30, question });
  assert.equal(extended.question?.deadline, question.deadline);
  assert.equal(extended.notice?.text, "30 seconds were added to your time.");
});

test("a credit of less than a second is not worth a word", () => {
  const credit = { type: "clock_credited", seq: 6, seconds: 0.4, cause: "released", question: OPEN };
  assert.equal(after(state(running()), credit).notice, null);
});

test("a pause stops the clock and the editor until it is over", () => {
  const question = { ...OPEN, deadline: null, remaining_seconds: 41 };
  const paused = after(state(running()), { type: "paused", seq: 6, question });
  assert.equal(standstill(paused), "paused");
  assert.equal(paused.question?.remaining_seconds, 41);
  const resumed = reduce(paused, { kind: "frame", frame: { type: "resumed", seq: 7, question: OPEN } });
  assert.equal(standstill(resumed), null);
});

test("an interview between two machines waits calmly", () => {
  assert.equal(standstill(after(state(running({ status_detail: "recovering" })))), "moving");
  assert.equal(standstill(after(state(running({ status_detail: "parked" })))), "moving");
});

test("a loss keeps when it began and what it may cost, until a state comes", () => {
  const lost = after(state(running(), 5, 120), { kind: "lost", since: 1000 }, { kind: "lost", since: 9000 });
  assert.deepEqual(lost.loss, { since: 1000, creditMs: 120_000 });
  const back = reduce(lost, { kind: "frame", frame: state(running(), 9, 96) });
  assert.equal(back.loss, null);
  assert.equal(back.creditLeftMs, 96_000);
  assert.equal(back.notice?.text, "You are connected again.");
  const credit = { type: "clock_credited", seq: 8, seconds: 24, cause: "network", question: OPEN };
  const told = reduce(back, { kind: "frame", frame: credit }).notice;
  assert.equal(told?.text, "You are connected again. 24 seconds were added to your time.");
  assert.notEqual(told?.id, back.notice?.id);
});

test("a first connection that is late is no loss to speak of", () => {
  assert.equal(after({ kind: "lost", since: 1000 }, state(session())).notice, null);
});

test("a clock that stands for a lost connection goes on", () => {
  const standing = { ...OPEN, deadline: null, remaining_seconds: 12 };
  const stopped = after(state(running()), {
    type: "connection",
    seq: 6,
    source: "livekit",
    state: "clock_stopped",
    question: standing,
    network_credit_left_seconds: 100,
  });
  assert.equal(stopped.session?.status_detail, "connection_lost");
  assert.equal(stopped.creditLeftMs, 100_000);
  const credit = { type: "clock_credited", seq: 7, seconds: 5, cause: "network", question: OPEN };
  const going = reduce(stopped, { kind: "frame", frame: credit });
  assert.equal(going.session?.status_detail, "question_open");
  assert.equal(going.question?.deadline, OPEN.deadline);
});

test("the room's news is the session's", () => {
  const livekit = { mode: "live", url: "ws://x", reason: null };
  assert.equal(after(state(running()), { type: "livekit", seq: 6, livekit }).session?.livekit.mode, "live");
});

test("the end is the end", () => {
  const over = session({ status: "completed", end_reason: "finished" });
  const ended = after(state(running()), { type: "completed", seq: 9, end_reason: "finished", session: over });
  assert.equal(stageOf(ended, ALL_PASSED), "ended");
  assert.equal(ended.question, null);
  const late = reduce(ended, { kind: "frame", frame: { type: "question", seq: 10, question: SECOND } });
  assert.equal(stageOf(late, ALL_PASSED), "ended");
  assert.equal(stageOf(reduce(ended, { kind: "closed", code: 1000 }), ALL_PASSED), "ended");
});

test("a channel that is closed for good says why", () => {
  const stages = { 4401: "link_dead", 4404: "gone", 4409: "taken_over", 1000: "broken" };
  for (const [code, stage] of Object.entries(stages)) {
    const closed = after(state(running()), { kind: "closed", code: Number(code) });
    assert.equal(stageOf(closed, ALL_PASSED), stage);
  }
  const again = after(state(running()), { kind: "closed", code: 4409 }, state(running()));
  assert.equal(stageOf(again, ALL_PASSED), "question");
});
