import { useEffect, useRef, useState } from "preact/hooks";
import type { ServerClock } from "../clock";
import { useTick } from "./hooks";
import type { Interview } from "./machine";
import { standstill } from "./machine";
import { lossPhase, markPassed, minutesAndSeconds, remainingMs, URGENT_MS } from "./time";
import type { Question } from "./types";

const EVERY_MS = 100;

interface Props {
  now: Interview;
  question: Question;
  clock: ServerClock;
  onTick(remaining: number): void;
}

/** The time that is left, by the server's clock. Read out at three marks only: a clock that talks is no help. */
export function Countdown({ now, question, clock, onTick }: Props) {
  useTick(EVERY_MS);
  const ms = remainingMs(question, clock.now(), now.loss);
  const before = useRef(ms);
  const [spoken, setSpoken] = useState("");

  useEffect(() => {
    const mark = markPassed(before.current, ms);
    if (mark !== null) setSpoken(`${mark} seconds left`);
    else if (ms > before.current + 1_000) setSpoken(""); // so that the same mark is read out again after added time
    before.current = ms;
    onTick(ms);
  });

  const words = stoppedWords(now, question, clock);
  const isUrgent = words === null && ms <= URGENT_MS;
  return (
    <div class={`clock ${isUrgent ? "clock-urgent" : ""} ${words ? "clock-stopped" : ""}`}>
      <span class="clock-words">{words ?? urgentWords(isUrgent, ms)}</span>
      <span role="timer" aria-label="Time left" class="clock-time">
        {minutesAndSeconds(ms)}
      </span>
      <span class="visually-hidden" aria-live="polite">
        {spoken}
      </span>
    </div>
  );
}

function urgentWords(isUrgent: boolean, ms: number): string {
  if (ms === 0) return "Time is up";
  return isUrgent ? "Under 30 seconds left" : "Time left";
}

function stoppedWords(now: Interview, question: Question, clock: ServerClock): string | null {
  if (standstill(now) === "paused") return "Paused";
  const stopped = now.loss !== null && lossPhase(now.loss, clock.now()) === "stopped";
  return stopped || question.deadline === null ? "Clock stopped" : null;
}
