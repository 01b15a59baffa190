import { useEffect, useReducer, useState } from "preact/hooks";
import type { Media } from "./media";

/** Draws again every so many ms. */
export function useTick(everyMs: number, isOn = true): void {
  const [, again] = useReducer<number, void>((n) => n + 1, 0);
  useEffect(() => {
    if (!isOn) return undefined;
    const timer = setInterval(() => again(), everyMs);
    return () => clearInterval(timer);
  }, [everyMs, isOn]);
}

/** Draws again whenever something about camera or microphone changes. */
export function useMedia(media: Media): Media {
  const [, again] = useReducer<number, void>((n) => n + 1, 0);
  useEffect(() => media.onChange(() => again()), [media]);
  return media;
}

export function useIsFullScreen(): boolean {
  const [isFull, setFull] = useState(document.fullscreenElement !== null);
  useEffect(() => {
    const look = () => setFull(document.fullscreenElement !== null);
    document.addEventListener("fullscreenchange", look);
    return () => document.removeEventListener("fullscreenchange", look);
  }, []);
  return isFull;
}

/** A state that survives a reload of this tab. */
export function useTabState<T extends object>(key: string, initial: T): [T, (changes: Partial<T>) => void] {
  const [value, setValue] = useState<T>(() => ({ ...initial, ...readTab(key) }));
  const change = (changes: Partial<T>) =>
    setValue((before) => {
      const after = { ...before, ...changes };
      writeTab(key, after);
      return after;
    });
  return [value, change];
}

function readTab(key: string): object {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? "{}") as object;
  } catch {
    return {};
  }
}

function writeTab(key: string, value: object): void {
  try {
    sessionStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Without storage a reload asks again.
  }
}
