// The candidate's side of one question: the field, what is saved of it, and how it is submitted.

import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import { CommandError } from "../channel";
import type { SaveState } from "./drafts";
import { bytesOf, Draft, isTooLong, MAX_BYTES, wellFormed } from "./drafts";
import { ANSWER_LABEL, CodeAnswer, TextAnswer } from "./editor";
import type { Kit } from "./kit";
import type { Language } from "./languages";
import { isLanguage, LANGUAGES, rememberedLanguage, rememberLanguage } from "./languages";
import { Confirm } from "./parts";
import type { Question, ServerDraft } from "./types";

/** What the countdown and the end button have the answer do. */
export interface AnswerHandle {
  /** Sends what is written; see Draft. An answer that is on its way is what it waits for. */
  flush(): Promise<boolean>;
}

const TEXT_HINT = "Ctrl+Enter submits.";
const CODE_HINT = `Tab indents; press Esc, then Tab to leave the editor. ${TEXT_HINT}`;

interface Props {
  kit: Kit;
  question: Question;
  known: ServerDraft | null;
  isLast: boolean;
  isTimeUp: boolean;
  isLost: boolean;
  isStill: boolean;
  isClosed: boolean;
  isEnding: boolean;
  handle: { current: AnswerHandle | null };
  onSave(state: SaveState): void;
}

export function Answer(props: Props) {
  const { kit, question, known, isLast, isTimeUp, isLost, isStill, isClosed, isEnding, handle, onSave } = props;
  const draft = useDraft(kit, question, known, onSave);
  const [text, setText] = useState(draft.text);
  const [language, setLanguage] = useState(() => initialLanguage(kit, draft));
  const [isSending, setSending] = useState(false);
  const [asksEmpty, setAsksEmpty] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const [fieldId, hintId] = [useId(), useId()];
  const sent = useRef<Promise<boolean> | null>(null);
  handle.current = {
    flush: () => sent.current?.then((isTaken) => isTaken || draft.flush()) ?? draft.flush(),
  };
  const isCode = question.type === "coding";
  const isReadOnly = isTimeUp || isStill || isClosed || isSending || isEnding;

  useFlushWhen(draft, !isStill && !isLost);
  useEffect(() => {
    if (isClosed || isTimeUp) setAsksEmpty(false);
    if (isClosed) draft.close();
  }, [isClosed, isTimeUp]);

  const edit = (next: string) => {
    setText(next);
    draft.edit(next);
  };
  const pick = (next: Language) => {
    setLanguage(next);
    draft.setLanguage(next);
    rememberLanguage(kit.store, next);
  };
  const send = async (): Promise<boolean> => {
    setAsksEmpty(false);
    setProblem(null);
    setSending(true);
    draft.close();
    const answer = wellFormed(draft.text);
    try {
      await kit.channel.send("answer", { question_index: question.index, answer, ...(isCode && { language }) });
      return true;
    } catch (error) {
      sent.current = null;
      draft.resume();
      setSending(false);
      setProblem(refusal(error, isStill));
      return false;
    }
  };
  const submit = () => {
    if (isReadOnly || asksEmpty) return;
    if (isTooLong(draft.text)) setProblem("Your answer is too long to be submitted. Please shorten it.");
    else if (draft.text.trim() === "") setAsksEmpty(true);
    else sent.current = send();
  };

  const field = { id: fieldId, value: text, readOnly: isReadOnly, describedBy: hintId, onEdit: edit };
  return (
    <form class="answer" aria-label="Answer" noValidate onSubmit={cancelled(submit)} onKeyDown={onCtrlEnter(submit)}>
      <div class="answer-head">
        {isCode ? <span class="label">{ANSWER_LABEL}</span> : <label for={fieldId}>{ANSWER_LABEL}</label>}
        {isCode && <LanguageChoice language={language} isDisabled={isReadOnly} onPick={pick} />}
      </div>
      {isCode ? (
        <CodeAnswer {...field} language={language} nonce={kit.config.nonce} onSubmit={submit} />
      ) : (
        <TextAnswer {...field} />
      )}
      <p class="answer-foot muted">
        <span id={hintId}>{isCode ? CODE_HINT : TEXT_HINT}</span>
        <span>{isCode ? "" : words(text)}</span>
      </p>
      <div role="status">
        {isTimeUp && !isClosed && <p class="banner banner-calm">{timeUpWords(isLost)}</p>}
        {isTooLong(text) && <p class="banner banner-warn">{tooLongWords(text)}</p>}
      </div>
      <p class="error" role="alert">
        {problem}
      </p>
      <button type="submit" class="primary submit" aria-disabled={isReadOnly}>
        {isSending || isClosed ? "Sending…" : isLast ? "Submit and finish" : "Submit answer"}
      </button>
      {asksEmpty && (
        <Confirm
          title="Submit without an answer?"
          confirm="Submit empty answer"
          cancel="Keep writing"
          onConfirm={() => (sent.current = send())}
          onCancel={() => setAsksEmpty(false)}
        >
          <p>You have not written anything yet. You cannot come back to this question.</p>
        </Confirm>
      )}
    </form>
  );
}

