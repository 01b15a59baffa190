import { useEffect, useState } from "preact/hooks";
import type { ServerClock } from "../clock";

const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | null = null;

/** The server's time, once a second for everybody at the same moment. */
export function useNow(clock: ServerClock, runs = true): number {
  const [now, setNow] = useState(() => clock.now());
  useEffect(() => {
    if (!runs) return undefined;
    const tick = (): void => setNow(clock.now());
    tick();
    listeners.add(tick);
    timer ??= setInterval(() => listeners.forEach((listener) => listener()), 1000);
    return () => {
      listeners.delete(tick);
      if (listeners.size > 0 || timer === null) return;
      clearInterval(timer);
      timer = null;
    };
  }, [clock, runs]);
  return now;
}
