import type { JournalEvent, Presence, Session } from "./model";

/** The journal in plain words. */

/** 83 400 ms as 1:24. Time left is rounded up: 0:00 means that it has run out. */
export function clockText(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (n: number): string => String(n).padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** 83 400 ms as "1 min 23 s", and 3 200 ms as "3.2 s". */
export function durationText(ms: number): string {
  if (ms < 10_000) return `${Math.round(ms / 100) / 10} s`;
  const seconds = Math.round(ms / 1000);
  const parts = [`${Math.floor(seconds / 60)} min`, `${seconds % 60} s`];
  return parts.filter((part) => !part.startsWith("0 ")).join(" ");
}

const END_REASONS: Record<string, string> = {
  finished: "all questions were asked",
  abandoned: "the candidate was not there",
  expired: "it was not started in time",
  cancelled: "cancelled before the start",
  ended_by_staff: "by staff",
  ended_by_candidate: "by the candidate",
};

export function statusText(session: Pick<Session, "status" | "status_detail" | "end_reason">): string {
  if (session.status === "completed") {
    const reason = session.end_reason ?? "";
    return `Ended: ${END_REASONS[reason] ?? plain(reason)}`;
  }
  const texts: Partial<Record<Session["status_detail"], string>> = {
    waiting: "Not started",
    question_open: "In progress",
    paused: "Paused",
    connection_lost: "Clock stopped: the candidate’s connection is lost",
    recovering: "Moving to another process; the clock is credited",
    parked: "Interrupted; the clock is stopped",
  };
  return texts[session.status_detail] ?? plain(session.status_detail);
}

export function pageText(presence: Presence): string {
  return { unseen: "not opened yet", here: "connected", lost: "connection lost", away: "closed" }[presence];
}

export function videoText({ livekit }: Session): string {
  if (livekit.connected) return "in the room";
  return livekit.mode === "live" ? "not in the room" : "without video";
}

export function whoText(by: string): string {
  if (by.startsWith("candidate:")) return "candidate";
  if (by.startsWith("key:") || by === "open") return "staff";
  return by === "livekit" ? "LiveKit" : "service";
}

const KINDS: Record<string, string> = {
  face_absent: "no face in view",
  multiple_faces: "more than one face in view",
  face_mismatch: "another face than the reference",
  camera_off: "camera off",
  camera_obscured: "camera covered",
  tab_hidden: "page hidden",
  focus_lost: "page without focus",
  fullscreen_left: "full screen left",
  second_display: "second display",
  screen_share_stopped: "screen sharing stopped",
  mic_muted: "microphone muted",
  noise: "noise",
  network_lost: "network lost",
  paste: "paste",
  copy: "copy",
  second_device: "second device or tab",
};

const CAUSES: Record<string, string> = {
  network: "the connection was lost",
  crash: "a process was lost",
  hung: "a process stood still",
  recovered: "taken up again",
  released: "moved to another process",
  storage_unavailable: "nothing could be stored",
  retry: "tried again by staff",
};

const SENTENCES: Record<string, (event: Record<string, unknown>) => string> = {
  created: () => "Session created",
  updated: () => "Session changed",
  deleted: () => "Session deleted",
  started: () => "Interview started",
  question_opened: (e) => `Question ${number(e.index) + 1} opened, for ${durationText(number(e.limit_ms))}`,
  question_closed: questionClosed,
  completed: (e) => `Interview ended: ${END_REASONS[text(e.reason)] ?? plain(e.reason)}${e.note ? ` (${text(e.note)})` : ""}`,
  paused: (e) => `Paused${because(e.reason)}`,
  resumed: () => "Resumed",
  extended: (e) => `${durationText(number(e.ms))} more time${because(e.reason)}`,
  clock_stopped: () => "Clock stopped: the connection is lost",
  clock_credited: (e) => `${durationText(number(e.ms))} given back: ${CAUSES[text(e.cause)] ?? plain(e.cause)}`,
  consent_given: () => "Agreed to the privacy policy",
  link_renewed: () => "New candidate link made",
  activated: () => "Taken up by a process",
  deactivated: () => "Let go by its process",
  parked: (e) => `Interrupted${because(e.reason)}`,
  candidate_seen: () => "Sign of the candidate",
  channel_opened: () => "Candidate’s page connected",
  channel_closed: () => "Candidate’s page closed",
  channel_lost: () => "Candidate’s page lost its connection",
  participant_joined: () => "Candidate joined the video room",
  participant_left: () => "Candidate left the video room",
  connection_lost: () => "Candidate’s video connection lost",
  livekit: (e) => (e.mode === "fallback" ? `No video${because(e.reason)}` : "Video room made"),
  room_closed: () => "Video room closed",
  recording: (e) => `Recording: ${plain(e.status)}`,
  proctoring_event: seen,
  frames: (e) => `${count(e.times)} of the camera looked at`,
  evidence_kept: (e) => `${count(e.stills)} kept as evidence`,
  evidence_thinned: (e) => `${count(e.stills)} no longer kept`,
  reference_captured: () => "Reference face captured",
  erased: (e) => `Pictures erased${because(e.because)}`,
  event_disputed: (e) => `Candidate objects to event ${number(e.of)}${because(e.statement)}`,
  verdict_given: (e) => `Verdict: ${plain(e.verdict)}${because(e.reason)}`,
  hook_failed: (e) => `Hook ${text(e.hook)} failed${because(e.reason)}`,
  hooks_suspended: () => "Hooks are suspended",
  commands_noted: () => "Calls noted",
};

export function eventText({ type, event }: JournalEvent): string {
  return SENTENCES[type]?.(event) ?? plain(type);
}

function questionClosed(e: Record<string, unknown>): string {
  const question = `question ${number(e.index) + 1}`;
  if (e.source === "submitted") return `Answered ${question} after ${durationText(number(e.elapsed_ms))}`;
  const outcome = e.source === "draft" ? "the draft is the answer" : "there is no answer";
  return "late_by" in e ? `Time for ${question} ran out; ${outcome}` : `Closed ${question}; ${outcome}`;
}

function seen(e: Record<string, unknown>): string {
  const kind = KINDS[text(e.event)] ?? plain(text(e.event).replace(/^custom:/, ""));
  const times = number(e.count) > 1 ? `, ${number(e.count)} times` : "";
  const lasted = typeof e.ms === "number" ? `, ${durationText(e.ms)}` : "";
  const phase = { began: ", began", ended: ", ended" }[text(e.phase)] ?? "";
  return `Seen: ${kind}${phase}${times}${lasted}`;
}

function because(reason: unknown): string {
  return text(reason) === "" ? "" : `: ${text(reason)}`;
}

function count(stills: unknown): string {
  const n = Array.isArray(stills) ? stills.length : 0;
  return n === 1 ? "1 still" : `${n} stills`;
}

function plain(name: unknown): string {
  return text(name).replaceAll("_", " ");
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function number(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

const WORTH_SAYING = new Set([
  "started",
  "question_opened",
  "question_closed",
  "completed",
  "paused",
  "resumed",
  "extended",
  "clock_stopped",
  "parked",
  "channel_lost",
  "channel_opened",
]);

/** Whether a screen reader is to say an event when it happens; all others are in the journal to read. */
export function isWorthSaying(event: JournalEvent): boolean {
  return WORTH_SAYING.has(event.type);
}
