// Frames of the channel → what the page shows. Pure: no clock, no network, no DOM.

import type { Loss } from "./time";
import { inWords } from "./time";
import type { Question, ServerDraft, Session } from "./types";

/** The part of a frame that is read here. */
export interface FrameLike {
  type: string;
  seq?: number;
  [key: string]: any;
}

/** Something to tell the candidate once. `creditedMs`: they are connected again, and were given that back. */
export interface Notice {
  id: number;
  text: string;
  creditedMs?: number;
}

export interface Interview {
  session: Session | null;
  question: Question | null;
  /** The question whose answer is saved, until the next one opens: it stays on the screen, read-only. */
  closedIndex: number | null;
  creditLeftMs: number;
  /** What the server had of the open question's answer when it was asked last. */
  draft: ServerDraft | null;
  /** Events up to this one are in what a `state` frame said. */
  asOf: number;
  loss: Loss | null;
  /** Set once the channel is closed for good. */
  closedCode: number | null;
  notice: Notice | null;
}

export type Action =
  | { kind: "frame"; frame: FrameLike; isCutShort?: boolean }
  | { kind: "lost"; since: number }
  | { kind: "closed"; code: number }
  | { kind: "session"; session: Session };

export const START: Interview = {
  session: null,
  question: null,
  closedIndex: null,
  creditLeftMs: 0,
  draft: null,
  asOf: 0,
  loss: null,
  closedCode: null,
  notice: null,
};

export function reduce(now: Interview, action: Action): Interview {
  switch (action.kind) {
    case "frame":
      return onFrame(now, action.frame, action.isCutShort ?? false);
    case "lost":
      return now.loss || now.closedCode !== null
        ? now
        : { ...now, loss: { since: action.since, creditMs: now.creditLeftMs } };
    case "closed":
      return { ...now, closedCode: action.code, loss: null };
    case "session":
      return withSession(now, action.session);
  }
}

function onFrame(now: Interview, frame: FrameLike, isCutShort: boolean): Interview {
  if (frame.type === "state") return onState(now, frame);
  // What was missed comes after a `state` that has it already: it is told, and changes nothing.
  const known = frame.seq !== undefined && frame.seq <= now.asOf;
  return told(known ? now : changed(now, frame), frame, isCutShort);
}

function onState(now: Interview, frame: FrameLike): Interview {
  const next = withSession(now, frame.session);
  return {
    ...next,
    asOf: Math.max(now.asOf, frame.as_of ?? frame.seq ?? 0),
    creditLeftMs: milliseconds(frame.network_credit_left_seconds, now.creditLeftMs),
    draft: frame.draft === undefined ? now.draft : frame.draft,
    loss: null,
    closedCode: null,
    notice: now.loss && now.session ? backAgain(now, 0) : now.notice,
  };
}

function withSession(now: Interview, session: Session): Interview {
  return { ...now, session, question: session.current_question, closedIndex: null };
}

function changed(now: Interview, frame: FrameLike): Interview {
  const { session } = now;
  if (!session || (session.status === "completed" && frame.type !== "completed")) return now;
  switch (frame.type) {
    case "question":
      return opened(now, session, frame.question);
    case "answer_saved":
    case "question_expired":
      return closed(now, session, frame);
    case "clock_credited":
    case "extended":
      return { ...now, ...clockOf(now, frame), session: detailOf(session, frame) };
    case "paused":
      return { ...now, ...clockOf(now, frame), session: { ...session, status_detail: "paused" } };
    case "resumed":
      return { ...now, ...clockOf(now, frame), session: { ...session, status_detail: "question_open" } };
    case "connection":
      return { ...now, ...clockOf(now, frame), session: detailOf(session, frame), creditLeftMs: creditOf(now, frame) };
    case "livekit":
      return { ...now, session: { ...session, livekit: frame.livekit } };
    case "completed":
      return withSession(now, frame.session);
    default:
      return now;
  }
}

function opened(now: Interview, session: Session, question: Question): Interview {
  const over = question.deadline == null && question.remaining_seconds == null;
  if (over) return now;
  const running: Session = { ...session, status: "in_progress", current_question: question };
  return { ...now, session: running, question, closedIndex: null };
}

function closed(now: Interview, session: Session, frame: FrameLike): Interview {
  const others = session.answers.filter((answer) => answer.question_index !== frame.question_index);
  const answers = frame.answer ? [...others, frame.answer] : others;
  const saved = { ...session, answers, current_question_count: frame.current_question_count ?? answers.length };
  const isOpen = now.question?.index === frame.question_index;
  return { ...now, session: saved, closedIndex: isOpen ? frame.question_index : now.closedIndex };
}

