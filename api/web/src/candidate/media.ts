// Camera and microphone: one stream for the preview, the stills and the video.

export type Kind = "camera" | "microphone";
export type DeviceProblem = "insecure" | "unsupported" | "denied" | "missing" | "busy" | "stopped" | "other";
export type Device =
  | { state: "off" }
  | { state: "asking" }
  | { state: "working" }
  | { state: "failed"; problem: DeviceProblem };

export interface Choice {
  id: string;
  label: string;
}

export interface Wanted {
  camera: boolean;
  microphone: boolean;
}

const FIRST_FRAME_MS = 3_000;
const KINDS = ["camera", "microphone"] as const;
const TRACK = { camera: "video", microphone: "audio" } as const;
const SOURCE = { camera: "videoinput", microphone: "audioinput" } as const;

export class Media {
  readonly stream = new MediaStream();
  camera: Device = { state: "off" };
  microphone: Device = { state: "off" };
  choices: Record<Kind, Choice[]> = { camera: [], microphone: [] };
  chosen: Record<Kind, string | null> = { camera: null, microphone: null };

  private listeners = new Set<() => void>();
  /** Counts up with each question to the browser: the answer to an older one is put away. */
  private asked: Record<Kind, number> = { camera: 0, microphone: 0 };

  constructor() {
    navigator.mediaDevices?.addEventListener?.("devicechange", () => void this.list());
  }

  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  track(kind: Kind): MediaStreamTrack | null {
    return this.stream.getTracks().find((track) => track.kind === TRACK[kind]) ?? null;
  }

  /** Whether pictures or sound arrive right now. */
  isLive(kind: Kind): boolean {
    const track = this.track(kind);
    return track !== null && track.readyState === "live" && !track.muted;
  }

  /** Asks for what is wanted and not there yet. */
  async start(wanted: Wanted): Promise<void> {
    const kinds = KINDS.filter((kind) => wanted[kind] && !this.isTaken(kind));
    if (kinds.length === 2) await this.startBoth();
    else for (const kind of kinds) await this.startOne(kind);
    await this.list();
  }

  async retry(kind: Kind): Promise<void> {
    await this.startOne(kind);
    await this.list();
  }

  async choose(kind: Kind, id: string): Promise<void> {
    this.chosen[kind] = id;
    await this.retry(kind);
  }

  /** The interview goes on without this one. */
  doWithout(kind: Kind): void {
    this.become(kind, { state: "off" });
  }

  stop(): void {
    for (const kind of KINDS) this.doWithout(kind);
  }

  private isTaken(kind: Kind): boolean {
    return this[kind].state === "asking" || this.track(kind)?.readyState === "live";
  }

  /** One question to the candidate if both are granted; if not, each tells for itself what is wrong with it. */
  private async startBoth(): Promise<void> {
    for (const kind of KINDS) this.become(kind, { state: "asking" });
    const asked = { ...this.asked };
    const found = await this.ask(KINDS);
    if (found instanceof MediaStream) return this.take(found, asked);
    for (const kind of KINDS) {
      if (asked[kind] !== this.asked[kind]) continue;
      // Who has just said no is not asked once more.
      if (found === "denied" && !(await isGranted(kind))) this.become(kind, { state: "failed", problem: "denied" });
      else await this.startOne(kind);
    }
  }

  private async startOne(kind: Kind): Promise<void> {
    this.become(kind, { state: "asking" });
    const asked = { ...this.asked };
    const found = await this.ask([kind]);
    if (found instanceof MediaStream) this.take(found, asked);
    else if (asked[kind] === this.asked[kind]) this.become(kind, { state: "failed", problem: found });
  }

  /** What was there before is given back. */
  private become(kind: Kind, device: Device): void {
    this.asked[kind]++;
    this.drop(kind);
    this[kind] = device;
    this.changed();
  }

  private async ask(kinds: readonly Kind[]): Promise<MediaStream | DeviceProblem> {
    if (!window.isSecureContext) return "insecure";
    if (!navigator.mediaDevices?.getUserMedia) return "unsupported";
    try {
      return await navigator.mediaDevices.getUserMedia({
        video: kinds.includes("camera") && this.camera640(),
        audio: kinds.includes("microphone") && this.from("microphone"),
      });
    } catch (error) {
      return problemOf(error);
    }
  }

