import { ServerClock } from "./clock";
import { uuid } from "./uuid";

/** A frame of docs/live_channel.md. */
export type Frame = { type: string; server_time: string; seq?: number; at?: string; [k: string]: any };
export type ChannelStatus = "connecting" | "open" | "lost" | "closed";

export interface ChannelOptions {
  sessionId: string;
  token?: string;
  role: "candidate" | "observer" | "";
  /** Every frame but replies to commands, which go to the promise of `send`. */
  onFrame(f: Frame): void;
  /** `silentSince`: performance.now() of the last frame received. `code`: why it is closed for good. */
  onStatus(s: ChannelStatus, info: { code?: number; silentSince?: number }): void;
  url?: string;
}

/** A command that was refused; with code `closed` if the channel ended before there was an answer. */
export class CommandError extends Error {
  readonly code: string;
  constructor(readonly frame: Frame) {
    super(String(frame.detail ?? "The command was refused."));
    this.name = "CommandError";
    this.code = String(frame.code ?? "unknown");
  }
}

interface Command {
  id: string;
  type: string;
  body: Record<string, unknown>;
  waiters: { resolve(f: Frame): void; reject(e: CommandError): void }[];
  retry: ReturnType<typeof setTimeout> | null;
}

const FINAL_CODES = new Set([1000, 4401, 4404, 4409]);
/** The reason of a 4401 on a slow network: the token did not reach the server, and may the next time. */
const NO_TOKEN_IN_TIME = "no token came in time";
/** Says, should it still arrive, that this socket was not left but taken for lost. */
const LOST_CODE = 4408;
const OUR_FAULT_CODES = new Set([1008, 4400]);
const REPLIES = new Set(["ok", "draft_saved", "pong"]);

const TICK_MS = 500;
const PING_EVERY_MS = 3_000;
const SILENCE_MS = 8_000;
/** How long a ping has to be unanswered too: in a tab in the background, pings may go out once a minute only. */
const UNANSWERED_MS = 4_500;
/** Longer than the 10 s for which the server waits for `auth`, so that its close code is seen. */
const FIRST_FRAME_MS = 12_000;
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5_000;
const STABLE_MS = 5_000;

/**
 * The live channel, for as long as the page lives: it comes back by itself with what was missed, and sends again, in
 * order and with the same ids, what was not answered.
 */
export class Channel {
  readonly clock = new ServerClock();
  /** So that our own return is not taken for a second device. */
  private readonly page = uuid();
  rtt: number | null = null;

  private state: ChannelStatus = "connecting";
  private socket: WebSocket | null = null;
  private queue: Command[] = [];
  private pings = new Map<string, number>();
  private lastSeq: number | null = null;

  private connectingSince = 0;
  private openedAt = 0;
  private lastFrameAt: number | undefined;
  private lastPingAt = 0;
  private unansweredSince: number | null = null;
  private lastTickAt = 0;
  private askedAgain = false;

