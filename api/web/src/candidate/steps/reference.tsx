import { useEffect, useRef, useState } from "preact/hooks";
import { Problem, rest } from "../../api";
import { useMedia } from "../hooks";
import type { Kit } from "../kit";
import { pictureOf } from "../media";
import { Heading, Mirror, Sheet, Status } from "../parts";
import type { Session } from "../types";

const MAX_SIDE = 1280;
const QUALITY = 0.9;
const ENOUGH_FAILURES = 3;

/** What to change, by the codes of docs/faces.md. A code that is new here comes with advice of its own. */
const ADVICE: Record<string, string> = {
  no_face: "No face was found. Look straight into the camera, with nothing in front of your face.",
  several_faces: "More than one face was found. Be alone in the picture, with no photos or posters behind you.",
  camera_obscured: "The picture shows nothing. Uncover the camera, and check that it is the right one.",
  too_small: "Your face is too small. Come closer, until it fills about a third of the picture’s height.",
  blurred: "The picture is blurred. Hold still for a moment, and wipe the camera’s lens.",
  too_dark: "Your face is too dark. Switch on a light in front of you, and have no window behind you.",
  too_bright: "Your face is too bright. Turn away from the lamp or the sun.",
  harsh_light: "The light is too harsh. Use a softer light from the front.",
  not_frontal: "Look straight into the camera with your head upright and both eyes visible. Take off dark glasses.",
};

interface Flaw {
  code: string;
  advice?: string;
  detail?: string;
}

interface Props {
  kit: Kit;
  session: Session;
  steps: number;
  onDone(): void;
  onBack(): void;
}

export function ReferencePicture({ kit, session, steps, onDone, onBack }: Props) {
  const media = useMedia(kit.media);
  const preview = useRef<HTMLDivElement>(null);
  const [isSending, setSending] = useState(false);
  const [problems, setProblems] = useState<string[]>([]);
  const [failures, setFailures] = useState(0);
  const isTaken = session.proctoring.reference_captured_at !== null;
  const isReady = media.camera.state === "working";
  const goOn = useRef<HTMLButtonElement>(null);
  const wasAskedHere = useRef(false);
  useEffect(() => {
    if (isTaken && wasAskedHere.current) goOn.current?.focus();
  }, [isTaken]);

  const take = async () => {
    const video = preview.current?.querySelector("video");
    if (isSending || !video) return;
    setSending(true);
    wasAskedHere.current = true;
    const found = await capture(session.session_id, video);
    setSending(false);
    setProblems(found.problems);
    if (found.session) kit.dispatch({ kind: "session", session: found.session });
    else setFailures(found.isHopeless ? ENOUGH_FAILURES : failures + 1);
  };

  return (
    <Sheet step={3} of={steps}>
      <Heading>Take a reference picture</Heading>
      <p class="lead">
        Stills of the interview are compared with this picture. Look straight into the camera, with light from the front.
      </p>
      <div class="portrait" ref={preview}>
        {isReady ? (
          <Mirror stream={media.stream} label="Your camera" class="preview" />
        ) : (
          <Status tone="wait">The camera is not on. If your browser asks, choose “Allow”.</Status>
        )}
      </div>
      <div role="status" aria-busy={isSending}>
        {isSending && <p>Looking at the picture…</p>}
        {!isSending && isTaken && problems.length === 0 && (
          <p class="status status-ok">
            <span class="status-sign" aria-hidden="true">
              ✓
            </span>
            <span>The picture is good.</span>
          </p>
        )}
        {!isSending && problems.length > 0 && <Flaws problems={problems} />}
      </div>
      <div class="actions">
        {isTaken && (
          <button ref={goOn} type="button" class="primary" onClick={onDone}>
            Continue
          </button>
        )}
        {isReady && (
          <button type="button" class={isTaken ? "" : "primary"} aria-disabled={isSending} onClick={() => void take()}>
            {isTaken ? "Take another picture" : "Take picture"}
          </button>
        )}
        {!isReady && (
          <button type="button" onClick={onBack}>
            Check your equipment again
          </button>
        )}
        {!isTaken && (failures >= ENOUGH_FAILURES || !isReady) && (
          <button type="button" onClick={onDone}>
            Continue without a picture
          </button>
        )}
      </div>
      {!isTaken && failures >= ENOUGH_FAILURES && (
        <p class="muted">Without a picture the interview goes on all the same; people will see that there is none.</p>
      )}
    </Sheet>
  );
}

function Flaws({ problems }: { problems: string[] }) {
  return (
    <div class="panel">
      <p>
        <strong>The picture cannot be used yet:</strong>
      </p>
      <ul>
        {problems.map((problem) => (
          <li key={problem}>{problem}</li>
        ))}
      </ul>
    </div>
  );
}

interface Captured {
  problems: string[];
  session?: Session;
  /** Another picture would not help. */
  isHopeless?: boolean;
}

async function capture(sessionId: string, video: HTMLVideoElement): Promise<Captured> {
  const picture = await pictureOf(video, MAX_SIDE, QUALITY);
  if (picture === null) return { problems: ["The camera shows nothing yet. Wait a moment and try again."] };
  const form = new FormData();
  form.set("session_id", sessionId);
  form.set("image", picture, "reference.jpg");
  try {
    const reply = await rest<{ session: Session }>("/capture_reference_face", { form, base: "" });
    return { problems: [], session: reply.session };
  } catch (error) {
    return refusal(error);
  }
}

function refusal(error: unknown): Captured {
  if (!(error instanceof Problem)) return { problems: ["That did not work. Please try again."] };
  const flaws = (error.body.quality as { problems?: Flaw[] } | undefined)?.problems ?? [];
  if (flaws.length === 0) return { problems: [error.detail], isHopeless: true };
  return { problems: flaws.map((flaw) => ADVICE[flaw.code] ?? flaw.advice ?? flaw.detail ?? error.detail) };
}
