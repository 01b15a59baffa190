import { useId, useRef, useState } from "preact/hooks";
import { Problem, rest } from "../../api";
import type { Kit } from "../kit";
import { Heading, Sheet } from "../parts";
import { inWords } from "../time";
import type { Session } from "../types";

interface Props {
  kit: Kit;
  session: Session;
  steps: number;
}

export function Consent({ kit, session, steps }: Props) {
  const [hasDeclined, setDeclined] = useState(false);
  if (hasDeclined) return <Declined onBack={() => setDeclined(false)} />;
  return <Terms kit={kit} session={session} steps={steps} onDecline={() => setDeclined(true)} />;
}

function Terms({ kit, session, steps, onDecline }: Props & { onDecline(): void }) {
  const [agrees, setAgrees] = useState(false);
  const [isSending, setSending] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const box = useRef<HTMLInputElement>(null);
  const problemId = useId();
  const policy = kit.config.privacy_policy;

  const agree = async (event: Event) => {
    event.preventDefault();
    if (isSending) return;
    if (!agrees) {
      setProblem("Please tick the box first. If you do not agree, choose “I do not agree”.");
      return box.current?.focus();
    }
    setSending(true);
    setProblem(null);
    try {
      const json = { accepted: true, policy };
      const reply = await rest<{ session: Session }>(`/session/${session.session_id}/consent`, { json });
      kit.dispatch({ kind: "session", session: reply.session });
    } catch (error) {
      setSending(false);
      setProblem(error instanceof Problem ? error.detail : "That did not work. Please try again.");
    }
  };

  return (
    <Sheet step={1} of={steps}>
      <Heading>Before we begin</Heading>
      <p class="lead">Welcome, {session.candidate.name}. Take your time: no clock is running yet.</p>
      <WhatHappens session={session} />
      <WhatIsSeen session={session} />
      {policy !== null && <Policy policy={policy} />}
      <form onSubmit={agree} noValidate>
        <label class="check">
          <input
            ref={box}
            type="checkbox"
            checked={agrees}
            aria-invalid={problem !== null && !agrees}
            aria-describedby={problem === null ? undefined : problemId}
            onChange={(event) => setAgrees(event.currentTarget.checked)}
          />
          I have read this and agree
        </label>
        <p id={problemId} class="error" role="alert">
          {problem}
        </p>
        <div class="actions">
          <button type="submit" class="primary" aria-disabled={isSending}>
            {isSending ? "Sending…" : "Agree and continue"}
          </button>
          <button type="button" onClick={onDecline}>
            I do not agree
          </button>
        </div>
      </form>
    </Sheet>
  );
}

function WhatHappens({ session }: { session: Session }) {
  const n = session.max_questions;
  return (
    <section>
      <h2>What will happen</h2>
      <ul>
        <li>
          First a short check of your equipment. You start the interview yourself when you are ready.
        </li>
        <li>
          You answer {n === 1 ? "one question" : `${n} questions, one after another`}. How much time you have is shown
          with each question. You cannot go back to an earlier one.
        </li>
        <li>Your text is saved as you type. When time runs out, what you have written is your answer.</li>
        <li>If the connection is lost, your text is safe, and the page comes back by itself.</li>
      </ul>
    </section>
  );
}

function WhatIsSeen({ session }: { session: Session }) {
  const { watches, frame_seconds } = session.proctoring;
  const hasCamera = !session.accommodations.camera_exempt;
  return (
    <section>
      <h2>What is recorded</h2>
      <ul>
        <li>Your answers, and the time that each took.</li>
        {hasCamera ? (
          <li>
            One reference picture of your face before the start, and during the interview a still picture of your camera
            about every {inWords(frame_seconds)}.
          </li>
        ) : (
          <li>No pictures: it was agreed that you do not need a camera.</li>
        )}
        <li>
          That you leave this tab, its window or full screen, that a second screen is connected, that camera or
          microphone go off, and that you copy or paste: when and how much, never the text itself.
        </li>
        {watches.includes("video") && <li>{videoSentence(session, hasCamera)}</li>}
      </ul>
      <p>What was noted is looked at by people. No decision is made by a machine.</p>
    </section>
  );
}

function videoSentence(session: Session, hasCamera: boolean): string {
  const what = hasCamera ? "Your camera and microphone are" : "Your microphone is";
  const isRecorded = session.recording.status !== "off";
  return `${what} sent live to the people who run the interview${isRecorded ? ", and recorded" : ""}.`;
}

function Policy({ policy }: { policy: string }) {
  const isAddress = /^https?:\/\//i.test(policy);
  return (
    <p>
      The privacy policy that applies:{" "}
      {isAddress ? (
        <a href={policy} target="_blank" rel="noopener noreferrer">
          {policy} (opens in a new tab)
        </a>
      ) : (
        <strong>{policy}</strong>
      )}
    </p>
  );
}

function Declined({ onBack }: { onBack(): void }) {
  return (
    <Sheet>
      <Heading>You have not agreed</Heading>
      <p>That is all right. Nothing was recorded, and the interview has not started.</p>
      <p>
        Please contact whoever sent you the link to this page and tell them. They can answer questions, or agree with
        you on another way.
      </p>
      <div class="actions">
        <button type="button" onClick={onBack}>
          Back to the text
        </button>
      </div>
    </Sheet>
  );
}
