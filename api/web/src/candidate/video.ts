// The candidate's side of the LiveKit room. The interview never waits for it.

import type { Room } from "livekit-client";
import { rest } from "../api";
import type { Kind, Media } from "./media";
import type { LiveKit } from "./types";

export type VideoState = "idle" | "joining" | "on" | "off";

const FIRST_WAIT_MS = 2_000;
const LONGEST_WAIT_MS = 30_000;
const KINDS = ["camera", "microphone"] as const;

type Library = typeof import("livekit-client");

export class Video {
  state: VideoState = "idle";

  private library: Library | null = null;
  private room: Room | null = null;
  private published: Partial<Record<Kind, MediaStreamTrack>> = {};
  private retry: ReturnType<typeof setTimeout> | null = null;
  private failures = 0;
  private isWanted = false;
  private isLive = true;

  constructor(
    private readonly sessionId: string,
    private readonly media: Media,
    private readonly onState: () => void,
  ) {
    media.onChange(() => void this.publish());
  }

  /** Joins, and comes back until it is told to stop. Again: nothing changes. */
  start(): void {
    if (this.isWanted) return;
    this.isWanted = true;
    void this.join();
  }

  stop(): void {
    this.isWanted = false;
    this.cancelRetry();
    this.leave();
    this.become("idle");
  }

  /** What the channel tells of the room: it is back, or away. */
  roomIs(livekit: LiveKit): void {
    const wasLive = this.isLive;
    this.isLive = livekit.mode === "live";
    if (!this.isWanted || this.room !== null) return;
    if (this.isLive && !wasLive) {
      this.failures = 0;
      this.cancelRetry();
      void this.join();
    }
  }

  private async join(): Promise<void> {
    if (this.state === "joining" || this.room !== null) return;
    this.become("joining");
    try {
      this.library ??= await import("livekit-client");
      const { livekit } = await rest<{ livekit: LiveKit }>(`/session/${this.sessionId}/token`, { json: {} });
      this.isLive = livekit.mode === "live";
      if (!livekit.token || !livekit.url) return this.away();
      await this.enter(this.library, livekit.url, livekit.token);
    } catch {
      this.away();
    }
  }

  private async enter(library: Library, url: string, token: string): Promise<void> {
    if (!this.isWanted) return;
    // The tracks are the page's: the preview and the stills need them, whatever becomes of the room.
    const room = new library.Room({ stopLocalTrackOnUnpublish: false });
    this.room = room;
    room.on(library.RoomEvent.Disconnected, (reason) => {
      if (this.room !== room) return;
      const isElsewhere = reason === library.DisconnectReason.DUPLICATE_IDENTITY;
      this.away(!isElsewhere);
    });
    await room.connect(url, token, { autoSubscribe: false });
    if (this.room !== room) return void room.disconnect(false);
    this.failures = 0;
    this.become("on");
    await this.publish();
  }

  /** Has the room show the tracks that are there now. */
  private async publish(): Promise<void> {
    const { room, library } = this;
    if (room === null || library === null || this.state !== "on") return;
    for (const kind of KINDS) {
      const [before, track] = [this.published[kind], this.media.track(kind) ?? undefined];
      if (before === track) continue;
      this.published[kind] = track;
      try {
        if (before) await room.localParticipant.unpublishTrack(before, false);
        if (track) await room.localParticipant.publishTrack(track, optionsOf(library, kind));
      } catch {
        // The room may have gone meanwhile; whoever joins again publishes again.
      }
    }
  }

  private away(again = true): void {
    this.leave();
    if (!this.isWanted) return;
    this.become("off");
    // In fallback the channel says when the room is back.
    if (!again || !this.isLive) return;
    const wait = Math.min(FIRST_WAIT_MS * 2 ** this.failures++, LONGEST_WAIT_MS);
    this.retry = setTimeout(() => void this.join(), wait);
  }

  private leave(): void {
    const { room } = this;
    this.room = null;
    this.published = {};
    room?.disconnect(false).catch(() => undefined);
  }

  private cancelRetry(): void {
    if (this.retry !== null) clearTimeout(this.retry);
    this.retry = null;
  }

  private become(state: VideoState): void {
    if (state === this.state) return;
    this.state = state;
    this.onState();
  }
}

/** One small layer: it is for people who look on, and the line may be slow. */
function optionsOf(library: Library, kind: Kind) {
  if (kind === "microphone") return { source: library.Track.Source.Microphone };
  const videoEncoding = { maxBitrate: 300_000, maxFramerate: 15 };
  return { source: library.Track.Source.Camera, simulcast: false, videoEncoding };
}
