// Full screen is asked for and never needed: some browsers have none.

interface Keyboard {
  lock(keys: string[]): Promise<void>;
}

/**
 * Where it can be had, Esc is for the editor and for dialogs, and leaves full screen only if it is held down: whoever
 * works by keyboard would leave it each time that they leave the editor.
 */
const keyboard = (navigator as Navigator & { keyboard?: Partial<Keyboard> }).keyboard;
export const ESC_HAS_TO_BE_HELD = typeof keyboard?.lock === "function";

/** Whether it worked. Has to be called from a click or a key. */
export async function enterFullScreen(): Promise<boolean> {
  if (!document.fullscreenEnabled) return false;
  try {
    await document.documentElement.requestFullscreen({ navigationUI: "hide" });
  } catch {
    return false;
  }
  keyboard?.lock?.(["Escape"]).catch(() => undefined);
  return true;
}

export function leaveFullScreen(): void {
  if (document.fullscreenElement !== null) document.exitFullscreen().catch(() => undefined);
}
