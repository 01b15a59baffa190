// Full screen is asked for and never needed: some browsers have none.

/** Whether it worked. Has to be called from a click or a key. */
export async function enterFullScreen(): Promise<boolean> {
  if (!document.fullscreenEnabled) return false;
  try {
    await document.documentElement.requestFullscreen({ navigationUI: "hide" });
    return true;
  } catch {
    return false;
  }
}

export function leaveFullScreen(): void {
  if (document.fullscreenElement !== null) document.exitFullscreen().catch(() => undefined);
}
