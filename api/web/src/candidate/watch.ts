// What the page sees of itself while the interview runs: proctoring events. It says that something happened and for how
// long, never what was written. docs/proctoring.md

export interface PageEvent {
  type: string;
  /** By the device's clock; `sent_at` of the frame is by the same, so the server can put both right. */
  at: string;
  phase?: "began" | "ended";
  detail?: { size: number };
}

export const LASTING = [
  "tab_hidden",
  "focus_lost",
  "fullscreen_left",
  "second_display",
  "camera_off",
  "mic_muted",
] as const;
export type LastingKind = (typeof LASTING)[number];

const MOST_KEPT = 200;
const MOST_AT_ONCE = 100;
export const PATIENCE_MS = 3_000;

export interface Line {
  send(type: string, body: object): Promise<unknown>;
  isOpen(): boolean;
}

/** Events on their way to the server, in order, a frame at a time. */
export class Outbox {
  private waiting: PageEvent[] = [];
  private isSending = false;

  constructor(private readonly line: Line) {}

  add(event: PageEvent): void {
    this.waiting.push(event);
    // The oldest go: an end without its beginning harms nobody, a beginning without its end would.
    this.waiting.splice(0, this.waiting.length - MOST_KEPT);
    this.flush();
  }

  /** Call it too when the line is open again. */
  flush(): void {
    if (this.isSending || this.waiting.length === 0 || !this.line.isOpen()) return;
    const events = this.waiting.splice(0, MOST_AT_ONCE);
    // Read when the frame goes out, each time: one that waits for a lost connection would shift its events otherwise.
    const sent_at = { toJSON: () => new Date().toISOString() };
    this.isSending = true;
    // What is refused is not repeated: it is there already, or the interview is over.
    const done = () => {
      this.isSending = false;
      this.flush();
    };
    this.line.send("proctoring_event", { events, sent_at }).then(done, done);
  }
}

/** What lasts: told when it begins and when it ends, once each. */
export class Lasting {
  private readonly on = new Set<LastingKind>();

  constructor(private readonly add: (event: PageEvent) => void) {}

  set(type: LastingKind, isOn: boolean, at = now()): void {
    if (this.on.has(type) === isOn) return;
    if (isOn) this.on.add(type);
    else this.on.delete(type);
    this.add({ type, at, phase: isOn ? "began" : "ended" });
  }

  /** A page that was loaded again does not know what it had begun before: it ends whatever does not last now. */
  endTheRest(): void {
    const rest = LASTING.filter((type) => !this.on.has(type));
    for (const type of rest) this.add({ type, at: now(), phase: "ended" });
  }
}

/**
 * Like Lasting, for what stalls for a moment on a busy laptop: it is told, with the time at which it began, once it has
 * lasted for PATIENCE_MS.
 */
export class Patient {
  private readonly waiting = new Map<LastingKind, ReturnType<typeof setTimeout>>();

  constructor(private readonly lasting: Lasting) {}

  set(type: LastingKind, isOn: boolean): void {
    if (!isOn) {
      this.forget(type);
      this.lasting.set(type, false);
    } else if (!this.waiting.has(type)) {
      const began = now();
      this.waiting.set(type, setTimeout(() => this.lasting.set(type, true, began), PATIENCE_MS));
    }
  }

  stop(): void {
    for (const type of [...this.waiting.keys()]) this.forget(type);
  }

  private forget(type: LastingKind): void {
    clearTimeout(this.waiting.get(type));
    this.waiting.delete(type);
  }
}

function now(): string {
  return new Date().toISOString();
}

export interface Watched {
  hasEnteredFullScreen(): boolean;
  /** Whether it should be there and is not. */
  isCameraOff(): boolean;
  isMicrophoneMuted(): boolean;
  onMediaChange(listener: () => void): () => void;
}

/** Watches the page from now on. `isReloaded`: the interview was in progress before this page was. */
export function watchPage(outbox: Outbox, watched: Watched, isReloaded: boolean): () => void {
  const lasting = new Lasting((event) => outbox.add(event));
  const patient = new Patient(lasting);
  const look = () => {
    lasting.set("tab_hidden", document.visibilityState === "hidden");
    lasting.set("fullscreen_left", watched.hasEnteredFullScreen() && document.fullscreenElement === null);
    lasting.set("second_display", isExtended() === true);
    patient.set("camera_off", watched.isCameraOff());
    patient.set("mic_muted", watched.isMicrophoneMuted());
  };
  // `blur` also comes when the focus only moves within the page, and before the focus has moved.
  const lookAtFocus = () => setTimeout(() => lasting.set("focus_lost", !document.hasFocus()));
  const paste = (event: ClipboardEvent) => tell("paste", event.clipboardData?.getData("text").length ?? 0);
  const copy = () => tell("copy", selectedQuestionText());
  const tell = (type: "paste" | "copy", size: number) => {
    if (size > 0) outbox.add({ type, at: now(), detail: { size } });
  };

  const stop = listenAll([
    [document, "visibilitychange", look],
    [document, "fullscreenchange", look],
    [window, "blur", lookAtFocus],
    [window, "focus", lookAtFocus],
    [document, "paste", paste as EventListener],
    [document, "copy", copy],
    [extendedScreen(), "change", look],
  ]);
  const stopMedia = watched.onMediaChange(look);
  look();
  if (isReloaded) lasting.endTheRest();
  return () => {
    stop();
    stopMedia();
    patient.stop();
  };
}

/** Whether there is a second screen; undefined where the browser does not tell. */
export function isExtended(): boolean | undefined {
  return (screen as Screen & { isExtended?: boolean }).isExtended;
}

/** `screen` has a change event in some browsers only. */
export function extendedScreen(): EventTarget | null {
  return "addEventListener" in screen ? (screen as unknown as EventTarget) : null;
}

/** How much of the question's text is selected, in characters. */
function selectedQuestionText(): number {
  const question = document.querySelector("[data-question-text]");
  const selection = document.getSelection();
  const touches = question !== null && selection !== null && selection.containsNode(question, true);
  return touches ? selection.toString().length : 0;
}

function listenAll(listeners: [EventTarget | null, string, EventListener][]): () => void {
  // In the capture phase, so that nothing on the page can keep them from us.
  for (const [target, type, listener] of listeners) target?.addEventListener(type, listener, true);
  return () => {
    for (const [target, type, listener] of listeners) target?.removeEventListener(type, listener, true);
  };
}