  /** Enough for a face, and little enough for an old laptop on a slow line. */
  private camera640(): MediaTrackConstraints {
    const size = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 15, max: 30 } };
    return { ...size, facingMode: "user", ...this.from("camera") };
  }

  private from(kind: Kind): MediaTrackConstraints {
    const id = this.chosen[kind];
    return id === null ? {} : { deviceId: { ideal: id } };
  }

  private take(found: MediaStream, asked: Record<Kind, number>): void {
    for (const track of found.getTracks()) {
      const kind = track.kind === "video" ? "camera" : "microphone";
      if (asked[kind] !== this.asked[kind]) {
        track.stop();
        continue;
      }
      this.become(kind, { state: "working" });
      this.stream.addTrack(track);
      this.chosen[kind] = track.getSettings().deviceId ?? this.chosen[kind];
      track.onended = () => this.become(kind, { state: "failed", problem: "stopped" });
      track.onmute = track.onunmute = () => this.changed();
    }
    this.changed();
  }

  private drop(kind: Kind): void {
    const track = this.track(kind);
    if (track === null) return;
    track.onended = track.onmute = track.onunmute = null;
    track.stop();
    this.stream.removeTrack(track);
  }

  private async list(): Promise<void> {
    const found = await navigator.mediaDevices?.enumerateDevices?.().catch(() => []);
    for (const kind of KINDS) {
      const mine = (found ?? []).filter((device) => device.kind === SOURCE[kind] && device.deviceId !== "");
      this.choices[kind] = mine.map(({ deviceId, label }, i) => ({ id: deviceId, label: label || `${kind} ${i + 1}` }));
    }
    this.changed();
  }

  private changed(): void {
    for (const listener of this.listeners) listener();
  }
}

async function isGranted(kind: Kind): Promise<boolean> {
  try {
    return (await navigator.permissions.query({ name: kind as PermissionName })).state === "granted";
  } catch {
    return false; // not every browser tells
  }
}

function problemOf(error: unknown): DeviceProblem {
  const names: Record<string, DeviceProblem> = {
    NotAllowedError: "denied",
    SecurityError: "denied",
    NotFoundError: "missing",
    OverconstrainedError: "missing",
    NotReadableError: "busy",
    AbortError: "busy",
  };
  return names[error instanceof Error ? error.name : ""] ?? "other";
}

/** Until there is something to be seen, for a while at most: a preview that has just appeared is empty. */
function firstFrame(video: HTMLVideoElement): Promise<void> {
  if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) return Promise.resolve();
  return new Promise((resolve) => {
    video.addEventListener("loadeddata", () => resolve(), { once: true });
    setTimeout(resolve, FIRST_FRAME_MS);
  });
}

/** A picture of what a video element shows, as JPEG; null while it shows nothing. */
export async function pictureOf(video: HTMLVideoElement, maxWidth: number, quality: number): Promise<Blob | null> {
  await firstFrame(video);
  const { videoWidth, videoHeight } = video;
  if (videoWidth === 0 || videoHeight === 0) return null;
  const scale = Math.min(1, maxWidth / Math.max(videoWidth, videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(videoWidth * scale);
  canvas.height = Math.round(videoHeight * scale);
  canvas.getContext("2d")?.drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

/** Tells how loud it is, from 0 to 1, ten times a second. Returns how to stop. */
export function measureLevel(track: MediaStreamTrack, onLevel: (level: number) => void): () => void {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  const samples = new Float32Array(analyser.fftSize);
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const wake = () => void context.resume(); // after a reload, browsers want a click or a key first
  document.addEventListener("pointerdown", wake);
  document.addEventListener("keydown", wake);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    onLevel(Math.min(1, Math.sqrt(power) * 4));
  }, 100);
  return () => {
    clearInterval(timer);
    document.removeEventListener("pointerdown", wake);
    document.removeEventListener("keydown", wake);
    void context.close();
  };
}
