import assert from "node:assert/strict";
import { test } from "node:test";
import type { Frame } from "../channel";
import { changesSession, eventOfRow, type JournalEvent, pagePresence, remainingMs, type Session, withEvents, withFrame } from "./model";
import { clockText, durationText, eventText, whoText } from "./words";

const TIME = "2026-05-01T09:00:00.000Z";

const event = (seq: number, type: string, more: object = {}): JournalEvent => ({
  seq,
  at: 0,
  by: "",
  type,
  event: { type, ...more },
});

const frame = (type: string, more: object): Frame => ({ type, server_time: TIME, at: TIME, ...more });

const session = { version: 4, answers: [], current_question: null, status_detail: "question_open" } as unknown as Session;

test("events come in order and once, from wherever they come", () => {
  const live = withFrame({ session: null, journal: [] }, frame("journal", { seq: 5, by: "open", event: { type: "started" } }));
  const past = [3, 4, 5].map((seq) => event(seq, "created"));
  const journal = withEvents(live.journal, past);
  assert.deepEqual(journal.map((e) => e.seq), [3, 4, 5]);
  assert.equal(withEvents(journal, [event(5, "created")]).length, 3);
});

test("a row of the journal is an event", () => {
  const row = { seq: 2, at: TIME, epoch: 1, type: "proctoring_event", event: "paste", by: "candidate:s" };
  assert.equal(eventOfRow(row).at, Date.parse(TIME));
  assert.deepEqual(eventOfRow(row).event, { epoch: 1, type: "proctoring_event", event: "paste" });
});

test("frames change what they tell of", () => {
  const answer = { question_index: 0, answer: "x", language: null, elapsed_seconds: 1, source: "submitted" };
  const question = { index: 1, text: "Next?", remaining_seconds: 60, deadline: TIME };
  let known = withFrame({ session, journal: [] }, frame("answer_saved", { seq: 6, question_index: 0, answer }));
  known = withFrame(known, frame("question", { seq: 7, question }));
  assert.deepEqual(known.session?.answers, [answer]);
  assert.equal(known.session?.current_question_count, 1);
  assert.equal(known.session?.current_question, question);
  known = withFrame(known, frame("question", { seq: 7, question: { index: 0, text: "Closed already" } }));
  assert.equal(known.session?.current_question, question);
  known = withFrame(known, frame("connection", { seq: 8, state: "opened", question: null }));
  assert.equal(known.session?.current_question, null);
});

test("an older view of the session does not replace a newer one", () => {
  const known = { session, journal: [] };
  assert.equal(withFrame(known, frame("state", { session: { ...session, version: 3 } })).session, session);
  assert.equal(withFrame(known, frame("state", { session: { ...session, version: 5 } })).session?.version, 5);
});

test("only some events ask for the session", () => {
  assert.equal(changesSession(frame("journal", { event: { type: "parked" } })), true);
  assert.equal(changesSession(frame("journal", { event: { type: "frames" } })), false);
  assert.equal(changesSession(frame("state", {})), false);
});

test("a page that came back before its older connection was given up is here", () => {
  const opened = (connection: string, seq: number): JournalEvent => event(seq, "channel_opened", { connection });
  assert.equal(pagePresence([]), "unseen");
  assert.equal(pagePresence([opened("a", 1), event(2, "channel_lost", { connection: "a" })]), "lost");
  const back = [opened("a", 1), opened("b", 2), event(3, "channel_closed", { connection: "a" })];
  assert.equal(pagePresence(back), "here");
  assert.equal(pagePresence([...back, event(4, "channel_closed", { connection: "b" })]), "away");
});

test("time left counts down from the deadline, and stands while there is none", () => {
  const question = { index: 0, text: "", type: "text", time_limit_seconds: 60, remaining_seconds: 42 } as const;
  assert.equal(remainingMs({ ...question, deadline: TIME }, Date.parse(TIME) - 1_500), 1_500);
  assert.equal(remainingMs({ ...question, deadline: TIME }, Date.parse(TIME) + 1_500), 0);
  assert.equal(remainingMs({ ...question, deadline: null }, Date.parse(TIME)), 42_000);
});

test("times are written as people write them", () => {
  assert.deepEqual([0, 1, 59_001, 3_661_000].map(clockText), ["0:00", "0:01", "1:00", "1:01:01"]);
  assert.deepEqual([27, 3_200, 60_000, 83_400].map(durationText), ["0 s", "3.2 s", "1 min", "1 min 23 s"]);
});

test("events are said in plain words", () => {
  const said = (type: string, more: object = {}): string => eventText(event(1, type, more));
  assert.equal(said("question_closed", { index: 0, source: "submitted", elapsed_ms: 12_000 }), "Answered question 1 after 12 s");
  assert.equal(said("question_closed", { index: 1, source: "timeout", late_by: 3 }), "Time for question 2 ran out; there is no answer");
  assert.equal(said("question_closed", { index: 1, source: "draft" }), "Closed question 2; the draft is the answer");
  assert.equal(said("extended", { ms: 300_000, reason: "Fire alarm." }), "5 min more time: Fire alarm.");
  assert.equal(said("proctoring_event", { event: "tab_hidden", phase: "began" }), "Seen: page hidden, began");
  assert.equal(said("proctoring_event", { event: "custom:copy_then_paste", count: 3 }), "Seen: copy then paste, 3 times");
  assert.equal(said("something_new"), "something new");
});

test("who it was", () => {
  assert.deepEqual(["candidate:s1", "key:environment", "open", "livekit", "system"].map(whoText), [
    "candidate",
    "staff",
    "staff",
    "LiveKit",
    "service",
  ]);
});