/** The open question with its clock as it is now; without one the page keeps what it shows until more is known. */
function clockOf(now: Interview, frame: FrameLike): Pick<Interview, "question"> {
  return { question: (frame.question as Question | null | undefined) ?? now.question };
}

/** A lost connection stops the clock, and coming back lets it go on; only these two have no word of their own. */
function detailOf(session: Session, frame: FrameLike): Session {
  if (frame.state === "clock_stopped") return { ...session, status_detail: "connection_lost" };
  const back = session.status_detail === "connection_lost" && frame.question?.deadline != null;
  return back ? { ...session, status_detail: "question_open" } : session;
}

function creditOf(now: Interview, frame: FrameLike): number {
  return milliseconds(frame.network_credit_left_seconds, now.creditLeftMs);
}

function milliseconds(seconds: unknown, otherwise: number): number {
  return typeof seconds === "number" ? seconds * 1000 : otherwise;
}

function told(now: Interview, frame: FrameLike, isCutShort: boolean): Interview {
  const credited = now.notice?.creditedMs;
  if (frame.type === "clock_credited" && frame.cause === "network" && credited !== undefined)
    return { ...now, notice: backAgain(now, credited + frame.seconds * 1000) };
  const text = sentence(frame, isCutShort);
  return text ? { ...now, notice: { id: nextId(now), text } } : now;
}

function backAgain(now: Interview, creditedMs: number): Notice {
  const credit = creditedMs < 1000 ? "" : ` ${wereAdded(creditedMs / 1000)} to your time.`;
  return { id: nextId(now), text: `You are connected again.${credit}`, creditedMs };
}

function nextId(now: Interview): number {
  return (now.notice?.id ?? 0) + 1;
}

/** What a frame says to the candidate in words. A pause has its own place on the page. */
function sentence(frame: FrameLike, isCutShort: boolean): string | null {
  switch (frame.type) {
    case "extended":
      return `${wereAdded(frame.seconds)} to your time.`;
    case "clock_credited":
      return frame.seconds < 1 ? null : `${wereAdded(frame.seconds)} to your time, ${because(frame.cause)}.`;
    case "question_expired":
      return `Time for question ${frame.question_index + 1} ran out. ${keptWords(frame.answer?.source, isCutShort)}`;
    default:
      return null;
  }
}

function keptWords(source: string | undefined, isCutShort: boolean): string {
  if (isCutShort) {
    return source === "timeout"
      ? "What you had written could not be saved in time."
      : "The last of what you had written could not be saved in time; what was saved before is your answer.";
  }
  return source === "timeout" ? "Nothing had been written." : "What you had written is saved.";
}

function wereAdded(seconds: number): string {
  return `${inWords(seconds)} ${Math.round(seconds) === 1 ? "was" : "were"} added`;
}

function because(cause: string): string {
  return cause === "network" ? "for the lost connection" : "for a short interruption on our side";
}

export type Stage =
  | "connecting"
  | "consent"
  | "devices"
  | "reference"
  | "ready"
  | "question"
  | "ended"
  | "taken_over"
  | "link_dead"
  | "gone"
  | "broken";

/** Steps before the start that are behind the candidate; remembered for the tab. */
export interface Passed {
  devices: boolean;
  reference: boolean;
  camera: boolean;
  microphone: boolean;
}

const CLOSED: Record<number, Stage> = { 4401: "link_dead", 4404: "gone", 4409: "taken_over" };

export function stageOf(now: Interview, passed: Passed): Stage {
  if (now.session?.status === "completed") return "ended";
  if (now.closedCode !== null) return CLOSED[now.closedCode] ?? "broken";
  if (!now.session) return "connecting";
  if (now.session.status === "in_progress") return now.question ? "question" : "connecting";
  if (now.session.consent_at === null) return "consent";
  if (!passed.devices) return "devices";
  const takesPicture = passed.camera && !now.session.accommodations.camera_exempt;
  return takesPicture && !passed.reference ? "reference" : "ready";
}

/** Why the clock stands still and the editor waits, if it does. */
export function standstill(now: Interview): "paused" | "moving" | null {
  const detail = now.session?.status_detail;
  if (detail === "paused") return "paused";
  return detail === "parked" || detail === "recovering" ? "moving" : null;
}
