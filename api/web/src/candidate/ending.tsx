// After the interview, or when this page cannot show it.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Interview, Stage } from "./machine";
import { Heading, Sheet } from "./parts";
import type { Session } from "./types";

const ENDINGS: Record<string, { title: string; text: string }> = {
  finished: { title: "Your interview is complete", text: "Thank you. You have been through all questions." },
  ended_by_candidate: { title: "You have ended the interview", text: "The interview was ended early, as you wished." },
  ended_by_staff: {
    title: "The interview was ended",
    text: "The people who run the interview have ended it. They can tell you why.",
  },
  expired: {
    title: "The interview was not started in time",
    text: "The time in which it could be started is over. Please contact whoever sent you the link.",
  },
  abandoned: {
    title: "The interview has ended",
    text: "Time ran out without anything being written. If something went wrong, please contact whoever sent you the link.",
  },
  cancelled: {
    title: "The interview was cancelled",
    text: "It was cancelled before it began. Please contact whoever sent you the link.",
  },
};
const OTHER = {
  title: "The interview has ended",
  text: "It ended before all questions were answered. If you have questions, please contact whoever sent you the link.",
};

export function Ending({ session }: { session: Session }) {
  const { title, text } = ENDINGS[session.end_reason ?? ""] ?? OTHER;
  const wasStarted = !["expired", "cancelled"].includes(session.end_reason ?? "");
  const written = session.answers.filter((answer) => answer.answer.trim() !== "").length;
  return (
    <Sheet>
      <Heading>{title}</Heading>
      <p class="lead">{text}</p>
      {wasStarted && (
        <p>
          Saved: {written} of {session.max_questions} {session.max_questions === 1 ? "answer" : "answers"}.
        </p>
      )}
      <p>Your camera and microphone are off. You can close this window.</p>
    </Sheet>
  );
}

export function Connecting({ now }: { now: Interview }) {
  return (
    <Sheet>
      <Heading>Connecting</Heading>
      <p role="status">
        {now.loss
          ? "The interview cannot be reached just now. This page tries again by itself; please check your network."
          : "One moment, please."}
      </p>
    </Sheet>
  );
}

/** `onReturn`: take the interview back into this window. */
export function Closed({ stage, onReturn }: { stage: Stage; onReturn(): void }) {
  if (stage === "taken_over") return <TakenOver onReturn={onReturn} />;
  if (stage === "link_dead") {
    return (
      <Message title="This link does not work any more">
        <p>It has expired, or it was replaced by a newer one. Please use the newest link that you were sent.</p>
        <p>If you have no other, contact whoever sent you this one. What you have written so far is saved.</p>
      </Message>
    );
  }
  if (stage === "gone") {
    return (
      <Message title="This interview does not exist any more">
        <p>It was deleted, or the link is wrong. If you did not expect that, contact whoever sent you the link.</p>
      </Message>
    );
  }
  return (
    <Message title="The connection was closed">
      <p>Something went wrong on this page. What you have written is safe.</p>
      <div class="actions">
        <button type="button" class="primary" onClick={() => location.reload()}>
          Load the page again
        </button>
      </div>
    </Message>
  );
}

function TakenOver({ onReturn }: { onReturn(): void }) {
  const [isReturning, setReturning] = useState(false);
  const back = () => {
    setReturning(true);
    onReturn();
  };
  return (
    <Message title="This interview is open in another window">
      <p>You can go on there, and close this window. Only one window at a time can be used.</p>
      <div class="actions">
        <button type="button" class="primary" aria-disabled={isReturning} onClick={back}>
          {isReturning ? "Connecting…" : "Use this window instead"}
        </button>
      </div>
    </Message>
  );
}

export function Incomplete() {
  return (
    <Message title="This link is incomplete">
      <p>The end of the address is missing, so this page does not know whose interview it is.</p>
      <p>
        Please open the whole link from the message that you were sent: copy all of it, up to its very end, and paste it
        into the address bar. If that does not help, contact whoever sent it.
      </p>
    </Message>
  );
}

function Message({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <Sheet>
      <Heading>{title}</Heading>
      {children}
    </Sheet>
  );
}
