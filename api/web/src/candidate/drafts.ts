// The text of a question that is being answered: on the device with each keystroke, on the server a little later.

import type { SavedAnswer, ServerDraft, Store } from "./types";

/** `local`: the server does not have it, the device does. `unsaved`: neither has it. */
export type SaveState = "empty" | "saved" | "saving" | "local" | "unsaved" | "too_long";

/** What the server takes: 64 KB of UTF-8. */
export const MAX_BYTES = 65_536;
const PAUSE_MS = 400;
const AT_LEAST_EVERY_MS = 5_000;
const AGAIN_MS = 3_000;

export interface Kept {
  text: string;
  language: string | null;
  /** The highest revision that was sent. On reload it must not go back, or the server takes no more. */
  revision: number;
}

export interface DraftOptions {
  sessionId: string;
  index: number;
  store: Store | null;
  known?: ServerDraft | null;
  send(draft: { question_index: number; draft: string; revision: number }): Promise<{ [key: string]: unknown }>;
  onState(state: SaveState): void;
}

export class Draft {
  text = "";
  language: string | null = null;
  state: SaveState = "empty";

  private revision = 0;
  private sentText: string | null = null;
  private isKept = true;
  private isClosed = false;
  private pauseTimer: ReturnType<typeof setTimeout> | null = null;
  private latestTimer: ReturnType<typeof setTimeout> | null = null;
  private waiters: ((isSaved: boolean) => void)[] = [];

  constructor(private readonly options: DraftOptions) {
    const kept = readDraft(options.store, options.sessionId, options.index);
    if (kept !== null) ({ text: this.text, language: this.language, revision: this.revision } = kept);
    const known = options.known?.question_index === options.index ? options.known : null;
    // What was written elsewhere, or here before this device forgot it, is further than what it has.
    if (known !== null && known.revision > this.revision) ({ text: this.text, revision: this.revision } = known);
  }

  /** After a reload, nobody knows whether the server has what the device has. */
  resume(): void {
    this.isClosed = false;
    if (this.text !== "" || this.revision > 0) this.changed();
  }

  edit(text: string): void {
    if (this.isClosed || text === this.text) return;
    this.text = text;
    this.keep();
    this.changed();
  }

  /** The server keeps no language with a draft; it goes with the answer. */
  setLanguage(language: string): void {
    this.language = language;
    this.keep();
  }

  /**
   * Sends what the server does not have, now. Resolves with true once it has all that is written (or once the question
   * is closed), with false as soon as it takes it not; as long as neither is known, it does not resolve.
   */
  flush(): Promise<boolean> {
    this.stopTimers();
    if (this.isClosed) return Promise.resolve(true);
    if (this.text === "" && this.revision === 0) {
      this.become("empty");
      return Promise.resolve(true);
    }
    if (isTooLong(this.text)) {
      this.become("too_long");
      return Promise.resolve(false);
    }
    if (this.text !== this.sentText) this.transmit();
    else if (this.state === "saved" || this.state === "empty") return Promise.resolve(true);
    return new Promise((resolve) => this.waiters.push(resolve));
  }

  /** From now on nothing is sent: the answer itself is on its way, or the question is closed. */
  close(): void {
    this.isClosed = true;
    this.stopTimers();
    this.settle(true);
  }

  private transmit(): void {
    this.sentText = this.text;
    const revision = ++this.revision;
    this.keep();
    this.become("saving");
    const { index: question_index, send } = this.options;
    send({ question_index, draft: wellFormed(this.text), revision }).then(
      (reply) => this.answered(reply, revision),
      (error: { code?: string }) => this.refused(error),
    );
  }

  private changed(): void {
    this.sentText = null;
    this.become(isTooLong(this.text) ? "too_long" : "saving");
    if (this.pauseTimer !== null) clearTimeout(this.pauseTimer);
    this.pauseTimer = setTimeout(() => void this.flush(), PAUSE_MS);
    this.latestTimer ??= setTimeout(() => void this.flush(), AT_LEAST_EVERY_MS);
  }

