import type { Frame } from "../channel";

/** What the live view knows of an interview: the session, and its journal as far as it was read. */

export interface Question {
  index: number;
  text: string;
  type: "text" | "coding";
  time_limit_seconds: number;
  deadline?: string | null;
  remaining_seconds?: number;
}

export interface Answer {
  question_index: number;
  answer: string;
  language: string | null;
  elapsed_seconds: number;
  source: "submitted" | "draft" | "timeout";
}

export interface Session {
  session_id: string;
  status: "initialized" | "in_progress" | "completed";
  status_detail: "waiting" | "question_open" | "paused" | "connection_lost" | "recovering" | "parked" | "ended";
  end_reason: string | null;
  version: number;
  candidate: { name: string };
  current_question_count: number;
  max_questions: number;
  current_question: Question | null;
  answers: Answer[];
  questions: { text: string }[];
  livekit: { mode: "live" | "fallback"; connected: boolean; reason: string | null };
}

export interface JournalEvent {
  seq: number;
  /** Milliseconds since the epoch. */
  at: number;
  by: string;
  type: string;
  /** The event as it is in the journal. */
  event: Record<string, unknown>;
}

/** An event as GET /session/{id}/journal gives it. */
export type JournalRow = { seq: number; at: string; by?: string; type: string } & Record<string, unknown>;

export interface Known {
  session: Session | null;
  /** Oldest first, each seq once. */
  journal: JournalEvent[];
}

export function eventOfRow({ seq, at, by, ...event }: JournalRow): JournalEvent {
  return { seq, at: new Date(at).getTime(), by: by ?? "", type: event.type, event };
}

/** The journal with more events, whichever way and how often they came. */
export function withEvents(journal: JournalEvent[], events: JournalEvent[]): JournalEvent[] {
  const last = journal.at(-1)?.seq ?? 0;
  if (events.length === 1 && events[0]!.seq > last) return [...journal, events[0]!];
  const bySeq = new Map([...journal, ...events].map((event) => [event.seq, event]));
  return [...bySeq.values()].sort((a, b) => a.seq - b.seq);
}

/** The newer one of two views of the session; answers to calls may come in any order. */
export function newer(known: Session | null, session: Session): Session {
  return known !== null && known.version > session.version ? known : session;
}

/** Takes in a frame of the channel. What a frame does not tell of the session, a GET has to. */
export function withFrame(known: Known, frame: Frame): Known {
  return { session: sessionAfter(known.session, frame), journal: journalAfter(known.journal, frame) };
}

function sessionAfter(session: Session | null, frame: Frame): Session | null {
  if (frame.session) return newer(session, frame.session as Session);
  if (session === null) return null;
  if (frame.answer) session = withAnswer(session, frame.answer as Answer);
  if (frame.question !== undefined && !isClosed(frame.question)) session = { ...session, current_question: frame.question };
  if (frame.livekit) session = { ...session, livekit: frame.livekit };
  return session;
}

function isClosed(question: Question | null): boolean {
  return question !== null && question.remaining_seconds === undefined;
}

function withAnswer(session: Session, answer: Answer): Session {
  const others = session.answers.filter((a) => a.question_index !== answer.question_index);
  const answers = [...others, answer].sort((a, b) => a.question_index - b.question_index);
  return { ...session, answers, current_question_count: answers.length };
}

function journalAfter(journal: JournalEvent[], { seq, at, by, event }: Frame): JournalEvent[] {
  if (seq === undefined || at === undefined || event === undefined) return journal;
  return withEvents(journal, [{ seq, at: Date.parse(at), by: by ?? "", type: event.type, event }]);
}

const QUIET = new Set(["frames", "commands_noted", "evidence_kept", "evidence_thinned", "proctoring_event", "hook_failed"]);

/** Whether an event may have changed what a session shows. */
export function changesSession(frame: Frame): boolean {
  return frame.event !== undefined && !QUIET.has(frame.event.type);
}

export type Presence = "unseen" | "here" | "lost" | "away";

const COMING_AND_GOING: Record<string, Exclude<Presence, "unseen">> = {
  channel_opened: "here",
  channel_lost: "lost",
  channel_closed: "away",
};

/** Whether the candidate's page is connected. A newer connection may open before the older one is closed. */
export function pagePresence(journal: JournalEvent[]): Presence {
  const here = new Set<unknown>();
  let last: Presence = "unseen";
  for (const { type, event } of journal) {
    const presence = COMING_AND_GOING[type];
    if (presence === undefined) continue;
    if (presence === "here") here.add(event.connection);
    else here.delete(event.connection);
    last = presence;
  }
  return here.size > 0 ? "here" : last;
}

/** How many milliseconds the open question has left, at `now` on the server's clock. */
export function remainingMs(question: Question, now: number): number {
  if (question.deadline) return Math.max(0, Date.parse(question.deadline) - now);
  return (question.remaining_seconds ?? 0) * 1000;
}