function useDraft(
  kit: Kit,
  question: Question,
  known: ServerDraft | null,
  onSave: (state: SaveState) => void,
): Draft {
  const draft = useMemo(
    () =>
      new Draft({
        sessionId: kit.config.session_id,
        index: question.index,
        store: kit.store,
        known,
        send: (body) => kit.channel.send("draft", body),
        onState: onSave,
      }),
    [],
  );
  useEffect(() => {
    onSave(draft.state);
    draft.resume();
    return () => draft.close();
  }, []);
  return draft;
}

/** What could not be saved goes out as soon as it can be, and before the page is out of sight. */
function useFlushWhen(draft: Draft, canSave: boolean): void {
  useEffect(() => {
    if (canSave && draft.state === "local") void draft.flush();
  }, [canSave]);
  useEffect(() => {
    const flush = () => void draft.flush();
    document.addEventListener("visibilitychange", flush);
    return () => document.removeEventListener("visibilitychange", flush);
  }, []);
}

function initialLanguage(kit: Kit, draft: Draft): Language {
  const language = isLanguage(draft.language) ? draft.language : rememberedLanguage(kit.store);
  draft.language = language;
  return language;
}

function LanguageChoice(props: { language: Language; isDisabled: boolean; onPick(language: Language): void }) {
  const id = useId();
  return (
    <div class="language">
      <label for={id}>Language</label>
      <select
        id={id}
        value={props.language}
        disabled={props.isDisabled}
        onChange={(event) => props.onPick(event.currentTarget.value as Language)}
      >
        {Object.entries(LANGUAGES).map(([value, name]) => (
          <option key={value} value={value}>
            {name}
          </option>
        ))}
      </select>
    </div>
  );
}

function cancelled(run: () => void): (event: Event) => void {
  return (event) => {
    event.preventDefault();
    run();
  };
}

function onCtrlEnter(run: () => void): (event: KeyboardEvent) => void {
  return (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    // The code editor has handled it by itself already.
    if (event.isComposing || event.defaultPrevented) return;
    event.preventDefault();
    run();
  };
}

function words(text: string): string {
  const n = text.trim() === "" ? 0 : text.trim().split(/\s+/).length;
  return `${n} word${n === 1 ? "" : "s"}`;
}

function timeUpWords(isLost: boolean): string {
  return isLost
    ? "Time is up. As soon as the connection is back, this page shows what was saved."
    : "Time is up. Your text is being saved.";
}

function tooLongWords(text: string): string {
  const [size, most] = [bytesOf(text), MAX_BYTES].map((bytes) => Math.ceil(bytes / 1024));
  return `Your text is too long to be saved: ${size} KB, and at most ${most} KB are taken. Please shorten it.`;
}

function refusal(error: unknown, isStill: boolean): string {
  if (!(error instanceof CommandError) || error.code === "closed") return "Your answer was not sent. Please try again.";
  if (error.code !== "state_conflict") return `Your answer was not taken. ${error.message}`;
  return isStill
    ? "The interview stands still just now. Please submit again when it goes on."
    : "Your answer was not taken, since this question is closed. What was saved of your text is your answer.";
}