  /** `sent`: what it answers. It also answers an older one in whose place that was sent, which then says nothing. */
  private answered(reply: { saved?: unknown; revision?: unknown }, sent: number): void {
    if (sent !== this.revision) return;
    const stored = typeof reply.revision === "number" ? reply.revision : sent;
    this.revision = Math.max(sent, stored);
    if (reply.saved === false) this.notTaken(stored >= sent);
    else if (this.text === this.sentText) {
      this.become(this.text === "" ? "empty" : "saved");
      this.settle(true);
    }
    if (!this.isClosed) this.keep();
  }

  /** What is on this screen counts, whatever another window of this interview, or an older owner, has written. */
  private notTaken(isOutrun: boolean): void {
    this.sentText = null;
    if (isOutrun) return void this.flush();
    this.become(this.isKept ? "local" : "unsaved");
    this.sendAgain();
  }

  private refused(error: { code?: string }): void {
    this.sentText = null;
    this.become(error.code === "too_large" ? "too_long" : this.isKept ? "local" : "unsaved");
    this.settle(false);
    if (error.code === "internal_error") this.sendAgain();
  }

  private sendAgain(): void {
    if (!this.isClosed) this.latestTimer ??= setTimeout(() => void this.flush(), AGAIN_MS);
  }

  private settle(isSaved: boolean): void {
    for (const resolve of this.waiters.splice(0)) resolve(isSaved);
  }

  private keep(): void {
    const { store, sessionId, index } = this.options;
    const kept: Kept = { text: this.text, language: this.language, revision: this.revision };
    this.isKept = write(store, keyOf(sessionId, index), JSON.stringify(kept));
  }

  private become(state: SaveState): void {
    if (this.isClosed || state === this.state) return;
    this.state = state;
    this.options.onState(state);
  }

  private stopTimers(): void {
    for (const timer of [this.pauseTimer, this.latestTimer]) if (timer !== null) clearTimeout(timer);
    this.pauseTimer = this.latestTimer = null;
  }
}

/** Whether it has come to a good end within so many ms. */
export async function within(ms: number, saving: Promise<boolean>): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(false), ms)));
  try {
    return await Promise.race([saving, over]);
  } finally {
    clearTimeout(timer);
  }
}

export function isTooLong(text: string): boolean {
  // A character takes three bytes of UTF-8 at most: only long texts have to be counted.
  return text.length * 3 > MAX_BYTES && bytesOf(text) > MAX_BYTES;
}

export function bytesOf(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** The server takes neither NUL nor half characters, which some keyboards and clipboards leave behind. */
export function wellFormed(text: string): string {
  return text.replace(/\0/g, "").replace(/\p{Surrogate}/gu, "\uFFFD");
}

export function readDraft(store: Store | null, sessionId: string, index: number): Kept | null {
  try {
    const kept = JSON.parse(store?.getItem(keyOf(sessionId, index)) ?? "null") as Partial<Kept> | null;
    if (typeof kept?.text !== "string") return null;
    return { text: kept.text, language: kept.language ?? null, revision: Number(kept.revision) || 0 };
  } catch {
    return null;
  }
}

/** Whether the device has more of an answer than the server was told before time ran out. */
export function isCutShort(store: Store | null, sessionId: string, answer: SavedAnswer): boolean {
  const kept = readDraft(store, sessionId, answer.question_index);
  return kept !== null && answer.source !== "submitted" && wellFormed(kept.text) !== answer.answer;
}

/** Removes the drafts of the session for which `isOver` holds; all of them if it is not given. */
export function forgetDrafts(store: Store | null, sessionId: string, isOver = (_index: number) => true): void {
  const prefix = keyOf(sessionId, "");
  try {
    const keys = Array.from({ length: store?.length ?? 0 }, (_, i) => store?.key(i) ?? "");
    const ours = keys.filter((key) => key.startsWith(prefix) && isOver(Number(key.slice(prefix.length))));
    for (const key of ours) store?.removeItem(key);
  } catch {
    // Storage that cannot be read holds nothing of ours.
  }
}

function keyOf(sessionId: string, index: number | ""): string {
  return `interview-draft:${sessionId}:${index}`;
}

function write(store: Store | null, key: string, value: string): boolean {
  try {
    store?.setItem(key, value);
    return store !== null;
  } catch {
    return false;
  }
}
