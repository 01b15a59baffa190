import { ServerClock } from "../clock";
import { EventParser } from "./events";
import { type Board, type Change, EMPTY, type StaffSession, withEvent, withSession } from "./model";

const PATH = "/api/parallel_interview/console/events";
const SILENT_MS = 25_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5_000;

/** `key`: a staff key is needed, or another one. `closed`: this key does not open the console. */
export type FeedState = "connecting" | "live" | "lost" | "key" | "closed";

/**
 * The console's feed. It is read with fetch, since an EventSource can send no key; like one it connects again by itself,
 * and is then given everything anew.
 */
export class Feed {
  readonly clock = new ServerClock();
  board: Board = EMPTY;
  state: FeedState = "connecting";
  scopes: ReadonlySet<string> = new Set();
  /** When the last message came, on the server's clock. */
  heardAt = 0;
  private abort = new AbortController();
  private stopped = false;

  constructor(
    private readonly staffKey: string | null,
    private readonly onChange: () => void,
  ) {}

  async run(): Promise<void> {
    let wait = FIRST_WAIT_MS;
    while (!this.stopped) {
      const began = performance.now();
      if (await this.readOnce()) return;
      if (this.stopped) return;
      this.say(this.board.isComplete ? "lost" : "connecting");
      if (performance.now() - began > LONGEST_WAIT_MS) wait = FIRST_WAIT_MS;
      await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random())));
      wait = Math.min(2 * wait, LONGEST_WAIT_MS);
    }
  }

  stop(): void {
    this.stopped = true;
    this.abort.abort();
  }

  /** Shows what a call has answered before the feed tells it. */
  take(session: StaffSession): void {
    this.board = withSession(this.board, session);
    this.onChange();
  }

  change(how: (board: Board) => Board): void {
    this.board = how(this.board);
    this.onChange();
  }

  /** Whether there is no use in trying again. */
  private async readOnce(): Promise<boolean> {
    this.abort = new AbortController();
    let silence = this.expectNews();
    try {
      const headers: Record<string, string> = this.staffKey === null ? {} : { "X-API-Key": this.staffKey };
      const response = await fetch(PATH, { headers, cache: "no-store", signal: this.abort.signal });
      if (response.status === 401 || response.status === 403) {
        this.say(response.status === 401 ? "key" : "closed");
        return true;
      }
      if (!response.ok || response.body === null) return false;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new EventParser();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return false;
        clearTimeout(silence);
        silence = this.expectNews();
        for (const { type, data } of parser.take(value)) this.hear(type, JSON.parse(data));
      }
    } catch {
      return false; // it was cut off, or nobody answered
    } finally {
      clearTimeout(silence);
    }
  }

  private expectNews(): ReturnType<typeof setTimeout> {
    const abort = this.abort;
    return setTimeout(() => abort.abort(), SILENT_MS);
  }

  private hear(type: string, data: Change & { server_time?: string; scopes?: string[] }): void {
    if (this.stopped) return;
    if (type === "hello") {
      this.scopes = new Set(data.scopes);
      return this.say(this.state);
    }
    if (data.server_time !== undefined) this.clock.observe(data.server_time);
    this.heardAt = this.clock.now();
    this.board = withEvent(this.board, type, data);
    this.say("live");
  }

  private say(state: FeedState): void {
    this.state = state;
    if (!this.stopped) this.onChange();
  }
}
