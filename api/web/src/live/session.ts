import { authorize, Problem, rest } from "../api";
import { Channel, type ChannelStatus, type Frame } from "../channel";
import { uuid } from "../uuid";
import { changesSession, eventOfRow, type JournalEvent, type JournalRow, type Known, newer, type Session } from "./model";
import { withEvents, withFrame } from "./model";

const PAGE = 1000;
const REFRESH_AFTER_MS = 150;

/** `key`: a staff key is needed. `gone`: there is no such session. */
export type Access = "loading" | "in" | "key" | "gone";

/**
 * An interview as staff see it live: the session by GET, the journal so far by GET and from then on by the channel, and
 * the commands of staff. `onChange` is called after every change; the members are to be read only.
 */
export class LiveSession {
  known: Known = { session: null, journal: [] };
  access: Access = "loading";
  connection: ChannelStatus = "connecting";
  /** A sentence, while something could not be loaded. */
  trouble: string | null = null;
  /** The last event that came live. */
  latest: JournalEvent | null = null;

  readonly channel: Channel;
  private readonly path: string;
  private loadedTo = 0;
  private pastIsLoaded = false;
  private refreshing: ReturnType<typeof setTimeout> | null = null;
  private stopped = false;
  /** Keys of commands of which nobody knows yet whether they have run. */
  private readonly unsettled = new Map<string, string>();

  constructor(
    sessionId: string,
    staffKey: string | null,
    private readonly onChange: () => void,
  ) {
    this.path = `/session/${encodeURIComponent(sessionId)}`;
    authorize(staffKey === null ? null : { staffKey });
    this.channel = new Channel({
      sessionId,
      token: staffKey ?? undefined,
      role: "observer",
      onFrame: (frame) => this.take(frame),
      onStatus: (status, { code }) => this.onStatus(status, code),
    });
  }

  async start(): Promise<void> {
    this.change(() => {
      this.access = "loading";
      this.trouble = null;
    });
    await this.refresh();
    if (this.access !== "in" || this.stopped) return;
    if (this.channel.status !== "open") this.channel.connect();
    else if (!this.pastIsLoaded) void this.loadPast();
  }

  stop(): void {
    this.stopped = true;
    if (this.refreshing !== null) clearTimeout(this.refreshing);
    this.channel.close();
  }

  /** Runs a command of staff: pause, resume, extend or end. Throws Problem. */
  async command(name: string, body: object = {}): Promise<void> {
    // Whoever presses the button again after the network failed must not extend twice.
    const what = JSON.stringify([name, body]);
    const key = this.unsettled.get(what) ?? uuid();
    this.unsettled.set(what, key);
    try {
      const answer = await rest<{ session: Session }>(`${this.path}/${name}`, { method: "POST", json: body, key });
      this.unsettled.delete(what);
      this.change(() => this.learn(answer.session));
    } catch (problem) {
      if (problem instanceof Problem && problem.status >= 400 && problem.status < 429) this.unsettled.delete(what);
      if (problem instanceof Problem && problem.status === 401) this.change(() => (this.access = "key"));
      throw problem;
    }
  }

  private async refresh(): Promise<void> {
    try {
      const { session } = await rest<{ session: Session }>(this.path);
      this.change(() => {
        this.access = "in";
        this.trouble = null;
        this.learn(session);
      });
    } catch (problem) {
      this.change(() => this.fail(problem));
    }
  }

  private learn(session: Session): void {
    this.known = { ...this.known, session: newer(this.known.session, session) };
  }

  private fail(problem: unknown): void {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401 || problem.status === 403) this.access = "key";
    else if (problem.status === 404) this.access = "gone";
    else this.trouble = problem.detail;
  }

  private onStatus(status: ChannelStatus, code: number | undefined): void {
    this.change(() => {
      this.connection = status;
      if (code === 4401) this.access = "key";
      if (code === 4404) this.access = "gone";
    });
    if (status !== "open") return;
    // By now the channel follows: what it does not bring was in the journal before.
    if (!this.pastIsLoaded) void this.loadPast();
    else if (this.trouble !== null) void this.refresh();
  }

  private async loadPast(): Promise<void> {
    try {
      while (!this.stopped && !this.pastIsLoaded) {
        const query = `?after=${this.loadedTo}&limit=${PAGE}`;
        const { events } = await rest<{ events: JournalRow[] }>(`${this.path}/journal${query}`);
        this.loadedTo = events.at(-1)?.seq ?? this.loadedTo;
        this.pastIsLoaded = events.length < PAGE;
        this.change(() => {
          this.trouble = null;
          this.known = { ...this.known, journal: withEvents(this.known.journal, events.map(eventOfRow)) };
        });
      }
    } catch (problem) {
      this.change(() => this.fail(problem));
    }
  }

  private take(frame: Frame): void {
    this.change(() => {
      const before = this.known.journal;
      this.known = withFrame(this.known, frame);
      if (this.known.journal !== before) this.latest = this.known.journal.find((e) => e.seq === frame.seq) ?? null;
    });
    if (changesSession(frame)) this.refreshSoon();
  }

  private refreshSoon(): void {
    this.refreshing ??= setTimeout(() => {
      this.refreshing = null;
      void this.refresh();
    }, REFRESH_AFTER_MS);
  }

  private change(how: () => void): void {
    if (this.stopped) return;
    how();
    this.onChange();
  }
}
