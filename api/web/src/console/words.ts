import type { Row } from "./model";

/** 14:05, or with the day if that is another one. */
export function timeText(iso: string, now: number): string {
  const at = new Date(iso);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (at.toDateString() === new Date(now).toDateString()) return time;
  const year = at.getFullYear() === new Date(now).getFullYear() ? undefined : "numeric";
  return `${at.toLocaleDateString([], { day: "numeric", month: "short", year })}, ${time}`;
}

/** How long ago, in whole minutes. */
export function agoText(iso: string, now: number): string {
  const minutes = Math.max(0, Math.floor((now - Date.parse(iso)) / 60_000));
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 1440)} days`;
}

export const PAGE_TEXTS = { here: "connected", lost: "lost", away: "page closed", unseen: "not opened" } as const;

export function videoText({ mode, connected }: Row["video"]): string {
  if (connected) return "video on";
  return mode === "live" ? "video off" : "no video";
}

/** The beginning of an id: enough to tell a few apart. */
export function shortNode(node: string): string {
  return node.slice(0, 8);
}

export function shortActor(actor: string): string {
  return actor.replace(/^InterviewActor-/, "");
}

/** The label that the policy has for a score. */
export function concernText(label: string): string {
  const text = label === "none" ? "no" : label.replaceAll("_", " ");
  return ["no", "low", "medium", "high"].includes(text) ? `${text} concern` : text;
}
