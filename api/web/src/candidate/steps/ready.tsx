import { useEffect, useRef, useState } from "preact/hooks";
import { CommandError } from "../../channel";
import { enterFullScreen, ESC_HAS_TO_BE_HELD } from "../fullscreen";
import { useTick } from "../hooks";
import type { Kit } from "../kit";
import { Heading, Sheet } from "../parts";
import type { Session } from "../types";

/** The channel repeats a start for which there is no place yet; after so long we say what is going on. */
const SLOW_MS = 3_000;

interface Props {
  kit: Kit;
  session: Session;
  steps: number;
  onFullScreen(): void;
  onBack(): void;
}

export function Ready({ kit, session, steps, onFullScreen, onBack }: Props) {
  const [isStarting, setStarting] = useState(false);
  const [isSlow, setSlow] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const slowTimer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(slowTimer.current), []);

  const start = async () => {
    if (isStarting) return;
    setStarting(true);
    setProblem(null);
    slowTimer.current = setTimeout(() => setSlow(true), SLOW_MS);
    // Asked for first: browsers allow it only right after a click.
    if (await enterFullScreen()) onFullScreen();
    try {
      await kit.channel.send("start");
    } catch (error) {
      clearTimeout(slowTimer.current);
      setStarting(false);
      setSlow(false);
      setProblem(error instanceof CommandError ? error.message : "That did not work. Please try again.");
    }
  };

  return (
    <Sheet step={steps} of={steps}>
      <Heading>Ready when you are</Heading>
      <Appointment kit={kit} session={session} />
      <p class="lead">When you choose “Start interview”:</p>
      <ul>
        {document.fullscreenEnabled && (
          <li>The page fills your screen. To leave that, {ESC_HAS_TO_BE_HELD ? "hold down Esc" : "press Esc"}.</li>
        )}
        <li>The first question is shown, and its clock starts at once.</li>
        <li>What you type is saved as you type.</li>
        <li>
          If the connection is lost, your clock stops for a while and your text is safe. Stay on this page: it comes back
          by itself.
        </li>
      </ul>
      <p>There is no hurry: no clock runs before that.</p>
      <div role="status">
        {isSlow && (
          <p class="panel">
            All places may be taken just now. Please stay on this page: we keep trying, and your interview starts as soon
            as there is a place. No time is lost; your clock has not started.
          </p>
        )}
      </div>
      <p class="error" role="alert">
        {problem}
      </p>
      <div class="actions">
        <button type="button" class="primary" aria-disabled={isStarting} onClick={() => void start()}>
          {isStarting ? "Starting…" : "Start interview"}
        </button>
        {!isStarting && (
          <button type="button" onClick={onBack}>
            Check your equipment again
          </button>
        )}
      </div>
    </Sheet>
  );
}

function Appointment({ kit, session }: { kit: Kit; session: Session }) {
  useTick(10_000);
  const at = session.scheduled_at === null ? null : Date.parse(session.scheduled_at);
  if (at === null || at <= kit.channel.clock.now()) return null;
  const when = new Intl.DateTimeFormat("en", { dateStyle: "full", timeStyle: "short" }).format(at);
  return (
    <p class="panel">
      Your interview is planned for <strong>{when}</strong> (your local time). You can wait here, or start now.
    </p>
  );
}
