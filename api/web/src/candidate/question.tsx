// The interview itself: one question at a time.

import { useRef, useState } from "preact/hooks";
import { CommandError } from "../channel";
import type { AnswerHandle } from "./answer";
import { Answer } from "./answer";
import { Banners, FullScreenNotice } from "./banners";
import { Countdown } from "./countdown";
import type { SaveState } from "./drafts";
import { within } from "./drafts";
import { useMedia } from "./hooks";
import type { Kit } from "./kit";
import type { Interview } from "./machine";
import { standstill } from "./machine";
import { Confirm, Heading, Mirror } from "./parts";
import type { Question, Session } from "./types";

/** Before the end, so that what was typed last is on the server when time runs out. */
const FLUSH_AT_MS = [1_000, 0];
/** How long the end waits for what was written last. */
const LAST_WORDS_MS = 10_000;

interface Props {
  kit: Kit;
  now: Interview;
  session: Session;
  question: Question;
  hasEnteredFullScreen: boolean;
  usesCamera: boolean;
  onFullScreen(): void;
}

export function QuestionRoom(props: Props) {
  const { kit, now, session, question } = props;
  const [save, setSave] = useState<SaveState>("empty");
  const [isEnding, setEnding] = useState(false);
  const [overIndex, setOverIndex] = useState<number | null>(null);
  const answer = useRef<AnswerHandle>(null);
  const remaining = useRef(Infinity);
  const { index } = question;
  const isClosed = now.closedIndex === index;

  const onTick = (ms: number) => {
    if (FLUSH_AT_MS.some((mark) => remaining.current > mark && ms <= mark)) void answer.current?.flush();
    remaining.current = ms;
    setOverIndex(ms <= 0 && question.deadline !== null ? index : null);
  };

  return (
    <>
      <header class="bar">
        <div class="bar-in">
          <p class="bar-state">{saveWords(save, now.loss !== null)}</p>
          <Countdown key={index} now={now} question={question} clock={kit.channel.clock} onTick={onTick} />
        </div>
        <progress
          class="bar-progress"
          aria-label="Questions answered"
          max={session.max_questions}
          value={session.current_question_count}
        />
        <Banners now={now} clock={kit.channel.clock} />
        <FullScreenNotice hasEntered={props.hasEnteredFullScreen} onEnter={props.onFullScreen} />
      </header>
      <main class="room">
        <Asked key={`asked-${index}`} question={question} of={session.max_questions} />
        <Answer
          key={`answer-${index}`}
          kit={kit}
          question={question}
          known={now.draft}
          isLast={index + 1 >= session.max_questions}
          isTimeUp={overIndex === index}
          isLost={now.loss !== null}
          isStill={standstill(now) !== null}
          isClosed={isClosed}
          isEnding={isEnding}
          handle={answer}
          onSave={setSave}
        />
        <Side kit={kit} session={session} usesCamera={props.usesCamera} />
        <EndEarly kit={kit} answer={answer} isEnding={isEnding} setEnding={setEnding} />
      </main>
    </>
  );
}

function Asked({ question, of }: { question: Question; of: number }) {
  const textId = `question-${question.index}`;
  return (
    <section class="asked" aria-label="Question">
      <Heading describedBy={textId}>
        Question {question.index + 1} of {of}
      </Heading>
      <div id={textId} class="asked-text" data-question-text>
        {question.text}
      </div>
    </section>
  );
}

function saveWords(save: SaveState, isLost: boolean): string {
  if (save === "saving") return isLost ? SAVE.local : SAVE.saving;
  return SAVE[save];
}

const SAVE: Record<SaveState, string> = {
  empty: "Nothing written yet",
  saved: "Saved",
  saving: "Saving…",
  local: "Not saved yet: kept on this device",
  unsaved: "Not saved yet",
  too_long: "Not saved: too long",
};

function Side({ kit, session, usesCamera }: { kit: Kit; session: Session; usesCamera: boolean }) {
  const media = useMedia(kit.media);
  const isVideoOff = session.proctoring.watches.includes("video") && kit.video.state === "off";
  const isCameraOff = usesCamera && media.camera.state === "failed";
  return (
    <aside class="side" aria-label="Camera and video">
      {media.camera.state === "working" && <Mirror stream={media.stream} label="Your camera" class="self" />}
      <div role="status">
        {isCameraOff && <p>Your camera is off; the interview goes on.</p>}
        {isVideoOff && <p class="muted">Video is off; the interview goes on.</p>}
      </div>
      {isCameraOff && (
        <button type="button" onClick={() => void media.retry("camera")}>
          Switch camera on again
        </button>
      )}
    </aside>
  );
}

interface EndProps {
  kit: Kit;
  answer: { current: AnswerHandle | null };
  isEnding: boolean;
  setEnding(isEnding: boolean): void;
}

/** The end takes what the server has of the open question, so it goes out after what was written last. */
function EndEarly({ kit, answer, isEnding, setEnding }: EndProps) {
  const [asks, setAsks] = useState<"early" | "unsaved" | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const end = async (isSaved: Promise<boolean>) => {
    setAsks(null);
    setEnding(true);
    setProblem(null);
    try {
      if (await within(LAST_WORDS_MS, isSaved)) await kit.channel.send("end");
      else {
        setEnding(false);
        setAsks("unsaved");
      }
    } catch (error) {
      setEnding(false);
      if (error instanceof CommandError && error.code !== "closed") setProblem(error.message);
    }
  };
  return (
    <div class="end-early">
      <button type="button" class="quiet" aria-disabled={isEnding} onClick={() => !isEnding && setAsks("early")}>
        {isEnding ? "Ending…" : "End interview early"}
      </button>
      <p class="error" role="alert">
        {problem}
      </p>
      {asks !== null && (
        <Confirm
          key={asks}
          {...ENDING[asks]}
          isDangerous
          onConfirm={() => void end(asks === "unsaved" ? Promise.resolve(true) : lastWords(answer.current))}
          onCancel={() => setAsks(null)}
        >
          <p>{ENDING[asks].text}</p>
        </Confirm>
      )}
    </div>
  );
}

function lastWords(answer: AnswerHandle | null): Promise<boolean> {
  return answer?.flush() ?? Promise.resolve(true);
}

const ENDING = {
  early: {
    title: "End the interview now?",
    confirm: "End interview",
    cancel: "Keep going",
    text: "Your answers and what you have written for this question are kept. You cannot continue afterwards.",
  },
  unsaved: {
    title: "What you wrote last is not saved",
    confirm: "End without it",
    cancel: "Keep going",
    text:
      "The service does not have the last of your text. If you end the interview now, only what was saved before counts. " +
      "If you keep going, it is tried again, and you can end a little later.",
  },
};
