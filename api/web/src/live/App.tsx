import { useEffect, useReducer, useState } from "preact/hooks";
import { Controls } from "./Controls";
import { Journal } from "./Journal";
import { KeyForm, STORED_KEY } from "./KeyForm";
import { Answers, Header, OpenQuestion } from "./Overview";
import { LiveSession } from "./session";
import { eventText, isWorthSaying } from "./words";


export function App({ sessionId }: { sessionId: string }) {
  const [login, setLogin] = useState({ key: sessionStorage.getItem(STORED_KEY) });
  const [live, setLive] = useState<LiveSession | null>(null);
  const [, redraw] = useReducer((n: number) => n + 1, 0);

  useEffect(() => {
    const started = new LiveSession(sessionId, login.key, () => redraw(undefined));
    setLive(started);
    void started.start();
    return () => started.stop();
  }, [sessionId, login]);

  const useKey = (key: string): void => {
    sessionStorage.setItem(STORED_KEY, key);
    setLogin({ key });
  };
  if (live === null) return null;
  if (live.access === "key") return <KeyForm title="Live view of an interview" wasRefused={login.key !== null} onKey={useKey} />;
  return <Shown live={live} />;
}

function Shown({ live }: { live: LiveSession }) {
  const { session, journal } = live.known;
  if (live.access === "gone") return <p class="page-note">There is no such session, or it was deleted.</p>;
  if (session === null) return <Loading live={live} />;
  return (
    <div class="live">
      <Header session={session} live={live} />
      <Trouble live={live} />
      <Controls session={session} live={live} />
      <div class="columns">
        <div>
          <OpenQuestion session={session} />
          <Answers session={session} />
        </div>
        <Journal events={journal} />
      </div>
      <p class="visually-hidden" role="status">
        {live.latest !== null && isWorthSaying(live.latest) ? eventText(live.latest) : ""}
      </p>
    </div>
  );
}

function Loading({ live }: { live: LiveSession }) {
  return live.trouble === null ? <p class="page-note">Loading…</p> : <Trouble live={live} />;
}

function Trouble({ live }: { live: LiveSession }) {
  if (live.trouble === null) return null;
  return (
    <div class="trouble panel" role="alert">
      <p class="error">{live.trouble}</p>
      <button type="button" onClick={() => void live.start()}>
        Try again
      </button>
    </div>
  );
}
