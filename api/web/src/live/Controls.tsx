import { useState } from "preact/hooks";
import { Problem } from "../api";
import { EndDialog, ExtendDialog } from "../dialogs";
import type { Session } from "./model";
import type { LiveSession } from "./session";

/** What staff can do: pause and resume, more time, the end. */
export function Controls({ session, live }: { session: Session; live: LiveSession }) {
  const [dialog, setDialog] = useState<"extend" | "end" | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");

  const run = async (name: string, body?: object): Promise<void> => {
    if (busy) return;
    setBusy(true);
    setError("");
    try {
      await live.command(name, body);
      setDialog(null);
    } catch (problem) {
      setError(problem instanceof Problem ? problem.detail : "Something went wrong here.");
      if (!(problem instanceof Problem)) throw problem;
    } finally {
      setBusy(false);
    }
  };
  const open = (which: "extend" | "end"): void => {
    setError("");
    setDialog(which);
  };
  const shared = { busy, error, onCancel: () => setDialog(null) };

  const runs = session.status === "in_progress";
  const parked = session.status_detail === "parked";
  const paused = session.status_detail === "paused";
  // One button, so that the focus stays on it.
  const toggle = paused ? "resume" : "pause";
  return (
    <section aria-label="Controls">
      <div class="controls">
        <button type="button" disabled={!runs || parked} aria-busy={busy} onClick={() => void run(toggle)}>
          {paused ? "Resume" : "Pause"}
        </button>
        <button type="button" disabled={!runs} onClick={() => open("extend")}>
          Extend…
        </button>
        <button type="button" class="danger" disabled={session.status === "completed"} onClick={() => open("end")}>
          End…
        </button>
      </div>
      {dialog === null && error !== "" && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      {dialog === "extend" && <ExtendDialog {...shared} onExtend={(body) => void run("extend", body)} />}
      {dialog === "end" && <EndDialog {...shared} started={runs} onEnd={(body) => void run("end", body)} />}
    </section>
  );
}
