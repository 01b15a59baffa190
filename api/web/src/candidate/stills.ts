// Stills of the camera while the interview runs. None of them matters enough to disturb anybody.

import { pictureOf } from "./media";

const WIDTH = 640;
const QUALITY = 0.7;
/** A camera that has just been switched on is dark for a moment. */
const FIRST_AFTER_MS = 2_000;
const PATIENCE_MS = 15_000;
const LONGEST_WAIT_SECONDS = 600;

export interface StillsOptions {
  sessionId: string;
  token: string;
  frameSeconds: number;
  stream: MediaStream;
}

/** Sends stills, one after another, until it is told to stop. */
export class Stills {
  private readonly video = document.createElement("video");
  private timer: ReturnType<typeof setTimeout> | null = null;
  private isStopped = false;

  constructor(private readonly options: StillsOptions) {
    this.video.muted = true;
    this.video.playsInline = true;
    this.video.srcObject = options.stream;
    this.video.play().catch(() => undefined);
    this.timer = setTimeout(() => void this.round(), FIRST_AFTER_MS);
  }

  stop(): void {
    this.isStopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
    this.video.srcObject = null;
  }

  private async round(): Promise<void> {
    const seconds = await this.send().catch(() => null);
    if (this.isStopped) return;
    const wait = Math.min(seconds ?? this.options.frameSeconds, LONGEST_WAIT_SECONDS);
    this.timer = setTimeout(() => void this.round(), wait * 1000);
  }

  /** When the server wants the next one, in seconds; null if it did not say. Not repeated: the next one is as good. */
  private async send(): Promise<number | null> {
    const { sessionId, token } = this.options;
    const still = await pictureOf(this.video, WIDTH, QUALITY);
    if (still === null || this.isStopped) return null;
    const response = await fetch(`/api/parallel_interview/session/${sessionId}/proctoring/frame`, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "image/jpeg" },
      body: still,
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (!response.ok) return null;
    const { next_in_seconds } = (await response.json()) as { next_in_seconds?: number };
    return typeof next_in_seconds === "number" && next_in_seconds > 0 ? next_in_seconds : null;
  }
}
