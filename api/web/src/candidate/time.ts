// What the countdown shows. Times are ms since the epoch on the server's clock.

import type { Question } from "./types";

/** A connection that went: `since` when we last heard of the server, and for how long the clock may stand still. */
export interface Loss {
  since: number;
  creditMs: number;
}

/** After so long the server has noticed too, so what we say about the clock is true by then. */
export const NOTICED_MS = 10_000;

export type LossPhase = "trying" | "stopped" | "runs";

/** What can be said about the clock while the connection is lost. */
export function lossPhase(loss: Loss, now: number): LossPhase {
  const silent = now - loss.since;
  if (silent < NOTICED_MS) return "trying";
  return silent < loss.creditMs ? "stopped" : "runs";
}

/** What is left of a question's time. Never less than 0. */
export function remainingMs(question: Question, now: number, loss: Loss | null = null): number {
  if (question.deadline === null) return Math.max(0, (question.remaining_seconds ?? 0) * 1000);
  const running = Date.parse(question.deadline) - now;
  return Math.max(0, running + (loss ? givenBackMs(loss, now) : 0));
}

function givenBackMs(loss: Loss, now: number): number {
  const silent = now - loss.since;
  return silent < NOTICED_MS ? 0 : Math.min(silent, loss.creditMs);
}

/** 61_000 → "01:01". A second that has begun counts, so 0:00 is the end and not the last second. */
export function minutesAndSeconds(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  return [Math.floor(seconds / 60), seconds % 60].map((part) => String(part).padStart(2, "0")).join(":");
}

/** A duration in words: "30 seconds", "1 minute", "2 minutes 5 seconds". */
export function inWords(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [count(Math.floor(whole / 60), "minute"), count(whole % 60, "second")].filter(Boolean);
  return parts.join(" ") || "0 seconds";
}

function count(n: number, unit: string): string {
  return n === 0 ? "" : `${n} ${unit}${n === 1 ? "" : "s"}`;
}

const SPOKEN = [60, 30, 10];
export const URGENT_MS = 30_000;

/** The mark (60, 30 or 10 s) that was passed between two looks at the clock. Time that was added passes none. */
export function markPassed(beforeMs: number, nowMs: number): number | null {
  const passed = SPOKEN.filter((mark) => beforeMs > mark * 1000 && nowMs <= mark * 1000);
  return passed.length > 0 ? Math.min(...passed) : null;
}
