// What has to be said above the question: the connection, a pause, time that was added, full screen.

import { useEffect, useState } from "preact/hooks";
import type { ServerClock } from "../clock";
import { enterFullScreen } from "./fullscreen";
import { useIsFullScreen, useTick } from "./hooks";
import type { Interview, Notice } from "./machine";
import { standstill } from "./machine";
import { lossPhase } from "./time";

const NOTICE_MS = 12_000;

/** The regions are always there: screen readers tell only of what changes in one that they know. */
export function Banners({ now, clock }: { now: Interview; clock: ServerClock }) {
  useTick(1_000, now.loss !== null);
  const lost = lossWords(now, clock);
  const still = now.loss ? null : standstill(now);
  return (
    <div class="banners">
      <div role="alert">{lost && <p class="banner banner-warn">{lost}</p>}</div>
      <div role="status">
        {still && <p class="banner banner-calm">{STILL[still]}</p>}
        <LatestNotice notice={now.notice} />
      </div>
    </div>
  );
}

const STILL = {
  paused: "The interview is paused. Your clock is stopped, and your text is safe. It goes on by itself.",
  moving:
    "We are moving your interview to another machine; your clock is stopped. Your text is safe, and nothing needs to be done.",
};

function lossWords(now: Interview, clock: ServerClock): string | null {
  if (!now.loss) return null;
  if (now.session?.status !== "in_progress") return "Connection lost. Trying again…";
  const phase = now.question?.deadline === null ? "stopped" : lossPhase(now.loss, clock.now());
  return {
    trying: "Connection lost. Your text is safe on this device; trying again…",
    stopped: "Connection lost, your clock is stopped, your text is safe. Trying again…",
    runs: "Connection lost, and your clock runs on. Your text is safe on this device; trying again…",
  }[phase];
}

function LatestNotice({ notice }: { notice: Notice | null }) {
  const [seen, setSeen] = useState(notice?.id ?? 0);
  useEffect(() => {
    if (!notice) return undefined;
    const timer = setTimeout(() => setSeen(notice.id), NOTICE_MS);
    return () => clearTimeout(timer);
  }, [notice?.id]);
  if (!notice || notice.id <= seen) return null;
  return <p class="banner banner-good">{notice.text}</p>;
}

export function FullScreenNotice({ hasEntered, onEnter }: { hasEntered: boolean; onEnter(): void }) {
  const isFull = useIsFullScreen();
  if (isFull || !hasEntered || !document.fullscreenEnabled) return null;
  const enter = async () => {
    if (await enterFullScreen()) onEnter();
  };
  return (
    <div class="banner banner-calm banner-full">
      <span>You have left full screen.</span>
      <button type="button" onClick={() => void enter()}>
        Return to full screen
      </button>
    </div>
  );
}
