import { useEffect, useState } from "preact/hooks";
import type { ServerClock } from "../clock";
import { type Answer, pagePresence, type Question, remainingMs, type Session } from "./model";
import type { LiveSession } from "./session";
import { clockText, durationText, pageText, statusText, videoText } from "./words";

export function Header({ session, live }: { session: Session; live: LiveSession }) {
  const { name } = session.candidate;
  useEffect(() => {
    document.title = `${name} – live view`;
  }, [name]);
  const presence = pagePresence(live.known.journal);
  const ended = session.status === "completed";
  return (
    <header>
      <div class="title">
        <div>
          <h1>{name}</h1>
          <p class={`status status-${session.status_detail}`}>{statusText(session)}</p>
        </div>
        {session.current_question && <TimeLeft question={session.current_question} clock={live.channel.clock} />}
      </div>
      <dl class="facts">
        <Fact name="Answers" value={`${session.current_question_count} of ${session.max_questions}`} />
        {!ended && <Fact name="Candidate’s page" value={pageText(presence)} tone={presence === "lost" ? "danger" : ""} />}
        {!ended && <Fact name="Video" value={videoText(session)} note={session.livekit.reason} />}
        <Fact name="This view" {...viewState(live)} />
      </dl>
    </header>
  );
}

function viewState(live: LiveSession): { value: string; tone?: "ok" | "danger" } {
  if (live.connection === "open") return { value: "live", tone: "ok" };
  if (live.connection !== "closed") return { value: live.connection === "lost" ? "connecting again…" : "connecting…", tone: "danger" };
  return { value: "closed" };
}

interface FactProps {
  name: string;
  value: string;
  note?: string | null;
  tone?: "ok" | "danger" | "";
}

function Fact({ name, value, note, tone }: FactProps) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <span class={tone === "danger" ? "error" : tone}>{value}</span>
        {note && <span class="muted note">{note}</span>}
      </dd>
    </div>
  );
}

function TimeLeft({ question, clock }: { question: Question; clock: ServerClock }) {
  const stands = !question.deadline;
  const left = remainingMs(question, useNow(clock, !stands));
  return (
    <p class={left < 30_000 ? "time-left error" : "time-left"} role="timer">
      <span class="digits">{clockText(left)}</span> <span class="muted">{stands ? "left, stopped" : "left"}</span>
    </p>
  );
}

/** The server's time, again and again while it `runs`. */
function useNow(clock: ServerClock, runs: boolean): number {
  const [now, setNow] = useState(() => clock.now());
  useEffect(() => {
    setNow(clock.now());
    if (!runs) return undefined;
    const timer = setInterval(() => setNow(clock.now()), 250);
    return () => clearInterval(timer);
  }, [clock, runs]);
  return now;
}

export function OpenQuestion({ session }: { session: Session }) {
  const question = session.current_question;
  return (
    <section class="panel" aria-labelledby="question-title">
      <h2 id="question-title">
        {question ? `Question ${question.index + 1} of ${session.max_questions}` : "Open question"}
      </h2>
      {question ? (
        <>
          <p class="muted">
            {question.type === "coding" ? "Coding" : "Text"}, {durationText(question.time_limit_seconds * 1000)}
          </p>
          <p class="as-written">{question.text}</p>
        </>
      ) : (
        <p class="muted">{session.status === "completed" ? "The interview has ended." : "No question is open."}</p>
      )}
    </section>
  );
}

export function Answers({ session }: { session: Session }) {
  return (
    <section class="panel" aria-labelledby="answers-title">
      <h2 id="answers-title">Answers</h2>
      {session.answers.length === 0 && <p class="muted">None yet.</p>}
      <ol class="answers">
        {session.answers.map((answer) => (
          <li key={answer.question_index}>
            <h3 class="as-written">
              {answer.question_index + 1}. {session.questions[answer.question_index]?.text}
            </h3>
            <p class="muted">{aboutAnswer(answer)}</p>
            {answer.answer === "" ? null : answer.language ? (
              <pre>{answer.answer}</pre>
            ) : (
              <p class="as-written">{answer.answer}</p>
            )}
          </li>
        ))}
      </ol>
    </section>
  );
}

function aboutAnswer({ source, elapsed_seconds, language, answer }: Answer): string {
  if (source === "timeout") return "Time ran out without an answer";
  const how = source === "draft" ? "The draft, when the question was closed" : "Submitted";
  const parts = [`${how} after ${durationText(elapsed_seconds * 1000)}`, language, answer === "" ? "empty" : null];
  return parts.filter(Boolean).join(", ");
}