  private failures = 0;
  private ticker: ReturnType<typeof setInterval> | null = null;
  private reconnect: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly options: ChannelOptions) {}

  get status(): ChannelStatus {
    return this.state;
  }

  /** Opens the channel; also again after it was closed. */
  connect(): void {
    if (this.ticker !== null) return;
    this.failures = 0;
    this.lastTickAt = performance.now();
    this.ticker = setInterval(this.tick, TICK_MS);
    this.listen("addEventListener");
    this.setStatus("connecting", {});
    this.open();
  }

  close(): void {
    this.finish();
  }

  /** Sends a command, now or once the channel is open. Resolves with its reply, however often it has to be sent. */
  send(type: string, body: object = {}): Promise<Frame> {
    return new Promise((resolve, reject) => {
      if (this.state === "closed") return reject(this.closedError());
      const command: Command = { id: uuid(), type, body: { ...body }, waiters: [{ resolve, reject }], retry: null };
      if (type === "draft") this.replaceOlderDraft(command);
      this.queue.push(command);
      if (this.state === "open") this.transmit(command);
    });
  }

  // ---- the connection

  private open(): void {
    this.reconnect = null;
    this.connectingSince = performance.now();
    const { token } = this.options;
    try {
      const socket = new WebSocket(this.address());
      this.socket = socket;
      socket.onopen = () => {
        // Without a token the service may be open to all; if it is not, it says so with 4401.
        if (token !== undefined) socket.send(JSON.stringify({ type: "auth", token, page: this.page }));
      };
      socket.onmessage = (event) => this.receive(event.data);
      socket.onclose = (event) => this.onClose(event.code, event.reason);
    } catch {
      this.lose();
    }
  }

  private address(): string {
    const { sessionId, role, url } = this.options;
    const address = new URL(url ?? "/ws/interview", location.href);
    address.protocol = address.protocol.replace(/^http/, "ws");
    address.hash = "";
    address.searchParams.set("session_id", sessionId);
    if (role !== "") address.searchParams.set("role", role);
    if (this.lastSeq !== null) address.searchParams.set("after", String(this.lastSeq));
    return address.href;
  }

  private onClose(code: number, reason: string): void {
    const isTooSlow = reason === NO_TOKEN_IN_TIME && this.options.token !== undefined;
    if (FINAL_CODES.has(code) && !isTooSlow) this.finish(code);
    else this.lose(OUR_FAULT_CODES.has(code) ? LONGEST_WAIT_MS : 0);
  }

  /** Gives the socket up, whatever it says of itself, and comes back soon. */
  private lose(atLeastMs = 0): void {
    if (this.state === "open" && performance.now() - this.openedAt >= STABLE_MS) this.failures = 0;
    this.dropSocket(LOST_CODE);
    const wait = Math.min(FIRST_WAIT_MS * 2 ** this.failures, LONGEST_WAIT_MS) * (0.5 + Math.random() / 2);
    this.failures++;
    this.scheduleReconnect(Math.max(wait, atLeastMs));
    if (this.state !== "lost") this.setStatus("lost", { silentSince: this.lastFrameAt });
  }

  private scheduleReconnect(wait: number): void {
    if (this.reconnect !== null) clearTimeout(this.reconnect);
    this.reconnect = setTimeout(() => this.open(), wait);
  }

  private dropSocket(code?: number): void {
    const socket = this.socket;
    this.socket = null;
    this.pings.clear();
    this.unansweredSince = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  private finish(code?: number): void {
    if (this.state === "closed") return;
    this.dropSocket();
    if (this.ticker !== null) clearInterval(this.ticker);
    if (this.reconnect !== null) clearTimeout(this.reconnect);
    this.ticker = this.reconnect = null;
    this.listen("removeEventListener");
    this.setStatus("closed", { code, silentSince: this.lastFrameAt });
    const unanswered = this.queue.splice(0);
    for (const command of unanswered) this.settle(command, this.closedError());
  }

  private setStatus(status: ChannelStatus, info: { code?: number; silentSince?: number }): void {
    this.state = status;
    this.options.onStatus(status, info);
  }

  // ---- frames

  private receive(data: unknown): void {
    const receivedAt = performance.now();
    this.lastFrameAt = receivedAt;
    this.unansweredSince = null;
    this.askedAgain = false;
    const frame = parseFrame(data);
    if (frame === null) return;
    this.observeClock(frame, receivedAt);
    if (frame.type === "state" && this.state !== "open") this.onOpen(frame);
    if (REPLIES.has(frame.type) || (frame.type === "error" && frame.command_id)) this.onReply(frame);
    else if (this.isNews(frame)) this.options.onFrame(frame);
  }

  private observeClock(frame: Frame, receivedAt: number): void {
    const sentAt = frame.type === "pong" ? this.pings.get(frame.command_id) : undefined;
    this.clock.observe(frame.server_time, sentAt, receivedAt);
    if (sentAt === undefined) return;
    this.rtt = receivedAt - sentAt;
    this.pings.delete(frame.command_id);
  }

  /** The first `state` says that we are in: now commands can go. */
  private onOpen(frame: Frame): void {
    this.openedAt = performance.now();
    this.lastSeq ??= frame.as_of ?? null;
    this.setStatus("open", {});
    this.ping();
    for (const command of [...this.queue]) this.transmit(command);
  }

  private isNews(frame: Frame): boolean {
    if (frame.seq === undefined) return true;
    const known = this.lastSeq !== null && frame.seq <= this.lastSeq;
    if (!known) this.lastSeq = frame.seq;
    return !known || frame.type === "state";
  }

  // ---- commands

  private transmit(command: Command): void {
    if (command.retry !== null) clearTimeout(command.retry);
    command.retry = null;
    this.socket?.send(JSON.stringify({ ...command.body, type: command.type, command_id: command.id }));
  }

  private onReply(frame: Frame): void {
    const command = this.queue.find((c) => c.id === frame.command_id);
    if (command === undefined) return;
    if (frame.type === "error" && typeof frame.retry_after === "number") {
      command.retry = setTimeout(() => {
        // When the channel is not open, opening it sends everything again anyway.
        if (this.state === "open") this.transmit(command);
      }, frame.retry_after * 1000);
      return;
    }
    this.remove(command);
    this.settle(command, frame.type === "error" ? new CommandError(frame) : frame);
  }

  /** Only the newest draft of a question matters; who waited for the older one waits for this one now. */
  private replaceOlderDraft(draft: Command): void {
    const older = this.queue.find((c) => c.type === "draft" && c.body.question_index === draft.body.question_index);
    if (older === undefined) return;
    this.remove(older);
    draft.waiters.unshift(...older.waiters);
  }

  private remove(command: Command): void {
    this.queue.splice(this.queue.indexOf(command), 1);
    if (command.retry !== null) clearTimeout(command.retry);
  }

  private settle(command: Command, outcome: Frame | CommandError): void {
    if (command.retry !== null) clearTimeout(command.retry);
    for (const waiter of command.waiters) {
      if (outcome instanceof CommandError) waiter.reject(outcome);
      else waiter.resolve(outcome);
    }
  }

  private closedError(): CommandError {
    const detail = "The connection is closed.";
    return new CommandError({ type: "error", server_time: new Date(this.clock.now()).toISOString(), code: "closed", detail });
  }

  // ---- signs of life

  private ping(): void {
    const now = performance.now();
    const id = uuid();
    this.pings.set(id, now);
    this.lastPingAt = now;
    this.unansweredSince ??= now;
    this.socket?.send(JSON.stringify({ type: "ping", command_id: id }));
  }

  private tick = (): void => {
    const now = performance.now();
    const heldUp = now - this.lastTickAt > PING_EVERY_MS;
    this.lastTickAt = now;
    if (this.socket === null) return;
    if (this.state !== "open") {
      if (now - this.connectingSince >= FIRST_FRAME_MS) this.lose();
    } else if (this.isSilent(now)) {
      // After a sleep of the page, frames that came meanwhile may wait behind this very tick: ask once more.
      if (heldUp && !this.askedAgain) this.askAgain();
      else this.lose();
    } else if (now - this.lastPingAt >= PING_EVERY_MS) this.ping();
  };

  private isSilent(now: number): boolean {
    if (this.lastFrameAt === undefined || this.unansweredSince === null) return false;
    return now - this.lastFrameAt >= SILENCE_MS && now - this.unansweredSince >= UNANSWERED_MS;
  }

  private askAgain(): void {
    this.askedAgain = true;
    this.unansweredSince = null;
    this.ping();
  }

  private checkNow = (): void => {
    if (document.visibilityState === "hidden") return;
    if (this.state === "open") this.ping();
    else if (this.reconnect !== null) this.scheduleReconnect(0);
  };

  /** An attempt that is under way began without a network; it may hang for long. */
  private onOnline = (): void => {
    if (this.state === "open") return this.ping();
    this.dropSocket(LOST_CODE);
    this.scheduleReconnect(0);
  };

  private onOffline = (): void => {
    if (this.socket !== null) this.lose();
  };

  private listen(how: "addEventListener" | "removeEventListener"): void {
    window[how]("offline", this.onOffline);
    window[how]("online", this.onOnline);
    window[how]("pageshow", this.checkNow);
    document[how]("visibilitychange", this.checkNow);
  }
}

function parseFrame(data: unknown): Frame | null {
  try {
    const frame: unknown = typeof data === "string" ? JSON.parse(data) : null;
    return typeof frame === "object" && frame !== null && "type" in frame ? (frame as Frame) : null;
  } catch {
    return null;
  }
}
