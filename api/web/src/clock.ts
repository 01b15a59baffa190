const RECENT_MS = 60_000;
const JUMP_MS = 1_000;

interface RoundTrip {
  at: number;
  offset: number;
  duration: number;
}

/**
 * The server's clock, by the device's monotonic clock: what somebody does to the time of the device changes nothing.
 *
 * The server stamped a frame after our request was sent and before the frame came, so the shortest round trip knows the
 * offset best. A frame that nobody asked for only says that the server's clock is at least that far.
 */
export class ServerClock {
  private roundTrips: RoundTrip[] = [];
  private floor: { at: number; offset: number } | null = null;
  private wallOffset = Date.now() - performance.now();
  private offset = this.wallOffset;
  private jumped = false;

  /** Takes a frame's `server_time` into account; `sentAt` and `receivedAt` are values of performance.now(). */
  observe(serverTimeIso: string, sentAt?: number, receivedAt: number = performance.now()): void {
    const serverTime = Date.parse(serverTimeIso);
    if (Number.isNaN(serverTime)) return;
    this.noticeJump();
    if (this.jumped) this.forget();
    const atLeast = serverTime - receivedAt;
    if (this.floor === null || atLeast > this.floor.offset || receivedAt - this.floor.at > RECENT_MS)
      this.floor = { at: receivedAt, offset: atLeast };
    if (sentAt !== undefined) {
      this.roundTrips = this.roundTrips.filter((trip) => receivedAt - trip.at <= RECENT_MS);
      this.roundTrips.push({ at: receivedAt, offset: serverTime - (sentAt + receivedAt) / 2, duration: receivedAt - sentAt });
    }
    this.offset = Math.max(this.best()?.offset ?? -Infinity, this.floor.offset);
  }

  /** Milliseconds since the epoch on the server's clock; on the device's until a first frame came. */
  now(): number {
    this.noticeJump();
    return performance.now() + this.offset;
  }

  private best(): RoundTrip | undefined {
    return this.roundTrips.reduce<RoundTrip | undefined>(
      (best, trip) => (best === undefined || trip.duration < best.duration ? trip : best),
      undefined,
    );
  }

  /**
   * performance.now() may stand still while the system sleeps. Then the device's time jumps against it; it also does if
   * somebody sets that. Nobody can tell which, so the offset stays until the next frame gives a new one.
   */
  private noticeJump(): void {
    const wallOffset = Date.now() - performance.now();
    if (Math.abs(wallOffset - this.wallOffset) > JUMP_MS) this.jumped = true;
    this.wallOffset = wallOffset;
  }

  private forget(): void {
    this.roundTrips = [];
    this.floor = null;
    this.jumped = false;
  }
}
